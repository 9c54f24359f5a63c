"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const MARGIN = { left: 56, right: 24, top: 8, bottom: 36 };
const COLORS = 7;
const DASHES = [[], [6, 3], [2, 2], [8, 3, 2, 3], [14, 4]]; // lengths of strokes and gaps
const MOST_IN_TIP = 8;
const PART_NAMES = { train: "training", eval: "training, evaluated", val: "validation", "": "" };

const hidden = new Set(); // runs without a tick
let chosen = new Set(data.runs.keys()); // runs that fit the filter
let styles = new Map(); // a number for each group of the chosen runs
let highlighted = null; // a run
let range = null; // of x, where the reader has zoomed
const option = (id) => document.getElementById(id).checked;

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const members = data.groups.map((_, group) => [...data.runs.keys()].filter((run) => data.runs[run].group === group));
const group = (line) => data.runs[line.run].group;
const isDrawn = (run) => chosen.has(run) && !hidden.has(run);
const isHighlighted = (line) => highlighted !== null && group(line) === data.runs[highlighted].group;
const style = (line) => styles.get(group(line)) ?? Infinity;
const stepsBack = (line) => style(line) >= COLORS * DASHES.length && !isHighlighted(line);

/* Each group of the chosen runs has a color and a line style, as long as there are any. */
function assignStyles() {
  const groups = new Set([...chosen].sort((a, b) => a - b).map((run) => data.runs[run].group));
  styles = new Map([...groups].map((number, place) => [number, place]));
}

function colorName(number, part) {
  if (data.groups.length === 1) return `--color-${{ val: 1, eval: 2 }[part] ?? 0}`;
  return number < COLORS * DASHES.length ? `--color-${number % COLORS}` : "--other";
}

function color(line) {
  const name = isHighlighted(line) && style(line) >= COLORS * DASHES.length ? "--text" : colorName(style(line), line.part);
  return getComputedStyle(document.documentElement).getPropertyValue(name);
}

function shown(value) {
  const size = Math.abs(value);
  if (size >= 1e4) return new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 4 }).format(value);
  return size > 0 && size < 1e-3 ? value.toExponential(2) : Number(value.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 6 });
}

const readings = (line) => line.s ?? line.y;
function isVisible(line) {
  if (line.role === "mean") return members[group(line)].some(isDrawn);
  return isDrawn(line.run) && (line.role === "run" || option("seeds"));
}

const visible = (panel) => panel.lines.filter(isVisible);

/* Scales */

function extent(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value === null) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return low <= high ? [low, high] : [0, 1];
}

function* valuesInside(lines, [from, to], positive) {
  for (const line of lines) {
    const rows = option("raw") || !line.s ? [line.y, readings(line)] : [line.s];
    for (const row of rows) {
      for (let i = 0; i < row.length; i++) {
        if (line.x[i] >= from && line.x[i] <= to && (!positive || row[i] > 0)) yield row[i];
      }
    }
  }
}

function scales(panel, width, height) {
  const lines = visible(panel);
  const x = range ?? extent(lines.flatMap((line) => [line.x[0], line.x.at(-1)]));
  const log = option("log");
  let [low, high] = extent(valuesInside(lines, x, log)).map((value) => (log ? Math.log10(value || 1) : value));
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const pad = (high - low) * 0.05;
  const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
  const span = x[1] - x[0] || 1;
  return {
    range: x,
    log,
    y: [low - pad, high + pad],
    toX: (value) => MARGIN.left + ((value - x[0]) / span) * inner.width,
    fromX: (pixel) => x[0] + ((pixel - MARGIN.left) / inner.width) * span,
    toY: (value) => {
      const place = log ? Math.log10(value) : value;
      return MARGIN.top + (1 - (place - low + pad) / (high - low + 2 * pad)) * inner.height;
    },
  };
}

function ticks([low, high], about) {
  const rough = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((candidate) => candidate >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}

function logTicks([low, high]) {
  const digits = high - low > 3 ? [1] : [1, 2, 5];
  const found = [];
  for (let power = Math.floor(low); power <= high; power++) {
    for (const digit of digits) {
      const place = power + Math.log10(digit);
      if (place >= low && place <= high) found.push(10 ** place);
    }
  }
  return found.length > 1 ? found : ticks([10 ** low, 10 ** high], 4);
}

/* Drawing */

function draw(chart) {
  const { canvas, panel } = chart;
  const { clientWidth: width, clientHeight: height } = canvas;
  const sharpness = window.devicePixelRatio || 1;
  canvas.width = width * sharpness;
  canvas.height = height * sharpness;
  const pen = canvas.getContext("2d");
  pen.scale(sharpness, sharpness);
  chart.scales = scales(panel, width, height);
  drawAxes(pen, panel, chart.scales, width, height);
  pen.save();
  pen.beginPath();
  pen.rect(MARGIN.left, 0, width - MARGIN.left, height - MARGIN.bottom);
  pen.clip();
  const rank = (line) => [isHighlighted(line), line.role !== "seed", -line.run];
  const order = [...visible(panel)].sort((a, b) => {
    const [first, second] = [rank(a), rank(b)];
    return first[0] - second[0] || first[1] - second[1] || first[2] - second[2];
  });
  for (const line of order) drawLine(pen, line, chart.scales);
  drawSelection(pen, chart, height);
  pen.restore();
  for (const line of order) drawBest(pen, line, chart.scales); // outside the clip: a ring at an edge is whole
}

function drawAxes(pen, panel, scale, width, height) {
  const style = getComputedStyle(document.documentElement);
  pen.strokeStyle = style.getPropertyValue("--line");
  pen.fillStyle = style.getPropertyValue("--faint");
  pen.font = "11px system-ui, sans-serif";
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const value of scale.log ? logTicks(scale.y) : ticks(scale.y, 7)) {
    const y = scale.toY(value);
    pen.beginPath();
    pen.moveTo(MARGIN.left, y);
    pen.lineTo(width - MARGIN.right, y);
    pen.stroke();
    pen.fillText(shown(value), MARGIN.left - 6, y);
  }
  pen.textAlign = "center";
  for (const value of ticks(scale.range, 6)) pen.fillText(shown(value), scale.toX(value), height - MARGIN.bottom + 12);
  pen.fillText(panel.xLabel, (MARGIN.left + width - MARGIN.right) / 2, height - 8);
}

function drawLine(pen, line, scale) {
  const strong = isHighlighted(line) ? 1.2 : 0;
  const isSeed = line.role === "seed";
  pen.strokeStyle = color(line);
  if (line.s && option("raw") && !isSeed && !stepsBack(line)) {
    pen.globalAlpha = 0.25;
    pen.lineWidth = 1;
    trace(pen, line.x, line.y, scale);
  }
  pen.globalAlpha = stepsBack(line) || (isSeed && line.run !== highlighted) ? 0.4 : 1;
  pen.lineWidth = stepsBack(line) || isSeed ? 0.6 + strong : (line.part === "val" ? 2 : 1.2) + strong;
  pen.setLineDash(DASHES[Math.floor(style(line) / COLORS)] ?? []);
  trace(pen, line.x, readings(line), scale);
  pen.setLineDash([]);
  pen.globalAlpha = 1;
}

function trace(pen, x, y, scale) {
  pen.beginPath();
  let down = false;
  for (let i = 0; i < x.length; i++) {
    const broken = y[i] === null || (scale.log && y[i] <= 0);
    if (!broken) pen[down ? "lineTo" : "moveTo"](scale.toX(x[i]), scale.toY(y[i]));
    down = !broken;
  }
  pen.stroke();
}

function drawBest(pen, line, scale) {
  if (line.best === null || stepsBack(line)) return;
  const [from, to] = scale.range;
  if (line.x[line.best] < from || line.x[line.best] > to) return;
  pen.strokeStyle = color(line);
  pen.lineWidth = 1.5;
  pen.beginPath();
  pen.arc(scale.toX(line.x[line.best]), scale.toY(line.y[line.best]), 5, 0, 2 * Math.PI);
  pen.stroke();
}

function drawSelection(pen, chart, height) {
  pen.strokeStyle = pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--faint");
  if (chart.dragFrom !== undefined) {
    pen.globalAlpha = 0.15;
    pen.fillRect(chart.dragFrom, 0, chart.scales.toX(chart.cursor) - chart.dragFrom, height);
    pen.globalAlpha = 1;
  }
  if (chart.cursor === null) return;
  const x = chart.scales.toX(chart.cursor);
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(x, 0);
  pen.lineTo(x, height);
  pen.stroke();
  if (!chart.mark) return;
  pen.fillStyle = color(chart.mark.line);
  pen.beginPath();
  pen.arc(x, chart.scales.toY(readings(chart.mark.line)[chart.mark.at]), 4, 0, 2 * Math.PI);
  pen.fill();
}

/* Reading */

function nearest(line, x) {
  let low = 0, high = line.x.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (line.x[middle] < x) low = middle;
    else high = middle;
  }
  return x - line.x[low] <= line.x[high] - x ? low : high;
}

/* Show what the lines read at x: those nearest to the pointer, or the first ones where there is none. */
function read(chart, x, pixelY = null) {
  const far = (line, at) => Math.abs(chart.scales.toY(readings(line)[at] ?? Infinity) - pixelY);
  const found = visible(chart.panel)
    .filter((line) => x >= line.x[0] && x <= line.x.at(-1))
    .map((line) => ({ line, at: nearest(line, x) }));
  if (pixelY !== null) found.sort((a, b) => far(a.line, a.at) - far(b.line, b.at) || 0);
  chart.mark = pixelY === null ? null : found[0];
  chart.cursor = chart.mark && chart.dragFrom === undefined ? chart.mark.line.x[chart.mark.at] : x;
  draw(chart);
  const rows = found.slice(0, MOST_IN_TIP).map((one) => tipRow(one, one === chart.mark));
  const more = found.length - rows.length;
  if (more > 0) rows.push(make("p", { textContent: `and ${more} more` }));
  chart.tip.replaceChildren(make("p", { textContent: `${shown(chart.cursor)} ${chart.panel.xLabel}` }), ...rows);
  chart.tip.hidden = false;
  const left = chart.scales.toX(chart.cursor);
  const isRight = left > chart.canvas.clientWidth / 2;
  chart.tip.style.left = isRight ? "auto" : `${left + 12}px`;
  chart.tip.style.right = isRight ? `${chart.canvas.clientWidth - left + 12}px` : "auto";
}

function tipRow({ line, at }, isNearest) {
  const swatch = make("i", { className: "swatch" });
  swatch.style.background = color(line);
  const label = line.role === "mean" ? `mean of ${data.groups[group(line)]}` : data.runs[line.run].label;
  const name = data.runs.length > 1 ? label : PART_NAMES[line.part] || "value";
  const part = data.runs.length > 1 && line.part ? `${PART_NAMES[line.part]} ` : "";
  const value = line.y[at] === null ? "no number" : shown(readings(line)[at]);
  const logged = isNearest && line.s && line.y[at] !== null ? ` (logged ${shown(line.y[at])})` : "";
  const row = make("p", {}, make("span", {}, swatch, name), make("span", { textContent: part + value + logged }));
  row.classList.toggle("nearest", isNearest);
  return row;
}

function leave(chart) {
  chart.cursor = chart.mark = null;
  chart.dragFrom = undefined;
  chart.tip.hidden = true;
  draw(chart);
}

function move(chart, key) {
  const [from, to] = chart.scales.range;
  const step = (to - from) / 100;
  const now = chart.cursor ?? from;
  const next = { ArrowLeft: now - step, ArrowRight: now + step, Home: from, End: to }[key];
  if (next === undefined) return false;
  read(chart, Math.min(to, Math.max(from, next)));
  return true;
}

/* The page */

function addChart(panel) {
  const label = `${panel.label} against ${panel.xLabel}; arrow keys read the values`;
  const canvas = make("canvas", { tabIndex: 0, role: "img", ariaLabel: label });
  const tip = make("div", { className: "tip", hidden: true, role: "status" });
  document.getElementById("panels").append(make("figure", {}, make("figcaption", { textContent: panel.label }), canvas, tip));
  const chart = { canvas, panel, tip, cursor: null, mark: null, dragFrom: undefined };
  canvas.addEventListener("pointermove", (event) => read(chart, chart.scales.fromX(event.offsetX), event.offsetY));
  canvas.addEventListener("pointerdown", (event) => {
    chart.dragFrom = event.offsetX;
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointerup", (event) => {
    const ends = [chart.dragFrom, event.offsetX].sort((a, b) => a - b);
    chart.dragFrom = undefined;
    if (ends[1] - ends[0] > 5) {
      range = ends.map(chart.scales.fromX);
      drawAll();
    }
  });
  canvas.addEventListener("pointerleave", () => leave(chart));
  canvas.addEventListener("blur", () => leave(chart));
  canvas.addEventListener("dblclick", showAll);
  canvas.addEventListener("keydown", (event) => {
    if (move(chart, event.key)) event.preventDefault();
    else if (event.key === "Escape") leave(chart);
  });
  new ResizeObserver(() => draw(chart)).observe(canvas);
  return chart;
}

function addLegend() {
  const parts = new Set(data.panels.flatMap((panel) => panel.lines.map((line) => line.part)));
  if (!parts.has("train") || !parts.has("val")) return;
  const single = data.groups.length === 1;
  for (const [number, part] of ["train", "val"].entries()) {
    const swatch = make("i", { className: "swatch" });
    swatch.style.background = single ? `var(--color-${number})` : "var(--faint)";
    swatch.style.height = number ? "3px" : "1px";
    document.getElementById("legend").append(swatch, PART_NAMES[part]);
  }
}

function addRun(run, number) {
  const box = make("input", { type: "checkbox", checked: true, ariaLabel: `draw ${run.name}` });
  box.addEventListener("change", () => {
    hidden[box.checked ? "delete" : "add"](number);
    drawAll();
  });
  const swatch = make("i", { className: "swatch" });
  const first = make("td", {}, box, ...(data.groups.length > 1 ? [swatch] : []), run.name);
  const rest = run.cells.map((cell, i) => make("td", { textContent: cell, className: data.isNumeric[i] ? "figure" : "" }));
  const row = make("tr", {}, first, ...rest);
  row.addEventListener("pointerenter", () => highlight(number));
  row.addEventListener("pointerleave", () => highlight(null));
  const texts = [run.name, run.label, ...run.cells.map((cell, i) => `${data.head[i]}=${cell}`)];
  return { row, swatch, number, text: texts.join("\n").toLowerCase(), values: [run.name, ...run.values] };
}

/* The color of a group with the strokes and gaps of its lines. */
function paintSwatch({ swatch, number }) {
  const place = styles.get(data.runs[number].group) ?? Infinity;
  const ink = `var(${colorName(place, "")})`;
  let at = 0;
  const stops = (DASHES[Math.floor(place / COLORS)] ?? []).map((length, i) => {
    const from = at;
    at += length;
    return `${i % 2 ? "transparent" : ink} ${from}px ${at}px`;
  });
  swatch.style.background = stops.length ? `repeating-linear-gradient(90deg, ${stops.join(", ")})` : ink;
}

/* Keep the runs that have all words of the filter in their name, results or settings. */
function choose(filter) {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const fitting = rows.filter(({ text }) => words.every((word) => text.includes(word)));
  chosen = new Set(fitting.map(({ number }) => number));
  for (const one of rows) one.row.hidden = !chosen.has(one.number);
  document.getElementById("count").textContent = words.length ? `${chosen.size} of ${rows.length} runs` : "";
  assignStyles();
  rows.forEach(paintSwatch);
  drawAll();
}

function highlight(run) {
  highlighted = data.runs.length > 1 ? run : null;
  drawAll();
}

function addHead(names, rows) {
  names.forEach((name, column) => {
    const button = make("button", { type: "button", textContent: name });
    let direction = 1;
    button.addEventListener("click", () => {
      rows.sort((a, b) => direction * compare(a.values[column], b.values[column]));
      direction = -direction;
      document.getElementById("runs").append(...rows.map(({ row }) => row));
    });
    const isNumeric = column > 0 && data.isNumeric[column - 1];
    document.getElementById("head").append(make("th", { scope: "col", className: isNumeric ? "figure" : "" }, button));
  });
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return (a === null) - (b === null) || String(a).localeCompare(String(b), "en", { numeric: true });
}

function showAll() {
  range = null;
  drawAll();
}

const charts = data.panels.map(addChart);
const drawAll = () => charts.forEach(draw);
const rows = data.runs.map(addRun);
document.getElementById("runs").append(...rows.map(({ row }) => row));
addHead(["run", ...data.head], rows);
addLegend();
document.getElementById("reset").addEventListener("click", showAll);
document.getElementById("filter").addEventListener("input", (event) => choose(event.target.value));
document.getElementById("filter-label").hidden = data.runs.length === 1;
document.getElementById("seeds-label").hidden = !data.panels.some((panel) => panel.lines.some((line) => line.role === "mean"));
for (const id of ["log", "raw", "seeds"]) document.getElementById(id).addEventListener("change", drawAll);
document.getElementById("raw-label").hidden = !data.panels.some((panel) => panel.lines.some((line) => line.s));
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
choose("");
