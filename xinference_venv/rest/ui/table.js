// Tables that can be sorted by each column, and become cards on a narrow screen.

import { h } from "./dom.js";
import { t } from "./i18n.js";

// `columns` are {key, title, value, cell, number}: `value` of a row is what it is sorted by (none:
// it can't be), `cell` what is shown. `sort` is a key, with "-" before it for the other direction;
// `onSort` hears of a new one. `keyOf` names a row: the same row with the same data stays as it is,
// with the focus in it.
export function table({ label, columns, sort, onSort, keyOf, empty }) {
  let order = sort;
  let rows = [];
  let known = new Map();
  const headings = new Map();
  const nothing = h(
    "tr",
    { role: "row" },
    h("td", { role: "cell", class: "empty", colspan: columns.length }, empty),
  );
  const body = h("tbody", { role: "rowgroup" });
  const choice = sortChoice(columns, () => order, resort);
  const element = h(
    "div",
    { class: "sheet" },
    choice,
    h(
      "table",
      { role: "table", "aria-label": label },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...columns.map(heading))),
      body,
    ),
  );

  function heading(column) {
    const th = h("th", {
      scope: "col",
      role: "columnheader",
      class: column.number ? "number" : null,
    });
    if (column.value) {
      const click = () => resort(order === column.key ? `-${column.key}` : column.key);
      th.append(h("button", { type: "button", class: "sorter", on: { click } }, column.title));
      headings.set(column.key, th);
    } else {
      th.append(h("span", { class: "unseen" }, column.title));
    }
    return th;
  }

  function resort(wanted) {
    order = wanted;
    onSort?.(order);
    draw();
  }

  function draw() {
    const [, minus, key] = /^(-?)(.*)$/.exec(order);
    for (const [each, th] of headings) {
      if (each === key) th.setAttribute("aria-sort", minus ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    }
    choice.querySelector("select").value = order;
    const column = columns.find((each) => each.key === key);
    const sorted = [...rows].sort(
      (one, other) => compare(column.value(one), column.value(other)) * (minus ? -1 : 1),
    );
    const drawn = new Map();
    for (const row of sorted) {
      const name = keyOf(row);
      const data = JSON.stringify(row);
      const before = known.get(name);
      drawn.set(name, before?.data === data ? before : { data, tr: line(row) });
    }
    const wanted = drawn.size ? [...drawn.values()].map((each) => each.tr) : [nothing];
    const place = placeOfFocus(body);
    if (
      wanted.length !== body.children.length ||
      wanted.some((each, index) => body.children[index] !== each)
    ) {
      body.replaceChildren(...wanted);
      place(drawn);
    }
    known = drawn;
  }

  function line(row) {
    const tr = h("tr", { role: "row" }, ...columns.map((column) => cell(column, row)));
    tr.dataset.key = keyOf(row);
    return tr;
  }

  function cell(column, row) {
    const td = h(
      "td",
      { role: "cell", class: column.number ? "number" : column.kind },
      column.cell(row),
    );
    td.dataset.title = column.title;
    return td;
  }

  return {
    element,
    show(all) {
      rows = all;
      draw();
    },
  };
}

// On a narrow screen there are no headings to click.
function sortChoice(columns, current, onChoice) {
  const options = columns
    .filter((each) => each.value)
    .flatMap((each) => [
      h("option", { value: each.key }, `${each.title} ↑`),
      h("option", { value: `-${each.key}` }, `${each.title} ↓`),
    ]);
  const select = h("select", { on: { change: () => onChoice(select.value) } }, ...options);
  select.value = current();
  return h("label", { class: "sort-choice" }, h("span", {}, t("table.sort")), select);
}

// Remembers which control of which row has the focus; gives it to the same one of the new row.
function placeOfFocus(body) {
  const tr = body.contains(document.activeElement) && document.activeElement.closest("tr");
  if (!tr) return () => {};
  const controls = (row) => [...row.querySelectorAll("a, button, input")];
  const position = controls(tr).indexOf(document.activeElement);
  return (drawn) => {
    const row = drawn.get(tr.dataset.key)?.tr;
    if (row) controls(row)[position]?.focus();
  };
}

function compare(one, other) {
  if (one === other) return 0;
  if (one === null || one === undefined) return -1;
  if (other === null || other === undefined) return 1;
  if (typeof one === "number") return one - other;
  return String(one).localeCompare(String(other), undefined, { numeric: true });
}
