// The workers: who is there, for all views that offer a choice of them, and as a view.

import { get } from "./api.js";
import { badge, pathText } from "./controls.js";
import { h, repeat } from "./dom.js";
import { age, size } from "./format.js";
import { t } from "./i18n.js";
import { errorNotice, noticeBoard } from "./notices.js";
import { table } from "./table.js";

const EVERY_SECONDS = 3;

let workers = [];
let listeners = new Set();

// The workers as they were last reported.
export const knownWorkers = () => workers;

// Look at the workers for as long as the page is open; `listener` hears of each answer.
export function watchWorkers(listener) {
  listeners.add(listener);
  repeat(EVERY_SECONDS, new AbortController().signal, async () => {
    try {
      workers = (await get("workers")).list;
      for (const each of listeners) each(workers, null);
    } catch (error) {
      for (const each of listeners) each([], error);
    }
  });
}

// Hear of the workers until `signal` ends it, at first of those that are known.
export function onWorkers(listener, signal) {
  listeners.add(listener);
  signal.addEventListener("abort", () => listeners.delete(listener));
  if (workers.length) listener(workers, null);
}

export function showWorkers(place, values, signal) {
  const board = noticeBoard();
  const shown = table({
    label: t("view.workers"),
    keyOf: (each) => each.worker_address,
    sort: "worker",
    empty: t("workers.none"),
    columns: [
      {
        key: "worker",
        title: t("column.worker"),
        value: (each) => each.worker_address,
        cell: address,
      },
      {
        key: "host",
        title: t("column.host"),
        value: (each) => each.host_name,
        cell: (each) => each.host_name,
      },
      {
        key: "state",
        title: t("column.state"),
        value: (each) => each.state,
        cell: (each) => badge(each.state),
      },
      {
        key: "jobs",
        title: t("column.jobs"),
        number: true,
        value: (each) => each.snapshot?.jobs,
        cell: (each) => String(each.snapshot?.jobs ?? "–"),
      },
      {
        key: "free",
        title: t("column.free"),
        number: true,
        value: (each) => each.snapshot?.free_bytes,
        cell: (each) => size(each.snapshot?.free_bytes),
      },
      {
        key: "heard",
        title: t("column.heard"),
        number: true,
        value: (each) => each.snapshot_age,
        cell: heard,
      },
      {
        key: "release",
        title: t("column.release"),
        value: (each) => each.release,
        cell: (each) => each.release,
      },
      {
        key: "open",
        title: t("column.actions"),
        kind: "actions",
        cell: (each) => environmentsOf(each),
      },
    ],
  });
  place.append(h("p", { class: "lead" }, t("workers.lead")), board.element, shown.element);
  onWorkers((all, error) => {
    board.show(error && error.code !== "offline" && errorNotice(error));
    if (!error) shown.show(all);
  }, signal);
}

const address = (worker) => pathText(worker.worker_address, t("column.worker"));

function heard(worker) {
  return worker.snapshot_age === null ? "–" : h("span", { class: "age" }, age(worker.snapshot_age));
}

function environmentsOf(worker) {
  return h(
    "a",
    { href: `#/environments?worker=${encodeURIComponent(worker.worker_address)}` },
    t("view.environments"),
  );
}
