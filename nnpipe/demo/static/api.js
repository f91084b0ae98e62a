// The API: what is sent, and what can come back.

const LIMIT = 8000; // milliseconds

/** What was sent cannot be read, and never will be; the message says why. */
export class Refused extends Error {}

/** No answer came, and one may come later. */
export class Unreachable extends Error {}

/** Where the API is: beside this page, or where ?api= in its address says. */
export function place(address = window.location) {
  const named = new URL(address).searchParams.get("api");
  try {
    const url = new URL(named || ".", address);
    if (url.protocol === "https:" || url.protocol === "http:") {
      if (!url.pathname.endsWith("/")) url.pathname += "/";
      url.hash = url.search = "";
      return url;
    }
  } catch {
    // falls through: an address that is none is as good as none
  }
  return new URL(".", address);
}

const BASE = place();

/** Ask what a picture shows, and, if a rival is given, why it is not that. */
export function predict(picture, rival) {
  const url = new URL("api/predict?activations=true&evidence=true", BASE);
  if (rival !== null) url.searchParams.set("rival", rival);
  return ask(url, {
    method: "POST",
    body: picture,
    headers: { "Content-Type": picture.type || "application/octet-stream" },
  });
}

export const model = () => ask(new URL("api/model", BASE));

async function ask(url, options = {}) {
  let response;
  try {
    response = await fetch(url, { ...options, signal: AbortSignal.timeout(LIMIT) });
    if (response.ok) return await response.json();
  } catch (error) {
    throw new Unreachable(
      error.name === "TimeoutError" ? "The network does not answer" : "The network cannot be reached",
    );
  }
  if (response.status >= 500 || response.status === 429 || response.status === 408) {
    throw new Unreachable("The network is busy");
  }
  const { detail } = await response.json().catch(() => ({}));
  throw new Refused(typeof detail === "string" ? detail : `the server answered ${response.status}`);
}
