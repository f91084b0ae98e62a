// Pictures of what the network sees, of its units, and of the evidence.

/** A colour of the style sheet, light or dark: name → [red, green, blue]. */
function colour(name) {
  const text = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16)); // written as #rrggbb
}

const mix = (from, to, share) => from.map((level, i) => level + share * (to[i] - level));

/** Draw one pixel for each value in rows; `colourOf` gives its colour. */
function pixels(canvas, rows, colourOf) {
  const image = new ImageData(rows[0].length, rows.length);
  rows.flat().forEach((value, i) => image.data.set([...colourOf(value, i), 255], 4 * i));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

const SIDE = 28;
export const NO_PIXELS = Array.from({ length: SIDE }, () => new Array(SIDE).fill(0));

/** Show the 28×28 pixels that the network sees, bright ink on black. */
export function showSeen(canvas, rows) {
  pixels(canvas, rows, (level) => [level, level, level]);
}

/** The output of a unit that is shown with two thirds of the full colour. */
const STRONG = 6;

/** Show a hidden layer as cells, `across` in a row; the cell of an idle unit is empty. */
export function showUnits(canvas, values, across) {
  const [cell, gap] = [16, 2];
  const down = values.length / across;
  canvas.width = across * cell;
  canvas.height = down * cell;
  const context = canvas.getContext("2d");
  const [idle, firing] = [colour("field"), colour("unit")];
  values.forEach((value, i) => {
    context.fillStyle = `rgb(${mix(idle, firing, 1 - Math.exp(-value / STRONG)).map(Math.round)})`;
    const [x, y] = [(i % across) * cell, Math.floor(i / across) * cell];
    context.fillRect(x + gap / 2, y + gap / 2, cell - gap, cell - gap);
  });
}

/** Show evidence: blue for the winner, orange against it, grey for ink that is neither. */
export function showEvidence(canvas, evidence, seen) {
  const [none, ink] = [colour("field"), colour("soft")];
  const [pro, contra] = [colour("blue"), colour("orange")];
  const largest = Math.max(...evidence.flat().map(Math.abs)) || 1;
  const levels = seen.flat();
  pixels(canvas, evidence, (value, i) => {
    const ground = mix(none, ink, (0.35 * levels[i]) / 255);
    return mix(ground, value > 0 ? pro : contra, (Math.abs(value) / largest) ** 0.6);
  });
}
