// Numbers: the chosen token, all tokens of a head, all heads.
function showDetails() {
  const token = focused();
  $("details-title").textContent = token === null ? "Token" : `Token ${named(token)}`;
  if (token === null) {
    $("details-body").replaceChildren(el("p", { class: "quiet" }, "Choose a token in the text or in the picture."));
    return;
  }
  const next = predictions(DATA.layers, token).map(([label, p], i) => [i + 1, label, p]);
  const lens = FROM_LAST.map((layer) => [layer === 0 ? "emb." : layer - 1, ...predictions(layer, token)[0]]);
  $("details-body").replaceChildren(
    part("Attends to", pairsTable(strongest(token, false, 6), "")),
    part("Attended to by", pairsTable(strongest(token, true, 6), "target")),
    part("Likeliest next token", sharesTable(next), whatCame(token)),
    part("Likeliest after each layer", sharesTable(lens)),
  );
}

const part = (title, ...content) => el("section", {}, el("h3", {}, title), ...content);

function whatCame(token) {
  if (token === T - 1) return "";
  const { probabilities, ranks } = DATA.checkpoints[state.checkpoint].next;
  const place = ranks[token] === 0 ? "the likeliest" : `after ${ranks[token]} likelier`;
  return el("p", { class: "quiet came" }, `What came: “${TOKENS[token + 1]}”, ${percent(probabilities[token])}, ${place}.`);
}

function pairsTable(pairs, kind) {
  if (!pairs.length) return el("p", { class: "quiet" }, "Nothing from the threshold on.");
  const table = sharesTable(pairs.map(([token, w]) => [token, TOKENS[token], w]), kind, (w) => w.toFixed(2));
  [...table.rows].forEach((row, i) => (row.onclick = () => change({ token: pairs[i][0], hover: null })));
  return table;
}

function sharesTable(rows, kind = "", format = percent) {
  const body = el("tbody");
  for (const [name, label, share] of rows) {
    const bar = el("td", { class: `bar ${kind}`, style: `--share: ${100 * share}%` }, format(share));
    body.append(el("tr", {}, el("td", {}, String(name)), el("td", { class: "token" }, label), bar));
  }
  return el("table", {}, body);
}

function makeTable() {
  const columns = ["", "token", "attends most to", "is attended most by", "likeliest next", "what came"];
  const head = el("tr", {}, ...columns.map((name, i) => el("th", { scope: "col", class: i ? "token" : "" }, name)));
  const body = el("tbody");
  const list = (pairs) => pairs.map(([token, w]) => `${TOKENS[token]} (${token}) ${w.toFixed(2)}`).join("   ") || "–";
  const { probabilities } = DATA.checkpoints[state.checkpoint].next;
  for (let token = 0; token < T; token++) {
    const [label, p] = predictions(DATA.layers, token)[0];
    const came = token < T - 1 ? percent(probabilities[token]) : "–";
    const cells = [String(token), TOKENS[token], list(strongest(token, false, 3)), list(strongest(token, true, 3)), `${label} ${percent(p)}`, came];
    body.append(el("tr", { "data-token": token }, ...cells.map((cell, i) => el("td", { class: i ? "token" : "" }, cell))));
  }
  const table = el("table", { "aria-label": `Every token in ${nameOf(state.head)}` }, el("thead", {}, head), body);
  choosesTokens(table);
  $("view").replaceChildren(table);
}

function drawTable() {
  for (const row of $("view").querySelectorAll("tr[data-token]")) {
    row.setAttribute("aria-selected", Number(row.dataset.token) === focused());
  }
  if (state.hover === null) reveal($("view"), $("view").querySelector('[aria-selected="true"]'));
}

function makeScores() {
  const header = el("tr");
  DATA.scores.forEach(({ name, where, meaning }, column) => {
    const sort = () => change({ sort: { column, descending: column !== state.sort.column || !state.sort.descending } });
    const button = el("button", { title: meaning, onclick: sort }, name, el("span", { class: "where" }, where));
    header.append(el("th", { scope: "col" }, button));
  });
  $("scores").append(el("thead", {}, header), el("tbody"));
}

function showScores() {
  const { column, descending } = state.sort;
  const [header] = $("scores").tHead.rows;
  for (const cell of header.cells) cell.removeAttribute("aria-sort");
  header.cells[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
  const rows = DATA.checkpoints[state.checkpoint].scores.map((values, head) => [head, ...values]);
  const last = descending ? -Infinity : Infinity; // the place of what has no score
  const place = (row) => row[column] ?? last;
  rows.sort((a, b) => (place(a) === place(b) ? a[0] - b[0] : (place(a) - place(b)) * (descending ? -1 : 1)));
  const body = rows.map(([head, ...values]) => {
    const name = el("td", {}, el("button", {}, nameOf(head)));
    const cells = values.map((value) => el("td", {}, number(value, 3)));
    const row = { onclick: () => change({ head }), "data-head": head, "aria-selected": head === state.head };
    return el("tr", row, name, ...cells);
  });
  $("scores").tBodies[0].replaceChildren(...body);
}

function markScores() {
  for (const row of $("scores").tBodies[0].rows) row.setAttribute("aria-selected", Number(row.dataset.head) === state.head);
}
