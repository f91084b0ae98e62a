// Mouse, pen, finger and arrow keys → strokes.

import { GRID } from "./drawing.js";

const STRIDE = 32; // steps of the grid for each press of an arrow key
const ERASER_END = 32; // of a pen, in PointerEvent.buttons

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Follow the pointer or the keys that draw on a canvas.
 *
 * begin(x, y, erase), move(x, y) and end() are called with points in steps of the grid; `cursor` is an
 * element that shows the pen of the arrow keys.
 */
export function follow(canvas, cursor, { begin, move, end }) {
  let pointer = null; // the one that draws; others, such as a palm, are ignored

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top].map((v) => (v * GRID) / box.width);
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (pointer !== null || !event.isPrimary || event.button > 0 && event.button !== 5) return;
    if (held) lift();
    pointer = event.pointerId;
    canvas.setPointerCapture(pointer); // the stroke continues beyond the paper's edge
    begin(...place(event), Boolean(event.buttons & ERASER_END));
  });

  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pointer) return;
    // Pens report several points per frame; an empty list means only this one.
    const all = event.getCoalescedEvents?.() ?? [];
    for (const each of all.length ? all : [event]) move(...place(each));
  });

  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
    canvas.addEventListener(name, (event) => {
      if (event.pointerId !== pointer) return;
      pointer = null;
      end();
    });
  }

  let [x, y] = [GRID / 2, GRID / 4];
  let held = false;

  const show = () => {
    cursor.style.setProperty("--x", x / GRID);
    cursor.style.setProperty("--y", y / GRID);
    cursor.classList.toggle("down", held);
  };

  const lift = () => {
    if (!held) return;
    held = false;
    end();
    show();
  };

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " ") {
      if (held) lift();
      else if (pointer === null) {
        held = true;
        begin(x, y, false);
      }
    } else if (event.key in ARROWS) {
      const stride = event.shiftKey ? STRIDE / 4 : STRIDE;
      [x, y] = ARROWS[event.key].map((way, axis) =>
        Math.min(GRID - 1, Math.max(0, [x, y][axis] + way * stride)),
      );
      if (held) move(x, y);
    } else return;
    event.preventDefault();
    show();
  });
  canvas.addEventListener("blur", lift);
  show();
}
