// The page as a whole: its views, settings and keys.
const WORDS = {
  write: { label: "Prompt", button: "Write", hint: "The airlock opened, and" },
  chat: { label: "Question", button: "Send", hint: "Ask something" },
  classify: { label: "Text", button: "Classify", hint: "A text to label" },
};
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const theme = () => state.theme || (dark.matches ? "dark" : "light");

function drawTheme() {
  document.documentElement.dataset.theme = theme();
  $("theme").setAttribute("aria-pressed", theme() === "dark");
}

/** State for readers who cannot see it. */
function announce(words) {
  $("announcement").textContent = words;
}

function selectTab(list, name, value) {
  for (const tab of list.children) {
    tab.setAttribute("aria-selected", tab.dataset[name] === value);
    tab.tabIndex = tab.dataset[name] === value ? 0 : -1;
  }
}

function listenToTabs(list, choose) {
  list.addEventListener("click", (event) => event.target.matches("[role=tab]") && choose(event.target));
  list.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const tabs = [...list.children].filter(({ hidden }) => !hidden);
    const next = move && tabs[tabs.indexOf(event.target) + move];
    if (!next) return;
    choose(next);
    next.focus();
  });
}

/** The panes of the view and its models. */
function drawPanes() {
  for (const pane of PANES) pane.stop();
  closeAlternatives(false);
  PANES.splice(0, PANES.length, ...shownModels().map((model, index) => new Pane(index, model)));
  $("panes").replaceChildren(...PANES.map(({ element }) => element));
  $("panes").classList.toggle("two", PANES.length > 1);
  for (const pane of PANES) {
    if (pane.tree) pane.draw();
    else pane.element.hidden = true;
  }
  showRunning();
}

function drawModels() {
  const known = modelsOf(state.view);
  const shown = shownModels();
  $("compare").hidden = known.length < 2;
  $("compare").setAttribute("aria-pressed", shown.length > 1);
  $("second").hidden = shown.length < 2;
  shown.forEach((model, i) => {
    $(`model-${i}`).replaceChildren(...known.map(({ id }) => el("option", { value: id }, id)));
    $(`model-${i}`).value = model.id;
  });
  const facts = ({ parameters, n_layer: layers, n_head: heads, context, step }) =>
    `${parameters >= 1e6 ? `${(parameters / 1e6).toFixed(parameters >= 1e7 ? 0 : 1)}M` : parameters.toLocaleString("en")} parameters, ${times(layers, "layer")} of ${times(heads, "head")}, context ${context}${step ? `, step ${step}` : ""}`;
  $("facts").textContent = shown.length === 1 ? facts(shown[0]) : "";
  $("system-row").hidden = state.view !== "chat" || !shown.some((model) => model.has_system);
  if (state.view !== "classify") drawAttentionChoices();
}

function setView(view) {
  state.view = view;
  selectTab($("views"), "view", view);
  $("stage").setAttribute("aria-labelledby", `tab-${view}`);
  const { label: name, button, hint } = WORDS[view];
  $("prompt-label").textContent = name;
  $("write").textContent = button;
  $("prompt").placeholder = hint;
  $("prompt").value = state.prompts[view];
  if (view === "chat") $("panes").after($("composer"));
  else $("models").after($("composer"));
  for (const id of ["settings-panel", "coloring", "clear"]) $(id).hidden = view === "classify";
  refresh();
}

function refresh() {
  drawModels();
  drawPanes();
  drawCode();
  refreshNext();
  keep();
}

function showRunning() {
  const isRunning = PANES.some((pane) => pane.running);
  $("stop").disabled = !isRunning;
  $("panes").setAttribute("aria-busy", isRunning);
  for (const pane of PANES) if (pane.tree) pane.drawFoot();
  if (!isRunning) refreshNext();
}

/** Write from the prompt, send the question or classify the text, in every pane. */
async function go() {
  const text = $("prompt").value;
  if (state.view !== "write" && !text.trim()) return $("prompt").focus();
  closeAlternatives(false);
  state.begun[state.view] = text;
  if (state.view === "classify") await Promise.all(PANES.map((pane) => classify(pane, text)));
  else {
    const seed = (state.seedUsed = nextSeed());
    const given = PANES.map(async (pane) => {
      const node = await pane.give(text);
      if (node && state.view === "chat") $("prompt").value = state.prompts.chat = "";
      if (node) await pane.write(node, seed);
    });
    await Promise.all(given);
  }
  drawCode();
}

function drawSettings() {
  const rows = SETTINGS.map(({ name, label: words, min, max, step, value, about }) => {
    const shown = el("output", { for: name });
    const show = () => (shown.textContent = state.settings[name]);
    const input = el("input", { type: "range", id: name, min, max, step, value: state.settings[name] ?? value, title: about });
    input.oninput = () => {
      state.settings[name] = Number(input.value);
      show();
      settled();
    };
    show();
    return el("div", { class: "setting" }, el("label", { for: name, title: about }, words), input, shown);
  });
  const tokens = el("input", { type: "number", id: "tokens", min: 1, max: MOST_TOKENS, value: state.tokens });
  tokens.oninput = () => tokens.checkValidity() && tokens.value && settled({ tokens: Number(tokens.value) });
  const seed = el("input", { type: "number", id: "seed", min: 0, step: 1, value: state.seed, placeholder: "new each time" });
  seed.oninput = () => seed.checkValidity() && settled({ seed: seed.value });
  const slide = el("input", { type: "checkbox", id: "slide", title: "A window slides over longer texts, as with generate" });
  slide.checked = state.slide;
  slide.onchange = () => settled({ slide: slide.checked });
  $("settings").replaceChildren(...rows,
    el("div", { class: "setting" }, el("label", { for: "tokens" }, "Tokens, at most"), tokens),
    el("div", { class: "setting" }, el("label", { for: "seed", title: "The same seed gives the same text" }, "Seed"), seed),
    el("div", { class: "setting" }, el("label", { for: "slide" }, "Past context"), slide));
  $("settings").onsubmit = (event) => event.preventDefault();
}

function settled(changes = {}) {
  Object.assign(state, changes);
  keep();
  drawCode();
  refreshNext();
}

function listen() {
  listenToTokens();
  listenToAlternatives();
  listenToAttention();
  listenToCopy();
  listenToTabs($("views"), (tab) => setView(tab.dataset.view));
  $("write").onclick = go;
  $("stop").onclick = () => PANES.forEach((pane) => pane.stop());
  $("clear").onclick = () => {
    for (const name of [...TREES.keys()]) if (name.startsWith(`${state.view} `)) TREES.delete(name);
    delete state.begun[state.view];
    refresh();
  };
  $("prompt").oninput = () => settled({ prompts: { ...state.prompts, [state.view]: $("prompt").value } });
  $("prompt").onkeydown = (event) => {
    const sends = event.ctrlKey || event.metaKey || (state.view === "chat" && !event.shiftKey && !event.isComposing);
    if (event.key !== "Enter" || !sends) return;
    event.preventDefault();
    go();
  };
  $("system").value = state.system;
  $("system").oninput = () => settled({ system: $("system").value });
  $("theme").onclick = () => {
    state.theme = theme() === "dark" ? "light" : "dark";
    drawTheme();
    keep();
  };
  dark.onchange = drawTheme;
  $("help").onclick = () => $("keys").showModal();
  $("next-panel").ontoggle = refreshNext;
  $("compare").onclick = () => {
    state.compare = !state.compare;
    refresh();
  };
  for (const i of [0, 1]) {
    $(`model-${i}`).onchange = () => {
      state.chosen[state.view] = shownModels().map((_, at) => $(`model-${at}`).value);
      refresh();
    };
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !closeAlternatives() && !document.querySelector("dialog[open]")) $("stop").click();
  });
  document.addEventListener("pointerdown", (event) => {
    if (!event.target.closest("#alternatives, [data-token]")) closeAlternatives(false);
  });
}

async function begin() {
  restore();
  drawTheme();
  drawLegend();
  try {
    const { models, most_tokens: most } = await ask("/api/models");
    [MODELS, MOST_TOKENS] = [models, most];
  } catch (error) {
    $("problem").textContent = error.message;
    $("problem").hidden = false;
    return;
  }
  drawSettings();
  listen();
  const views = Object.keys(KINDS).filter((view) => modelsOf(view).length);
  for (const tab of $("views").children) tab.hidden = !views.includes(tab.dataset.view);
  const natural = { instruct: "chat", classifier: "classify" }[MODELS[0].kind] ?? "write";
  setView(views.includes(state.view) ? state.view : natural);
}

begin();
