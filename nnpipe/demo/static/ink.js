// Strokes → ink on a canvas: on the screen, and in the PNG that is sent.

import { GRID } from "./drawing.js";

/** Side of the PNG in pixels; preprocessing does not resize it. */
const SENT = 280;

/** Clear a canvas and paint strokes; erasing makes it clear again. */
export function paint(canvas, strokes, colour) {
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.setTransform(canvas.width / GRID, 0, 0, canvas.height / GRID, 0, 0);
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = colour;
  for (const stroke of strokes) {
    context.globalCompositeOperation = stroke.erase ? "destination-out" : "source-over";
    context.lineWidth = stroke.width;
    context.beginPath();
    trace(context, stroke.points);
    context.stroke();
  }
  context.globalCompositeOperation = "source-over";
}

/** Trace a smooth line: curves between the middles of its steps, with the points as control points. */
function trace(context, points) {
  const [x, y] = points;
  context.moveTo(x, y);
  for (let i = 2; i < points.length - 2; i += 2) {
    const middle = [(points[i] + points[i + 2]) / 2, (points[i + 1] + points[i + 3]) / 2];
    context.quadraticCurveTo(points[i], points[i + 1], ...middle);
  }
  // A line without length would not leave a dot.
  context.lineTo(points.at(-2) + (points.length === 2 ? 0.01 : 0), points.at(-1));
}

const sheet = document.createElement("canvas");
sheet.width = sheet.height = SENT;
sheet.getContext("2d", { willReadFrequently: true });

/** The strokes as a PNG, black on white for any colours of the page. */
export function toPNG(strokes) {
  paint(sheet, strokes, "#000");
  const context = sheet.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, SENT, SENT);
  // Not toBlob(): it waits for an idle moment, in Chromium up to 0.8 s while the user draws.
  const [, base64] = sheet.toDataURL("image/png").split(",");
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return new Blob([bytes], { type: "image/png" });
}

/** Give a canvas as many pixels as the screen has there, and repaint it when that changes. */
export function keepSharp(canvas, repaint) {
  new ResizeObserver(() => {
    const side = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
    if (canvas.width !== side) canvas.width = canvas.height = side;
    repaint();
  }).observe(canvas);
}
