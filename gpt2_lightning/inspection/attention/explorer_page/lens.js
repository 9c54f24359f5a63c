// The logit lens: what would be predicted if the model ended after each layer.
const layerName = (layer) => (layer === 0 ? "embeddings" : `layer ${layer - 1}`);
const FROM_LAST = Array.from({ length: DATA.layers + 1 }, (_, i) => DATA.layers - i);

function makeLens() {
  const header = el("tr", {}, el("th", { scope: "col" }, "after"));
  TOKENS.forEach((label, token) => header.append(el("th", { scope: "col", class: "token", "data-token": token }, label)));
  const body = el("tbody");
  for (const layer of FROM_LAST) {
    const row = el("tr", {}, el("th", { scope: "row" }, layerName(layer)));
    for (let token = 0; token < T; token++) {
      const likely = predictions(layer, token);
      const [label, p] = likely[0];
      const title = likely.map(([name, share]) => `${name}  ${percent(share)}`).join("\n");
      const style = `background: ${color(p)}; color: ${inkOn(p)}`;
      row.append(el("td", { class: "token", "data-token": token, title, style }, label));
    }
    body.append(row);
  }
  const table = el("table", { class: "lens", "aria-label": "Likeliest next token after each layer, for each token" });
  table.append(el("thead", {}, header), body);
  choosesTokens(table);
  $("view").replaceChildren(table);
}

function drawLens() {
  for (const cell of $("view").querySelectorAll(".focus")) cell.classList.remove("focus");
  for (const cell of $("view").querySelectorAll(`[data-token="${focused()}"]`)) cell.classList.add("focus");
  if (state.hover === null) reveal($("view"), $("view").querySelector("th.focus"));
}

function lensSvg() {
  const [left, width, height] = [110, 64, 22];
  const drawing = page(left + T * width + 8, (DATA.layers + 2) * height + 12);
  const write = (x, row, text, attributes) =>
    drawing.append(svg("text", { x, y: 6 + (row + 0.5) * height, "font-size": 11, "dominant-baseline": "central", ...attributes }, text));
  for (let token = 0; token < T; token++) {
    const middle = left + (token + 0.5) * width;
    write(middle, 0, shortened(token), { "text-anchor": "middle", "font-weight": 700, fill: css("ink") });
    FROM_LAST.forEach((layer, i) => {
      const [label, p] = predictions(layer, token)[0];
      const place = { x: left + token * width, y: 6 + (i + 1) * height, width: width - 1, height: height - 1 };
      drawing.append(svg("rect", { ...place, fill: color(p) }));
      write(middle, i + 1, shorten(label, 9), { "text-anchor": "middle", fill: inkOn(p) });
    });
  }
  FROM_LAST.forEach((layer, i) => write(left - 8, i + 1, layerName(layer), { "text-anchor": "end", fill: css("ink") }));
  return drawing;
}
