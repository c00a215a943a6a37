// Removal: the plan first, refusals with who uses what, force as a second choice.

import { drop, meaning } from "./api.js";
import { button } from "./controls.js";
import { open } from "./dialog.js";
import { announce, h } from "./dom.js";
import { holders, keyText, size } from "./format.js";
import { count, t } from "./i18n.js";
import { errorNotice, notice, partialNotice } from "./notices.js";

const PARTS = ["remove", "unlink", "refuse"];

// Open the dialog that removes an environment; `onRemoved` hears when something may have gone.
export function removal(entry, onRemoved) {
  const dialog = open({ title: t("remove.title", { name: keyText(entry) }), wide: true });
  const wanted = meaning(entry);
  const cancel = button({ text: t("remove.keep"), kind: "quiet", onClick: dialog.close });

  async function plan(force) {
    show([h("p", { class: "busy" }, t("remove.planning"))], [cancel]);
    try {
      const answer = await drop("virtualenvs", { ...wanted, dry_run: true, force });
      const refused = answer.list.some((report) => report.refuse.length);
      const apply = button({
        text: t(force ? "remove.force" : "remove.apply"),
        glyph: "remove",
        kind: "danger solid",
        onClick: () => remove(force),
      });
      const insist = button({
        text: t("remove.insist"),
        kind: "danger",
        onClick: () => plan(true),
      });
      show(
        [
          partialNotice(answer),
          refused &&
            notice(
              "warn",
              h("p", { class: "strong" }, t("remove.refused")),
              h("p", {}, t("remove.ways")),
            ),
          force && notice("warn", h("p", {}, t("remove.forced"))),
          ...answer.list.map(planned),
        ],
        refused ? [insist, cancel] : [apply, cancel],
      );
    } catch (error) {
      show([errorNotice(error)], [cancel]);
    }
  }

  async function remove(force) {
    show([h("p", { class: "busy" }, t("remove.removing"))], []);
    const shut = button({ text: t("dialog.done"), kind: "primary", onClick: dialog.close });
    try {
      const answer = await drop("virtualenvs", { ...wanted, force });
      const done = answer.list.flatMap((report) => report.done);
      announce(count("remove.done", done.length));
      show(
        [
          partialNotice(answer),
          notice(
            answer.result ? "info" : "warn",
            h("p", { class: "strong" }, count("remove.done", done.length)),
          ),
          h(
            "ul",
            {},
            ...done.map((each) => h("li", {}, `${keyText(each)} — `, h("code", {}, each.path))),
          ),
        ],
        [shut],
      );
    } catch (error) {
      const refused = (error.details.reports ?? []).filter((report) => report.refuse.length);
      const insist = button({
        text: t("remove.insist"),
        kind: "danger",
        onClick: () => plan(true),
      });
      show([errorNotice(error), ...refused.map(planned)], refused.length ? [insist, shut] : [shut]);
    }
    onRemoved();
  }

  function show(parts, buttons) {
    dialog.body.replaceChildren(...parts.flat(Infinity).filter(Boolean));
    dialog.foot.replaceChildren(...buttons);
    // What had the focus may be gone; the first choice is never the one that removes.
    (buttons.at(-1) ?? dialog.element.querySelector("h2")).focus();
  }

  plan(false);
}

// What a worker would remove, unlink and refuse.
function planned(report) {
  return h(
    "section",
    { class: "plan" },
    h("h3", {}, h("code", {}, report.worker_address)),
    ...PARTS.filter((part) => report[part].length).map((part) =>
      h(
        "div",
        {},
        h("h4", { class: part }, t(`remove.part.${part}`)),
        h("ul", {}, ...report[part].map(entryLine)),
      ),
    ),
  );
}

function entryLine(entry) {
  const shared = entry.shared_with.length
    ? ` · ${t("remove.shared", { names: entry.shared_with.map(keyText).join(", ") })}`
    : "";
  return h(
    "li",
    {},
    h("p", {}, h("strong", {}, keyText(entry)), ` · ${size(entry.size_bytes)}${shared}`),
    h("p", {}, h("code", {}, entry.path)),
    holders(entry).length > 0 &&
      h("p", { class: "holders" }, t("remove.holders", { holders: holders(entry).join("; ") })),
  );
}
