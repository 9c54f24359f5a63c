// What the reader has chosen and written. It is kept in the session of the browser's tab.
const KEPT_AS = "gpt2-lightning";
const SETTINGS = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.05, value: 0.8, off: 1, about: "Below 1 is safer, above 1 is wilder, 0 takes the likeliest" },
  { name: "top_k", label: "Top-k", min: 0, max: 200, step: 1, value: 0, off: 0, about: "Choose among so many of the likeliest; 0 is off" },
  { name: "top_p", label: "Top-p", min: 0.01, max: 1, step: 0.01, value: 1, off: 1, about: "Choose among the fewest that hold this probability together; 1 is off" },
  { name: "min_p", label: "Min-p", min: 0, max: 1, step: 0.01, value: 0, off: 0, about: "Choose among those at least so many times as likely as the likeliest; 0 is off" },
  { name: "repetition_penalty", label: "Repetition", min: 1, max: 2, step: 0.05, value: 1, off: 1, about: "Divides the logits of tokens that the text has already; 1 is off" },
  { name: "presence_penalty", label: "Presence", min: -2, max: 2, step: 0.1, value: 0, off: 0, about: "Taken off the logit of each token that was written before; 0 is off" },
  { name: "frequency_penalty", label: "Frequency", min: -2, max: 2, step: 0.1, value: 0, off: 0, about: "Taken off for each time that a token was written; 0 is off" },
];
const FORMING = ["temperature", "top_k", "top_p", "min_p"]; // those that the picture of the next token shows
const SHOWN_ALTERNATIVES = 10;

const state = {
  view: "", form: "command", theme: "", compare: false, chosen: {}, prompts: { write: "", chat: "", classify: "" },
  system: "", settings: Object.fromEntries(SETTINGS.map(({ name, value }) => [name, value])),
  tokens: 100, seed: "", slide: true, begun: {}, attention: { on: false, layer: "mean", head: "mean" },
};
let MODELS = []; // of the server
let MOST_TOKENS = Infinity;

const KINDS = { write: ["language_model", "instruct"], chat: ["instruct"], classify: ["classifier"] };
const modelsOf = (view) => MODELS.filter(({ kind }) => KINDS[view].includes(kind));
const modelNamed = (id) => MODELS.find((model) => model.id === id);

/** The models of the panes that are seen. */
function shownModels() {
  const known = modelsOf(state.view);
  const chosen = state.chosen[state.view] ?? [];
  const ids = [0, 1].map((i) => known.find(({ id }) => id === chosen[i]) ?? known[Math.min(i, known.length - 1)]);
  return state.compare && known.length > 1 ? ids : ids.slice(0, 1);
}

/** The settings of a request, without those that are off. */
function sampling(names = SETTINGS.map(({ name }) => name)) {
  const on = SETTINGS.filter(({ name, off }) => names.includes(name) && (state.settings[name] !== off || name === "temperature"));
  return Object.fromEntries(on.map(({ name }) => [name, state.settings[name]]));
}

/** The seed of the reader, or one that is drawn. */
function nextSeed() {
  return state.seed === "" ? Math.floor(Math.random() * 2 ** 31) : Number(state.seed);
}

function keep() {
  const trees = [...TREES].map(([name, tree]) => [name, tree.toPlain()]);
  for (const kept of [{ ...state, apiKey, trees }, { ...state, apiKey, trees: [] }]) {
    try {
      return sessionStorage.setItem(KEPT_AS, JSON.stringify(kept));
    } catch {
      // Where there is no room for the texts, the settings are kept.
    }
  }
}

function restore() {
  try {
    const { trees, apiKey: key, ...kept } = JSON.parse(sessionStorage.getItem(KEPT_AS)) ?? { trees: [], apiKey: "" };
    for (const [name, tree] of trees) TREES.set(name, Tree.fromPlain(tree));
    Object.assign(state, kept);
    apiKey = key;
  } catch {
    sessionStorage.removeItem(KEPT_AS); // of another version
  }
}

const TREES = new Map(); // by view, pane and model

/** All that a model has written in a pane of a view. */
function treeOf(view, pane, model) {
  const name = `${view} ${pane} ${model.id} ${model.vocabulary}`;
  if (!TREES.has(name)) TREES.set(name, new Tree());
  return TREES.get(name);
}
