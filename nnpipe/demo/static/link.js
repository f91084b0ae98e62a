// A drawing ⇄ the part of an address after "#".
//
// The first byte is the version. Each stroke is a byte for the pen (highest bit: erases; the others:
// width / 2), the number of points, and the step from each point to the next, starting at (0, 0).
// Numbers are written in groups of 7 bits, the lowest first; signed ones as 0, −1, 1, −2, … All bytes
// are in base64url, about three characters per point.

import { GRID } from "./drawing.js";

const VERSION = 1;
const LONGEST = 200_000; // characters; a long scribble has 20,000

export function encode(strokes) {
  const bytes = [VERSION];
  const write = (number) => {
    for (; number > 127; number >>>= 7) bytes.push((number & 127) | 128);
    bytes.push(number);
  };
  for (const { erase, width, points } of strokes) {
    bytes.push((erase ? 128 : 0) | (width >> 1));
    write(points.length / 2);
    points.forEach((value, i) => {
      const step = value - (i < 2 ? 0 : points[i - 2]);
      write((step << 1) ^ (step >> 31));
    });
  }
  const text = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** The strokes; null if the text is not a drawing. */
export function decode(text) {
  if (text.length > LONGEST || !/^[\w-]+$/.test(text)) return null;
  let bytes;
  try {
    const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
  let at = 1;
  const read = () => {
    let number = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = bytes[at++]; // beyond the end: undefined, which counts as 0 and is caught below
      number |= (byte & 127) << shift;
      if (!(byte & 128)) break;
    }
    return number;
  };
  const strokes = [];
  while (at < bytes.length) {
    const pen = bytes[at++];
    const count = read();
    if (!count || !(pen & 127) || count * 2 > bytes.length - at) return null;
    const points = [];
    for (let i = 0; i < 2 * count; i++) {
      const number = read();
      points.push((i < 2 ? 0 : points[i - 2]) + ((number >>> 1) ^ -(number & 1)));
    }
    if (points.some((value) => value < 0 || value >= GRID)) return null;
    strokes.push({ erase: pen > 127, width: (pen & 127) << 1, points });
  }
  return bytes[0] === VERSION && at === bytes.length ? strokes : null;
}
