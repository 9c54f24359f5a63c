// The tokens that might have stood in a token's place: choosing one goes on from it, in a branch of its own.
let opened = null; // the span whose alternatives are open

function openAlternatives(span) {
  const node = NODES.get(span);
  const { token } = node;
  opened = span;
  const [at, count] = branch(node);
  const listed = token.alternatives?.length ? token.alternatives : [token];
  const all = listed.some(({ id }) => id === token.id) ? listed : [...listed, token];
  const items = all.map((other) => el("li", {}, alternativeButton(node, other)));
  $("alternatives").replaceChildren(
    el("h2", { id: "alternatives-title" }, `In place of “${label(token.text)}”`),
    token.logprob === null ? el("p", { class: "quiet" }, "The first token: nothing comes before it that would predict it.") : "",
    el("ol", {}, ...items),
    el("div", { class: "row" },
      ...(count > 1 ? [
        el("button", { "aria-label": "Previous branch", onclick: () => stepHere(node, -1) }, "‹"),
        el("span", {}, `branch ${at + 1} of ${count}`),
        el("button", { "aria-label": "Next branch", onclick: () => stepHere(node, 1) }, "›"),
      ] : []),
      el("button", { onclick: () => goOn(node, node), title: "Another text after this token" }, "Write on from here"),
      el("button", { onclick: () => closeAlternatives() }, "Close")),
  );
  $("alternatives").hidden = false;
  place(span);
  ($("alternatives").querySelector("[aria-current]") ?? $("alternatives").querySelector("button")).focus();
}

function stepHere(node, by) {
  closeAlternatives(false);
  stepBranch(node, by);
  if (document.activeElement?.matches("[data-token]")) openAlternatives(document.activeElement);
}

function alternativeButton(node, other) {
  const p = probability(other);
  const isThis = other.id === node.token.id;
  const written = node.parent.children.find(({ token }) => token?.id === other.id);
  const button = el("button", {
    class: "bar-button", "data-id": other.id, "aria-current": isThis ? "true" : undefined,
    title: isThis ? "This token" : written ? "Show this branch" : "Go on from this token",
    onclick: () => choose(node, other),
  }, el("span", { class: "token" }, label(other.text)), el("span", { class: "number" }, p === null ? "" : percent(p)), written && !isThis ? el("span", { class: "quiet", title: "has a branch" }, "⑂") : "");
  button.style.setProperty("--share", `${100 * (p ?? 0)}%`);
  return button;
}

/** Put a token in the place of another: show its branch where there is one, otherwise write on from it. */
function choose(node, other) {
  const { alternatives } = node.token;
  const pane = paneOf(node);
  const before = node.parent.children.find(({ token }) => token?.id === other.id);
  pane.stop();
  const next = before ?? pane.tree.add(node.parent, { ...other, alternatives }, node.isGiven);
  goOn(node, next, before !== undefined);
}

/** Show a text up to a node, and write on from it unless it was written before. */
function goOn(node, next, isWritten = false) {
  const pane = paneOf(node);
  closeAlternatives(false);
  pane.stop();
  pane.show(next);
  if (!isWritten) pane.write(next);
  const span = spanOf(next);
  if (span) focusToken(span);
}

/** Let arrow keys move among the alternatives. */
function listenToAlternatives() {
  $("alternatives").addEventListener("keydown", (event) => {
    const buttons = [...$("alternatives").querySelectorAll("li button")];
    const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    buttons[(buttons.indexOf(document.activeElement) + by + buttons.length) % buttons.length].focus();
  });
}

function closeAlternatives(givesFocusBack = true) {
  if ($("alternatives").hidden) return false;
  $("alternatives").hidden = true;
  if (givesFocusBack && opened?.isConnected) focusToken(opened);
  opened = null;
  return true;
}

/** Put the alternatives below a token, within the page; narrow windows have them at their bottom, by the style sheet. */
function place(span) {
  const box = $("alternatives");
  const { left, bottom } = span.getClientRects()[0];
  const most = document.documentElement.clientWidth - box.offsetWidth - 8;
  box.style.setProperty("left", `${Math.max(8, Math.min(left, most)) + window.scrollX}px`);
  box.style.setProperty("top", `${bottom + 6 + window.scrollY}px`);
}
