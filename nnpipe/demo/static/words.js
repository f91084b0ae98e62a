// A reading in words.

export const percent = (share) => `${(100 * share).toFixed(1)} %`;

export const a = (digit) => (digit === 8 ? "an 8" : `a ${digit}`);

const sentence = (text) => text && `${text[0].toUpperCase()}${text.slice(1)}.`;

const NOTHING = { kind: "nothing", mark: "", head: "Nothing drawn yet", detail: "" };

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
  const head =
    first >= 0.99 ? `This is ${a(label)}`
    : first >= 0.8 ? `Most likely ${a(label)}`
    : first >= 0.5 ? `Probably ${a(label)}`
    : `Perhaps ${a(label)}`;
  const next = second >= 0.0005 ? `; next, ${probabilities.indexOf(second)} with ${percent(second)}` : "";
  return { kind: "digit", mark: String(label), head, detail: sentence(`${percent(first)} sure${next}`) };
}

/** The words for a picture that was refused. */
export const refusal = (why) => ({
  kind: "refused",
  mark: "?",
  head: "That cannot be read",
  detail: sentence(why),
});
