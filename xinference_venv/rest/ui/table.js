// Tables that can be sorted by each column, and become cards on a narrow screen. Of a long one only
// the rows in sight are elements; its headings stay in sight.

import { arranged } from "./arrange.js";
import { h } from "./dom.js";
import { count, t } from "./i18n.js";

// From so many lines on a table scrolls by itself, and has elements for those in sight alone.
const LONG = 60;
// So many lines are drawn above and below those in sight.
const MARGIN = 12;
// Until one is measured.
const LINE_PIXELS = 39;
// So many cards a narrow screen shows at first, and adds.
const CARDS = 40;
const narrow = matchMedia("(max-width: 760px)");

// `columns` are {key, title, value, cell, number, total, group}: `value` of a row is what it is
// sorted by (none: it can't be), `cell` what is shown; of a group of rows `total` is what it is
// sorted by, `group` what is shown. `sort` is a key, with "-" before it for the other direction;
// `onSort` hears of a new one. `keyOf` names a row: the same row with the same data stays as it is,
// with the focus in it. `selection` is {chosen, nameOf, onChange}, `chosen` a map of rows by key.
// `empty` makes what is shown of no rows: why there are none, and what to do next.
export function table({ label, columns, sort, onSort, keyOf, empty, selection }) {
  let order = sort;
  let rows = [];
  let items = [];
  let grouping = null;
  let known = new Map();
  let line = LINE_PIXELS;
  let cards = CARDS;
  const headings = new Map();
  const none = h("td", { role: "cell", class: "empty", colspan: columns.length });
  const nothing = h("tr", { role: "row" }, none);
  const reading = h("p", { class: "empty busy", role: "status" }, t("table.reading"));
  const body = h("tbody", { role: "rowgroup" });
  const choice = sortChoice(columns, () => order, resort);
  const all = selection && box(t("select.all"), (on) => choose(rows, on));
  const grid = h(
    "table",
    { role: "table", "aria-label": label },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...columns.map(heading))),
    body,
  );
  const more = h("button", { type: "button", class: "quiet", hidden: true, on: { click: showMore } });
  const element = h("div", { class: "sheet", on: { scroll: paint } }, choice, grid, reading, more);
  const above = h("tr", { class: "spacer", "aria-hidden": "true" }, h("td", {}));
  const below = h("tr", { class: "spacer", "aria-hidden": "true" }, h("td", {}));

  function heading(column, place) {
    const th = h("th", {
      scope: "col",
      role: "columnheader",
      class: column.number ? "number" : null,
    });
    if (place === 0 && all) th.append(all);
    if (column.value) {
      const click = () => resort(order === column.key ? `-${column.key}` : column.key);
      th.append(h("button", { type: "button", class: "sorter", on: { click } }, column.title));
      headings.set(column.key, th);
    } else {
      th.append(h("span", { class: "unseen" }, column.title));
    }
    return th;
  }

  function box(name, onChange) {
    const input = h("input", { type: "checkbox", class: "pick", "aria-label": name });
    input.addEventListener("change", () => onChange(input.checked));
    return input;
  }

  function choose(those, on) {
    for (const row of those) {
      if (on) selection.chosen.set(keyOf(row), row);
      else selection.chosen.delete(keyOf(row));
    }
    paint();
    selection.onChange();
  }

  function resort(wanted) {
    order = wanted;
    onSort?.(order);
    arrange();
  }

  function arrange() {
    const [, minus, key] = /^(-?)(.*)$/.exec(order);
    for (const [each, th] of headings) {
      if (each === key) th.setAttribute("aria-sort", minus ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    }
    choice.querySelector("select").value = order;
    const column = columns.find((each) => each.key === key);
    items = arranged(rows, column, minus === "-", grouping ?? {});
    grid.setAttribute("aria-rowcount", items.length + 1);
    paint();
  }

  const nameOf = (item) => (item.row ? keyOf(item.row) : `group ${item.group}`);

  // Which of the lines are elements now.
  function inSight() {
    if (items.length <= LONG) return [0, items.length];
    if (narrow.matches) return [0, Math.min(items.length, cards)];
    const first = Math.max(0, Math.floor(element.scrollTop / line) - MARGIN);
    const height = element.clientHeight || innerHeight;
    return [first, Math.min(items.length, first + Math.ceil(height / line) + 2 * MARGIN)];
  }

  function paint() {
    element.classList.toggle("tall", items.length > LONG && !narrow.matches);
    // What scrolls is reached by keys.
    if (element.classList.contains("tall")) element.setAttribute("tabindex", "0");
    else element.removeAttribute("tabindex");
    const [from, to] = inSight();
    const drawn = new Map();
    for (let place = from; place < to; place++) {
      const item = items[place];
      const name = nameOf(item);
      const data = dataOf(item, name);
      const before = known.get(name);
      const tr = before?.data === data ? before.tr : lineOf(item, name);
      tr.setAttribute("aria-rowindex", place + 2);
      drawn.set(name, { data, tr });
    }
    above.firstChild.style.height = `${from * line}px`;
    const isCut = !narrow.matches && to < items.length;
    below.firstChild.style.height = `${(items.length - to) * line}px`;
    more.hidden = !(narrow.matches && to < items.length);
    more.textContent = count("table.more", items.length - to);
    if (!drawn.size) none.replaceChildren(empty());
    const lines = drawn.size ? [...drawn.values()].map((each) => each.tr) : [nothing];
    const wanted = [...(from > 0 ? [above] : []), ...lines, ...(isCut ? [below] : [])];
    const place = placeOfFocus(body);
    if (
      wanted.length !== body.children.length ||
      wanted.some((each, index) => body.children[index] !== each)
    ) {
      body.replaceChildren(...wanted);
      place(drawn, (name) => items.some((each) => nameOf(each) === name));
    }
    known = drawn;
    if (all) all.checked = rows.length > 0 && rows.every((each) => selection.chosen.has(keyOf(each)));
    if (items.length > LONG && lines[0].offsetHeight) line = lines[0].offsetHeight;
  }

  // What a line shows: it is made again when this is another.
  function dataOf(item, name) {
    if (item.row) return JSON.stringify(item.row) + Boolean(selection?.chosen.has(name));
    const chosen = selection && item.members.filter((each) => selection.chosen.has(keyOf(each)));
    const shown = columns.map((each) => each.total?.(item.members)).join();
    return `${grouping.isOpen(item.group)} ${item.members.length} ${chosen?.length} ${shown}`;
  }

  function showMore() {
    cards += CARDS;
    paint();
  }

  function lineOf(item, name) {
    const tr = item.row
      ? h("tr", { role: "row", class: item.within ? "within" : null }, ...columns.map(cellOf))
      : h("tr", { role: "row", class: "group" }, ...columns.map(groupCell));
    tr.dataset.key = name;
    if (selection) tr.firstChild.prepend(pick());
    return tr;

    function cellOf(column) {
      const td = h(
        "td",
        { role: "cell", class: column.number ? "number" : column.kind },
        column.cell(item.row),
      );
      td.dataset.title = column.title;
      return td;
    }

    function groupCell(column, place) {
      const shown = place === 0 ? groupName() : column.group?.(item.members);
      const td = h("td", { role: "cell", class: column.number ? "number" : column.kind }, shown);
      td.dataset.title = column.title;
      return td;
    }

    function groupName() {
      const isOpen = grouping.isOpen(item.group);
      const button = h(
        "button",
        { type: "button", class: "opener", "aria-expanded": String(isOpen) },
        h("span", { class: "strong name", title: item.group }, item.group),
        h("span", { class: "faint" }, ` ${item.members.length.toLocaleString()}`),
      );
      button.addEventListener("click", () => {
        grouping.toggle(item.group);
        arrange();
      });
      return button;
    }

    function pick() {
      const those = item.row ? [item.row] : item.members;
      const name = item.row ? selection.nameOf(item.row) : item.group;
      const input = box(t("select.one", { name }), (on) => choose(those, on));
      input.checked = those.every((each) => selection.chosen.has(keyOf(each)));
      return input;
    }
  }

  return {
    element,
    // Nothing is being read any more: what was wrong is shown elsewhere.
    fail: () => reading.remove(),
    // Show these rows, in groups if `groups` is {groupOf, isOpen, toggle}.
    show(wanted, groups = null) {
      reading.remove();
      rows = wanted;
      grouping = groups;
      arrange();
    },
  };
}

// What a table shows when a search finds nothing: the search can be emptied there.
export function noMatch(search, onClear) {
  const clear = () => {
    search.value = "";
    onClear();
    search.focus();
  };
  return h(
    "div",
    {},
    h("p", {}, t("table.no_match")),
    h("button", { type: "button", class: "quiet small", on: { click: clear } }, t("table.clear")),
  );
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

// Remembers which control of which row has the focus; gives it to the same one of the new row, or to
// the heading of the view if the row is gone, not only out of sight.
function placeOfFocus(body) {
  const tr = body.contains(document.activeElement) && document.activeElement.closest("tr");
  if (!tr) return () => {};
  const controls = (row) => [...row.querySelectorAll("a, button, input")];
  const position = controls(tr).indexOf(document.activeElement);
  return (drawn, isListed) => {
    const row = drawn.get(tr.dataset.key)?.tr;
    if (row) controls(row)[position]?.focus();
    else if (!isListed(tr.dataset.key)) document.querySelector("h1").focus();
  };
}
