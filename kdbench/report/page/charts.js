"use strict";
document.documentElement.classList.add("js");
// What the charts of a page share: elements of SVG, axes, and values under the pointer.

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

/** Powers of ten from low to high, or the ends where there are fewer than two. */
function powers(low, high) {
  const values = [];
  for (let k = Math.ceil(Math.log10(low)); 10 ** k <= high; k++) values.push(Number((10 ** k).toPrecision(9)));
  return values.length > 1 ? values : [low, high].map((v) => Number(v.toPrecision(2)));
}

/**
 * Axes with a title, the name of x, ticks, and the functions `x` and `y` from values to places.
 * Ranges are [low, high]; the values of y get a margin.
 */
function axes(title, name, [from, to], values, { width = 360, height = 232, log = false, whole = false } = {}) {
  const [left, right, top, bottom] = [48, width - 12, 26, height - 36];
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const margin = (most - least) * 0.06 || 0.5;
  const [low, high] = [least - margin, most + margin];
  const place = (v) => log ? Math.log(v / from) / Math.log(to / from) : (v - from) / (to - from);
  const x = (v) => left + place(v) * (right - left);
  const y = (v) => bottom - (v - low) / (high - low) * (bottom - top);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}, by ${name}` });
  picture.append(svg("text", { x: 4, y: 14 }, title), svg("text", { x: right, y: height - 4, "text-anchor": "end" }, name));
  for (const v of ticks(low, high)) {
    picture.append(svg("path", { class: "grid", d: `M${left} ${y(v)}H${right}` }));
    picture.append(svg("text", { x: left - 5, y: y(v) + 4, "text-anchor": "end" }, v));
  }
  for (const v of log ? powers(from, to) : ticks(from, to, whole ? 1 : 0)) {
    picture.append(svg("path", { class: "axis", d: `M${x(v)} ${bottom}v4` }));
    picture.append(svg("text", { x: x(v), y: bottom + 16, "text-anchor": "middle" }, v));
  }
  picture.append(svg("path", { class: "axis", d: `M${left} ${top}V${bottom}H${right}` }));
  return { picture, x, y, top, bottom, left, right, width };
}

/** Call `show(place)` with the pointer's place in the picture's units, and `show(null)` outside. */
function underPointer(picture, width, show) {
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    show((event.clientX - box.left) / box.width * width);
  });
  picture.addEventListener("pointerleave", () => show(null));
}
