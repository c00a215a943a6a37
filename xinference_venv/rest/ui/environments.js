// The environments of the cluster: filtered, sorted, in groups, and what can be done with each or
// with several.

import { getAgain } from "./api.js";
import { button, filterBar, foldedFilters, gated } from "./controls.js";
import { h, repeat, setText } from "./dom.js";
import { columns } from "./environment_columns.js";
import { keyText } from "./format.js";
import { count, t } from "./i18n.js";
import { linkToComparison, noteInAddress } from "./links.js";
import {
  differingNotice,
  errorNotice,
  noWorkerNotice,
  noticeBoard,
  partialNotice,
  skippedNotice,
} from "./notices.js";
import { prefetchEnvironments } from "./prefetch.js";
import { removal } from "./removal.js";
import { table } from "./table.js";
import { verification } from "./verify.js";
import { thereIsNone } from "./workers.js";

const EVERY_SECONDS = 4;
const AGES_MILLISECONDS = 30_000;
const SORTED_BY = "model";
// From so many on they are in groups, one for each model, unless something else is wanted.
const MANY = 60;

// What a text is looked for in; made once, since it is looked at with each key that is typed.
const texts = new WeakMap();
function textOf(entry) {
  const known = texts.get(entry);
  if (known !== undefined) return known;
  const { model_name, model_engine, python_version, worker_address, path, reason } = entry;
  const text = [model_name, model_engine, python_version, worker_address, path, reason]
    .join(" ")
    .toLowerCase();
  texts.set(entry, text);
  return text;
}

const keyOf = (entry) => `${entry.worker_address} ${entry.path}`;
// What is chosen by its exact value, with the text for any.
const CHOICES = {
  engine: { any: "filter.any_engine", value: (each) => each.model_engine ?? "–" },
  state: { any: "filter.any_state", value: (each) => each.state },
  worker: { any: "filter.all", value: (each) => each.worker_address },
};

const FILTERS = ["model", "text", ...Object.keys(CHOICES)];

export function showEnvironments(place, values, signal) {
  const wanted = {
    model: values.model ?? "",
    text: values.text ?? "",
    engine: values.engine ?? "",
    state: values.state ?? "",
    worker: values.worker ?? "",
    group: values.group ?? "",
    sort: values.sort ?? SORTED_BY,
  };
  const board = noticeBoard();
  const total = h("p", { class: "total", role: "status" });
  const chosen = new Map();
  const opened = new Set((values.open ?? "").split("\n").filter(Boolean));
  let all = [];

  const search = (name) => {
    const input = h("input", {
      id: `filter-${name}`,
      type: "search",
      value: wanted[name],
      placeholder: t(`filter.${name}.any`),
      on: { input: () => filter(name, input.value) },
    });
    return input;
  };
  const selects = Object.fromEntries(
    Object.keys(CHOICES).map((name) => {
      const on = { change: (event) => filter(name, event.target.value) };
      return [name, h("select", { id: `filter-${name}`, on })];
    }),
  );
  const group = h("input", {
    id: "group-models",
    type: "checkbox",
    on: { change: () => filter("group", group.checked ? "1" : "0") },
  });
  const filters = foldedFilters(
    h("label", {}, t("column.model"), search("model")),
    ...Object.keys(CHOICES).map((name) => h("label", {}, t(`column.${name}`), selects[name])),
    h("label", {}, t("filter.text"), search("text")),
    h("label", { class: "check" }, group, t("filter.group")),
  );
  const shown = table({
    label: t("view.environments"),
    keyOf,
    sort: wanted.sort,
    onSort: (sort) => filter("sort", sort),
    selection: {
      chosen,
      nameOf: (each) => `${keyText(each)}, ${each.worker_address}`,
      onChange: drawChosen,
    },
    empty: nothing,
    columns: columns(() => again()),
  });
  const actions = h("div", {
    class: "toolbar chosen",
    role: "group",
    "aria-label": t("select.actions"),
  });

  // Why the list is empty, and what to do next.
  function nothing() {
    if (thereIsNone()) return noWorkerNotice();
    if (all.length)
      return h(
        "div",
        {},
        h("p", {}, t("table.no_match")),
        h("a", { class: "button quiet small", href: "#/environments?" }, t("table.clear")),
      );
    return h(
      "div",
      {},
      h("p", {}, t("environments.none")),
      h("a", { href: "#/launch" }, t("environments.first")),
    );
  }

  function filter(name, value) {
    wanted[name] = value;
    noteInAddress({ [name]: name === "sort" && value === SORTED_BY ? "" : value });
    if (name !== "sort") draw();
  }

  // The wanted of all: thousands, so that only what is asked for is looked at.
  function matching() {
    const model = wanted.model.trim().toLowerCase();
    const text = wanted.text.trim().toLowerCase();
    const tests = [
      model && ((each) => each.model_name.toLowerCase().includes(model)),
      ...Object.entries(CHOICES).map(
        ([name, { value }]) => wanted[name] && ((each) => value(each) === wanted[name]),
      ),
      text && ((each) => textOf(each).includes(text)),
    ].filter(Boolean);
    return tests.length ? all.filter((each) => tests.every((test) => test(each))) : all;
  }

  function draw() {
    const those = matching();
    const grouped = wanted.group ? wanted.group === "1" : those.length > MANY;
    group.checked = grouped;
    const groups = grouped && {
      groupOf: (entry) => entry.model_name,
      isOpen: (name) => opened.has(name),
      toggle: (name) => {
        if (!opened.delete(name)) opened.add(name);
        noteInAddress({ open: [...opened].join("\n") });
      },
    };
    if (chosen.size) {
      // What is not listed any more is not to be changed with the rest.
      const there = new Map(those.map((each) => [keyOf(each), each]));
      for (const key of [...chosen.keys()]) {
        if (there.has(key)) chosen.set(key, there.get(key));
        else chosen.delete(key);
      }
    }
    filters.use(FILTERS.filter((name) => wanted[name].trim()).length);
    shown.show(those, groups || null);
    drawChosen();
    setText(total, count("environments.total", those.length, { of: all.length }));
  }

  let drawnChosen = "";
  // Drawn again only for others: what has the focus keeps it.
  function drawChosen() {
    if (!chosen.size && actions.contains(document.activeElement))
      document.querySelector("h1").focus();
    actions.hidden = !chosen.size;
    const names = [...chosen.keys()].join("\n");
    if (names === drawnChosen) return;
    drawnChosen = names;
    const those = [...chosen.values()];
    const act = (text, scope, onClick, kind = "quiet") =>
      gated(button({ text, kind, onClick: () => onClick([...chosen.values()], again) }), scope);
    const parts = [
      h("strong", { role: "status" }, count("select.chosen", those.length)),
      act(t("verify.open"), "create", verification),
      act(t("prefetch.open"), "create", prefetchEnvironments),
      act(t("remove.open"), "delete", removal, "danger"),
      those.length === 2 &&
        h("a", { class: "button quiet", href: linkToComparison(...those) }, t("view.compare")),
      button({ text: t("select.none"), kind: "quiet", onClick: () => (chosen.clear(), draw()) }),
    ];
    actions.replaceChildren(...parts.filter(Boolean));
  }

  // The options of the choices, as they are in what was listed; a chosen one stays.
  function offer(answer) {
    for (const [name, { any, value }] of Object.entries(CHOICES)) {
      const missing = [...answer.unreachable, ...answer.gone];
      const addresses = name === "worker" ? missing.map(value) : [];
      const found = new Set([...all.map(value), ...addresses, wanted[name]].filter(Boolean));
      const options = [...found].sort();
      const select = selects[name];
      if (select.dataset.options === options.join()) continue;
      select.dataset.options = options.join();
      select.replaceChildren(
        h("option", { value: "" }, t(any)),
        ...options.map((each) =>
          h("option", { value: each }, name === "state" ? t(`state.${each}`) : each),
        ),
      );
      select.value = wanted[name];
    }
  }

  place.append(
    filterBar(
      ...filters.parts,
      total,
      h("span", { class: "spring" }),
      h("a", { class: "button quiet", href: "#/compare" }, t("view.compare")),
      h("a", { class: "button primary", href: "#/launch" }, t("view.launch")),
    ),
    board.element,
    actions,
    shown.element,
  );
  actions.hidden = true;
  offer({ unreachable: [], gone: [] });
  let last = null;
  let drawn = 0;
  const again = repeat(EVERY_SECONDS, signal, async () => {
    try {
      const answer = await getAgain("virtualenvs", keyOf, signal);
      // Nothing is new but ages, which may be behind by a little.
      if (answer === last && Date.now() - drawn < AGES_MILLISECONDS) return;
      [last, drawn] = [answer, Date.now()];
      all = answer.list;
      offer(answer);
      board.show(
        partialNotice(answer),
        differingNotice(answer.differing),
        skippedNotice(answer.skipped),
      );
      draw();
    } catch (error) {
      if (error.name === "AbortError") return;
      last = null;
      shown.fail();
      if (error.code !== "offline") board.show(errorNotice(error));
    }
  });
}
