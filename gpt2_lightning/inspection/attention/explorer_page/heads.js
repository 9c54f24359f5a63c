// All layers and heads at a glance.
const THUMBNAIL = Math.min(T, 48);
let drawing = 0;

function makeHeads() {
  const grid = $("heads");
  grid.style.gridTemplateColumns = `auto repeat(${DATA.heads}, minmax(0, 96px))`;
  const header = el("div", { role: "row" }, el("span", { role: "columnheader", title: "layer ↓, head →" }, ""));
  for (let head = 0; head < DATA.heads; head++) header.append(el("span", { role: "columnheader" }, String(head)));
  grid.append(header);
  for (let layer = 0; layer < DATA.layers; layer++) {
    const row = el("div", { role: "row" }, el("span", { role: "rowheader" }, String(layer)));
    for (let head = 0; head < DATA.heads; head++) {
      const index = layer * DATA.heads + head;
      const canvas = el("canvas", { width: THUMBNAIL, height: THUMBNAIL, "aria-hidden": "true" });
      const name = nameOf(index);
      row.append(el("button", { role: "gridcell", "data-head": index, "aria-label": name, title: name }, canvas));
    }
    grid.append(row);
  }
  grid.onclick = (event) => {
    const button = event.target.closest("button");
    if (button) change({ head: Number(button.dataset.head) });
  };
  grid.onkeydown = (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -DATA.heads, ArrowDown: DATA.heads }[event.key];
    const from = event.target.closest("button");
    if (!move || !from) return;
    event.preventDefault();
    const next = Number(from.dataset.head) + move;
    if (next < 0 || next >= ROLLOUT) return;
    change({ head: next });
    headButton(next).focus();
  };
  $("rollout").onclick = () => change({ head: ROLLOUT });
}

function headButton(head) {
  return $("heads").querySelector(`[data-head="${head}"]`);
}

/** Draw the thumbnails a few at a time, so that the page answers meanwhile. */
function drawThumbnails() {
  const turn = ++drawing;
  let head = 0;
  const some = () => {
    const until = performance.now() + 12;
    while (turn === drawing && head < ROLLOUT && performance.now() < until) {
      const image = imageOf(matrixOf(head), THUMBNAIL);
      headButton(head++).firstChild.getContext("2d").putImageData(image, 0, 0);
    }
    if (turn === drawing && head < ROLLOUT) requestAnimationFrame(some);
  };
  some();
}

function drawScale() {
  const canvas = $("scale").firstChild;
  const { ramps, place, ticks } = shownScale();
  const hex = ramps[state.theme];
  const last = hex.length / 6 - 1;
  canvas.width = last + 1;
  const image = new ImageData(last + 1, 1);
  for (let i = 0; i <= last; i++) image.data.set([...channels(`#${hex.slice(6 * i, 6 * i + 6)}`), 255], 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
  const tick = (w) => el("span", { style: `left: ${(100 * place(w)) / last}%` }, state.difference ? signed(w, 1) : String(w));
  $("ticks").replaceChildren(...ticks.map(tick));
}

function showHead() {
  for (const button of $("heads").querySelectorAll("button")) {
    const isChosen = Number(button.dataset.head) === state.head;
    button.setAttribute("aria-selected", isChosen);
    button.tabIndex = isChosen || (state.head === ROLLOUT && button.dataset.head === "0") ? 0 : -1;
  }
  $("rollout").setAttribute("aria-pressed", state.head === ROLLOUT);
  $("view-title").textContent = titleOf();
  $("effect").textContent = effectOf(state.head);
}

function effectOf(head) {
  const effect = DATA.checkpoints[state.checkpoint].effects?.[head];
  if (!effect) return "";
  const loss = effect.loss_change === null ? "" : `the loss changes by ${signed(effect.loss_change, 3)} nats per token; `;
  return `Switched off: ${loss}“${effect.token}” comes next with ${percent(effect.after)} instead of ${percent(effect.before)}.`;
}
