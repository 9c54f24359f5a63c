// The matrix of a head: rows attend to columns.
const SMALLEST_NAMED = 9; // pixels of a row that has room for its token
const NAME_ROOM = 16 + 7.5 * Math.max(...TOKENS.map((_, token) => [...shortened(token)].length)); // pixels

let picture = null; // the weights, a pixel each, kept while only the pointer moves

function makeMatrix() {
  const canvas = el("canvas", { tabindex: 0, role: "img" });
  canvas.onmousemove = (event) => {
    const { cell, margin } = measures();
    const query = Math.floor((event.offsetY - margin) / cell);
    const key = Math.floor((event.offsetX - margin) / cell);
    const isInside = query >= 0 && query < T && key >= 0 && key <= query;
    change(isInside ? { hover: query, key } : { hover: null, key: null });
  };
  canvas.onmouseleave = () => change({ hover: null, key: null });
  canvas.onclick = () => state.hover !== null && change({ token: state.hover });
  canvas.onkeydown = (event) => {
    const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [];
    if (down === undefined) return;
    event.preventDefault();
    const token = clamp((state.token ?? T - 1) + down, 0, T - 1);
    change({ token, key: clamp((state.key ?? token) + right, 0, token), hover: null });
  };
  $("view").replaceChildren(canvas);
}

function measures() {
  const room = Math.max(280, Math.min($("view").clientWidth, 860));
  const named = ((room - NAME_ROOM) / T) * state.zoom >= SMALLEST_NAMED;
  const margin = named ? NAME_ROOM : 14;
  return { margin, named, cell: Math.min((room - margin - 4) / T, 40) * state.zoom };
}

function drawMatrix() {
  const canvas = $("view").firstChild;
  const { margin, named, cell } = measures();
  const side = margin + T * cell + 3;
  const sharp = Math.min(window.devicePixelRatio || 1, 12000 / side);
  Object.assign(canvas, { width: side * sharp, height: side * sharp });
  canvas.style.width = canvas.style.height = `${side}px`;
  const context = canvas.getContext("2d");
  context.scale(sharp, sharp);
  context.imageSmoothingEnabled = false;
  context.drawImage(pictureOfHead(), margin, margin, T * cell, T * cell);
  if (named) drawNames(context, margin, cell);
  const token = focused();
  if (token === null) return;
  context.strokeStyle = css("target");
  context.lineWidth = 1.5;
  context.strokeRect(margin, margin + token * cell, (token + 1) * cell, cell);
  context.setLineDash([3, 3]);
  context.strokeRect(margin + token * cell, margin + token * cell, cell, (T - token) * cell);
  if (state.key === null || state.key > token) return;
  context.setLineDash([]);
  context.lineWidth = 3;
  context.strokeRect(margin + state.key * cell, margin + token * cell, cell, cell);
}

function pictureOfHead() {
  const key = [state.checkpoint, state.head, state.threshold, state.theme, state.difference].join();
  if (picture?.key !== key) {
    const canvas = el("canvas", { width: T, height: T });
    canvas.getContext("2d").putImageData(imageOf(matrixOf(state.head), T), 0, 0);
    picture = { key, canvas };
  }
  return picture.canvas;
}

function drawNames(context, margin, cell) {
  const size = Math.min(13, cell * 0.92);
  context.textBaseline = "middle";
  for (let token = 0; token < T; token++) {
    const isFocus = token === focused();
    context.font = `${isFocus ? "700 " : ""}${size}px ui-monospace, "DejaVu Sans Mono", Menlo, monospace`;
    const middle = margin + (token + 0.5) * cell;
    context.fillStyle = isFocus ? css("target") : css("ink");
    context.textAlign = "right";
    context.fillText(shortened(token), margin - 5, middle);
    context.save();
    context.translate(middle, margin - 5);
    context.rotate(-Math.PI / 2);
    context.fillStyle = token === state.key || isFocus ? css("target") : css("ink");
    context.textAlign = "left";
    context.fillText(shortened(token), 0, 0);
    context.restore();
  }
}

function shortened(token) {
  return shorten(TOKENS[token], 10);
}

/** The matrix as SVG: the cells of a color are one path. */
function matrixSvg() {
  const cell = clamp(620 / T, 3, 22);
  const margin = NAME_ROOM;
  const side = margin + T * cell + 8;
  const cells = new Map();
  const matrix = matrixOf(state.head);
  for (let query = 0, at = 0; query < T; query++) {
    for (let key = 0; key <= query; key++, at++) {
      const w = matrix[at] / 255;
      const fill = color(isShown(w) ? w : 0, shownScale());
      if (!cells.has(fill)) cells.set(fill, []);
      cells.get(fill).push(`M${key} ${query}h1v1h-1z`);
    }
  }
  const paths = [...cells].map(([fill, ds]) => svg("path", { fill, d: ds.join("") }));
  const drawing = page(side, side, svg("g", { transform: `translate(${margin} ${margin}) scale(${cell})`, "shape-rendering": "crispEdges" }, ...paths));
  if (cell < 6) return drawing;
  for (let token = 0; token < T; token++) {
    const middle = margin + (token + 0.5) * cell;
    const style = { "font-size": Math.min(12, cell * 0.9), "dominant-baseline": "central", fill: css("ink") };
    drawing.append(svg("text", { x: margin - 5, y: middle, "text-anchor": "end", ...style }, shortened(token)));
    drawing.append(svg("text", { transform: `translate(${middle} ${margin - 5}) rotate(-90)`, ...style }, shortened(token)));
  }
  return drawing;
}
