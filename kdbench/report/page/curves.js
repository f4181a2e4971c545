// Draws the learning curves of a row's runs from the numbers in the page.
const BOX = { left: 48, right: 348, top: 26, bottom: 196, width: 360, height: 232 };

function svg(name, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

/** About five round numbers from low to high. */
function ticks(low, high, least = 0) {
  const power = 10 ** Math.floor(Math.log10((high - low) / 5));
  const step = Math.max(least, power * [1, 2, 5, 10].find((k) => k * power >= (high - low) / 5));
  const values = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) values.push(Number((k * step).toPrecision(9)));
  return values;
}

/** Lines differ without colour too: after six they are dashed, then dotted. */
const line = (k, d) => svg("path", {
  class: "line", d, style: `stroke: var(--c${k % 6}); stroke-dasharray: ${["none", "6 3", "2 3"][Math.floor(k / 6) % 3]}`,
});

function chart(title, lines) {
  const { left, right, top, bottom, width, height } = BOX;
  const drawn = lines.flat().filter((v) => v !== null);
  const last = Math.max(2, ...lines.map((values) => values.length));
  const margin = (Math.max(...drawn) - Math.min(...drawn)) * 0.04 || 0.5;
  const [low, high] = [Math.min(...drawn) - margin, Math.max(...drawn) + margin];
  const x = (epoch) => left + (epoch - 1) / (last - 1) * (right - left);
  const y = (value) => bottom - (value - low) / (high - low) * (bottom - top);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}, by epoch` });
  picture.append(svg("text", { x: 4, y: 14 }, title), svg("text", { x: right, y: height - 4, "text-anchor": "end" }, "epoch"));
  for (const v of ticks(low, high)) {
    picture.append(svg("path", { class: "grid", d: `M${left} ${y(v)}H${right}` }));
    picture.append(svg("text", { x: left - 5, y: y(v) + 4, "text-anchor": "end" }, v));
  }
  for (const epoch of ticks(1, last, 1)) {
    picture.append(svg("path", { class: "axis", d: `M${x(epoch)} ${bottom}v4` }));
    picture.append(svg("text", { x: x(epoch), y: bottom + 16, "text-anchor": "middle" }, epoch));
  }
  picture.append(svg("path", { class: "axis", d: `M${left} ${top}V${bottom}H${right}` }));
  lines.forEach((values, k) => {
    const at = (v, e) => `${e && values[e - 1] !== null ? "L" : "M"}${x(e + 1).toFixed(1)} ${y(v).toFixed(1)}h0`;
    picture.append(line(k, values.map((v, e) => v === null ? "" : at(v, e)).join("")));
  });
  return picture;
}

/** Draw the charts of one row into their section. */
function drawCharts(section) {
  section.classList.add("drawn");
  const curves = JSON.parse(document.getElementById("curves").textContent);
  const runs = [...section.closest(".details").querySelectorAll("[data-run]")].filter((r) => r.dataset.run in curves);
  const lines = (name, times) => runs.map((r) => (curves[r.dataset.run][name] ?? []).map((v) => v === null ? v : v * times));
  const charts = [[`${section.dataset.measure}, %`, lines("accuracy", 100)], ["training loss, as minimised", lines("loss", 1)]];
  const box = document.createElement("div");
  for (const [title, all] of charts) if (all.flat().some((v) => v !== null)) box.append(chart(title, all));
  if (!box.childElementCount) return section.remove();
  const legend = document.createElement("ul");
  for (const [k, run] of runs.entries()) {
    const sample = svg("svg", { viewBox: "0 0 26 8", "aria-hidden": "true" });
    sample.append(line(k, "M0 4H26"));
    const item = document.createElement("li");
    item.append(sample, `seed ${run.dataset.seed}`);
    legend.append(item);
  }
  section.append(box, legend);
}
