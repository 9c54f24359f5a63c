// Colors: the square root of a number along a ramp of even lightness, so that small ones are seen.
const WEIGHTS = { ramps: DATA.ramps.weights, place: (w) => Math.round(255 * Math.sqrt(w)), ticks: [0, 0.05, 0.2, 0.5, 1] };
const DIFFERENCES = {
  ramps: DATA.ramps.differences, // of which the middle is 0
  place: (d) => 255 + Math.sign(d) * WEIGHTS.place(Math.abs(d)),
  ticks: [-1, -0.2, 0, 0.2, 1],
};

/** What heads and matrix show: weights, or their differences from those of the first checkpoint. */
const shownScale = () => (state.difference ? DIFFERENCES : WEIGHTS);

function color(w, scale = WEIGHTS) {
  const at = 6 * scale.place(w);
  return `#${scale.ramps[state.theme].slice(at, at + 6)}`;
}

/** Red, green and blue of a color, from 0 to 255. */
const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** Black or white, whichever reads better on the color of a weight. */
function inkOn(w) {
  const [r, g, b] = channels(color(w));
  return 0.299 * r + 0.587 * g + 0.114 * b > 130 ? "#14181d" : "#fff";
}

/** A matrix in 255ths as an image, one pixel for `across` tokens, of which the number farthest from 0 counts. */
function imageOf(matrix, size) {
  const farthest = new Int16Array(size * size);
  for (let query = 0, at = 0; query < T; query++) {
    const row = Math.floor((query * size) / T) * size;
    for (let key = 0; key <= query; key++, at++) {
      const pixel = row + Math.floor((key * size) / T);
      if (Math.abs(matrix[at]) > Math.abs(farthest[pixel])) farthest[pixel] = matrix[at];
    }
  }
  const image = new ImageData(size, size);
  const known = new Map(); // the same numbers come again and again
  for (let y = 0; y < size; y++) {
    for (let x = 0; x <= y; x++) {
      const number = farthest[y * size + x];
      if (!known.has(number)) known.set(number, [...channels(color(isShown(number / 255) ? number / 255 : 0, shownScale())), 255]);
      image.data.set(known.get(number), 4 * (y * size + x));
    }
  }
  return image;
}

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
