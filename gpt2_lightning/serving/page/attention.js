// What a token attends to: a tint of each token before it, by layer and head or their mean.
const ATTENTION = new Map(); // answers of the server by node, the latest last
const MOST_KEPT = 40;
let attentionAsked = null;

function drawAttentionChoices() {
  const models = shownModels();
  const most = (name) => Math.min(...models.map((model) => model[name]));
  for (const [id, size] of [["layer", most("n_layer")], ["head", most("n_head")]]) {
    const chosen = state.attention[id];
    const numbers = Array.from({ length: size }, (_, i) => el("option", { value: i }, String(i)));
    $(id).replaceChildren(el("option", { value: "mean" }, "mean of all"), ...numbers);
    $(id).value = chosen < size ? chosen : "mean";
    state.attention[id] = $(id).value;
  }
  $("attention").setAttribute("aria-pressed", state.attention.on);
  $("panes").classList.toggle("shows-attention", state.attention.on);
  for (const id of ["heads", "attention-about"]) $(id).hidden = !state.attention.on;
  $("legend").hidden = state.attention.on;
}

/** Weights on the tokens up to the query, of the chosen layer and head. */
function weightsOf(answer) {
  const { layer, head } = state.attention;
  const layers = layer === "mean" ? answer.weights : [answer.weights[layer]];
  const rows = layers.flatMap((heads) => (head === "mean" ? heads : [heads[head]]));
  return rows[0].map((_, key) => rows.reduce((sum, row) => sum + row[key], 0) / rows.length);
}

async function attentionOf(node, model) {
  if (!ATTENTION.has(node)) {
    const answer = await ask("/api/attention", { model: model.id, prompt: idsUpTo(node).slice(-model.context) }, attentionAsked.signal);
    ATTENTION.set(node, answer);
    if (ATTENTION.size > MOST_KEPT) ATTENTION.delete(ATTENTION.keys().next().value);
  }
  return ATTENTION.get(node);
}

/** Tint the text before a token; without one, or while attention is off, nothing. */
async function showAttention(span) {
  attentionAsked?.abort();
  const asked = (attentionAsked = new AbortController());
  if (!state.attention.on || !span) return clearAttention();
  await new Promise((resolve) => setTimeout(resolve, 60)); // a pointer passes over many tokens
  if (asked.signal.aborted) return undefined;
  const node = NODES.get(span);
  try {
    const answer = await attentionOf(node, paneOf(node).model);
    if (!asked.signal.aborted) drawAttention(span, answer);
  } catch (error) {
    if (error.name !== "AbortError") $("attention-about").textContent = error.message;
  }
  return undefined;
}

function clearAttention() {
  for (const span of document.querySelectorAll("[data-attended]")) {
    span.style.removeProperty("--weight");
    span.removeAttribute("data-attended");
  }
  for (const span of document.querySelectorAll(".query")) span.classList.remove("query");
  $("attention-about").textContent = "Point at a token, or focus it, to see what it attends to.";
}

function drawAttention(span, answer) {
  clearAttention();
  span.classList.add("query");
  const spans = new Map(spansOf(span.closest(".pane")).map((other) => [NODES.get(other), other]));
  const weights = weightsOf(answer);
  let node = NODES.get(span);
  let unseen = 1;
  for (let key = weights.length - 1; key >= 0 && node.token; key--, node = node.parent) {
    const seen = spans.get(node);
    seen.dataset.attended = weights[key].toFixed(3);
    seen.style.setProperty("--weight", `${Math.min(100, 100 * Math.sqrt(weights[key])).toFixed(1)}%`);
    unseen -= weights[key];
  }
  const strongest = weights.map((weight, key) => [weight, key]).sort((a, b) => b[0] - a[0]).slice(0, 3);
  const words = strongest.map(([weight, key]) => `“${label(answer.texts[key])}” ${weight.toFixed(2)}`);
  const before = unseen > 0.005 ? `; ${unseen.toFixed(2)} is on what comes before this text` : "";
  $("attention-about").textContent = `“${label(answer.texts.at(-1))}” attends to ${words.join(", ")}${before}.`;
}

function listenToAttention() {
  const again = () => {
    drawAttentionChoices();
    keep();
    const span = document.querySelector(".query") ?? document.querySelector(".pane [data-token]:last-of-type");
    clearAttention();
    showAttention(span);
  };
  $("attention").onclick = () => {
    state.attention.on = !state.attention.on;
    again();
  };
  for (const id of ["layer", "head"]) {
    $(id).onchange = () => {
      state.attention[id] = $(id).value;
      again();
    };
  }
}
