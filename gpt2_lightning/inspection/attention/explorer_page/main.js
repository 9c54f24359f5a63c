// What is chosen, and what follows from a choice.
const VIEWS = {
  matrix: { make: makeMatrix, draw: drawMatrix, svg: matrixSvg, fixed: ["view"] },
  lines: { make: makeLines, draw: drawLines, svg: linesSvg, fixed: ["view", "theme"] },
  lens: { make: makeLens, draw: drawLens, svg: lensSvg, fixed: ["view", "theme", "checkpoint"] },
  table: { make: makeTable, draw: drawTable, svg: null, fixed: ["view", "head", "checkpoint", "threshold"] },
};
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const state = {
  checkpoint: DATA.shown, head: DATA.head, token: DATA.token, hover: null, key: null, view: "matrix", zoom: 1,
  threshold: T > 200 ? 0.02 : 0, // long texts have too many lines to draw
  theme: dark.matches ? "dark" : "light", difference: false, sort: { column: 0, descending: false },
};
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** The token to show: the one under the pointer, else the chosen one. */
const focused = () => state.hover ?? state.token;

/** Set something, and draw again what shows it. */
function change(wanted) {
  const changed = Object.keys(wanted).filter((name) => state[name] !== wanted[name]);
  if (changed.length) {
    Object.assign(state, wanted);
    render(changed);
  }
}

function render(changed) {
  const any = (...names) => names.some((name) => changed.includes(name));
  if (any("theme")) showTheme();
  if (any("theme", "difference")) drawScale();
  if (any("theme", "checkpoint", "threshold", "difference")) drawThumbnails();
  if (any("head", "checkpoint", "difference")) showHead();
  if (any("difference")) $("difference").setAttribute("aria-pressed", state.difference);
  if (any("checkpoint")) showCheckpoint();
  if (any("sort", "checkpoint")) showScores();
  if (any("head")) markScores();
  if (any("view")) showTabs();
  if (any("threshold")) showThreshold();
  if (any(...VIEWS[state.view].fixed)) VIEWS[state.view].make();
  if (any("token", "hover", "head", "checkpoint", "threshold", "theme")) {
    colorText();
    showDetails();
  }
  VIEWS[state.view].draw();
  showReadout();
}

function showTheme() {
  document.documentElement.dataset.theme = state.theme;
  $("theme").setAttribute("aria-pressed", state.theme === "dark");
}

function showTabs() {
  for (const tab of $("tabs").children) {
    tab.setAttribute("aria-selected", tab.dataset.view === state.view);
    tab.tabIndex = tab.dataset.view === state.view ? 0 : -1;
  }
  $("save").disabled = !VIEWS[state.view].svg;
  $("zoom-row").hidden = state.view !== "matrix";
}

function showThreshold() {
  $("threshold").value = state.threshold;
  $("threshold-value").textContent = state.threshold.toFixed(2);
}

function showCheckpoint() {
  const { name, loss } = DATA.checkpoints[state.checkpoint];
  const ofLoss = loss === null ? "" : `, loss ${loss.toFixed(3)} nats per token`;
  $("about").textContent = `${name}: ${DATA.layers} layers of ${DATA.heads} heads, ${T} tokens${ofLoss}`;
  $("checkpoint").value = state.checkpoint;
  $("checkpoint-name").textContent = `${state.checkpoint + 1} of ${DATA.checkpoints.length}: ${name}`;
}

function showReadout() {
  const token = focused();
  let text = "";
  if (token !== null && state.key !== null && state.key <= token) {
    text = `${named(token)} attends to ${named(state.key)} with ${weight(token, state.key).toFixed(2)}`;
    if (state.difference) text += `, which is ${signed(matrixOf(state.head)[(token * (token + 1)) / 2 + state.key] / 255)} against checkpoint 1`;
  } else if (token !== null) {
    const [first] = strongest(token, false, 1);
    text = first ? `${named(token)} attends most to ${named(first[0])}, with ${first[1].toFixed(2)}` : `${named(token)}`;
  }
  $("readout").textContent = text;
  if (state.view === "matrix" || state.view === "lines") {
    $("view").firstChild.setAttribute("aria-label", `${titleOf()}, ${state.view}. ${text}. The table has all numbers.`);
  }
}

/** An empty SVG drawing on the page's color. */
function page(width, height, ...children) {
  const font = "ui-monospace, 'DejaVu Sans Mono', Menlo, monospace";
  const drawing = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "font-family": font });
  drawing.append(svg("rect", { width, height, fill: css("paper") }), ...children);
  return drawing;
}

/** The present view as the text of an SVG file. */
function currentSvg() {
  const drawing = VIEWS[state.view].svg();
  drawing.prepend(svg("title", {}, `${titleOf()}, ${state.view}`));
  return new XMLSerializer().serializeToString(drawing);
}

function save() {
  const address = URL.createObjectURL(new Blob([currentSvg()], { type: "image/svg+xml" }));
  const name = `${titleOf().toLowerCase().replace(/\W+/g, "-")}-${state.view}.svg`;
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

function zoom(factor) {
  change({ zoom: clamp(state.zoom * factor, 1, 8) });
}

/** Show differences from the first checkpoint, or weights again; the first itself has none, so that the last is taken. */
function compare() {
  const last = DATA.checkpoints.length - 1;
  if (last > 0) change({ difference: !state.difference, checkpoint: state.difference ? state.checkpoint : state.checkpoint || last });
}

function listen() {
  $("save").onclick = save;
  $("theme").onclick = () => change({ theme: state.theme === "dark" ? "light" : "dark" });
  $("help").onclick = () => $("keys").showModal();
  $("in").onclick = () => zoom(2);
  $("out").onclick = () => zoom(0.5);
  $("threshold").oninput = () => change({ threshold: Number($("threshold").value) });
  $("checkpoint").oninput = () => change({ checkpoint: Number($("checkpoint").value) });
  $("difference").onclick = compare;
  $("tabs").onclick = (event) => event.target.dataset.view && change({ view: event.target.dataset.view });
  $("tabs").onkeydown = (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const next = move && $("tabs").children[[...$("tabs").children].indexOf(event.target) + move];
    if (next) change({ view: next.dataset.view });
    next?.focus();
  };
  dark.onchange = () => change({ theme: dark.matches ? "dark" : "light" });
  window.onresize = () => VIEWS[state.view].draw();
  document.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
    const views = Object.keys(VIEWS);
    const last = DATA.checkpoints.length - 1;
    const actions = {
      "[": () => change({ checkpoint: Math.max(0, state.checkpoint - 1) }),
      "]": () => change({ checkpoint: Math.min(last, state.checkpoint + 1) }),
      c: compare, "+": () => zoom(2), "-": () => zoom(0.5), d: () => $("theme").click(), "?": () => $("help").click(),
      s: () => VIEWS[state.view].svg && save(), Escape: () => change({ token: null, hover: null, key: null }),
    };
    if (views[event.key - 1]) change({ view: views[event.key - 1] });
    else actions[event.key]?.();
  };
}

makeHeads();
makeText();
makeScores();
listen();
$("checkpoint-row").hidden = DATA.checkpoints.length < 2;
$("checkpoint").max = DATA.checkpoints.length - 1;
$("standard").textContent = `Scores “on the text” are of the text above; those “repeated” are of a text for comparison: ${DATA.repeated}.`;
render(Object.keys(state));
