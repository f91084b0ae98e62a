// A drawing and its history. Nothing here depends on the screen.
//
// A page is the content of the paper at one time: { strokes, picture }. A stroke is
// { erase, width, points: [x0, y0, x1, y1, …] } in whole steps of a square of GRID × GRID, so that
// a link can hold a drawing exactly. A picture is a file that was dropped, pasted or chosen.

export const GRID = 1024;

/** Points nearer than this to the previous one are left out. */
const STEP = 4;

export const BLANK = Object.freeze({ strokes: Object.freeze([]), picture: null });

export const isBlank = (page) => !page.picture && !page.strokes.some((stroke) => !stroke.erase);

const onGrid = (value) => Math.min(GRID - 1, Math.max(0, Math.round(value)));

/** Extend a stroke to a point, in steps of the grid; returns whether that changed it. */
export function extend(stroke, x, y) {
  const { points } = stroke;
  const [toX, toY] = [onGrid(x), onGrid(y)];
  if (points.length && Math.hypot(toX - points.at(-2), toY - points.at(-1)) < STEP) return false;
  points.push(toX, toY);
  return true;
}

/** All pages so far: each change adds one; a page is final once the pen is lifted. */
export class History {
  #pages = [BLANK];
  #at = 0;

  get page() {
    return this.#pages[this.#at];
  }

  get canUndo() {
    return this.#at > 0;
  }

  get canRedo() {
    return this.#at < this.#pages.length - 1;
  }

  add(page) {
    this.#pages.length = this.#at + 1;
    this.#at = this.#pages.push(page) - 1;
  }

  /** Add a new stroke; over a picture, it starts a blank page. */
  begin(stroke) {
    const strokes = this.page.picture ? [] : this.page.strokes;
    this.add({ strokes: [...strokes, stroke], picture: null });
  }

  undo() {
    if (this.canUndo) this.#at -= 1;
  }

  redo() {
    if (this.canRedo) this.#at += 1;
  }
}
