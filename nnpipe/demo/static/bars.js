// Ten bars in the order of the digits; each is a button that chooses its digit as the rival.

import { percent } from "./words.js";

export const DIGITS = Array.from({ length: 10 }, (_, digit) => digit);

/** Put ten bars into a list; returns a function that shows probabilities, winner and rival. */
export function makeBars(list, choose) {
  const bars = DIGITS.map((digit) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.addEventListener("click", () => choose(digit));
    const [name, track, share] = ["digit", "track", "share"].map((kind) => {
      const part = document.createElement("span");
      part.className = kind;
      return part;
    });
    name.textContent = digit;
    track.append(document.createElement("i"));
    button.append(name, track, share);
    item.append(button);
    list.append(item);
    return { item, button, share };
  });

  return (probabilities, winner, rival, read) => {
    bars.forEach(({ item, button, share }, digit) => {
      const probability = probabilities ? probabilities[digit] : 0;
      const isWinner = digit === winner;
      const isRival = digit === rival && !isWinner;
      item.style.setProperty("--share", probability);
      item.classList.toggle("winner", isWinner);
      item.classList.toggle("read", isWinner && read);
      item.classList.toggle("rival", isRival);
      share.textContent = probabilities ? (100 * probability).toFixed(1) : "";
      const role = isWinner ? (read ? ", read" : ", most likely") : isRival ? ", rival" : "";
      button.ariaLabel = `${digit}${probabilities ? `: ${percent(probability)}` : ""}${role}`;
      button.ariaPressed = String(isRival);
      button.ariaDisabled = String(!probabilities || isWinner);
    });
  };
}
