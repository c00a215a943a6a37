// The models of the catalogue: what each brings, and the way to launch it.

import { get } from "./api.js";
import { button, filterBar, gated } from "./controls.js";
import { h, setText } from "./dom.js";
import { count, t } from "./i18n.js";
import { noteInAddress } from "./links.js";
import { errorNotice, notice, noticeBoard } from "./notices.js";
import { prefetchModels } from "./prefetch.js";
import { noMatch, table } from "./table.js";

// What the API says of a model that no file brings.
const BUILT_IN = "built-in";

// As Xinference's own page calls them; one of a later release is as the API says it.
function typeName(type) {
  const key = `models.type.${type.toLowerCase()}`;
  return t(key) === key ? type : t(key);
}

export async function showModels(place, values, signal) {
  const board = noticeBoard();
  const total = h("p", { class: "total", role: "status" });
  const search = h("input", {
    id: "filter-catalogue",
    type: "search",
    value: values.text ?? "",
    on: { input: () => find() },
  });
  let all = [];
  const chosen = new Map();
  const actions = h("div", {
    class: "toolbar chosen",
    role: "group",
    "aria-label": t("select.actions"),
    hidden: true,
  });
  const text = (each) =>
    [each.model_name, each.model_type, each.description, ...each.engines, ...each.formats]
      .join(" ")
      .toLowerCase();
  const shown = table({
    label: t("view.models"),
    keyOf: (each) => each.model_name,
    sort: values.sort ?? "model",
    onSort: (order) => noteInAddress({ sort: order }),
    empty: () => noMatch(search, find),
    selection: { chosen, nameOf: (each) => each.model_name, onChange: drawChosen },
    columns: [
      {
        key: "model",
        title: t("column.model"),
        value: (each) => each.model_name,
        cell: (each) => h("span", { class: "strong name", title: each.description }, each.model_name),
      },
      {
        key: "type",
        title: t("models.type"),
        value: (each) => each.model_type,
        cell: (each) => (each.model_type ? typeName(each.model_type) : "–"),
      },
      {
        key: "engines",
        title: t("models.engines"),
        value: (each) => each.engines.join(", "),
        cell: (each) => each.engines.join(", ") || "–",
      },
      {
        key: "packages",
        title: t("environment.packages"),
        value: (each) => each.packages.length,
        cell: (each) =>
          each.packages.length
            ? h(
                "span",
                { title: each.packages.join("\n") },
                count("packages", each.packages.length),
              )
            : "–",
      },
      {
        key: "origin",
        title: t("models.origin"),
        value: (each) => each.origin,
        cell: (each) => (each.origin === BUILT_IN ? t("models.built_in") : h("code", {}, each.origin)),
      },
      {
        key: "actions",
        title: t("column.actions"),
        kind: "actions",
        cell: (each) =>
          h(
            "a",
            {
              class: "button quiet small",
              href: `#/launch?${new URLSearchParams({ model: each.model_name })}`,
              "aria-label": t("models.launch", { name: each.model_name }),
            },
            t("view.launch"),
          ),
      },
    ],
  });

  function find() {
    noteInAddress({ text: search.value.trim() });
    draw();
  }

  function draw() {
    const words = search.value.trim().toLowerCase().split(/\s+/);
    const found = all.filter((each) => words.every((word) => text(each).includes(word)));
    shown.show(found);
    setText(total, count("models.total", found.length, { of: all.length }));
  }

  function drawChosen() {
    actions.hidden = !chosen.size;
    const those = [...chosen.values()];
    actions.replaceChildren(
      h("strong", { role: "status" }, count("select.chosen", those.length)),
      gated(
        button({ text: t("prefetch.open"), kind: "quiet", onClick: () => prefetchModels(those) }),
        "create",
      ),
      button({
        text: t("select.none"),
        kind: "quiet",
        onClick: () => (chosen.clear(), drawChosen(), draw()),
      }),
    );
  }

  async function read() {
    try {
      all = (await get("models", {}, signal)).list;
      board.show();
      draw();
    } catch (error) {
      if (error.name === "AbortError") return;
      shown.fail();
      const again = button({ text: t("launch.catalogue.again"), kind: "quiet small", onClick: read });
      board.show(errorNotice(error), notice("info", again));
    }
  }

  place.append(
    h("p", { class: "lead" }, t("models.lead")),
    filterBar(h("label", {}, t("filter.text"), search), total),
    board.element,
    actions,
    shown.element,
  );
  await read();
}
