// One at a time, and always the last one.

import { Unreachable } from "./api.js";

const PAUSES = [300, 600, 1200, 2000]; // milliseconds

const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));

/**
 * Make a function that says "something is new". Then `work` is called, never while it is still at
 * work; if something is new again meanwhile, once more after that, however often it was said.
 * Where nobody answers it is tried again after a pause. `onBusy` is told whether an answer is still to
 * come; `onTrouble` is told the error, and null when that is over.
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
          throw error; // a bug, to be seen in the console
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
