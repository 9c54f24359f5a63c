// The labels of a text, and the tokens that mattered.
const METHODS = { occlusion: "without the token", gradient_x_input: "gradient × input", rollout: "attention rollout" };

async function classify(pane, text) {
  await pane.run(async (signal) => {
    const { data: [found] } = await ask("/v1/classify", { model: pane.model.id, input: text, reasons: true }, signal);
    drawLabels(pane, found);
    pane.element.hidden = false;
    announce(`Label: ${named(found.label)}.`);
  });
  pane.element.hidden = false;
}

const named = (label_) => (Array.isArray(label_) ? label_.join(", ") || "none" : String(label_));

function drawLabels(pane, found) {
  const scores = Object.entries(found.scores).sort((a, b) => b[1] - a[1]);
  const rows = scores.map(([name, score]) => {
    const row = el("li", { class: "bar-row" }, el("span", { class: "token" }, name), el("span", { class: "number" }, percent(score)));
    row.style.setProperty("--share", `${100 * score}%`);
    return row;
  });
  pane.body.replaceChildren(
    el("p", { class: "label" }, named(found.label)),
    el("ol", { class: "scores" }, ...rows),
    ...(found.truncated ? [el("p", { class: "quiet" }, "The classifier read a part of the text alone: it is longer than its context.")] : []),
    ...(found.reasons ? reasons(found) : []),
  );
}

function reasons(found) {
  const id = `method-${document.querySelectorAll(".reasons").length}-${Math.floor(Math.random() * 1e6)}`;
  const choice = el("select", { id }, ...Object.entries(METHODS).map(([name, words]) => el("option", { value: name }, words)));
  const box = el("div", { class: "tokens reasons", role: "group", "aria-label": "Text, token by token" });
  const words = el("p", { class: "quiet" });
  const draw = () => drawReasons(box, words, found, choice.value);
  choice.onchange = draw;
  draw();
  const what = found.explained === null ? "What mattered" : `What mattered for “${found.explained}”`;
  return [el("p", { class: "row" }, el("label", { for: id }, what), choice), box, words];
}

function drawReasons(box, words, { reasons: tokens }, method) {
  const most = Math.max(...tokens.map((token) => Math.abs(token[method]))) || 1;
  const signed = (value) => `${value > 0 ? "+" : ""}${value.toFixed(2)}`.replace("-", "−");
  box.replaceChildren(...tokens.map((token) => {
    const value = token[method];
    const span = el("span", { class: value < 0 ? "against" : "for", title: signed(value) }, token.text);
    span.style.setProperty("--share", `${(45 * Math.abs(value)) / most}%`);
    return span;
  }));
  const strongest = [...tokens].sort((a, b) => Math.abs(b[method]) - Math.abs(a[method])).slice(0, 5);
  const sign = method === "rollout" ? "It has no sign." : "Blue is for the label, orange against it.";
  words.textContent = `${strongest.map((token) => `“${label(token.text)}” ${signed(token[method])}`).join(", ")}. ${sign}`;
}
