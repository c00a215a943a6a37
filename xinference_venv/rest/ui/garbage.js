// The collection of garbage: what would go, then what went, on one worker or on all.

import { post } from "./api.js";
import { field, gated } from "./controls.js";
import { h } from "./dom.js";
import { keyText, size } from "./format.js";
import { count, t, wording } from "./i18n.js";
import { notice, partialNotice, words } from "./notices.js";
import { inSteps } from "./steps.js";
import { knownWorkers } from "./workers.js";

const GIB = 2 ** 30;
const DAY = 86400;

// Open the dialog; `onDone` hears when something may have gone.
export function collectGarbage(onDone) {
  const number = (id) => h("input", { id, type: "number", min: "0", step: "any" });
  const worker = h(
    "select",
    { id: "gc-worker" },
    h("option", { value: "" }, t("filter.all")),
    ...knownWorkers().map((each) => h("option", { value: each.worker_address }, each.worker_address)),
  );
  const most = number("gc-most");
  const unused = number("gc-unused");
  const prune = h("input", { id: "gc-prune", type: "checkbox" });
  const remove = (made) => gated(made, "delete");

  function bodyOf(dry_run) {
    const body = { dry_run, prune_uv_cache: prune.checked };
    if (worker.value) body.worker_ip = worker.value;
    if (most.value) body.max_bytes = Math.round(Number(most.value) * GIB);
    if (unused.value) body.older_than = Number(unused.value) * DAY;
    return body;
  }

  const asking = {
    busy: "",
    work: async () => ({
      parts: [
        h("p", {}, t("gc.lead")),
        h(
          "div",
          { class: "options-grid" },
          field(t("gc.where"), worker),
          field(t("gc.most"), most, { hint: t("gc.most.hint") }),
          field(t("gc.unused"), unused, { hint: t("gc.unused.hint") }),
        ),
        h("label", { class: "check" }, prune, t("gc.prune")),
      ],
      choices: [{ text: t("gc.plan"), kind: "primary", scope: remove, step: planning() }],
      keep: t("dialog.close"),
    }),
  };

  function planning() {
    return {
      busy: t("gc.planning"),
      work: async () => {
        const answer = await post("virtualenvs/gc", bodyOf(true));
        const freed = freedBy(answer);
        const isNothing = !prune.checked && answer.list.every(goesNowhere);
        return {
          parts: [
            partialNotice(answer),
            notice(
              "info",
              h("p", { class: "strong" }, isNothing ? t("gc.none") : t("gc.would", { size: size(freed) })),
            ),
            prune.checked && h("p", { class: "hint" }, t("gc.prune.plan")),
            ...answer.list.map(reportOf),
          ],
          choices: [
            { text: t("gc.change"), kind: "quiet", step: asking },
            !isNothing && {
              text: t("gc.apply"),
              glyph: "remove",
              kind: "danger solid",
              scope: remove,
              step: collecting(),
            },
          ].filter(Boolean),
          keep: isNothing ? t("dialog.close") : t("gc.keep"),
        };
      },
    };
  }

  function collecting() {
    return {
      busy: t("gc.collecting"),
      work: async () => {
        const answer = await post("virtualenvs/gc", bodyOf(false));
        onDone();
        const done = t("gc.done", { size: size(freedBy(answer)) });
        return {
          parts: [
            partialNotice(answer),
            notice("good", h("p", { class: "strong" }, done)),
            ...answer.list.map(reportOf),
          ],
        };
      },
    };
  }

  inSteps({ title: t("gc.title"), first: asking, onError: onDone });
}

const freedBy = (answer) =>
  answer.list.reduce((sum, each) => sum + each.freed_bytes + each.uv_cache.pruned_bytes, 0);

const goesNowhere = (report) => !report.evict.length && !report.unneeded.length;

const namesOf = (usage) => usage.keys.map(keyText).join("; ") || t("disk.unneeded");

function reportOf(report) {
  const lists = [
    [
      t("gc.evict"),
      report.evict.map((each) => `${namesOf(each)} · ${size(each.freed_bytes)}`),
      "",
    ],
    [t("gc.unneeded"), report.unneeded.map((each) => `${each.path} · ${size(each.size_bytes)}`), ""],
    [t("gc.skipped"), report.skipped.map((each) => `${namesOf(each)}: ${wording(each, "why")}`), "refuse"],
    [t("gc.in_use"), report.in_use.map(namesOf), "refuse"],
  ].filter(([, items]) => items.length);
  return h(
    "section",
    { class: "plan" },
    h("h3", {}, h("code", {}, report.worker_address), ` · ${size(report.freed_bytes)}`),
    lists.length === 0 && h("p", { class: "hint" }, t("gc.nothing")),
    ...lists.map(([title, items, kind]) =>
      h(
        "details",
        { open: items.length < 20 },
        h("summary", { class: kind }, `${title} (${count("gc.items", items.length)})`),
        h("ul", {}, ...items.map((each) => h("li", { class: "words" }, each))),
      ),
    ),
    report.uv_cache.pruned_bytes > 0 &&
      h("p", {}, t("gc.pruned", { size: size(report.uv_cache.pruned_bytes) })),
    report.uv_cache.error && notice("warn", h("p", {}, words(report.uv_cache.error))),
  );
}
