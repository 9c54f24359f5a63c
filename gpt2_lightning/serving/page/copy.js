// The same generation as a command, in Python and as a request.
const CHECKPOINT = "CHECKPOINT"; // the server does not send where its files are
const shell = (text) => (/^[\w.,:/=+-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`);
const python = (value) => (typeof value === "string" ? JSON.stringify(value) : value === true ? "True" : String(value));

/** The settings of what was written last, or of what comes next. */
function settingsOf(model) {
  const isRaw = state.view === "write" && model.kind === "instruct";
  const system = state.view === "chat" && model.has_system && state.system ? { system: state.system } : {};
  return { max_new_tokens: state.tokens, ...sampling(), seed: state.seedUsed ?? nextSeed(), ...(isRaw ? { raw: true } : {}), ...system };
}

const FORMS = {
  write: {
    command: (text, settings) => ["python generate.py", `checkpoint=${CHECKPOINT}`, `prompt=${shell(text)}`,
      ...Object.entries(settings).map(([name, value]) => `${name}=${shell(String(value))}`)].join(" \\\n  "),
    python: (text, settings) => {
      const given = Object.entries(settings).map(([name, value]) => `, ${name}=${python(value)}`).join("");
      return `import gpt2_lightning\n\nmodel = gpt2_lightning.load("${CHECKPOINT}")\nprint(model.generate(${python(text)}${given}))`;
    },
    curl: (text, { max_new_tokens: most, raw, system, ...settings }, model) => {
      const messages = [...(system ? [{ role: "system", content: system }] : []), { role: "user", content: text }];
      return state.view === "chat"
        ? request("/v1/chat/completions", { model: model.id, messages, max_tokens: most, ...settings })
        : request("/v1/completions", { model: model.id, prompt: text, max_tokens: most, ...settings });
    },
  },
  classify: {
    command: (text) => `python -m gpt2_lightning predict \\\n  checkpoint=${CHECKPOINT} \\\n  text=${shell(text)}`,
    python: (text) => `import gpt2_lightning\n\nmodel = gpt2_lightning.load("${CHECKPOINT}")\nprint(model.predict(${python(text)}))`,
    curl: (text, _, model) => request("/v1/classify", { model: model.id, input: text, reasons: true }),
  },
};

function request(path, body) {
  const key = apiKey ? ' \\\n  -H "Authorization: Bearer $API_KEY"' : "";
  return `curl ${location.origin}${path} \\\n  -H 'Content-Type: application/json'${key} \\\n  -d ${shell(JSON.stringify(body))}`;
}

function drawCode() {
  if (!$("copy-panel").open || !state.view) return;
  selectTab($("forms"), "form", state.form);
  const [model] = shownModels();
  const forms = FORMS[state.view === "classify" ? "classify" : "write"];
  $("code").textContent = forms[state.form](state.begun[state.view] || $("prompt").value, settingsOf(model), model);
  $("code-note").textContent = state.form === "curl" ? "" : `${CHECKPOINT} is what the server was started with for ${model.id}.`;
  $("copied").textContent = "";
}

function listenToCopy() {
  $("copy-panel").ontoggle = drawCode;
  listenToTabs($("forms"), (tab) => {
    state.form = tab.dataset.form;
    drawCode();
  });
  $("copy").onclick = async () => {
    await navigator.clipboard.writeText($("code").textContent);
    $("copied").textContent = "copied";
  };
}
