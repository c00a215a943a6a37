// One launch as it happens: of each worker its phase, how far it is, what uv says, how it ended.

import { get } from "./api.js";
import { badge, pathText } from "./controls.js";
import { announce, h, repeat } from "./dom.js";
import { follow } from "./events.js";
import { clock, size, span } from "./format.js";
import { count, t } from "./i18n.js";
import { cancelButton, hasEnded } from "./jobs.js";
import { logPanel } from "./log.js";
import { errorNotice, notice, noticeBoard } from "./notices.js";
import { STEPS, beginning, hear, know, phaseOf, share } from "./progress.js";

const TICK_SECONDS = 1;

export async function showJob(place, values, signal, heading) {
  const jobId = values.id ?? "";
  heading.textContent = values.model || t("view.job");
  const state = beginning(jobId);
  const cards = new Map();
  const board = noticeBoard();
  const line = h("div", { class: "toolbar" });
  const ending = h("div", { class: "notices", role: "alert" });
  const list = h("div", { class: "cards" });
  const events = eventList();
  const cancel = cancelButton(jobId, () => {}, board, t("jobs.cancel"));
  place.append(line, board.element, ending, list);

  function draw() {
    line.replaceChildren(
      badge(phaseOf(state)),
      h("code", { class: "faint" }, jobId),
      h("span", { class: "faint" }, elapsed(state)),
      h("span", { class: "spring" }),
    );
    if (!state.ended) line.append(cancel);
    for (const [address, worker] of [...state.workers].sort()) {
      if (!cards.has(address)) {
        const card = workerCard(address, jobId, values.model, signal);
        cards.set(address, card);
        list.append(card.element);
      }
      cards.get(address).show(worker, state);
    }
    events.show(state.events);
  }

  function ended() {
    if (!state.ended) return;
    // A cancelled launch is no failure.
    if (state.phase === "cancelled")
      ending.replaceChildren(notice("info", h("p", {}, t("job.cancelled"))));
    else if (state.error) ending.replaceChildren(errorNotice(state.error));
    else ending.replaceChildren(notice("good", h("p", { class: "strong" }, t("job.ready"))));
  }

  try {
    know(state, await get(`jobs/${encodeURIComponent(jobId)}`, {}, signal));
    place.append(events.element);
    draw();
    ended();
    if (state.ended) return;
    repeat(TICK_SECONDS, signal, draw);
    await follow(jobId, {
      since: state.last,
      signal,
      hear: (kind, data) => {
        if (kind === "end") know(state, data);
        else hear(state, data);
        draw();
        ended();
      },
      lost: (error) => board.show(error && notice("warn", h("p", {}, t("job.lost")))),
    });
  } catch (error) {
    if (error.name !== "AbortError") board.show(errorNotice(error));
  }
}

function elapsed(state) {
  const began = Math.min(...[...state.workers.values()].map((each) => each.began).filter(Boolean));
  if (!Number.isFinite(began)) return "";
  const last = Math.max(...[...state.workers.values()].map((each) => each.at ?? 0));
  return span((state.ended ? last : Date.now() / 1000) - began);
}

// The part of one worker. What can be opened stays as it is while the rest is drawn again.
function workerCard(address, jobId, model, signal) {
  const head = h("header", {});
  const steps = h("ol", { class: "steps", "aria-label": t("job.phases") });
  const bar = h("progress", { max: 1, "aria-label": t("job.progress", { worker: address }) });
  const counts = h("span", { class: "number" });
  const message = h("p", { class: "words" });
  const ending = h("div", { class: "ending" });
  const log = logPanel({ address, jobId, model, signal });
  const element = h(
    "section",
    { class: "card", "aria-label": address },
    head,
    steps,
    h("div", { class: "progress" }, bar, counts),
    message,
    ending,
    log.element,
  );
  let shownPhase = "";
  let shownOutcome = null;

  function show(worker, launch) {
    const ended = hasEnded(worker.phase);
    head.replaceChildren(h("h2", {}, h("code", {}, address)), badge(worker.phase));
    steps.replaceChildren(...STEPS.map((each) => step(each, worker)));
    const part = share(worker);
    if (part === null && !ended) bar.removeAttribute("value");
    else bar.value = part ?? 0;
    counts.textContent = counted(worker);
    const outcome = worker.result ?? worker.error;
    // How it ended says more than that it did.
    message.textContent = ended && outcome ? "" : worker.message;
    if (worker.phase !== shownPhase) announce(`${address}: ${t(`state.${worker.phase}`)}`);
    shownPhase = worker.phase;
    // The error of the only worker stands above, as that of the launch.
    if (outcome !== shownOutcome && !(worker.error && launch.workers.size === 1))
      ending.replaceChildren(...result(worker));
    shownOutcome = outcome;
    element.classList.toggle("ended", ended);
    log.ended(ended || launch.ended);
  }

  return { element, show };
}

function step(name, worker) {
  const [now, far] = [STEPS.indexOf(name), STEPS.indexOf(worker.furthest)];
  const stopped = hasEnded(worker.phase) && worker.phase !== "ready";
  let kind = now < far || worker.phase === "ready" ? "done" : now === far ? "now" : "next";
  if (kind === "now" && stopped) kind = "stopped";
  return h(
    "li",
    { class: kind, "aria-current": kind === "now" ? "step" : null },
    t(`state.${name}`),
  );
}

function counted(worker) {
  const parts = [];
  if (worker.total) parts.push(t("job.packages", { done: worker.done ?? 0, total: worker.total }));
  if (worker.total_bytes)
    parts.push(`${size(worker.done_bytes ?? 0)} / ${size(worker.total_bytes)}`);
  return parts.join(" · ");
}

function result(worker) {
  if (worker.error) return worker.phase === "cancelled" ? [] : [errorNotice(worker.error)];
  if (!worker.result) return [];
  const { enabled, path, python, warnings, uv_calls: calls } = worker.result;
  return [
    h(
      "dl",
      { class: "facts" },
      h(
        "div",
        {},
        h("dt", {}, t(enabled ? "environment.path" : "job.host_python")),
        h("dd", {}, pathText(enabled ? path : python, t("environment.path"))),
      ),
      h(
        "div",
        {},
        h("dt", {}, t("job.uv_calls")),
        h("dd", {}, calls === 0 ? t("job.nothing_new") : String(calls)),
      ),
    ),
    ...warnings.map((each) => notice("warn", h("p", {}, each))),
  ];
}

// All events, for who wants to know exactly; what is there already stays.
function eventList() {
  const body = h("ol", { class: "events" });
  const summary = h("summary", {});
  let first = null;
  let shown = 0;
  return {
    element: h("details", { class: "log" }, summary, body),
    show(events) {
      if (events[0] !== first) {
        first = events[0];
        shown = 0;
        body.replaceChildren();
      }
      summary.textContent = count("job.events", events.length);
      body.append(...events.slice(shown).map(eventLine));
      shown = events.length;
    },
  };
}

function eventLine(event) {
  return h(
    "li",
    {},
    h("span", { class: "faint number" }, clock(event.at)),
    event.worker_address && h("code", {}, event.worker_address),
    h("span", {}, t(`state.${event.phase}`)),
    h("span", { class: "words" }, event.message),
  );
}
