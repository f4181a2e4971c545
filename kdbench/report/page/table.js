// Sorts and filters the table and opens its rows. Without JavaScript the page shows the same content.

/** Wrap the content of an element in a button. */
function wrapInButton(element, onClick) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...element.childNodes);
  button.addEventListener("click", onClick);
  element.append(button);
  return button;
}

/** Make headings sort: first click one way, second the other, third the report's order. */
function makeSortable(table) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  const group = (row) => ["teacher", "published"].findIndex((c) => row.classList.contains(c));
  const number = (text) => parseFloat(text.replace("<", "")) - (text.startsWith("<") ? 1e-9 : 0);

  function compare(a, b, column, sign) {
    const [x, y] = [a, b].map((row) => row.cells[column].textContent.trim());
    if (group(a) !== group(b)) return group(a) - group(b);
    if (!headings[column].matches(".number")) return sign * x.localeCompare(y, "en");
    const [p, q] = [number(x), number(y)];
    return isNaN(p) || isNaN(q) ? isNaN(p) - isNaN(q) : sign * (p - q);
  }

  headings.forEach((heading, column) => wrapInButton(heading, () => {
    const directions = ["ascending", "descending"];
    if (heading.matches(".number")) directions.reverse();
    const direction = [...directions, null][directions.indexOf(heading.ariaSort) + 1];
    headings.forEach((other) => { other.ariaSort = null; });
    heading.ariaSort = direction;
    table.classList.toggle("sorted", direction !== null);
    const sign = direction === "ascending" ? 1 : -1;
    const order = direction ? [...rows].sort((a, b) => compare(a, b, column, sign)) : rows;
    const opened = order.map((row) => row.nextElementSibling?.matches(".opened") && row.nextElementSibling);
    body.append(...order.flatMap((row, k) => opened[k] ? [row, opened[k]] : [row]));
  }));
}

/** Move the details of a row from the list below into the table, or back. */
function toggle(row, open) {
  const button = row.cells[0].firstElementChild;
  if (open === (button.ariaExpanded === "true")) return;
  button.ariaExpanded = String(open);
  const details = document.getElementById(`details-${row.dataset.details}`);
  if (!open) {
    document.getElementById(row.dataset.details).append(details);
    row.nextElementSibling.remove();
    return;
  }
  const line = document.createElement("tr");
  line.className = "opened";
  line.insertCell().colSpan = row.cells.length;
  line.cells[0].append(details);
  row.after(line);
  for (const section of details.querySelectorAll(".charts:not(.drawn)")) {
    section.classList.add("drawn");
    (section.matches(".small") ? drawTrials : drawCurves)(section);
  }
  markScrolling();
}

function makeOpenable(row) {
  const cell = row.cells[0];
  cell.replaceChildren(...cell.firstElementChild.childNodes); // the link to the list below
  const button = wrapInButton(cell, () => toggle(row, button.ariaExpanded !== "true"));
  button.ariaExpanded = "false";
  button.setAttribute("aria-controls", `details-${row.dataset.details}`);
}

/** Open the row, or the row of the run, that the address names. */
function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const key = target?.matches("details") ? target.id : target?.closest(".details")?.id.slice("details-".length);
  const row = key && document.querySelector(`#leaderboard [data-details="${key}"]`);
  if (!row) return;
  row.hidden = false;
  toggle(row, true);
  document.querySelector(".found")?.classList.remove("found");
  target.classList.add("found");
  (target.matches("details") ? row : target).scrollIntoView({ block: "center" });
}

/** Show the rows whose words and kind are asked for, and all columns if they are. */
function makeFilter(table) {
  const form = document.querySelector(".tools");
  const word = document.getElementById("filter");
  const rows = [...table.tBodies[0].rows];
  function show() {
    const kinds = new Set([...form.querySelectorAll("[name=kind]:checked")].map((box) => box.value));
    for (const row of rows) {
      const named = row.cells[0].textContent.toLowerCase().includes(word.value.trim().toLowerCase());
      row.hidden = !(named && kinds.has(row.dataset.kind));
      if (row.hidden) toggle(row, false);
    }
    table.classList.toggle("all-columns", document.getElementById("all-columns").checked);
    const count = rows.filter((row) => !row.hidden).length;
    document.getElementById("shown").textContent = count < rows.length ? `${count} of ${rows.length} rows` : "";
    markScrolling();
  }
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
}

/** Only a box that is wider than its place scrolls, and then the keyboard reaches it. */
function markScrolling() {
  const boxes = [...document.querySelectorAll(".scroll")];
  const wider = boxes.map((box) => (box.firstElementChild?.scrollWidth ?? 0) > box.clientWidth + 1);
  boxes.forEach((box, k) => {
    box.classList.toggle("fits", !wider[k]);
    if (wider[k]) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  });
}

function addCopyButton(code) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "copy";
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(code); // for browsers that forbid the clipboard
    await navigator.clipboard?.writeText(code.textContent);
    button.textContent = "copied";
  });
  code.after(button);
}

addEventListener("DOMContentLoaded", () => {
  const table = document.getElementById("leaderboard");
  [...table.tBodies[0].rows].forEach(makeOpenable);
  makeSortable(table);
  makeFilter(table);
  makeComparable();
  document.querySelectorAll(".copy").forEach(addCopyButton);
  if (table.dataset.runPages) linkRuns(table.dataset.runPages);
});
addEventListener("hashchange", openTarget);
addEventListener("resize", markScrolling);
addEventListener("load", markScrolling);
addEventListener("load", () => requestAnimationFrame(openTarget)); // after the browser's own scrolling
