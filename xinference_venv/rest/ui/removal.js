// Removal: the plan first, refusals with who uses what, force as a second choice.

import { drop, isGone, meaning } from "./api.js";
import { h } from "./dom.js";
import { holders, keyText, size } from "./format.js";
import { count, t } from "./i18n.js";
import { errorNotice, goneNotice, notice, partialNotice } from "./notices.js";
import { forEach, inSteps } from "./steps.js";

const PARTS = ["remove", "unlink", "refuse"];

// Open the dialog that removes environments; `onRemoved` hears when something may have gone.
export function removal(entries, onRemoved) {
  const title =
    entries.length === 1
      ? t("remove.title", { name: keyText(entries[0]) })
      : count("remove.title.many", entries.length);
  inSteps({ title, first: planning(entries, false), onError: onRemoved });

  // Ask for the removal of each; what is not there any more is listed apart.
  async function ask(those, options, say) {
    const asked = await forEach(
      those,
      (each) =>
        drop("virtualenvs", { ...meaning(each), ...options }).catch((error) => ({ error })),
      (done, of) => of > 1 && say(t("change.progress", { done, of })),
    );
    const isAbsent = (place) =>
      asked[place].error !== undefined && isGone(asked[place].error, those[place].worker_address);
    return {
      there: those.filter((_, place) => !isAbsent(place)),
      answers: asked.filter((_, place) => !isAbsent(place)),
      absent: goneNotice(those.filter((_, place) => isAbsent(place)).map(keyText), those.length),
    };
  }

  function planning(those, force) {
    return {
      busy: t("remove.planning"),
      work: async (say) => {
        const { there, answers, absent } = await ask(those, { dry_run: true, force }, say);
        const failed = answers.find((each) => each.error);
        if (failed) throw failed.error;
        if (absent) onRemoved();
        if (!there.length) return { parts: [absent], keep: t("dialog.close") };
        planTogether(there, answers, force);
        const reports = answers.flatMap((each) => each.list);
        const refused = reports.some((each) => each.refuse.length);
        const free = there.filter((_, place) =>
          answers[place].list.every((each) => !each.refuse.length),
        );
        const insist = { text: t("remove.insist"), step: planning(there, true) };
        return {
          parts: [
            absent,
            ...noticesOf(answers),
            refused &&
              notice(
                "warn",
                h(
                  "p",
                  { class: "strong" },
                  free.length
                    ? count("remove.refused", there.length - free.length, { of: there.length })
                    : t("remove.refused"),
                ),
                h("p", {}, t("remove.ways")),
              ),
            force && notice("warn", h("p", {}, t("remove.forced"))),
            ...planned(reports),
          ],
          choices: [
            refused && insist,
            refused &&
              free.length > 0 && {
                text: count("remove.free", free.length),
                glyph: "remove",
                kind: "danger solid",
                step: removing(free, false),
              },
            !refused && {
              text: t(force ? "remove.force" : "remove.apply"),
              glyph: "remove",
              kind: "danger solid",
              step: removing(there, force),
            },
          ].filter(Boolean),
          keep: t("remove.keep"),
        };
      },
    };
  }

  // Each is planned by itself, as if the others stayed: files do not stay for what goes as well, and
  // an environment in use that some of them share would lose its last name with them, which only
  // force does.
  function planTogether(those, answers, force) {
    const nameOf = (key, worker) => `${keyText(key)} ${worker}`;
    const chosen = new Set(those.map((each) => nameOf(each, each.worker_address)));
    for (const report of answers.flatMap((each) => each.list)) {
      const stays = (key) => !chosen.has(nameOf(key, report.worker_address));
      const isLast = (entry) => !force && !entry.shared_with.some(stays);
      const left = (entry) => ({ ...entry, shared_with: entry.shared_with.filter(stays) });
      report.refuse.push(...report.unlink.filter(isLast).map((each) => ({ ...each, last: true })));
      report.unlink = report.unlink.filter((each) => !isLast(each)).map(left);
      report.remove = report.remove.map(left);
    }
  }

  function removing(those, force) {
    return {
      busy: t("remove.removing"),
      work: async (say) => {
        const { there, answers, absent } = await ask(those, { force }, say);
        onRemoved();
        const well = answers.filter((each) => !each.error);
        const errors = answers.filter((each) => each.error).map((each) => each.error);
        const done = well.flatMap((each) => each.list.flatMap((report) => report.done));
        const refused = errors
          .flatMap((each) => each.details.reports ?? [])
          .filter((report) => report.refuse.length);
        return {
          parts: [
            absent,
            ...noticesOf(well),
            ...errors.map((each) => errorNotice(each)),
            well.length > 0 &&
              notice(
                well.every((each) => each.result) ? "info" : "warn",
                h("p", { class: "strong" }, count("remove.done", done.length)),
              ),
            h(
              "ul",
              {},
              ...done.map((each) => h("li", {}, `${keyText(each)} — `, h("code", {}, each.path))),
            ),
            ...planned(refused),
          ],
          choices: refused.length
            ? [
                {
                  text: t("remove.insist"),
                  step: planning(
                    there.filter((_, place) => answers[place].error),
                    true,
                  ),
                },
              ]
            : [],
        };
      },
    };
  }
}

// The workers that did not answer, each once.
function noticesOf(answers) {
  const known = new Map();
  for (const each of answers.flatMap((answer) => answer.unreachable ?? []))
    known.set(each.worker_address, each);
  const complete = answers.every((each) => each.complete !== false);
  return partialNotice({ unreachable: [...known.values()], complete });
}

// What the workers would remove, unlink and refuse.
function planned(reports) {
  const workers = new Map();
  for (const report of reports) {
    const known = workers.get(report.worker_address) ?? { remove: [], unlink: [], refuse: [] };
    for (const part of PARTS) known[part].push(...report[part]);
    workers.set(report.worker_address, known);
  }
  return [...workers].sort().map(([address, report]) =>
    h(
      "section",
      { class: "plan" },
      h("h3", {}, h("code", {}, address)),
      ...PARTS.filter((part) => report[part].length).map((part) =>
        h(
          "div",
          {},
          h("h4", { class: part }, t(`remove.part.${part}`)),
          h("ul", {}, ...report[part].map(entryLine)),
        ),
      ),
    ),
  );
}

function entryLine(entry) {
  const says = entry.last ? "remove.last" : "remove.shared";
  const shared = entry.shared_with.length
    ? ` · ${t(says, { names: entry.shared_with.map(keyText).join(", ") })}`
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
