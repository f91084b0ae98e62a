// Requests to the API, and its answers.

const LIMIT = 8000; // milliseconds

/** The picture cannot be read; the message says why. Trying again is of no use. */
export class Refused extends Error {}

/** There is no answer now, but there may be one later. */
export class Unreachable extends Error {}

/** The address of the API: beside this page, or as ?api= in the page's address says. */
export function place(address = window.location) {
  const parameter = new URL(address).searchParams.get("api");
  try {
    const url = new URL(parameter || ".", address);
    if (url.protocol === "https:" || url.protocol === "http:") {
      if (!url.pathname.endsWith("/")) url.pathname += "/";
      url.hash = url.search = "";
      return url;
    }
  } catch {
    // an invalid address counts as none
  }
  return new URL(".", address);
}

const BASE = place();

const post = (url, picture) => ask(url, {
  method: "POST",
  body: picture,
  headers: { "Content-Type": picture.type || "application/octet-stream" },
});

/** Ask which digit a picture shows, and why it is not the rival, if there is one. */
export function predict(picture, rival) {
  const url = new URL("api/predict?activations=true&evidence=true", BASE);
  if (rival !== null) url.searchParams.set("rival", rival);
  return post(url, picture);
}

/** Ask which number a picture shows. */
export const predictNumber = (picture) => post(new URL("api/predict?digits=any", BASE), picture);

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
