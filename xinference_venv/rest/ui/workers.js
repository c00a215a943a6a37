// The workers as they were last reported, for all views that offer a choice of them.

import { getAgain } from "./api.js";
import { repeat } from "./dom.js";

const EVERY_SECONDS = 3;

let workers = [];
let isKnown = false;
// Why they are not known now: what was last known may be old.
let failure = null;
let look = () => {};
const listeners = new Set();

export const knownWorkers = () => workers;
export const thereIsNone = () => isKnown && workers.length === 0;
export const lookAtWorkers = () => look();

// Look at the workers for as long as the page is open; `listener` hears of each answer, and of an
// error with the workers that were last known.
export function watchWorkers(listener) {
  listeners.add(listener);
  look = repeat(EVERY_SECONDS, new AbortController().signal, async () => {
    try {
      workers = (await getAgain("workers", (each) => each.worker_address)).list;
      isKnown = true;
      failure = null;
    } catch (error) {
      failure = error;
    }
    for (const each of listeners) each(workers, failure);
  });
}

// Hear of the workers until `signal` ends it, at first of those that are known.
export function onWorkers(listener, signal) {
  listeners.add(listener);
  signal.addEventListener("abort", () => listeners.delete(listener));
  if (workers.length || failure) listener(workers, failure);
}
