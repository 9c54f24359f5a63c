// Everything that was written from a model: a tree of tokens. A path through it is a text, a fork two texts that part.
// A node is a token or, in a chat, a question (`turn`), after which the token ids of the text begin anew.

class Tree {
  constructor() {
    this.root = { parent: null, children: [], chosen: 0 };
    this.given = null; // the last token of the prompt, or the last question
  }

  /** The child of a node with this token, which is chosen from now on: a new one, or the one that there is. */
  add(parent, token, isGiven = false) {
    const node = this.#choose(parent, (child) => child.token?.id === token.id, () => ({ token, isGiven }));
    if (!node.token.alternatives?.length) node.token = token;
    return node;
  }

  /** The same for a question, with the token ids of the conversation up to its answer. */
  ask(parent, turn, ids) {
    return this.#choose(parent, (child) => child.turn === turn, () => ({ turn, ids }));
  }

  #choose(parent, isIt, made) {
    let at = parent.children.findIndex(isIt);
    if (at < 0) at = parent.children.push({ ...made(), parent, children: [], chosen: 0, end: "" }) - 1;
    parent.chosen = at;
    return parent.children[at];
  }

  /** The nodes of the text that is shown, from the first to the last. */
  path() {
    const nodes = [];
    for (let node = this.root; node.children.length;) nodes.push((node = node.children[node.chosen]));
    return nodes;
  }

  /** The node at the end of the text that is shown. */
  end() {
    return this.path().at(-1) ?? this.root;
  }

  /** Show the text that goes through a node. */
  show(node) {
    for (; node.parent; node = node.parent) node.parent.chosen = node.parent.children.indexOf(node);
  }

  /** The ends of all texts, in the order of the branches. */
  leaves() {
    const found = [];
    const open = [this.root];
    while (open.length) {
      const node = open.pop();
      if (!node.children.length && node.parent) found.push(node);
      open.push(...[...node.children].reverse());
    }
    return found;
  }

  /** As a list without circles; `parent` is an index. */
  toPlain() {
    const nodes = [this.root];
    const plain = [];
    const indexes = new Map([[this.root, 0]]);
    for (let i = 0; i < nodes.length; i++) {
      const { parent, children, ...rest } = nodes[i];
      plain.push({ ...rest, parent: parent === null ? -1 : indexes.get(parent) });
      for (const child of children) indexes.set(child, nodes.push(child) - 1);
    }
    return { nodes: plain, given: indexes.get(this.given) ?? -1 };
  }

  static fromPlain({ nodes, given }) {
    const tree = new Tree();
    const made = nodes.map((node) => ({ ...node, children: [] }));
    made[0].parent = null;
    for (const node of made.slice(1)) {
      node.parent = made[node.parent];
      node.parent.children.push(node);
    }
    tree.root = made[0];
    tree.given = made[given] ?? null;
    return tree;
  }
}

/** The token ids of the text up to a node, with it. */
function idsUpTo(node) {
  const ids = [];
  for (; node.parent; node = node.parent) {
    if (node.turn !== undefined) return [...node.ids, ...ids.reverse()];
    ids.push(node.token.id);
  }
  return ids.reverse();
}

/** The questions that have answers up to a node, with it, and these, as messages of the API. */
function messagesUpTo(node) {
  const turns = [];
  for (let texts = []; node.parent; node = node.parent) {
    if (node.turn === undefined) texts.unshift(node.token.text);
    else {
      if (texts.length) turns.unshift({ role: "user", content: node.turn }, { role: "assistant", content: joined(texts) });
      texts = [];
    }
  }
  return turns;
}

/** Which branch of a fork a node begins, from 0, and of how many. */
function branch(node) {
  return [node.parent.children.indexOf(node), node.parent.children.length];
}
