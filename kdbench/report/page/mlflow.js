// Links the runs to their pages in MLflow. The addresses are in a file beside the report's folder,
// where there is one. It is a stylesheet, which a page that was opened from a disk can read, and
// which cannot run anything.

function linkTo(address, ...content) {
  const link = document.createElement("a");
  link.href = address;
  link.rel = "noreferrer";
  link.append(...content);
  return link;
}

function linkRuns(address) {
  const sheet = document.createElement("link");
  sheet.rel = "stylesheet";
  sheet.href = address;
  sheet.addEventListener("error", () => sheet.remove());
  sheet.addEventListener("load", () => {
    const value = getComputedStyle(document.documentElement).getPropertyValue("--run-pages").trim();
    if (!value) return;
    const { view, serve, runs } = JSON.parse(decodeURIComponent(value.slice(1, -1)));
    for (const row of document.querySelectorAll("[data-run]")) {
      const id = row.querySelector("code");
      if (Object.hasOwn(runs, row.dataset.run)) id.replaceWith(linkTo(runs[row.dataset.run], id.cloneNode(true)));
    }
    const place = document.querySelector(".all-reports");
    place.append(" · ", linkTo(view, "Runs in MLflow"), serve ? ` (while ${serve} runs)` : "");
  });
  document.head.append(sheet);
}
