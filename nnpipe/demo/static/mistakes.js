// Misread pictures, in one folder for each digit, as `nnpipe evaluate --folder` reads them:
// mistakes/7/….png

import { DIGITS } from "./bars.js";
import { a } from "./words.js";
import { zip } from "./zip.js";

const ENDINGS = {
  "application/pdf": "pdf", "image/jpeg": "jpg", "image/svg+xml": "svg", "image/tiff": "tif",
  "image/x-icon": "ico",
};

/** The file extension for the type of a picture. */
const ending = (type) => ENDINGS[type] ?? type.match(/^image\/([a-z0-9]+)$/)?.[1] ?? "png";

/** A time in digits, so that file names are in order and unique. */
const stamp = (date) => date.toISOString().replace(/\D/g, "");

/**
 * Collect mistakes, and offer them as a download.
 *
 * `current` returns { blob, label, page } of the current answer, or null. Saving a page again replaces
 * its digit.
 */
export function collect({ digits, list, line, download, say }, current) {
  const saved = [];

  for (const digit of DIGITS) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = digit;
    button.ariaLabel = `It should have been ${a(digit)}`;
    button.ariaDisabled = "true";
    button.addEventListener("click", () => save(digit));
    digits.append(button);
  }

  function save(digit) {
    const answer = current();
    if (!answer) return;
    const again = saved.findIndex(({ page }) => page === answer.page);
    if (again >= 0) forget(saved[again]);
    const read = answer.label === null ? "refused" : `read-as-${answer.label}`;
    saved.push({
      ...answer,
      digit,
      name: `mistakes/${digit}/${stamp(new Date())}-${read}.${ending(answer.blob.type)}`,
      address: URL.createObjectURL(answer.blob),
    });
    say(`Saved as ${a(digit)}`);
    show();
  }

  function forget(mistake) {
    URL.revokeObjectURL(mistake.address);
    saved.splice(saved.indexOf(mistake), 1);
    show();
  }

  function show() {
    list.replaceChildren(
      ...saved.map((mistake) => {
        const item = document.createElement("li");
        const picture = document.createElement("img");
        picture.src = mistake.address;
        picture.alt = "";
        const read = mistake.label === null ? "refused" : `read as ${mistake.label}`;
        const caption = document.createElement("span");
        caption.textContent = `${mistake.digit}, ${read}`;
        const remove = document.createElement("button");
        remove.type = "button";
        remove.textContent = "×";
        remove.ariaLabel = `Leave out the ${caption.textContent}`;
        remove.addEventListener("click", () => {
          forget(mistake);
          digits.querySelector("button").focus();
        });
        item.append(picture, caption, remove);
        return item;
      }),
    );
    line.hidden = !saved.length;
  }

  download.addEventListener("click", async () => {
    const files = await Promise.all(
      saved.map(async ({ name, blob }) => ({ name, bytes: new Uint8Array(await blob.arrayBuffer()) })),
    );
    const link = document.createElement("a");
    link.href = URL.createObjectURL(zip(files));
    link.download = "mistakes.zip";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the download has begun by then
  });

  /** Enable or disable the digits. */
  return (possible) => {
    for (const button of digits.children) button.ariaDisabled = String(!possible);
  };
}
