// Elements of a page, made by code: their texts are text nodes, so that nothing in them is HTML.
const percent = (p) => `${(100 * p).toFixed(p >= 0.0995 ? 0 : 1)}\u00a0%`;

/** A label of so many characters at most. */
function shorten(label, most) {
  const letters = [...label];
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : label;
}

/** An HTML element; children that are text stay text. */
function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** An SVG element. */
function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(document.getElementById("namespace").namespaceURI, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node[name] = value;
    else if (value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const $ = (id) => document.getElementById(id);
