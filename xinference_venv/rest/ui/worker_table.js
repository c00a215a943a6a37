// The workers as a view: totals first, then each with its state, disk and jobs, and what can be
// done with it.

import { drop, isGone, put } from "./api.js";
import { badge, button, filterBar, gated, pathText } from "./controls.js";
import { h, setText } from "./dom.js";
import { age, size } from "./format.js";
import { count, t } from "./i18n.js";
import { noteInAddress } from "./links.js";
import { errorNotice, noWorkerNotice, notice, noticeBoard } from "./notices.js";
import { inSteps } from "./steps.js";
import { noMatch, table } from "./table.js";
import { lookAtWorkers, onWorkers, thereIsNone } from "./workers.js";

const STATES = ["alive", "suspect", "gone"];
const isKnown = (each) => each.state !== "unknown";
const stateOf = (each) => (each.draining && each.state === "alive" ? "draining" : each.state);

export function showWorkers(place, values, signal) {
  const board = noticeBoard();
  const totals = h("dl", { class: "totals" });
  const search = h("input", {
    id: "filter-workers",
    type: "search",
    value: values.text ?? "",
    on: { input: () => find() },
  });
  const total = h("p", { class: "total", role: "status" });
  let all = [];
  const shown = table({
    label: t("view.workers"),
    keyOf: (each) => each.worker_address,
    sort: values.sort ?? "worker",
    onSort: (order) => noteInAddress({ sort: order }),
    empty: () => (thereIsNone() ? noWorkerNotice() : noMatch(search, find)),
    columns: [
      {
        key: "worker",
        title: t("column.worker"),
        value: (each) => each.worker_address,
        cell: (each) => pathText(each.worker_address, each.worker_address),
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
        value: (each) => stateOf(each),
        cell: (each) => badge(stateOf(each)),
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
        value: (each) => each.snapshot_age ?? 0,
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
        cell: (each) => [environmentsOf(each), " ", doctorOf(each), " ", drainOf(each), forgetOf(each)],
      },
    ],
  });

  function find() {
    noteInAddress({ text: search.value.trim() });
    draw();
  }

  function draw() {
    const words = search.value.trim().toLowerCase().split(/\s+/);
    const text = (each) =>
      `${each.worker_address} ${each.host_name} ${t(`state.${stateOf(each)}`)} ${each.release}`;
    const found = all.filter((each) =>
      words.every((word) => text(each).toLowerCase().includes(word)),
    );
    shown.show(found);
    setText(total, count("workers.total", found.length, { of: all.length }));
    drawTotals();
  }

  function drawTotals() {
    const sum = (value) => all.reduce((so_far, each) => so_far + (value(each) ?? 0), 0);
    const free = all.map((each) => each.snapshot?.free_bytes).filter((each) => each !== undefined);
    const least = free.length ? Math.min(...free) : null;
    const known = all.every(isKnown);
    const shown = (number) => (known ? number.toLocaleString() : "–");
    const parts = [
      ...STATES.map((state) => [
        t(`state.${state}`),
        shown(all.filter((each) => each.state === state).length),
      ]),
      [t("state.draining"), shown(all.filter((each) => each.draining).length)],
      [t("workers.running"), shown(sum((each) => each.snapshot?.jobs))],
      [t("workers.least"), size(least)],
    ];
    totals.replaceChildren(
      ...parts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
    );
  }

  place.append(
    h("p", { class: "lead" }, t("workers.lead")),
    board.element,
    totals,
    filterBar(h("label", {}, t("filter.text"), search), total),
    shown.element,
  );
  onWorkers((workers, error) => {
    board.show(error && error.code !== "offline" && errorNotice(error));
    if (error && !workers.length) return shown.fail();
    all = error ? workers.map(unknownNow) : workers;
    draw();
  }, signal);
}

// A worker while the supervisor does not answer: no one knows how it fares.
const unknownNow = (each) => ({ ...each, state: "unknown", snapshot: null, snapshot_age: null });

function heard(worker) {
  // Of one that is alive it is of the last seconds, and not sent.
  return worker.snapshot === null ? "–" : h("span", { class: "age" }, age(worker.snapshot_age ?? 0));
}

function environmentsOf(worker) {
  return h(
    "a",
    { href: `#/environments?worker=${encodeURIComponent(worker.worker_address)}` },
    t("view.environments"),
  );
}

function doctorOf(worker) {
  return h(
    "a",
    { href: `#/doctor?worker=${encodeURIComponent(worker.worker_address)}` },
    t("view.doctor"),
  );
}

function drainOf(worker) {
  const name = worker.worker_address;
  const drained = worker.draining;
  return gated(
    button({
      label: t(drained ? "drain.end.label" : "drain.label", { name }),
      glyph: drained ? "launch" : "pause",
      onClick: () => drain(worker, !drained),
    }),
    "delete",
  );
}

function forgetOf(worker) {
  if (worker.state === "alive" || !isKnown(worker)) return null;
  return gated(
    button({
      label: t("forget.label", { name: worker.worker_address }),
      glyph: "remove",
      kind: "danger",
      onClick: () => forget(worker),
    }),
    "delete",
  );
}

const path = (worker) => `workers/${encodeURIComponent(worker.worker_address)}`;

// One question about a worker, what it means, and what came of it.
function ask({ name, title, plan, apply, kind, done, work }) {
  inSteps({
    title,
    onError: lookAtWorkers,
    first: {
      busy: "",
      work: async () => ({
        parts: plan,
        choices: [
          {
            text: apply,
            kind,
            scope: (made) => gated(made, "delete"),
            step: {
              busy: title,
              work: async () => {
                try {
                  await work();
                } catch (error) {
                  if (!isGone(error, name)) throw error;
                  lookAtWorkers();
                  return { parts: [notice("info", h("p", {}, t("workers.left", { name })))] };
                }
                lookAtWorkers();
                return { parts: [notice("good", h("p", {}, done))] };
              },
            },
          },
        ],
        keep: t("dialog.close"),
      }),
    },
  });
}

function drain(worker, draining) {
  const name = worker.worker_address;
  const jobs = worker.snapshot?.jobs ?? 0;
  ask({
    name,
    title: t(draining ? "drain.title" : "drain.end.title", { name }),
    plan: [
      h("p", {}, t(draining ? "drain.plan" : "drain.end.plan")),
      draining && jobs > 0 && notice("info", h("p", {}, count("drain.jobs", jobs))),
      draining && h("p", { class: "hint" }, t("drain.kept")),
    ],
    apply: t(draining ? "drain.apply" : "drain.end.apply"),
    kind: "primary",
    done: t(draining ? "drain.done" : "drain.end.done", { name }),
    work: () => put(`${path(worker)}/drain`, { draining }),
  });
}

function forget(worker) {
  const name = worker.worker_address;
  ask({
    name,
    title: t("forget.title", { name }),
    plan: [h("p", {}, t("forget.plan"))],
    apply: t("forget.apply"),
    kind: "danger solid",
    done: t("forget.done", { name }),
    work: () => drop(path(worker)),
  });
}
