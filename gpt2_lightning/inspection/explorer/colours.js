// Colours of weights: the square root of a weight along a ramp of even lightness, so that small ones are seen.
const RAMPS = Object.fromEntries(
  Object.entries(DATA.ramps).map(([theme, hex]) => [theme, hex.match(/../g).map((pair) => parseInt(pair, 16))]),
);

/** Place on the ramp of a weight from 0 to 1. */
const step = (w) => Math.round(255 * Math.sqrt(w));

function colour(w) {
  return `#${DATA.ramps[state.theme].slice(6 * step(w), 6 * step(w) + 6)}`;
}

/** Black or white, whichever reads better on the colour of a weight. */
function inkOn(w) {
  const [r, g, b] = RAMPS[state.theme].slice(3 * step(w), 3 * step(w) + 3);
  return 0.299 * r + 0.587 * g + 0.114 * b > 130 ? "#14181d" : "#fff";
}

/** A matrix as an image, one pixel for `across` tokens, of which the largest weight counts. */
function imageOf(bytes, size, threshold) {
  const largest = new Uint8Array(size * size);
  for (let query = 0, at = 0; query < T; query++) {
    const row = Math.floor((query * size) / T) * size;
    for (let key = 0; key <= query; key++, at++) {
      const pixel = row + Math.floor((key * size) / T);
      if (bytes[at] > largest[pixel]) largest[pixel] = bytes[at];
    }
  }
  const image = new ImageData(size, size);
  const ramp = RAMPS[state.theme];
  for (let y = 0; y < size; y++) {
    for (let x = 0; x <= y; x++) {
      const w = largest[y * size + x] / 255;
      const from = 3 * (w >= threshold ? step(w) : 0);
      const to = 4 * (y * size + x);
      image.data.set([ramp[from], ramp[from + 1], ramp[from + 2], 255], to);
    }
  }
  return image;
}

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
