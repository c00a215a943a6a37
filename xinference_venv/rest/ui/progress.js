// What the events of a launch come to: of each worker how far it is. No element is made here.

const KEPT_EVENTS = 2000;

// A launch of which no event has come yet.
export function beginning(jobId) {
  const alone = jobId.split("@")[1] ?? null;
  return {
    alone,
    last: 0,
    events: [],
    workers: new Map(),
    phase: "queued",
    error: null,
    ended: false,
  };
}

// Take in an answer of GET /v1/jobs/{id} or the data of an "end" event.
export function know(state, answer) {
  for (const each of answer.workers) {
    const before = state.workers.get(each.worker_address) ?? blank(each.worker_address);
    state.workers.set(each.worker_address, {
      ...before,
      phase: each.phase,
      result: each.result,
      error: each.error,
    });
  }
  state.phase = answer.phase;
  state.error = answer.error;
  state.ended = answer.error !== null || answer.result !== null;
  for (const event of answer.events ?? []) hear(state, event);
}

// Take in one event.
export function hear(state, event) {
  // Numbers begin at 1 again with a restarted supervisor, which sends all events again.
  if (event.seq <= state.last) state.events = [];
  state.last = event.seq;
  state.events.push(event);
  if (state.events.length > KEPT_EVENTS) state.events.shift();
  const address = event.worker_address ?? state.alone;
  if (address === null) return;
  const worker = state.workers.get(address) ?? blank(address);
  // What ended stays so, whatever comes late.
  if (!state.ended) worker.phase = event.phase;
  worker.began ??= event.at;
  worker.at = event.at;
  worker.message = event.message;
  worker.furthest =
    event.phase in STEP && STEP[event.phase] > (STEP[worker.furthest] ?? -1)
      ? event.phase
      : worker.furthest;
  for (const name of ["done", "total", "done_bytes", "total_bytes"]) worker[name] = event[name];
  state.workers.set(address, worker);
}

// The phases of a launch in their order.
export const STEPS = [
  "queued",
  "probing",
  "resolving",
  "downloading",
  "installing",
  "composing",
  "verifying",
  "publishing",
  "ready",
];
const STEP = Object.fromEntries(STEPS.map((each, position) => [each, position]));

// Where the launch stands as a whole: while it runs, where the last of its workers is.
export function phaseOf(state) {
  const running = [...state.workers.values()]
    .map((each) => each.phase)
    .filter((each) => STEP[each] < STEP.ready);
  if (state.ended || !running.length) return state.phase;
  return STEPS[Math.min(...running.map((each) => STEP[each]))];
}

// How much of its phase a worker has done: bytes where they are known, which say more than
// packages; null where nothing is.
export function share(worker) {
  if (worker.phase === "ready") return 1;
  if (worker.total_bytes) return (worker.done_bytes ?? 0) / worker.total_bytes;
  if (worker.total) return (worker.done ?? 0) / worker.total;
  return null;
}

function blank(address) {
  return {
    address,
    phase: "queued",
    furthest: "queued",
    message: "",
    began: null,
    at: null,
    result: null,
    error: null,
  };
}
