// Which token may come next: its probability by the model, and the one that the settings leave it.
const BARS = 12;
let nextAsked = null;

/** What stands before the next token: the text that is shown, or a prompt that was not written from. */
function nextPlace(pane) {
  const text = $("prompt").value;
  const isBegun = text === state.begun[state.view] || (state.view === "chat" && text === "");
  if (isBegun && pane.tree.path().length) return { prompt: idsUpTo(pane.tree.end()), where: "After the text" };
  if (state.view === "write") return { prompt: text, where: "After the prompt" };
  return null;
}

/** Ask again for the distribution, once the settings rest for a moment. */
async function refreshNext() {
  nextAsked?.abort();
  const asked = (nextAsked = new AbortController());
  const panel = $("next-panel");
  panel.hidden = state.view === "classify";
  panel.ariaBusy = !panel.hidden && panel.open;
  await new Promise((resolve) => setTimeout(resolve, 120));
  if (asked.signal.aborted) return;
  try {
    if (panel.ariaBusy === "true") await askForNext(PANES[0], asked.signal);
  } catch (error) {
    if (error.name !== "AbortError") $("next-about").textContent = error.message;
  }
  if (!asked.signal.aborted) panel.ariaBusy = false;
}

async function askForNext(pane, signal) {
  if (!pane || pane.running) return;
  const place = nextPlace(pane);
  const body = { model: pane.model.id, prompt: place?.prompt, count: BARS, tokens: false, ...sampling(FORMING) };
  if (place) drawNext(pane, place.where, await ask("/api/next", body, signal));
  else for (const id of ["next", "next-about", "next-kept"]) $(id).replaceChildren();
}

function drawNext(pane, where, { distribution, rest, kept, entropy }) {
  const most = Math.max(...distribution.flatMap((token) => [token.probability, token.chosen_with]));
  $("next-about").textContent = `${where}${PANES.length > 1 ? `, ${pane.model.id}` : ""}. Gray is the model's own probability, blue what the settings leave of it.`;
  $("next").replaceChildren(...distribution.map((token) => {
    const button = el("button", {
      class: token.chosen_with ? "" : "excluded", title: "Go on from this token", onclick: () => goOnWith(pane, token),
      "aria-label": `${label(token.text)}: ${percent(token.probability)} by the model, ${percent(token.chosen_with)} with the settings`,
    },
      el("span", { class: "token" }, label(token.text)),
      el("span", { class: "bars" }, el("span", { class: "own" }), el("span", { class: "left" })),
      el("span", { class: "number" }, token.chosen_with ? percent(token.chosen_with) : "–"));
    button.style.setProperty("--own", `${(100 * token.probability) / most}%`);
    button.style.setProperty("--left", `${(100 * token.chosen_with) / most}%`);
    return el("li", {}, button);
  }));
  $("next-kept").textContent = `The settings leave ${kept.toLocaleString("en")} of ${times(pane.model.vocabulary, "token")}. The others have ${percent(rest)}; entropy ${entropy.toFixed(2)} nats.`;
}

/** Write on from a token of the distribution. */
async function goOnWith(pane, { id, text, probability: p }) {
  const place = nextPlace(pane);
  const isPrompt = typeof place.prompt === "string";
  const before = isPrompt ? await pane.give($("prompt").value) : pane.tree.end();
  if (isPrompt) state.begun[state.view] = $("prompt").value;
  if (before) pane.write(pane.tree.add(before, { id, text, logprob: Math.log(p), alternatives: [] }));
}
