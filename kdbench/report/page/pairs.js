// Sets two rows side by side: their scores by seed, the differences, and the mean with its interval.

const signed = (v) => (v > 0 ? "+" : "") + (Math.abs(v) < 0.005 ? "0.00" : v.toFixed(2));

function cellsOf(row, name, values) {
  for (const value of values) {
    const cell = document.createElement(name);
    cell.textContent = value;
    if (name === "th") cell.scope = "col";
    row.append(cell);
  }
}

function sideBySide({ image, t, once, level }, a, b) {
  const seeds = Object.keys(a.scores).filter((seed) => seed in b.scores);
  const differences = seeds.map((seed) => a.scores[seed] - b.scores[seed]);
  const n = seeds.length;
  const words = document.createElement("p");
  if (!n) {
    words.textContent = "The two rows have no seed in common.";
    return [words];
  }
  const mean = differences.reduce((sum, d) => sum + d, 0) / n;
  const variance = differences.reduce((sum, d) => sum + (d - mean) ** 2, 0) / (n - 1);
  const factors = a.compared && b.compared ? t : once;
  const half = factors[n] * Math.max(Math.sqrt(variance), image) / Math.sqrt(n);
  const interval = n > 1 ? `, ${level} % interval ${signed(mean - half)} to ${signed(mean + half)}` : "";
  words.textContent = `${a.name} minus ${b.name}: ${signed(mean)} points on ${n} paired seed${n > 1 ? "s" : ""}${interval}.`;
  const table = document.createElement("table");
  table.className = "pairs";
  cellsOf(table.createTHead().insertRow(), "th", ["seed", a.name, b.name, "difference"]);
  const body = table.createTBody();
  seeds.forEach((seed, k) => {
    const values = [seed, a.scores[seed].toFixed(2), b.scores[seed].toFixed(2), signed(differences[k])];
    cellsOf(body.insertRow(), "td", values);
  });
  const box = document.createElement("div");
  box.className = "scroll";
  box.append(table);
  return [words, box];
}

function makeComparable() {
  const data = document.getElementById("pair-numbers");
  if (!data) return;
  const numbers = JSON.parse(data.textContent);
  const form = document.getElementById("two");
  const selects = [form.elements.a, form.elements.b];
  selects.forEach((select, k) => {
    numbers.rows.forEach((row, index) => select.add(new Option(row.name, index)));
    select.value = numbers.first[k];
  });
  const show = () => {
    const parts = sideBySide(numbers, ...selects.map((select) => numbers.rows[select.value]));
    document.getElementById("side").replaceChildren(...parts);
    markScrolling();
  };
  form.addEventListener("change", show);
  show();
}
