// The text, colored: tokens before the chosen one by how much it attends to them, those after by how much they do to it.
function makeText() {
  const box = $("text");
  TOKENS.forEach((label, token) => {
    box.append(el("span", { role: "option", "data-token": token, "aria-label": `token ${token}: ${label}` }, label));
    if (label.endsWith("↵")) box.append(el("br"));
    else if (label.endsWith("·") || TOKENS[token + 1]?.startsWith("·")) box.append(el("wbr"));
  });
  choosesTokens(box);
  box.onkeydown = (event) => {
    const from = state.token ?? T - 1;
    const to = { ArrowLeft: from - 1, ArrowUp: from - 1, ArrowRight: from + 1, ArrowDown: from + 1, Home: 0, End: T - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    change({ token: clamp(to, 0, T - 1), hover: null });
    tokenSpan(state.token).focus();
  };
}

/** Let the pointer choose among elements with a token: pass over to look, click to keep. */
function choosesTokens(box) {
  const tokenAt = (event) => event.target.closest("[data-token]")?.dataset.token;
  box.onmouseover = (event) => change({ hover: tokenAt(event) === undefined ? null : Number(tokenAt(event)) });
  box.onmouseleave = () => change({ hover: null });
  box.onclick = (event) => tokenAt(event) !== undefined && change({ token: Number(tokenAt(event)), hover: null });
}

function tokenSpan(token) {
  return $("text").querySelector(`[data-token="${token}"]`);
}

function colorText() {
  const [box, chosen] = [$("text"), focused()];
  for (const span of box.querySelectorAll("span")) {
    const token = Number(span.dataset.token);
    const w = chosen === null ? 0 : token <= chosen ? weight(chosen, token) : weight(token, chosen);
    const isSource = chosen !== null && token <= chosen;
    const seen = isShown(w);
    span.style.backgroundColor = !seen ? "" : isSource ? color(w) : `rgba(${css("target-tint")}, ${Math.sqrt(w)})`;
    span.style.color = seen && isSource ? inkOn(w) : "";
    span.setAttribute("aria-selected", token === chosen);
    span.tabIndex = token === (state.token ?? T - 1) ? 0 : -1;
  }
  if (state.hover === null && chosen !== null) reveal(box, tokenSpan(chosen));
}

/** Scroll a box, and nothing around it, until something in it is seen. */
function reveal(box, node) {
  if (!node) return;
  const [outer, inner] = [box.getBoundingClientRect(), node.getBoundingClientRect()];
  const isSeen = inner.top >= outer.top && inner.bottom <= outer.bottom && inner.left >= outer.left && inner.right <= outer.right;
  if (isSeen) return;
  box.scrollTop += (inner.top + inner.bottom - outer.top - outer.bottom) / 2;
  box.scrollLeft += (inner.left + inner.right - outer.left - outer.right) / 2;
}
