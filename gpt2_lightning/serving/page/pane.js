// A pane: one model, its tree of texts, and the text that is shown. Two of them stand side by side.
const PANES = [];
const paneOf = (node) => {
  while (node.parent) node = node.parent;
  return PANES.find((pane) => pane.tree?.root === node);
};
const ENDS = { stop: "The model ended the text here.", length: "The limit of tokens ended the text here: Continue goes on." };
const FRAME = 30; // milliseconds between two pictures of a text that is being written
const times = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

class Pane {
  constructor(index, model) {
    this.index = index;
    this.model = model;
    this.tree = state.view === "classify" ? null : treeOf(state.view, index, model);
    this.running = null; // the request in progress, which it aborts
    this.pace = "";
    const button = (name, title, onclick) => el("button", { title, onclick }, name);
    this.body = el("div", { class: "turns" });
    this.readout = el("p", { class: "quiet readout" });
    this.problem = el("p", { class: "problem", role: "alert", hidden: "" });
    this.again = button("Again", "Another text after the same prompt", () => this.write(this.tree.given));
    this.more = button("Continue", "Write on at the end", () => this.write(this.tree.end()));
    this.copy = button("Copy text", "Copy the text that is shown", () => this.copyText());
    this.place = el("span", { class: "quiet" });
    this.before = button("‹", "Previous text", () => this.stepText(-1));
    this.after = button("›", "Next text", () => this.stepText(1));
    this.before.ariaLabel = "Previous text";
    this.after.ariaLabel = "Next text";
    this.texts = el("span", { class: "together" }, this.before, this.place, this.after);
    this.foot = el("div", { class: "row" }, this.more, this.again, this.copy, el("span", { class: "grow" }), this.texts);
    const id = `pane-${index}`;
    this.element = el("section", { class: "panel pane", "aria-labelledby": id },
      el("h2", { id, class: shownModels().length > 1 ? "" : "unseen" }, model.id), this.body, this.problem,
      ...(this.tree ? [this.readout, this.foot] : []));
  }

  /** Draw the text that is shown, up to a node or as a whole. */
  draw(last = this.tree.end()) {
    const path = this.tree.path();
    const shown = path.slice(0, path.indexOf(last) + 1);
    const focused = NODES.get(document.activeElement);
    this.body.replaceChildren();
    this.box = null;
    for (const node of shown) this.append(node);
    if (shown.includes(focused)) focusToken(spanOf(focused));
    this.drawFoot();
  }

  append(node) {
    if (node.turn !== undefined) {
      const [, count] = branch(node);
      const mark = count > 1 ? [forkMark(node)] : [];
      this.body.append(el("div", { class: "question" }, ...mark, el("p", {}, node.turn)));
      this.box = null;
      return;
    }
    if (!this.box) this.body.append((this.box = tokenBox(state.view === "chat" ? "Answer, token by token" : "Text, token by token")));
    drawToken(this.box, node);
  }

  /** Whether the end of the text is within the window, so that the page scrolls with it. */
  isEndSeen() {
    const { top, bottom } = this.readout.getBoundingClientRect();
    return top >= 0 && bottom <= window.innerHeight;
  }

  drawFoot() {
    const path = this.tree.path();
    const leaves = this.tree.leaves();
    const isIdle = this.running === null;
    const isEmpty = path.length === 0;
    this.element.hidden = isEmpty && isIdle && this.problem.hidden;
    this.foot.hidden = isEmpty;
    for (const button of [this.more, this.again]) button.disabled = !isIdle || isEmpty;
    this.texts.hidden = leaves.length < 2;
    this.place.textContent = `text ${leaves.indexOf(path.at(-1)) + 1} of ${leaves.length}`;
    this.read(null);
  }

  /** State the numbers of a token, or those of the whole text. */
  read(node) {
    if (!this.tree) return;
    const written = this.tree.path().filter(({ token, isGiven }) => token && !isGiven && token.logprob !== null);
    if (node) {
      const { token } = node;
      const rank = (token.alternatives ?? []).findIndex(({ id }) => id === token.id) + 1;
      const place = rank ? `, rank ${rank}` : token.alternatives?.length ? `, rank above ${token.alternatives.length}` : "";
      this.readout.textContent = token.logprob === null ? `“${label(token.text)}” begins the text` : `“${label(token.text)}”: ${percent(probability(token))}${place}`;
    } else if (this.running) {
      this.readout.textContent = "Writing…";
    } else if (written.length) {
      const mean = written.reduce((sum, { token }) => sum + token.logprob, 0) / written.length;
      const numbers = [times(written.length, "token"), `perplexity ${Math.exp(-mean).toFixed(1)}`, this.pace].filter(Boolean).join(", ");
      this.readout.textContent = `${numbers}. ${ENDS[this.tree.end().end] ?? ""}`;
    } else {
      this.readout.textContent = "";
    }
  }

  show(node) {
    this.stop();
    this.tree.show(node);
    this.draw();
    keep();
    refreshNext();
  }

  stepText(by) {
    const leaves = this.tree.leaves();
    const at = leaves.indexOf(this.tree.end());
    this.show(leaves[(at + by + leaves.length) % leaves.length]);
  }

  copyText() {
    const path = this.tree.path();
    navigator.clipboard.writeText(joined(path.map(({ token, turn }) => token?.text ?? `\n\n${turn}\n\n`)).trim());
    announce("The text was copied.");
  }

  stop() {
    this.running?.abort();
  }

  /** Carry out requests that can be stopped, and state what went wrong. */
  async run(work) {
    this.stop();
    const running = (this.running = new AbortController());
    this.problem.hidden = true;
    showRunning();
    try {
      return await work(running.signal);
    } catch (error) {
      if (error.name === "AbortError") return null;
      this.problem.textContent = error instanceof Problem ? error.message : `The page has failed: ${error.message}`;
      this.problem.hidden = false;
      return null;
    } finally {
      if (this.running === running) this.running = null;
      if (this.tree && this.running === null) {
        this.draw();
        keep();
      }
      showRunning();
    }
  }

  /** Put a prompt at the beginning, or a question at the end. Returns its node; null where that failed. */
  give(text) {
    return this.run(async (signal) => {
      if (state.view === "chat") return this.giveQuestion(text, signal);
      const { tokens } = await ask("/api/next", { model: this.model.id, prompt: text, count: 1, alternatives: SHOWN_ALTERNATIVES }, signal);
      let node = this.tree.root;
      for (const token of tokens) node = this.tree.add(node, token, true);
      return (this.tree.given = node);
    });
  }

  async giveQuestion(text, signal) {
    const end = this.tree.end();
    const system = this.model.has_system && state.system ? [{ role: "system", content: state.system }] : [];
    const earlier = this.model.several_turns ? messagesUpTo(end) : [];
    const messages = [...system, ...earlier, { role: "user", content: text }];
    const { tokens } = await ask("/api/next", { model: this.model.id, prompt: "", messages, room: state.tokens, count: 1 }, signal);
    return (this.tree.given = this.tree.ask(end, text, tokens.map(({ id }) => id)));
  }

  /** Write on after a node. */
  write(node, seed = nextSeed()) {
    return this.run(async (signal) => {
      this.tree.show(node);
      this.draw(node);
      const body = {
        model: this.model.id, prompt: idsUpTo(node), max_tokens: state.tokens, stream: true, slide: state.slide,
        alternatives: SHOWN_ALTERNATIVES, seed, ...sampling(), ...(state.view === "chat" && this.model.stop.length ? { stop: this.model.stop } : {}),
      };
      const start = performance.now();
      let count = 0;
      let isFollowed = this.isEndSeen();
      let shown = start;
      const follow = () => isFollowed && !this.isEndSeen() && this.readout.scrollIntoView({ block: "nearest" });
      for await (const { choices: [choice] } of stream("/v1/completions", body, signal)) {
        for (const token of choice?.tokens ?? []) {
          node = this.tree.add(node, token);
          this.append(node);
          count++;
        }
        if (choice?.finish_reason && node.token) node.end = choice.finish_reason;
        if (performance.now() - shown < FRAME) continue;
        follow();
        await new Promise((resolve) => setTimeout(resolve)); // a click on Stop comes between fast tokens
        isFollowed = this.isEndSeen();
        shown = performance.now();
      }
      follow();
      this.pace = `${(count / ((performance.now() - start) / 1000)).toFixed(0)} tokens per second`;
      announce(`${times(count, "token")} written.`);
      return node;
    });
  }
}
