// Two columns of the same tokens, and a line for each weight: those on the left attend to those on the right.
const ROW = 19;
const LINES = { left: 150, right: 430, width: 580, classes: 10 };

function makeLines() {
  const drawing = linesSvg();
  drawing.setAttribute("role", "img");
  drawing.setAttribute("tabindex", 0);
  choosesTokens(drawing);
  drawing.onkeydown = $("text").onkeydown;
  $("view").replaceChildren(drawing);
}

function drawLines() {
  const drawing = $("view").firstChild;
  drawing.querySelector("g").replaceWith(bundle());
  for (const text of drawing.querySelectorAll("text")) {
    const isFocus = Number(text.dataset.token) === focused();
    text.setAttribute("fill", css(isFocus ? "target" : "ink"));
    text.setAttribute("font-weight", isFocus ? 700 : 400);
  }
  if (state.hover === null) reveal($("view"), drawing.querySelector(`[data-token="${focused()}"]`));
}

function linesSvg() {
  const drawing = page(LINES.width, T * ROW + 12, bundle());
  for (let token = 0; token < T; token++) {
    const place = { y: middleOf(token), "dominant-baseline": "central", "font-size": 13, "data-token": token, fill: css("ink") };
    drawing.append(
      svg("text", { ...place, x: LINES.left - 6, "text-anchor": "end" }, shortened(token)),
      svg("text", { ...place, x: LINES.right + 6 }, shortened(token)),
    );
  }
  return drawing;
}

const middleOf = (token) => 6 + (token + 0.5) * ROW;

/** All lines: a path for each kind and strength. */
function bundle() {
  const chosen = focused();
  const paths = new Map();
  const middle = (LINES.left + LINES.right) / 2;
  for (let query = 0; query < T; query++) {
    for (let key = 0; key <= query; key++) {
      const w = weight(query, key);
      if (!isShown(w)) continue;
      const kind = chosen === null ? "all" : query === chosen ? "source" : key === chosen ? "target" : "other";
      const name = `${kind} ${Math.ceil(Math.sqrt(w) * LINES.classes)}`;
      if (!paths.has(name)) paths.set(name, []);
      const [from, to] = [middleOf(query), middleOf(key)];
      paths.get(name).push(`M${LINES.left} ${from}C${middle} ${from} ${middle} ${to} ${LINES.right} ${to}`);
    }
  }
  const drawn = [...paths].sort(([a], [b]) => rankOf(a) - rankOf(b)).map(([name, ds]) => {
    const [kind, strength] = name.split(" ");
    const share = strength / LINES.classes;
    const opacity = { all: share ** 2, other: 0.15 * share ** 2 }[kind] ?? share; // many overlap
    const stroke = css(kind === "target" ? "target" : "source");
    return svg("path", { d: ds.join(""), fill: "none", stroke, "stroke-opacity": opacity, "stroke-width": 0.5 + 2 * share });
  });
  return svg("g", { "pointer-events": "none" }, ...drawn);
}

const rankOf = (name) => ["other", "all", "target", "source"].indexOf(name.split(" ")[0]);
