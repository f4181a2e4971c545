// Draws a row's learning curves from the numbers in the page, and its trials from their table.

/** Lines differ without colour too: after six they are dashed, then dotted. */
const line = (k, d) => svg("path", {
  class: "line", d, style: `stroke: var(--c${k % 6}); stroke-dasharray: ${["none", "6 3", "2 3"][Math.floor(k / 6) % 3]}`,
});

function curveChart(title, lines, names, output) {
  const last = Math.max(2, ...lines.map((values) => values.length));
  const drawn = lines.flat().filter((v) => v !== null);
  const { picture, x, y, top, bottom, left, right, width } = axes(title, "epoch", [1, last], drawn, { whole: true });
  lines.forEach((values, k) => {
    const at = (v, e) => `${e && values[e - 1] !== null ? "L" : "M"}${x(e + 1).toFixed(1)} ${y(v).toFixed(1)}h0`;
    picture.append(line(k, values.map((v, e) => v === null ? "" : at(v, e)).join("")));
  });
  const pointer = svg("path", { class: "pointer" });
  picture.append(pointer);
  underPointer(picture, width, (place) => {
    const epoch = place === null ? 0 : Math.round(1 + (place - left) / (right - left) * (last - 1));
    const inside = epoch >= 1 && epoch <= last;
    pointer.setAttribute("d", inside ? `M${x(epoch)} ${top}V${bottom}` : "");
    const values = lines.map((all, k) => [names[k], all[epoch - 1]]).filter(([, v]) => v !== null && v !== undefined);
    output.textContent = inside
      ? `${title}, epoch ${epoch}: ${values.map(([name, v]) => `${name} ${Number(v.toPrecision(4))}`).join(", ")}` : "";
  });
  return picture;
}

/** Draw the charts of one row into their section. */
function drawCurves(section) {
  const curves = JSON.parse(document.getElementById("curves").textContent);
  const runs = [...section.closest(".details").querySelectorAll("[data-run]")].filter((r) => r.dataset.run in curves);
  const names = runs.map((run) => `seed ${run.dataset.seed}`);
  const lines = (name, times) => runs.map((r) => (curves[r.dataset.run][name] ?? []).map((v) => v === null ? v : v * times));
  const charts = [[`${section.dataset.measure}, %`, lines("accuracy", 100)], ["training loss, as minimised", lines("loss", 1)]];
  const box = document.createElement("div");
  const output = document.createElement("output");
  for (const [title, all] of charts) {
    if (all.flat().some((v) => v !== null)) box.append(curveChart(title, all, names, output));
  }
  if (!box.childElementCount) return section.remove();
  const legend = document.createElement("ul");
  names.forEach((name, k) => {
    const sample = svg("svg", { viewBox: "0 0 26 8", "aria-hidden": "true" });
    sample.append(line(k, "M0 4H26"));
    const item = document.createElement("li");
    item.append(sample, name);
    legend.append(item);
  });
  section.append(box, output, legend);
}

/** A small picture for each hyperparameter of the trials: its value against the validation score. */
function drawTrials(section) {
  const table = section.closest(".details").querySelector("table.trials");
  const rows = [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent));
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const score = heads.findIndex((head) => head.startsWith("validation"));
  const box = document.createElement("div");
  const output = document.createElement("output");
  for (let column = 1; column < score; column++) {
    const points = rows.map((row) => [Number(row[column]), Number(row[score]), row])
      .filter(([value, result]) => !isNaN(value) && !isNaN(result));
    const values = points.map(([value]) => value);
    const range = [Math.min(...values), Math.max(...values)];
    if (!points.length || range[0] === range[1]) continue;
    const log = range[0] > 0 && range[1] / range[0] > 10;
    const { picture, x, y } = axes(heads[score], heads[column], range, points.map(([, result]) => result), { width: 240, height: 180, log });
    for (const [value, result, row] of points) {
      const chosen = row.at(-1) === "yes";
      const dot = svg("circle", { cx: x(value), cy: y(result), r: chosen ? 5 : 3.5, class: chosen ? "chosen" : "" });
      dot.addEventListener("pointerenter", () => {
        output.textContent = `trial ${row[0]}${chosen ? " (chosen)" : ""}: ${heads.slice(1, score + 1).map((head, k) => `${head} ${row[k + 1]}`).join(", ")}`;
      });
      picture.append(dot);
    }
    box.append(picture);
  }
  if (!box.childElementCount) return section.remove();
  section.append(box, output);
}
