// What the events of a launch come to: of each worker how far it is. No element is made here.

import { language, t, translation } from "./i18n.js";

const KEPT_EVENTS = 2000;
const RATE_SECONDS = 10;

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
// In another language than the server's at least the phase.
const messageOf = (event) =>
  translation(event, "message") ?? (language === "en" ? event.message : t(`phase.${event.phase}`));

export function hear(state, event) {
  // Numbers begin at 1 again with a restarted supervisor, which sends all events again.
  if (event.seq <= state.last) {
    state.events = [];
    for (const each of state.workers.values()) Object.assign(each, { spans: [], bytes: [] });
  }
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
  worker.message = messageOf(event);
  spend(worker, event);
  measure(worker, event);
  for (const name of ["done", "total", "done_bytes", "total_bytes"]) worker[name] = event[name];
  state.workers.set(address, worker);
}

// Note in which phase a worker was from when to when: the last span grows until another begins.
function spend(worker, event) {
  const last = worker.spans.at(-1);
  if (last) last.to = event.at;
  if (last?.phase !== event.phase && event.phase in STEP)
    worker.spans.push({ phase: event.phase, from: event.at, to: event.at });
}

// Note the bytes of the last seconds: how fast they come is of now, not of the whole download.
function measure(worker, event) {
  if (event.phase !== worker.measured) worker.bytes = [];
  worker.measured = event.phase;
  if (event.done_bytes === null || event.done_bytes === undefined) return;
  worker.bytes.push({ at: event.at, bytes: event.done_bytes });
  worker.bytes = worker.bytes.filter((each) => each.at >= event.at - RATE_SECONDS);
}

// Bytes for each second, as they came lately; null while nothing is known.
export function rate(worker) {
  const [first, last] = [worker.bytes[0], worker.bytes.at(-1)];
  if (!first || last.at - first.at < 1 || last.bytes <= first.bytes) return null;
  return (last.bytes - first.bytes) / (last.at - first.at);
}

// Seconds until all bytes are there, at the rate of now; null while nothing is known.
export function timeLeft(worker) {
  const now = rate(worker);
  return now && worker.total_bytes
    ? Math.max(0, worker.total_bytes - worker.done_bytes) / now
    : null;
}

// What became of each phase: what did not happen is skipped, not done. The phase that a worker is
// in, or stopped in, is that of its badge; one that it is in lasts until `now`, in seconds since the
// epoch.
export function steps(worker, now) {
  const happened = new Map();
  for (const { phase, from, to } of worker.spans)
    happened.set(phase, (happened.get(phase) ?? 0) + to - from);
  const isReady = worker.phase === "ready";
  const last = worker.phase in STEP ? worker.phase : worker.spans.at(-1)?.phase;
  const current = STEP[last ?? "queued"];
  return STEPS.map((name, place) => {
    let seconds = happened.get(name) ?? null;
    let kind = seconds === null ? "skipped" : "done";
    if (place > current) kind = "next";
    else if (isReady && name === "ready") kind = "done";
    else if (place === current) kind = worker.phase in STEP ? "now" : "stopped";
    if (kind === "now" && seconds !== null) seconds += Math.max(0, now - worker.spans.at(-1).to);
    return { name, kind, seconds: kind === "next" ? null : seconds };
  });
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
    spans: [],
    bytes: [],
    message: "",
    began: null,
    at: null,
    result: null,
    error: null,
  };
}
