"use strict";
// Sorts the table and opens its rows. All that is shown stands in the page without it.
document.documentElement.classList.add("js");

/** Put all that a place holds into a button. */
function press(place, act) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...place.childNodes);
  button.addEventListener("click", act);
  place.append(button);
  return button;
}

/** Click a heading: sorted, the other way round, as the report has it. */
function sortable(table) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  const below = (row) => ["teacher", "published"].findIndex((c) => row.classList.contains(c));
  const leading = (text) => parseFloat(text.replace("<", "")) - (text.startsWith("<") ? 1e-9 : 0);

  function compare(a, b, column, sign) {
    const [x, y] = [a, b].map((row) => row.cells[column].textContent.trim());
    if (below(a) !== below(b)) return below(a) - below(b);
    if (!headings[column].matches(".number")) return sign * x.localeCompare(y, "en");
    const [p, q] = [leading(x), leading(y)];
    return isNaN(p) || isNaN(q) ? isNaN(p) - isNaN(q) : sign * (p - q);
  }

  headings.forEach((heading, column) => press(heading, () => {
    const ways = ["ascending", "descending"];
    if (heading.matches(".number")) ways.reverse();
    const way = [...ways, null][ways.indexOf(heading.ariaSort) + 1];
    headings.forEach((other) => { other.ariaSort = null; });
    heading.ariaSort = way;
    table.classList.toggle("sorted", way !== null);
    const sign = way === "ascending" ? 1 : -1;
    const order = way ? [...rows].sort((a, b) => compare(a, b, column, sign)) : rows;
    const opened = order.map((row) => row.nextElementSibling?.matches(".opened") && row.nextElementSibling);
    body.append(...order.flatMap((row, k) => opened[k] ? [row, opened[k]] : [row]));
  }));
}

/** Move what is behind a row from the list below into the table, or back. */
function toggle(row, open) {
  const button = row.cells[0].firstElementChild;
  if (open === (button.ariaExpanded === "true")) return;
  button.ariaExpanded = String(open);
  const about = document.getElementById(`about-${row.dataset.about}`);
  if (!open) {
    document.getElementById(row.dataset.about).append(about);
    row.nextElementSibling.remove();
    return;
  }
  const line = document.createElement("tr");
  line.className = "opened";
  line.insertCell().colSpan = row.cells.length;
  line.cells[0].append(about);
  row.after(line);
  about.querySelectorAll(".charts:not(.drawn)").forEach(draw);
}

function openable(row) {
  const cell = row.cells[0];
  cell.replaceChildren(...cell.firstElementChild.childNodes); // the link to the list below
  const button = press(cell, () => toggle(row, button.ariaExpanded !== "true"));
  button.ariaExpanded = "false";
  button.setAttribute("aria-controls", `about-${row.dataset.about}`);
}

/** Open what the address names: a row, or a run in one. */
function seek() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const key = target?.matches("details") ? target.id : target?.closest(".about")?.id.slice("about-".length);
  const row = key && document.querySelector(`#leaderboard [data-about="${key}"]`);
  if (!row) return;
  toggle(row, true);
  document.querySelector(".found")?.classList.remove("found");
  target.classList.add("found");
  (target.matches("details") ? row : target).scrollIntoView({ block: "center" });
}

function copyable(code) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "copy";
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(code); // enough where a browser lets no page copy
    await navigator.clipboard?.writeText(code.textContent);
    button.textContent = "copied";
  });
  code.after(button);
}

addEventListener("DOMContentLoaded", () => {
  const table = document.getElementById("leaderboard");
  [...table.tBodies[0].rows].forEach(openable);
  sortable(table);
  document.querySelectorAll(".copy").forEach(copyable);
});
addEventListener("hashchange", seek);
addEventListener("load", () => requestAnimationFrame(seek)); // after the browser's own scrolling
