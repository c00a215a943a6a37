// The environments of the cluster: filtered, sorted, and what can be done with each.

import { get } from "./api.js";
import { badge, button, copyButton, gated } from "./controls.js";
import { h, repeat } from "./dom.js";
import { ago, holders, keyText, size } from "./format.js";
import { count, t } from "./i18n.js";
import { differingNotice, errorNotice, noticeBoard, partialNotice, skippedNotice } from "./notices.js";
import { removal } from "./removal.js";
import { table } from "./table.js";

const EVERY_SECONDS = 4;
const SORTED_BY = "model";

// The address of a view of one environment, or of any that has its name.
export function linkTo(view, entry) {
  const query = new URLSearchParams({
    model: entry.model_name,
    python: entry.python_version,
    worker: entry.worker_address,
  });
  if (entry.model_engine) query.set("engine", entry.model_engine);
  return `#/${view}?${query}`;
}

export function showEnvironments(place, values, signal) {
  const wanted = {
    model: values.model ?? "",
    worker: values.worker ?? "",
    sort: values.sort ?? SORTED_BY,
  };
  const board = noticeBoard();
  const total = h("p", { class: "total", role: "status" });
  let all = [];

  const model = h("input", {
    id: "filter-model",
    type: "search",
    value: wanted.model,
    placeholder: t("filter.any"),
    on: { input: () => filter("model", model.value) },
  });
  const worker = h("select", {
    id: "filter-worker",
    on: { change: () => filter("worker", worker.value) },
  });
  const shown = table({
    label: t("view.environments"),
    keyOf: (entry) => `${entry.worker_address} ${entry.path}`,
    sort: wanted.sort,
    onSort: (sort) => filter("sort", sort),
    empty: h(
      "div",
      {},
      h("p", {}, t("environments.none")),
      h("a", { href: "#/launch" }, t("environments.first")),
    ),
    columns: columns(() => again()),
  });

  function filter(name, value) {
    wanted[name] = value;
    const query = new URLSearchParams(
      Object.entries(wanted).filter(
        ([key, each]) => each && !(key === "sort" && each === SORTED_BY),
      ),
    );
    history.replaceState(null, "", query.size ? `#/environments?${query}` : "#/environments");
    draw();
  }

  function draw() {
    const matching = all.filter(
      (entry) =>
        entry.model_name.toLowerCase().includes(wanted.model.trim().toLowerCase()) &&
        (!wanted.worker || entry.worker_address === wanted.worker),
    );
    shown.show(matching);
    total.textContent = count("environments.total", matching.length, { of: all.length });
  }

  function offer(addresses) {
    const options = [...new Set([...addresses, wanted.worker].filter(Boolean))].sort();
    if (
      options.join() ===
      [...worker.options]
        .slice(1)
        .map((each) => each.value)
        .join()
    )
      return;
    worker.replaceChildren(
      h("option", { value: "" }, t("filter.all")),
      ...options.map((each) => h("option", { value: each }, each)),
    );
    worker.value = wanted.worker;
  }

  place.append(
    h(
      "div",
      { class: "toolbar", role: "search", "aria-label": t("filter.label") },
      h("label", {}, t("column.model"), model),
      h("label", {}, t("column.worker"), worker),
      total,
      h("span", { class: "spring" }),
      h("a", { class: "button quiet", href: "#/compare" }, t("view.compare")),
      h("a", { class: "button primary", href: "#/launch" }, t("view.launch")),
    ),
    board.element,
    shown.element,
  );
  offer([]);
  const again = repeat(EVERY_SECONDS, signal, async () => {
    try {
      const answer = await get("virtualenvs", {}, signal);
      all = answer.list;
      offer([...all, ...answer.unreachable].map((each) => each.worker_address));
      board.show(partialNotice(answer), differingNotice(answer.differing), skippedNotice(answer.skipped));
      draw();
    } catch (error) {
      if (error.name !== "AbortError" && error.code !== "offline") board.show(errorNotice(error));
    }
  });
}

function columns(onRemoved) {
  return [
    { key: "model", title: t("column.model"), value: (each) => each.model_name, cell: name },
    {
      key: "engine",
      title: t("column.engine"),
      value: (each) => each.model_engine,
      cell: (each) => each.model_engine ?? faint("–"),
    },
    {
      key: "python",
      title: t("column.python"),
      value: (each) => each.python_version,
      cell: (each) => each.python_version,
    },
    {
      key: "worker",
      title: t("column.worker"),
      value: (each) => each.worker_address,
      cell: (each) => h("code", {}, each.worker_address),
    },
    { key: "state", title: t("column.state"), value: (each) => each.state, cell: state },
    {
      key: "size",
      title: t("column.size"),
      number: true,
      value: (each) => each.size_bytes,
      cell: (each) => size(each.size_bytes),
    },
    {
      key: "shared",
      title: t("column.shared"),
      value: (each) => each.shared_with.length,
      cell: (each) =>
        several(
          each.shared_with.map((key) => key.model_name),
          each.shared_with.map(keyText),
        ),
    },
    {
      key: "users",
      title: t("column.users"),
      value: (each) => holders(each).length,
      cell: (each) => several(holders(each)),
    },
    {
      key: "used",
      title: t("column.used"),
      value: (each) => each.last_used,
      cell: (each) => ago(each.last_used),
    },
    {
      key: "actions",
      title: t("column.actions"),
      kind: "actions",
      cell: (each) => actions(each, onRemoved),
    },
  ];
}

const faint = (text) => h("span", { class: "faint" }, text);

function name(entry) {
  return h("a", { class: "strong", href: linkTo("environment", entry) }, entry.model_name);
}

function state(entry) {
  const shown = badge(entry.state);
  const why = entry.layout ? t("environment.layout", { layout: entry.layout }) : entry.reason;
  if (why) shown.title = why;
  return why ? [shown, h("span", { class: "hint", title: why }, ` ${entry.layout ?? why}`)] : shown;
}

// The first of several texts and how many more there are; all of them, in full, when pointed at.
function several(texts, full = texts) {
  if (!texts.length) return faint("–");
  const more = texts.length > 1 ? ` +${texts.length - 1}` : "";
  return h("span", { class: "several", title: full.join("\n") }, h("span", {}, texts[0]), more);
}

function actions(entry, onRemoved) {
  const called = `${keyText(entry)}, ${entry.worker_address}`;
  const remove = button({
    label: t("remove.label", { name: called }),
    glyph: "remove",
    kind: "danger",
    onClick: () => removal(entry, onRemoved),
  });
  return [copyButton(entry.path, t("copy.path", { name: called })), gated(remove, "delete")];
}
