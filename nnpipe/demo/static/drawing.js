// A drawing, and how it came about. Nothing here knows the screen.
//
// A page is what lies on the paper at one time: { strokes, picture }. A stroke is
// { erase, width, points: [x0, y0, x1, y1, …] } in whole steps of a square of GRID × GRID, so that
// a link can carry a drawing exactly. A picture is what was dropped, pasted or chosen instead.

export const GRID = 1024;

/** Points nearer than this to the one before tell nothing more. */
const STEP = 4;

export const BLANK = Object.freeze({ strokes: Object.freeze([]), picture: null });

export const isBlank = (page) => !page.picture && !page.strokes.some((stroke) => !stroke.erase);

const onGrid = (value) => Math.min(GRID - 1, Math.max(0, Math.round(value)));

/** Let a stroke go on to a place, in steps of the grid; says whether that changed it. */
export function extend(stroke, x, y) {
  const { points } = stroke;
  const [toX, toY] = [onGrid(x), onGrid(y)];
  if (points.length && Math.hypot(toX - points.at(-2), toY - points.at(-1)) < STEP) return false;
  points.push(toX, toY);
  return true;
}

/** All pages there have been: each change adds one, and none is altered once the pen is lifted. */
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

  /** Add a stroke that begins; on a picture, it begins a new page. */
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
