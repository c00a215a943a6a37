// Two environments side by side: which packages differ.

import { get, meaning } from "./api.js";
import { field } from "./controls.js";
import { h } from "./dom.js";
import { keyText } from "./format.js";
import { count, t } from "./i18n.js";
import { linkToComparison } from "./links.js";
import { errorNotice, noticeBoard, partialNotice } from "./notices.js";
import { table } from "./table.js";

const SHOWN = new Set(["installed", "inherited"]);

// How the packages of two environments differ: rows of {name, left, right, change}.
function differences(left, right) {
  const versions = (packages) =>
    new Map(packages.filter((each) => SHOWN.has(each.role)).map((each) => [each.name, each]));
  const [one, other] = [versions(left), versions(right)];
  return [...new Set([...one.keys(), ...other.keys()])].sort().map((name) => {
    const [here, there] = [one.get(name) ?? null, other.get(name) ?? null];
    return { name, left: here, right: there, change: change(here, there) };
  });
}

function change(here, there) {
  if (!here) return "right";
  if (!there) return "left";
  if (here.version !== there.version) return "version";
  return here.role === there.role ? "same" : "role";
}

export async function showCompare(place, values, signal) {
  const board = noticeBoard();
  const status = h("p", { class: "total", role: "status" });
  const selects = ["left", "right"].map((side) =>
    h("select", { id: `compare-${side}`, on: { change: () => compare() } }),
  );
  const only = h("input", {
    id: "compare-only",
    type: "checkbox",
    checked: true,
    on: { change: () => draw() },
  });
  const shown = table({
    label: t("view.compare"),
    keyOf: (each) => each.name,
    sort: "name",
    empty: () => t("compare.equal"),
    columns: [
      {
        key: "name",
        title: t("column.package"),
        value: (each) => each.name,
        cell: (each) => h("span", { class: "strong" }, each.name),
      },
      {
        key: "left",
        title: t("compare.left"),
        value: (each) => each.left?.version,
        cell: (each) => side(each.left),
      },
      {
        key: "right",
        title: t("compare.right"),
        value: (each) => each.right?.version,
        cell: (each) => side(each.right),
      },
      {
        key: "change",
        title: t("compare.change"),
        value: (each) => each.change,
        cell: (each) =>
          h("span", { class: `change ${each.change}` }, t(`compare.${each.change}.means`)),
      },
    ],
  });
  let entries = [];
  let rows = [];
  selects.forEach((each) => each.append(h("option", {}, t("table.reading"))));

  function draw() {
    const differing = rows.filter((each) => each.change !== "same");
    shown.show(only.checked ? differing : rows);
    status.textContent = count("compare.total", differing.length, { of: rows.length });
  }

  async function compare() {
    const [left, right] = selects.map((each) => entries[Number(each.value)]);
    if (!left || !right) return;
    history.replaceState(history.state, "", linkToComparison(left, right));
    try {
      const lists = await Promise.all([left, right].map((each) => packagesOf(each, signal)));
      rows = differences(...lists);
      draw();
    } catch (error) {
      if (error.name !== "AbortError") board.show(errorNotice(error));
    }
  }

  place.append(
    board.element,
    h(
      "div",
      { class: "form pair" },
      field(t("compare.left"), selects[0]),
      field(t("compare.right"), selects[1]),
    ),
    h("div", { class: "toolbar" }, h("label", { class: "check" }, only, t("compare.only")), status),
    shown.element,
  );
  try {
    const answer = await get("virtualenvs", {}, signal);
    const called = (each) => `${keyText(each)} · ${each.worker_address}`;
    entries = answer.list
      .filter((each) => each.env_id)
      .sort((one, other) => called(one).localeCompare(called(other)));
    board.show(partialNotice(answer));
    for (const select of selects) {
      select.replaceChildren(
        ...entries.map((each, position) => h("option", { value: position }, called(each))),
      );
    }
    const first = Math.max(
      0,
      entries.findIndex((each) => isMeant(each, values)),
    );
    selects[0].value = first;
    const other = entries.findIndex((each) => isMeant(each, otherOf(values)));
    const next = first === 0 ? Math.min(1, entries.length - 1) : 0;
    selects[1].value = other >= 0 ? other : next;
    if (entries.length) await compare();
    else {
      shown.fail();
      place.append(
        h("p", { class: "empty" }, t("environments.none")),
        h("a", { href: "#/launch" }, t("environments.first")),
      );
    }
  } catch (error) {
    if (error.name === "AbortError") return;
    shown.fail();
    board.show(errorNotice(error));
  }
}

// The second environment of an address, if it names one.
const otherOf = (values) => ({
  model: values.other_model,
  engine: values.other_engine,
  python: values.other_python,
  worker: values.other_worker,
});

function isMeant(entry, values) {
  return (
    entry.model_name === values.model &&
    (entry.model_engine ?? "") === (values.engine ?? "") &&
    entry.python_version === values.python &&
    entry.worker_address === values.worker
  );
}

async function packagesOf(entry, signal) {
  const answer = await get("virtualenvs/packages", meaning(entry), signal);
  return answer.list.find((each) => each.path === entry.path)?.packages ?? [];
}

function side(distribution) {
  if (!distribution) return h("span", { class: "faint" }, t("compare.absent"));
  const inherited =
    distribution.role === "inherited" &&
    h("span", { class: "role inherited" }, t("role.inherited"));
  return [h("code", {}, distribution.version ?? "–"), " ", inherited];
}
