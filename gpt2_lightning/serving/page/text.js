// A text, token by token, each in the color of its probability.
const BOUNDS = [0.01, 0.05, 0.2, 0.5, 0.9]; // of the ranges of probabilities that have a color
const RANGES = ["below 1 %", "1–5 %", "5–20 %", "20–50 %", "50–90 %", "90 % and above"];

const probability = ({ logprob }) => (logprob === null ? null : Math.exp(logprob));

/** The class of a probability's color; without one, there is no color. */
function rangeOf(p) {
  return p === null ? "" : `p${BOUNDS.filter((bound) => p >= bound).length}`;
}

/** A token on one line, with its white space seen. */
function label(text) {
  return text.replace(/ /g, "·").replace(/\n/g, "↵").replace(/\t/g, "⇥") || "∅";
}

/** The bytes of a token without whole characters, which the server writes as <0xE2>; null for others. */
function bytesOf(text) {
  return /^(<0x[0-9A-F]{2}>)+$/.test(text) ? text.match(/[0-9A-F]{2}(?=>)/g).map((hex) => parseInt(hex, 16)) : null;
}

/** The characters of parts of characters, as soon as they are whole; otherwise null. */
function characters(parts) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(parts.flatMap(bytesOf)));
  } catch {
    return null;
  }
}

/** The text of tokens, of which several may share a character. */
function joined(texts) {
  let found = "";
  let parts = [];
  for (const text of texts) {
    parts = bytesOf(text) ? [...parts, text] : [];
    const whole = parts.length ? characters(parts) : null;
    found += text;
    if (whole === null) continue;
    found = found.slice(0, -parts.join("").length) + whole;
    parts = [];
  }
  return found;
}

function drawLegend() {
  const ranges = RANGES.map((name, i) => el("span", { class: `p${i}` }, name));
  $("legend").replaceChildren("Probability of each token", ...ranges);
}

/** The box of a text's tokens, of which one can be focused at a time. */
function tokenBox(name) {
  return el("div", { class: "tokens", role: "group", "aria-label": name });
}

const NODES = new WeakMap(); // the node of each drawn token

/** Append a token to its box, after the branches of its fork if it is at one. */
function drawToken(box, node) {
  const p = probability(node.token);
  if (node.parent.children.length > 1) box.append(forkMark(node));
  const span = el("span", {
    role: "button", "aria-haspopup": "dialog", tabindex: box.querySelector("[data-token]") ? "-1" : "0", "data-token": "",
    "aria-label": `${label(node.token.text)}${p === null ? "" : `, ${percent(p)}`}`,
    class: `${node.isGiven ? "given " : ""}${rangeOf(p)}`,
  }, node.token.text);
  if (/^\n+$/.test(node.token.text)) span.classList.add("line-feed");
  if (node.token.text === "") span.classList.add("empty");
  NODES.set(span, node);
  box.append(span);
  drawCharacter(box, span);
}

const PARTS = new WeakMap(); // the last tokens of a box, while they are no whole character

/** Show a character in the first of the tokens that share it. */
function drawCharacter(box, span) {
  const text = NODES.get(span).token.text;
  const parts = bytesOf(text) ? [...(PARTS.get(box) ?? []), span] : [];
  const whole = parts.length ? characters(parts.map((part) => NODES.get(part).token.text)) : null;
  PARTS.set(box, whole === null ? parts : []);
  if (whole === null) return;
  parts.forEach((part, i) => {
    part.textContent = i ? "" : whole;
    part.classList.toggle("part", i > 0);
  });
}

/** The number of a branch, and its neighbors. */
function forkMark(node) {
  const [at, count] = branch(node);
  const step = (by, sign, name) => el("button", {
    tabindex: "-1", "aria-label": `${name} branch, of ${count}`, onclick: () => stepBranch(node, by),
  }, sign);
  return el("span", { class: "fork" }, step(-1, "‹", "Previous"), `${at + 1}/${count}`, step(1, "›", "Next"));
}

const spansOf = (box) => [...box.querySelectorAll("[data-token]")];

/** Move the focus to a token. */
function focusToken(span) {
  for (const other of spansOf(span.closest(".pane"))) other.tabIndex = other === span ? 0 : -1;
  span.focus();
}

/** The span of a node that is drawn. */
function spanOf(node) {
  return spansOf($("panes")).find((span) => NODES.get(span) === node);
}

/** Show the branch next to that of a node. */
function stepBranch(node, by) {
  const [at, count] = branch(node);
  const pane = paneOf(node);
  if (!pane || count < 2) return;
  const next = node.parent.children[(at + by + count) % count];
  pane.show(next);
  const span = spanOf(next);
  if (span) focusToken(span);
}

/** Let pointer and keys act on the tokens of the panes. */
function listenToTokens() {
  const panes = $("panes");
  const tokenAt = (event) => event.target.closest?.("[data-token]");
  panes.addEventListener("click", (event) => tokenAt(event) && openAlternatives(tokenAt(event)));
  panes.addEventListener("pointerover", (event) => look(tokenAt(event)));
  panes.addEventListener("pointerleave", () => look(null));
  panes.addEventListener("focusin", (event) => look(tokenAt(event)));
  panes.addEventListener("keydown", (event) => {
    const span = tokenAt(event);
    if (!span || event.ctrlKey || event.metaKey || event.altKey) return;
    const spans = spansOf(span.closest(".pane"));
    const at = spans.indexOf(span);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: spans.length - 1 }[event.key];
    const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (to !== undefined) focusToken(spans[Math.min(Math.max(to, 0), spans.length - 1)]);
    else if (by) stepBranch(NODES.get(span), by);
    else if (event.key === "Enter" || event.key === " ") openAlternatives(span);
    else return;
    event.preventDefault();
  });
}

/** Read out a token under the pointer or the focus, and show what it attends to. */
function look(span) {
  const node = span ? NODES.get(span) : null;
  for (const pane of PANES) pane.read(node && pane === paneOf(node) ? node : null);
  showAttention(span);
}
