// One launch as it happens: what was asked for; of each worker its phases, how far it is, what uv
// says; how it ended, each error once.

import { get } from "./api.js";
import { compare } from "./arrange.js";
import { askedFor } from "./asked.js";
import { now } from "./clock.js";
import { badge, copyButton, pathText } from "./controls.js";
import { announce, h, redraw, repeat } from "./dom.js";
import { eventList } from "./event_list.js";
import { follow } from "./events.js";
import { size, span } from "./format.js";
import { count, t } from "./i18n.js";
import { cancelButton, retryButton } from "./job_actions.js";
import { hasEnded } from "./jobs.js";
import { jobOf } from "./last.js";
import { againLinkOfJob, linkTo } from "./links.js";
import { logPanel } from "./log.js";
import { errorNotice, notice, noticeBoard, warningNotices } from "./notices.js";
import { beginning, hear, know, phaseOf, rate, share, steps, timeLeft } from "./progress.js";
import { timeLine } from "./timeline.js";

const TICK_SECONDS = 1;

export async function showJob(place, values, signal, heading) {
  const jobId = values.id ?? "";
  heading.textContent = values.model || t("view.job");
  const state = beginning(jobId);
  const cards = new Map();
  const board = noticeBoard();
  const line = h("div", { class: "toolbar" });
  const ending = h("div", { class: "notices", role: "alert" });
  const asked = h("div", { class: "about" }, h("h2", {}, t("asked.title")));
  const times = h("div", {});
  const list = h("div", { class: "cards" });
  const events = eventList();
  const cancel = cancelButton(jobId, () => {}, t("jobs.cancel"));
  const copy = copyButton(jobId, t("copy.job"));
  let known = null;
  line.append(h("p", { class: "busy faint", role: "status" }, t("table.reading")));
  place.append(line, board.element, ending, list);

  function draw() {
    redraw(
      line,
      badge(phaseOf(state)),
      h("code", { class: "faint" }, jobId),
      copy,
      h("span", { class: "faint took" }, elapsed(state)),
      h("span", { class: "spring" }),
      ...(state.ended ? furtherActions() : [cancel]),
    );
    const workers = [...state.workers.values()].sort(
      (one, other) => isWell(one) - isWell(other) || compare(one.address, other.address),
    );
    for (const worker of workers) {
      if (!cards.has(worker.address)) {
        const card = workerCard(worker.address, jobId, values.model, signal);
        cards.set(worker.address, card);
        // The output of the only worker is what one looks at while it runs.
        if (state.workers.size === 1 && !state.ended) card.openLog();
      }
      cards.get(worker.address).show(worker, state);
    }
    const wanted = workers.map((each) => cards.get(each.address).element);
    if (wanted.some((each, place) => list.children[place] !== each)) list.replaceChildren(...wanted);
    times.replaceChildren(timeLine(workers, now(), isOver) ?? "");
    events.show(state.events);
  }

  // Of many workers those that failed come first.
  const isWell = (worker) => Number(worker.phase !== "failed");
  const isOver = (worker) => state.ended || hasEnded(worker.phase);

  function furtherActions() {
    if (!known?.launch) return [];
    const addresses = [...state.workers.keys()].sort();
    return [
      retryButton({ ...known, workers: addresses }, t("job.retry")),
      h("a", { class: "button quiet", href: againLinkOfJob(jobId, addresses) }, t("job.edit")),
    ];
  }

  function ended() {
    if (!state.ended) return;
    // A cancelled launch is no failure.
    if (state.phase === "cancelled")
      ending.replaceChildren(notice("info", h("p", {}, t("job.cancelled"))));
    else if (state.error) ending.replaceChildren(...errorsOf(state));
    else ending.replaceChildren(notice("good", h("p", { class: "strong" }, t("job.ready"))));
  }

  async function ask() {
    const worker = state.workers.keys().next().value;
    if (worker === undefined) return;
    try {
      known = await jobOf(jobId, worker, signal);
      asked.append(askedFor(known));
      place.append(asked);
      draw();
    } catch (error) {
      if (error.name !== "AbortError" && error.code !== "offline") board.show(errorNotice(error));
    }
  }

  try {
    know(state, await get(`jobs/${encodeURIComponent(jobId)}`, {}, signal));
    place.append(times, events.element);
    draw();
    ended();
    ask();
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
    if (error.name === "AbortError") return;
    board.show(errorNotice(error));
    // What is not known any more has no state, and there are others.
    line.replaceChildren(h("a", { class: "button quiet", href: "#/jobs" }, t("view.jobs")));
  }
}

// Each error once, with the workers that have it.
function errorsOf(state) {
  const found = new Map();
  for (const { address, error, phase } of state.workers.values()) {
    if (!error || phase === "cancelled") continue;
    // Those that differ in the name of the worker alone are one.
    const key = `${error.code} ${error.message.replaceAll(address, "")}`;
    const known = found.get(key) ?? { error, workers: [] };
    known.workers.push(address);
    found.set(key, known);
  }
  if (!found.size) return [errorNotice(state.error)];
  return [...found.values()].map(({ error, workers }) =>
    errorNotice({ ...error, details: { ...error.details, workers: undefined } }, workers.sort()),
  );
}

function elapsed(state) {
  const began = Math.min(...[...state.workers.values()].map((each) => each.began).filter(Boolean));
  if (!Number.isFinite(began)) return "";
  const last = Math.max(...[...state.workers.values()].map((each) => each.at ?? 0));
  return span((state.ended ? last : now()) - began);
}

// The part of one worker. What can be opened stays as it is while the rest is drawn again.
function workerCard(address, jobId, model, signal) {
  const head = h("header", {});
  const list = h("ol", { class: "steps", "aria-label": t("job.phases") });
  const bar = h("progress", { max: 1, "aria-label": t("job.progress", { worker: address }) });
  const counts = h("span", { class: "number" });
  const message = h("p", { class: "words" });
  const ending = h("div", { class: "ending" });
  const log = logPanel({ address, jobId, model, signal });
  const element = h(
    "section",
    { class: "card", "aria-label": address },
    head,
    list,
    h("div", { class: "progress" }, bar, counts),
    message,
    ending,
    log.element,
  );
  let shownPhase = "";
  let shownResult = null;

  function show(worker, launch) {
    const ended = hasEnded(worker.phase);
    head.replaceChildren(h("h2", {}, h("code", {}, address)), badge(worker.phase));
    list.replaceChildren(...steps(worker, now()).map(step));
    const part = share(worker);
    if (part === null && !ended) bar.removeAttribute("value");
    else bar.value = part ?? 0;
    counts.textContent = counted(worker);
    // How it ended says more than that it did, and stands above.
    const isSaid = ended && (worker.result || worker.error);
    message.textContent = isSaid ? "" : worker.message;
    if (worker.phase !== shownPhase) announce(`${address}: ${t(`state.${worker.phase}`)}`);
    shownPhase = worker.phase;
    if (worker.result !== shownResult) ending.replaceChildren(...result(worker, model, signal));
    shownResult = worker.result;
    element.classList.toggle("ended", ended);
    log.ended(ended || launch.ended);
  }

  return { element, show, openLog: () => (log.element.open = true) };
}

function step({ name, kind, seconds }) {
  const took = seconds ? h("span", { class: "faint number" }, ` ${span(seconds)}`) : null;
  return h(
    "li",
    {
      class: kind,
      "aria-current": kind === "now" ? "step" : null,
      title: kind === "skipped" ? t("job.skipped") : null,
    },
    t(`state.${name}`),
    took,
  );
}

function counted(worker) {
  const parts = [];
  if (worker.total) parts.push(count("job.packages", worker.total, { done: worker.done ?? 0 }));
  if (worker.total_bytes)
    parts.push(`${size(worker.done_bytes ?? 0)} / ${size(worker.total_bytes)}`);
  else if (worker.done_bytes) parts.push(size(worker.done_bytes));
  const [now, left] = [rate(worker), timeLeft(worker)];
  if (now) parts.push(t("job.rate", { size: size(now) }));
  if (left !== null) parts.push(t("job.left", { time: span(left) }));
  return parts.join(" · ");
}

function result(worker, model, signal) {
  if (!worker.result) return [];
  const { enabled, path, python, uv_calls: calls } = worker.result;
  const link = h("dd", {});
  if (enabled) findEnvironment(worker, model, link, signal);
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
      enabled && h("div", {}, h("dt", {}, t("view.environment")), link),
      h(
        "div",
        {},
        h("dt", {}, t("job.uv_calls")),
        h("dd", {}, calls === 0 ? t("job.nothing_new") : String(calls)),
      ),
    ),
    ...warningNotices(worker.result),
  ];
}

// The environment that a launch ended with has a page of its own, once it is known which it is.
async function findEnvironment(worker, model, place, signal) {
  place.textContent = "–";
  try {
    const wanted = { model_name: model, worker_ip: worker.address };
    const { list } = await get("virtualenvs", wanted, signal);
    const found = list.find((each) => each.path === worker.result.path);
    if (found)
      place.replaceChildren(h("a", { href: linkTo("environment", found) }, t("job.environment")));
  } catch {
    // It is a link for convenience: the list of environments has it too.
  }
}
