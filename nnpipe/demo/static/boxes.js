// The digits of a number, each in a box over its ink.

import { percent } from "./words.js";

const part = (kind, text) => {
  const element = document.createElement("span");
  element.className = kind;
  element.textContent = text;
  return element;
};

/**
 * Show a box for each digit of a number in a list, or none for null.
 *
 * `frame` is the place of the picture on the paper: { left, top, width, height } in shares of its side.
 */
export function showBoxes(list, number, frame) {
  const digits = number?.digits ?? [];
  list.style.setProperty("--length", digits.length);
  list.replaceChildren(...digits.map(({ digit, probability, left, top, right, bottom }) => {
    const item = document.createElement("li");
    const across = frame.width / number.width;
    const down = frame.height / number.height;
    item.style.left = `${100 * (frame.left + left * across)}%`;
    item.style.top = `${100 * (frame.top + top * down)}%`;
    item.style.width = `${100 * (right - left) * across}%`;
    item.style.height = `${100 * (bottom - top) * down}%`;
    item.append(part("digit", digit), " ", part("share", percent(probability)));
    return item;
  }));
}
