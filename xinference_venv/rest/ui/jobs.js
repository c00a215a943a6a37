// The launches that run or ended not long ago, a row for each, whichever workers take part.

import { getAgain } from "./api.js";
import { now } from "./clock.js";
import { badge, filterBar } from "./controls.js";
import { h, repeat, setText } from "./dom.js";
import { ago, span } from "./format.js";
import { count, t, wording } from "./i18n.js";
import { cancelButton, retryButton } from "./job_actions.js";
import { linkToJob, noteInAddress } from "./links.js";
import { errorNotice, errorText, noticeBoard, partialNotice } from "./notices.js";
import { STEPS } from "./progress.js";
import { noMatch, table } from "./table.js";

const EVERY_SECONDS = 3;
const ENDS = new Set(["ready", "failed", "cancelled"]);
// The state of a launch is that of the worker that is worst off, or has farthest to go.
const ORDER = ["failed", "cancelled", ...STEPS];

const keyOf = (job) => `${job.worker_address} ${job.job_id}`;
export const hasEnded = (phase) => ENDS.has(phase);

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
    launch.error = worst.error;
    launch.message = worst.error ? errorText(worst.error) : wording(worst, "message");
    launch.started = Math.min(...launch.workers.map((each) => each.started));
    const changed = Math.max(...launch.workers.map((each) => each.changed));
    // What runs takes time also while nothing is heard of it.
    launch.took = (running.length ? Math.max(now(), changed) : changed) - launch.started;
  }
  return [...launches.values()];
}

export function showJobs(place, values, signal) {
  const board = noticeBoard();
  const total = h("p", { class: "total", role: "status" });
  const search = h("input", {
    id: "filter-jobs",
    type: "search",
    value: values.text ?? "",
    on: { input: () => find() },
  });
  let all = [];

  function find() {
    noteInAddress({ text: search.value.trim() });
    draw();
  }

  function draw() {
    const words = search.value.trim().toLowerCase().split(/\s+/);
    const found = all.filter((each) => {
      const text = `${each.model_name} ${each.model_engine ?? ""} ${t(`state.${each.phase}`)} ${each.workers.map((one) => one.worker_address).join(" ")} ${each.asked_by ?? ""} ${each.message}`;
      return words.every((word) => text.toLowerCase().includes(word));
    });
    shown.show(found);
    setText(total, count("jobs.total", found.length, { of: all.length }));
  }

  const shown = table({
    label: t("view.jobs"),
    keyOf: (each) => each.job_id,
    sort: values.sort ?? "-started",
    onSort: (order) => noteInAddress({ sort: order }),
    empty: () =>
      all.length
        ? noMatch(search, find)
        : h("div", {}, h("p", {}, t("jobs.none")), h("a", { href: "#/launch" }, t("view.launch"))),
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
        cell: (each) =>
          h(
            "div",
            {},
            badge(each.phase),
            each.background && h("div", { class: "hint" }, t("option.background")),
          ),
      },
      {
        key: "workers",
        title: t("column.workers"),
        value: (each) => each.workers.length,
        cell: workersOf,
      },
      {
        key: "asked_by",
        title: t("column.asked_by"),
        value: (each) => each.asked_by,
        cell: (each) => each.asked_by ?? "–",
      },
      {
        key: "message",
        title: t("column.message"),
        kind: "why",
        value: (each) => each.message,
        cell: messageOf,
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
        value: (each) => each.took,
        cell: (each) => span(each.took),
      },
      {
        key: "actions",
        title: t("column.actions"),
        kind: "actions",
        cell: (each) => {
          if (!hasEnded(each.phase)) return cancelButton(each.job_id, again);
          return each.launch && each.phase !== "ready"
            ? retryButton({ ...each, workers: each.workers.map((one) => one.worker_address).sort() })
            : null;
        },
      },
    ],
  });
  place.append(
    h("p", { class: "lead" }, t("jobs.lead")),
    filterBar(h("label", {}, t("filter.text"), search), total),
    board.element,
    shown.element,
  );
  let last = null;
  const again = repeat(EVERY_SECONDS, signal, async () => {
    try {
      const answer = await getAgain("jobs", keyOf, signal);
      // What has ended takes no longer.
      if (answer === last && all.every((each) => hasEnded(each.phase))) return;
      last = answer;
      board.show(partialNotice(answer));
      all = launchesOf(answer.list);
      draw();
    } catch (error) {
      if (error.name === "AbortError") return;
      last = null;
      shown.fail();
      if (error.code !== "offline") board.show(errorNotice(error));
    }
  });
}

// What it does or what went wrong.
function messageOf({ phase, message }) {
  if (phase === "ready" || !message) return null;
  return h("span", { class: "beginning", title: message }, message);
}

function workersOf(launch) {
  const names = launch.workers.map((each) => each.worker_address);
  return h(
    "span",
    { title: names.join("\n") },
    names.length === 1 ? h("code", {}, names[0]) : count("workers", names.length),
  );
}
