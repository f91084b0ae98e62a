// Pictures that are dropped, pasted or chosen instead of a drawing.

const LARGE = 4_000_000; // bytes
const MANY = 20_000_000; // pixels; larger pictures are made smaller, because the API may refuse them
const ENOUGH = 1600; // pixels a side

/** Call `take` with the file of a picture; `paper` shows where to drop it. */
export function receive(paper, input, take) {
  const first = (files) => {
    const file = [...(files ?? [])][0];
    if (file) take(file);
    return Boolean(file);
  };

  input.addEventListener("change", () => {
    first(input.files);
    input.value = ""; // the same file may be chosen again
  });

  document.addEventListener("paste", (event) => {
    if (first(event.clipboardData?.files)) event.preventDefault();
  });

  // On the whole page, because a browser would open a picture that misses the paper.
  document.addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    paper.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) paper.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    paper.classList.remove("dropping");
    if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
    first(event.dataTransfer?.files);
  });
}

/** Load a file: { name, blob, bitmap }; bitmap is null if the browser does not know the format. */
export async function load(file) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  const large = bitmap && (file.size > LARGE || bitmap.width * bitmap.height > MANY);
  const blob = large ? await smaller(bitmap) : file;
  return { name: file.name, blob, bitmap };
}

function smaller(bitmap) {
  const scale = Math.min(1, ENOUGH / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
}

/** The place of a picture on the paper: { left, top, width, height } in shares of its side. */
export function frame({ width, height }) {
  const scale = 0.92 / Math.max(width, height);
  const [across, down] = [width * scale, height * scale];
  return { left: (1 - across) / 2, top: (1 - down) / 2, width: across, height: down };
}

/** Show a picture on a canvas, as large as possible, or its name if it has no bitmap. */
export function show(canvas, { name, bitmap }, colour) {
  const context = canvas.getContext("2d");
  const side = canvas.width;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, side, side);
  if (bitmap) {
    const { left, top, width, height } = frame(bitmap);
    context.drawImage(bitmap, side * left, side * top, side * width, side * height);
  } else {
    context.fillStyle = colour;
    context.textAlign = "center";
    context.font = `${side / 24}px sans-serif`;
    context.fillText(name, side / 2, side / 2, 0.9 * side);
  }
}
