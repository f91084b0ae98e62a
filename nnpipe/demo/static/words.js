// A reading in words.

export const percent = (share) => `${(100 * share).toFixed(1)} %`;

export const a = (digit) => (digit === 8 ? "an 8" : `a ${digit}`);

const sentence = (text) => text && `${text[0].toUpperCase()}${text.slice(1)}.`;

const NOTHING = { kind: "nothing", mark: "", head: "Nothing drawn yet", detail: "" };

/** The more probable, the more certain the words. */
const certainly = (share, what) =>
  share >= 0.99 ? `This is ${what}`
  : share >= 0.8 ? `Most likely ${what}`
  : share >= 0.5 ? `Probably ${what}`
  : `Perhaps ${what}`;

const sure = (first, second, next) =>
  sentence(`${percent(first)} sure${second >= 0.0005 ? `; next, ${next} with ${percent(second)}` : ""}`);

/** Whether a picture that is not one digit may show a number. */
export const mayBeNumber = ({ reason }) => /^(several marks|like a text)/.test(reason);

/** The words for a reading, or for null: { kind, mark, head, detail }. */
export function inWords(reading) {
  if (!reading) return NOTHING;
  const { status, label, reason, probabilities } = reading;
  if (status === "rejected") {
    const [kind, head] = reason.startsWith("blank")
      ? ["nothing", "Nothing drawn"]
      : ["refused", "Not a digit"];
    return { kind, mark: kind === "refused" ? "?" : "", head, detail: sentence(reason) };
  }
  const [first, second] = [...probabilities].sort((p, q) => q - p);
  const detail = sure(first, second, probabilities.indexOf(second));
  return { kind: "digit", mark: String(label), head: certainly(first, a(label)), detail };
}

/** The words for a number. */
export function numberInWords({ status, label, confidence, second, second_confidence: other, reason }) {
  if (status === "rejected") {
    return { kind: "refused", mark: "?", head: "Not a number", detail: sentence(reason) };
  }
  const detail = sure(confidence, other ?? 0, second);
  return { kind: "number", mark: label, head: certainly(confidence, label), detail };
}

/** The words for a picture that was refused. */
export const refusal = (why) => ({
  kind: "refused",
  mark: "?",
  head: "That cannot be read",
  detail: sentence(why),
});
