// Digits that the page writes, stroke by stroke.

import { GRID, extend } from "./drawing.js";

// Control points in per cent of the digit's height, x to the right and y down; "|" lifts the pen and
// "!" marks a sharp corner. The forms are from nnpipe/datasets/forms.json.
const FORMS = [
  [
    "45,2 20,10 4,40 6,70 25,97 50,97 70,70 74,40 62,10 42,2 30,6",
    "60,8 40,0 14,20 4,60 20,96 50,94 72,60 66,18 50,6 30,16",
  ],
  [
    "0,22 22,0! 22,33 22,67 22,100",
    "12,0 12,33 12,67 12,100",
  ],
  [
    "4,22 22,3 56,2 70,22 56,50 28,76 2,98! 36,96 82,98",
    "4,16 30,0 62,8 62,34 38,66 10,92 -2,80 16,68 40,82 64,98 92,84",
  ],
  [
    "6,14 28,0 54,10 52,34 28,46! 58,56 64,80 36,100 2,88",
    "8,10 34,0 54,16 46,38 26,47 50,54 62,76 40,98 4,92",
  ],
  [
    "10,2 4,28 2,56! 34,56 68,52 | 56,4 52,50 48,100",
    "50,0! 26,30 0,62! 36,62 72,60 | 50,0 50,50 48,100",
  ],
  [
    "14,4 12,24 10,44! 34,38 58,52 58,80 34,100 2,92 | 14,4 40,3 70,0",
    "62,2 36,2 16,4! 10,42! 36,36 58,54 54,84 28,100 2,90",
  ],
  [
    "44,0 16,30 2,68 16,98 44,96 54,74 38,58 14,66 4,76",
    "56,6 34,4 10,34 2,70 20,98 48,92 54,68 34,56 8,72",
  ],
  [
    "0,6 30,4 60,2! 40,45 24,100",
    "2,10 30,6 56,4 52,30 36,64 28,100",
  ],
  [
    "56,14 34,0 10,10 14,34 40,54 50,80 28,100 6,84 18,58 44,36 56,12",
    "66,8 38,0 12,14 28,42 52,64 50,92 22,98 10,80 34,50 68,2",
  ],
  [
    "50,10 26,2 4,18 8,42 32,44 50,14! 48,50 46,100",
    "52,8 28,0 4,22 14,46 40,38 52,8 50,50 40,100",
  ],
];

/** Points of a smooth curve (Catmull-Rom) through control points; corners stay sharp. */
function curve(text) {
  const knots = text.trim().split(/\s+/).flatMap((mark) => {
    const knot = mark.replace("!", "").split(",").map(Number);
    return mark.endsWith("!") ? [knot, knot] : [knot];
  });
  const at = (i) => knots[Math.min(knots.length - 1, Math.max(0, i))];
  const points = [];
  for (let i = 0; i < knots.length - 1; i++) {
    const [p, q, r, s] = [at(i - 1), at(i), at(i + 1), at(i + 2)];
    for (let t = 0; t < 1; t += 0.05) {
      points.push([0, 1].map((axis) =>
        q[axis] + (t / 2) * (r[axis] - p[axis] + t * (2 * p[axis] - 5 * q[axis] + 4 * r[axis] - s[axis]
          + t * (3 * (q[axis] - r[axis]) + s[axis] - p[axis]))),
      ));
    }
  }
  return [...points, knots.at(-1)];
}

const between = (least, most) => least + Math.random() * (most - least);

/** Strokes of a digit as lists of [x, y] in steps of the grid; each call varies the handwriting. */
export function handwriting(digit) {
  const forms = FORMS[digit];
  const strokes = forms[Math.floor(Math.random() * forms.length)].split("|").map(curve);
  const [size, stretch, slant] = [between(0.5, 0.72), between(0.9, 1.15), between(-0.02, 0.2)];
  const shaped = strokes.map((stroke) =>
    stroke.map(([x, y]) => [(stretch * x - slant * y) / 100, y / 100]),
  );
  const xs = shaped.flat().map(([x]) => x);
  const middle = (Math.min(...xs) + Math.max(...xs)) / 2;
  const [right, down] = [between(-0.06, 0.06), between(-0.06, 0.06)];
  return shaped.map((stroke) =>
    stroke.map(([x, y]) => [(x - middle) * size + 0.5 + right, (y - 0.5) * size + 0.5 + down].map((v) => v * GRID)),
  );
}

/**
 * Write strokes in about a second, by calling the functions that a pen calls.
 *
 * Returns a function that stops it. With reduced motion, everything is written at once.
 */
export function write(strokes, { begin, move, end }) {
  const total = strokes.flat().length;
  const wait = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 900 / total;
  let [stroke, point, started, done, stopped] = [0, 0, performance.now(), 0, false];

  const advance = (now) => {
    if (stopped) return;
    while (stroke < strokes.length && (now - started) >= done * wait) {
      if (point === 0) begin(...strokes[stroke][0]);
      else move(...strokes[stroke][point]);
      done += 1;
      point += 1;
      if (point === strokes[stroke].length) {
        end();
        [stroke, point] = [stroke + 1, 0];
      }
    }
    if (stroke < strokes.length) requestAnimationFrame(advance);
  };
  advance(started);

  return () => {
    if (!stopped && stroke < strokes.length && point > 0) end();
    stopped = true;
  };
}
