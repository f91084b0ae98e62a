// The page: changes of the drawing, and the display of the answer.

import { Refused, model, place, predict, predictNumber } from "./api.js";
import { DIGITS, makeBars } from "./bars.js";
import { showBoxes } from "./boxes.js";
import { History, extend, isBlank } from "./drawing.js";
import { handwriting, write } from "./examples.js";
import { keepSharp, paint, toPNG } from "./ink.js";
import { shortcuts } from "./keys.js";
import { latest } from "./latest.js";
import { decode, encode } from "./link.js";
import { NO_PIXELS, showEvidence, showSeen, showUnits } from "./maps.js";
import { collect } from "./mistakes.js";
import { follow } from "./pen.js";
import { frame, load, receive, show as showPicture } from "./pictures.js";
import { inWords, mayBeNumber, numberInWords, percent, refusal } from "./words.js";

const $ = (id) => document.getElementById(id);
const canvas = $("canvas");
const history = new History();

const tool = { width: 48, erase: false };
let stroke = null; // the stroke that is being drawn
let rival = null; // the digit that the answer is compared with
let winner = null; // the most probable digit of the last answer
let current = null; // the last answer: { page, blob, reading, number }

// ---------------------------------------------------------------------------------- the drawing

const ink = () => getComputedStyle(canvas).color;

let painting = false;

/** Paint the paper before the next frame, once for any number of changes. */
function repaint() {
  if (painting) return;
  painting = true;
  requestAnimationFrame(() => {
    painting = false;
    const { strokes, picture } = history.page;
    if (picture) showPicture(canvas, picture, ink());
    else paint(canvas, strokes, ink());
  });
}

/** Update the page after a change of the drawing; `settled` is false during a stroke. */
function changed(settled = true) {
  const { page } = history;
  repaint();
  $("hint").hidden = page.strokes.length > 0 || page.picture !== null;
  if (isBlank(page)) show(null);
  else ask();
  if (page.picture !== current?.page.picture) boxes(null);
  if (!settled) return;
  // A really disabled button would lose the keyboard focus.
  $("undo").ariaDisabled = String(!history.canUndo);
  $("redo").ariaDisabled = String(!history.canRedo);
  $("clear").ariaDisabled = String(!page.strokes.length && !page.picture);
  $("shared").textContent = "";
  const { pathname, search } = window.location;
  const fragment = page.strokes.length ? `#${encode(page.strokes)}` : "";
  window.history.replaceState(null, "", pathname + search + fragment);
}

const pen = {
  begin(x, y, erase) {
    stroke = { erase, width: erase ? Math.min(254, 2 * tool.width) : tool.width, points: [] };
    extend(stroke, x, y);
    history.begin(stroke);
    changed(false);
  },
  move(x, y) {
    if (stroke && extend(stroke, x, y)) changed(false);
  },
  end() {
    stroke = null;
    changed();
  },
};

let stopWriting = () => {};

follow(canvas, $("cursor"), {
  ...pen,
  begin(x, y, erase) {
    stopWriting();
    pen.begin(x, y, erase || tool.erase);
  },
});

/** Write a digit on a new page. */
function writeDigit(digit) {
  stopWriting();
  if (stroke) return;
  if (!isBlank(history.page)) history.add({ strokes: [], picture: null });
  stopWriting = write(handwriting(digit), { ...pen, begin: (x, y) => pen.begin(x, y, false) });
}

async function takePicture(file) {
  const picture = await load(file);
  stopWriting();
  history.add({ strokes: [], picture });
  changed();
}

/** Show the drawing in the page's address. */
function openLink() {
  const fragment = window.location.hash.slice(1);
  if (!fragment || fragment === encode(history.page.strokes)) return;
  const strokes = decode(fragment);
  if (strokes) history.add({ strokes, picture: null });
  changed();
  if (!strokes && isBlank(history.page)) {
    show(null, { ...inWords(null), detail: "The address has no drawing that can be read." });
  }
}

// ----------------------------------------------------------------------------------- the answer

const ask = latest(async () => {
  const { page } = history;
  if (isBlank(page)) return;
  const blob = page.picture?.blob ?? toPNG(page.strokes);
  try {
    const reading = await predict(blob, rival === winner ? null : rival);
    const number = mayBeNumber(reading) ? await predictNumber(blob) : null;
    if (isBlank(history.page)) return; // cleared in the meantime
    show({ page, blob, reading, number });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (!isBlank(history.page)) show(null, refusal(error.message));
  }
}, (busy) => {
  $("answer").ariaBusy = String(busy);
}, (error) => {
  $("trouble").hidden = !error;
  $("trouble").textContent = error ? `${error.message}. Trying again …` : "";
  $("answer").classList.toggle("old", Boolean(error));
  if (error) say($("trouble").textContent);
});

const bars = makeBars($("bars"), (digit) => {
  if (winner === null || digit === winner) return;
  rival = digit === rival ? null : digit;
  ask();
  show(current);
});

const WHOLE = { left: 0, top: 0, width: 1, height: 1 };

/** Show where the digits of an answer's number are on the paper, or nothing for null. */
function boxes(answer) {
  const picture = answer?.page.picture;
  const place = picture ? picture.bitmap && frame(picture.bitmap) : WHOLE;
  showBoxes($("boxes"), place && answer?.number, place);
}

const wordsFor = (answer) => (answer?.number ? numberInWords(answer.number) : inWords(answer?.reading));

/** Show an answer, or that there is none. */
function show(answer, words = wordsFor(answer)) {
  current = answer;
  boxes(answer);
  const isNumber = words.kind === "number";
  $("main").classList.toggle("number", isNumber);
  $("mark").style.setProperty("--length", words.mark.length);
  // What the network sees of one digit means nothing for a number.
  const reading = isNumber ? null : answer?.reading;
  $("answer").dataset.kind = words.kind;
  $("mark").textContent = words.mark;
  $("head").textContent = words.head;
  $("detail").textContent = words.detail;
  say(words.head === "Nothing drawn yet" ? "" : `${words.head}. ${words.detail}`);

  showSeen($("seen"), reading?.pixels ?? NO_PIXELS);
  const seen = reading ? words.head : "nothing";
  $("seen").ariaLabel = `What the network sees, 28 by 28 pixels: ${seen}`;
  winner = reading?.evidence?.label ?? null;
  // The probabilities of a drawing without ink mean nothing.
  const meant = words.kind === "nothing" ? null : reading?.probabilities;
  bars(meant, meant ? winner : null, rival, reading?.status === "ok");
  showLayers(reading);
  showWhy(meant ? reading : null);
  keep(Boolean(reading) && words.kind !== "nothing");
  // The answer is for another rival, or the rival has become the winner.
  if (reading && reading.evidence.rival !== (rival === winner ? null : rival)) ask();
}

function showLayers(reading) {
  const [first, second] = reading?.activations.hidden ?? [new Array(128).fill(0), new Array(64).fill(0)];
  for (const [id, values, name] of [["first", first, "First"], ["second", second, "Second"]]) {
    showUnits($(id), values, 32);
    const firing = values.filter((value) => value > 0).length;
    $(id).ariaLabel = `${name} hidden layer: ${firing} of ${values.length} units fire`;
    $(`${id}-size`).textContent = values.length;
    $(`${id}-count`).textContent = reading ? `– ${firing} fire` : "";
  }
}

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`;

function showWhy(reading) {
  const evidence = reading?.evidence;
  const other = evidence?.rival ?? null;
  $("why-title").textContent = !evidence ? "Why?"
    : other === null ? `Why ${evidence.label}?` : `Why ${evidence.label} and not ${other}?`;
  $("for").textContent = evidence ? `for ${evidence.label}` : "for";
  $("against").textContent = other === null ? "against" : `for ${other}`;
  showEvidence($("evidence"), evidence?.pixels ?? NO_PIXELS, reading?.pixels ?? NO_PIXELS);
  $("sum").hidden = !evidence;
  if (!evidence) {
    $("evidence").ariaLabel = "Evidence: none yet";
    $("why-help").textContent = current?.number
      ? "Draw one digit alone to see the pixels for it and against it."
      : "Here you see the pixels for the answer and against it. Choose another bar to ask why it was not that digit.";
    return;
  }
  const values = evidence.pixels.flat();
  const sum = (sign) => values.reduce((total, value) => total + (sign * value > 0 ? value : 0), 0);
  const [pro, contra] = [sum(1), sum(-1)];
  $("sum-for-name").textContent = `Pixels for ${evidence.label}`;
  $("sum-against-name").textContent = other === null ? "Pixels against it" : `Pixels for ${other}`;
  $("sum-name").textContent = other === null ? "Ahead of the others’ mean by" : `Ahead of ${other} by`;
  $("sum-for").textContent = signed(pro);
  $("sum-against").textContent = signed(contra);
  $("sum-bias").textContent = signed(evidence.bias);
  $("sum-all").textContent = signed(evidence.difference);
  $("evidence").ariaLabel =
    `Evidence: pixels for ${evidence.label} sum to ${signed(pro)}, against it to ${signed(contra)}`;
  $("why-help").textContent = other === null
    ? "Choose another bar to ask why it was not that digit."
    : `Choose ${other} again to compare with all others.`;
}

let saying = 0;

/** Let a screen reader say a text that has not changed for a moment. */
function say(text) {
  clearTimeout(saying);
  saying = setTimeout(() => {
    if ($("said").textContent !== text) $("said").textContent = text;
  }, 800);
}

const keep = collect(
  { digits: $("digits"), list: $("mistakes"), line: $("download-line"), download: $("download"), say },
  () => current && { page: current.page, blob: current.blob, label: current.reading.label },
);

// ------------------------------------------------------------------------------------ the tools

function choose(erase) {
  tool.erase = erase;
  $("pen").ariaPressed = String(!erase);
  $("eraser").ariaPressed = String(erase);
  $("paper").classList.toggle("erasing", erase);
}

function setWidth(width) {
  $("width").value = width;
  tool.width = Number($("width").value); // within its limits
}

async function share() {
  const { page } = history;
  let message = "Draw something first.";
  if (page.picture) message = "A picture is too large for a link. Only drawings fit into one.";
  else if (page.strokes.length) {
    message = await navigator.clipboard?.writeText(window.location.href).then(() => "The link is copied.").catch(() => null)
      ?? "The browser does not allow copying here. Copy the address of this page instead.";
  }
  $("shared").textContent = message;
}

const unlessDrawing = (action) => () => {
  stopWriting();
  if (stroke) return;
  action();
  changed();
};

const actions = {
  p: () => choose(false),
  e: () => choose(true),
  ",": () => setWidth(tool.width - 8),
  ".": () => setWidth(tool.width + 8),
  z: unlessDrawing(() => history.undo()),
  y: unlessDrawing(() => history.redo()),
  c: unlessDrawing(() => {
    const { strokes, picture } = history.page;
    if (strokes.length || picture) history.add({ strokes: [], picture: null });
  }),
  x: () => writeDigit(Math.floor(Math.random() * 10)),
  o: () => $("file").click(),
  l: share,
  ...Object.fromEntries(DIGITS.map((digit) => [digit, () => writeDigit(digit)])),
};

const BUTTONS = { pen: "p", eraser: "e", undo: "z", redo: "y", clear: "c", example: "x", open: "o", share: "l" };
for (const [id, key] of Object.entries(BUTTONS)) $(id).addEventListener("click", actions[key]);
$("width").addEventListener("input", () => setWidth($("width").value));
shortcuts(actions, () => $("shortcuts").checked);
receive($("paper"), $("file"), takePicture);

// ----------------------------------------------------------------------------------- the start

const redraw = () => {
  repaint();
  show(current);
};
keepSharp(canvas, repaint);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
window.addEventListener("hashchange", openLink);
show(null);
openLink();

model().then((about) => {
  const parts = [
    about.layer_sizes?.join(" → "),
    about.parameters && `${about.parameters.toLocaleString("en")} parameters`,
    about.test_accuracy &&
      `${percent(about.test_accuracy)} of the ${about.dataset === "mnist" ? "MNIST" : about.dataset} test digits read right`,
    place().origin === window.location.origin ? "" : `${place().host} reads the drawings`,
  ];
  $("about").textContent = parts.filter(Boolean).join("  ·  ");
}).catch(() => {}); // the text in the page is also right without these facts
