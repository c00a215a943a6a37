// The launches that run or ended not long ago, a row for each, whichever workers take part.

import { drop, get } from "./api.js";
import { badge, button, gated } from "./controls.js";
import { announce, h, repeat } from "./dom.js";
import { ago, span } from "./format.js";
import { count, t } from "./i18n.js";
import { errorNotice, noticeBoard, partialNotice } from "./notices.js";
import { STEPS } from "./progress.js";
import { table } from "./table.js";

const EVERY_SECONDS = 3;
const ENDS = new Set(["ready", "failed", "cancelled"]);
// The state of a launch is that of the worker that is worst off, or has farthest to go.
const ORDER = ["failed", "cancelled", ...STEPS];

export const hasEnded = (phase) => ENDS.has(phase);

export const linkToJob = (jobId, model) =>
  `#/job?${new URLSearchParams({ id: jobId, model: model ?? "" })}`;

// The jobs of the workers as launches: those on several workers have one id.
function launchesOf(jobs) {
  const launches = new Map();
  for (const job of jobs) {
    const launch = launches.get(job.job_id) ?? { ...job, workers: [] };
    launch.workers.push(job);
    launches.set(job.job_id, launch);
  }
  for (const launch of launches.values()) {
    const running = launch.workers.filter((each) => !hasEnded(each.phase));
    const telling = running.length ? running : launch.workers;
    const worst = telling.toSorted(
      (one, other) => ORDER.indexOf(one.phase) - ORDER.indexOf(other.phase),
    )[0];
    launch.phase = worst.phase;
    launch.message = worst.error?.message ?? worst.message;
    launch.started = Math.min(...launch.workers.map((each) => each.started));
    launch.changed = Math.max(...launch.workers.map((each) => each.changed));
  }
  return [...launches.values()];
}

export function showJobs(place, values, signal) {
  const board = noticeBoard();
  const shown = table({
    label: t("view.jobs"),
    keyOf: (each) => each.job_id,
    sort: "-started",
    empty: h("div", {}, h("p", {}, t("jobs.none")), h("a", { href: "#/launch" }, t("view.launch"))),
    columns: [
      {
        key: "model",
        title: t("column.model"),
        value: (each) => each.model_name,
        cell: (each) =>
          h(
            "a",
            { class: "strong", href: linkToJob(each.job_id, each.model_name) },
            each.model_name,
          ),
      },
      {
        key: "engine",
        title: t("column.engine"),
        value: (each) => each.model_engine,
        cell: (each) => each.model_engine ?? "–",
      },
      {
        key: "state",
        title: t("column.state"),
        value: (each) => each.phase,
        cell: (each) => badge(each.phase),
      },
      {
        key: "workers",
        title: t("column.workers"),
        value: (each) => each.workers.length,
        cell: workersOf,
      },
      {
        key: "message",
        title: t("column.message"),
        kind: "why",
        value: (each) => each.message,
        cell: (each) => (each.phase === "ready" ? "" : each.message),
      },
      {
        key: "started",
        title: t("column.started"),
        value: (each) => each.started,
        cell: (each) => ago(each.started),
      },
      {
        key: "took",
        title: t("column.took"),
        number: true,
        value: took,
        cell: (each) => span(took(each)),
      },
      {
        key: "actions",
        title: t("column.actions"),
        kind: "actions",
        cell: (each) => (hasEnded(each.phase) ? null : cancelButton(each.job_id, again, board)),
      },
    ],
  });
  place.append(h("p", { class: "lead" }, t("jobs.lead")), board.element, shown.element);
  const again = repeat(EVERY_SECONDS, signal, async () => {
    try {
      const answer = await get("jobs", {}, signal);
      board.show(partialNotice(answer));
      shown.show(launchesOf(answer.list));
    } catch (error) {
      if (error.name !== "AbortError" && error.code !== "offline") board.show(errorNotice(error));
    }
  });
}

const took = (launch) => launch.changed - launch.started;

function workersOf(launch) {
  const names = launch.workers.map((each) => each.worker_address);
  return h(
    "span",
    { title: names.join("\n") },
    names.length === 1 ? h("code", {}, names[0]) : count("workers", names.length),
  );
}

// A button that cancels a launch; `onDone` hears when nothing of it is left.
export function cancelButton(jobId, onDone, board, text = null) {
  const cancel = button({
    text,
    label: text ? null : t("jobs.cancel"),
    glyph: "stop",
    kind: "danger",
    onClick: async () => {
      cancel.disabled = true;
      announce(t("jobs.cancelling"));
      try {
        await drop(`jobs/${encodeURIComponent(jobId)}`);
        announce(t("jobs.cancelled"));
        onDone();
      } catch (error) {
        cancel.disabled = false;
        board.show(errorNotice(error));
      }
    },
  });
  return gated(cancel, "create");
}
