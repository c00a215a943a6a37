// The columns of the table of environments: what each shows of one, and of those of a model.

import { badge, button, copyButton, gated } from "./controls.js";
import { h } from "./dom.js";
import { ago, holders, keyText, size } from "./format.js";
import { count, t, wording } from "./i18n.js";
import { linkTo } from "./links.js";
import { removal } from "./removal.js";

const faint = (text) => h("span", { class: "faint" }, text);
const distinct = (list, value) => [...new Set(list.map(value))];
const sum = (list) => list.reduce((total, each) => total + (each.size_bytes ?? 0), 0);
const latest = (list) => Math.max(...list.map((each) => each.last_used ?? 0)) || null;

export function columns(onRemoved) {
  return [
    { key: "model", title: t("column.model"), value: (each) => each.model_name, cell: name },
    {
      key: "engine",
      title: t("column.engine"),
      value: (each) => each.model_engine,
      cell: (each) => (each.model_engine ? engineName(each.model_engine) : faint("–")),
      group: (list) => several(distinct(list, (each) => each.model_engine ?? "–")),
    },
    {
      key: "python",
      title: t("column.python"),
      value: (each) => each.python_version,
      cell: (each) => each.python_version,
      group: (list) => several(distinct(list, (each) => each.python_version)),
    },
    {
      key: "worker",
      title: t("column.worker"),
      value: (each) => each.worker_address,
      cell: (each) => h("code", {}, each.worker_address),
      group: (list) => count("workers", distinct(list, (each) => each.worker_address).length),
    },
    {
      key: "state",
      title: t("column.state"),
      value: (each) => each.state,
      cell: state,
      total: (list) => distinct(list, (each) => each.state).join(),
      group: (list) =>
        distinct(list, (each) => each.state).map((each) => [
          badge(each),
          ` ${list.filter((one) => one.state === each).length} `,
        ]),
    },
    {
      key: "size",
      title: t("column.size"),
      number: true,
      value: (each) => each.size_bytes,
      cell: (each) => size(each.size_bytes),
      total: sum,
      group: (list) => size(sum(list)),
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
      total: (list) => list.filter((each) => holders(each).length).length,
      group: (list) => {
        const used = list.filter((each) => holders(each).length).length;
        return used ? count("environments.used", used) : faint("–");
      },
    },
    {
      key: "used",
      title: t("column.used"),
      value: (each) => each.last_used,
      cell: (each) => ago(each.last_used),
      total: latest,
      group: (list) => ago(latest(list)),
    },
    {
      key: "actions",
      title: t("column.actions"),
      kind: "actions",
      cell: (each) => actions(each, onRemoved),
    },
  ];
}

// Where there is no room it breaks at its underscores.
function engineName(engine) {
  return engine.split(/(?<=_)/).flatMap((part, place) => (place ? [h("wbr"), part] : [part]));
}

function name(entry) {
  const { model_name: title } = entry;
  return h("a", { class: "strong name", title, href: linkTo("environment", entry) }, title);
}

function state(entry) {
  const shown = badge(entry.state);
  const why = entry.layout ? t("environment.layout", { layout: entry.layout }) : wording(entry, "reason");
  if (why) shown.title = why;
  return why
    ? [shown, h("span", { class: "hint", title: why }, ` ${entry.layout ?? why}`)]
    : shown;
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
    onClick: () => removal([entry], onRemoved),
  });
  return [copyButton(entry.path, t("copy.path", { name: called })), gated(remove, "delete")];
}
