// One request at a time, and always the latest one.

import { Unreachable } from "./api.js";

const PAUSES = [300, 600, 1200, 2000]; // milliseconds

const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));

/**
 * Return a function that reports a change. It calls `work`, but never twice at the same time: changes
 * during `work` lead to one more call after it. If there is no answer, `work` is called again after a
 * pause. `onBusy` gets whether an answer is pending; `onTrouble` gets the error, and null once it is
 * over.
 */
export function latest(work, onBusy, onTrouble) {
  let isNew = false;
  let busy = false;

  function become(state) {
    busy = state;
    onBusy(busy);
  }

  async function run() {
    become(true);
    let failures = 0;
    while (isNew) {
      isNew = false;
      try {
        await work();
        if (failures) onTrouble(null);
        failures = 0;
      } catch (error) {
        if (!(error instanceof Unreachable)) {
          become(false);
          throw error; // a bug; the console shows it
        }
        onTrouble(error);
        isNew = true;
        await pause(PAUSES[Math.min(failures, PAUSES.length - 1)]);
        failures += 1;
      }
    }
    become(false);
  }

  return () => {
    isNew = true;
    if (!busy) run();
  };
}
