// What the page knows. A head is a number: layer * heads + head; the one after the last is the rollout.
const DATA = JSON.parse(document.getElementById("data").textContent);
const TOKENS = DATA.tokens;
const T = TOKENS.length;
const ROLLOUT = DATA.layers * DATA.heads;
const LETTERS = 4 * Math.ceil((T * (T + 1)) / 6); // of a head's lower triangle in base64

const unpacked = new Map();

/** A head's weights in 255ths: the lower triangle row by row, so that row i begins at i (i + 1) / 2. */
function bytesOf(checkpoint, head) {
  const key = checkpoint * (ROLLOUT + 1) + head;
  if (!unpacked.has(key)) {
    if (unpacked.size > 4 * (ROLLOUT + 1)) unpacked.clear();
    const packed = document.getElementById(`weights-${checkpoint}`).firstChild.data;
    const text = atob(packed.slice(head * LETTERS, (head + 1) * LETTERS));
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    unpacked.set(key, bytes);
  }
  return unpacked.get(key);
}

/** The weight of the chosen head from a query token to a key token, from 0 to 1. */
function weight(query, key) {
  return key > query ? 0 : bytesOf(state.checkpoint, state.head)[(query * (query + 1)) / 2 + key] / 255;
}

/** What a head's matrix shows, in 255ths: its weights, or how much larger they are than in the first checkpoint. */
function matrixOf(head) {
  const bytes = bytesOf(state.checkpoint, head);
  if (!state.difference) return bytes;
  const first = bytesOf(0, head);
  return Int16Array.from(bytes, (w, i) => w - first[i]);
}

/** What a token attends to, or is attended to by, as [token, weight], the strongest first, none below the threshold. */
function strongest(token, incoming, count) {
  const pairs = incoming
    ? Array.from({ length: T - token }, (_, i) => [token + i, weight(token + i, token)])
    : Array.from({ length: token + 1 }, (_, i) => [i, weight(token, i)]);
  return pairs.filter(([, w]) => isShown(w)).sort((a, b) => b[1] - a[1]).slice(0, count);
}

/** Whether a weight, or a difference of weights, is no smaller than the threshold. */
function isShown(w) {
  return w !== 0 && Math.abs(w) >= state.threshold;
}

/** The likeliest next tokens after a layer at a token, as [label, probability]; layer 0 is the embeddings. */
function predictions(layer, token) {
  const { ids, probabilities } = DATA.checkpoints[state.checkpoint].lens;
  const start = (layer * T + token) * DATA.kept;
  return Array.from({ length: DATA.kept }, (_, i) => [DATA.vocabulary[ids[start + i]], probabilities[start + i]]);
}

function nameOf(head) {
  if (head === ROLLOUT) return "Rollout of all layers";
  return `Layer ${Math.floor(head / DATA.heads)}, head ${head % DATA.heads}`;
}

/** What is shown of the head, in words. */
function titleOf() {
  const what = state.difference ? `, checkpoint ${state.checkpoint + 1} minus checkpoint 1` : "";
  return `${nameOf(state.head)}${what}`;
}

const number = (x, digits = 2) => (x === null ? "–" : x.toFixed(digits).replace("-", "−"));
const signed = (x, digits = 2) => `${x > 0 ? "+" : ""}${number(x, digits)}`;
const named = (token) => `${token} “${TOKENS[token]}”`;
