// Verification of environments, and the repair of those that it finds broken.

import { isGone, meaning, post } from "./api.js";
import { badge, gated } from "./controls.js";
import { h } from "./dom.js";
import { keyText } from "./format.js";
import { count, t, translations, wording } from "./i18n.js";
import { errorNotice, goneNotice, notice, partialNotice } from "./notices.js";
import { forEach, inSteps } from "./steps.js";

// What a route of the body takes: the engine of those without one is an empty text there.
function bodyOf(entry, options) {
  const { model_engine: _, ...named } = meaning(entry);
  return { ...named, model_engine: entry.model_engine ?? null, ...options };
}

// Open the dialog that verifies environments; `onDone` hears when something may have changed.
export function verification(entries, onDone) {
  const hashes = h("input", { id: "verify-hashes", type: "checkbox" });
  const create = (made) => gated(made, "create");
  inSteps({
    title: count("verify.title", entries.length),
    onError: onDone,
    first: {
      busy: "",
      work: async () => ({
        parts: [
          h("p", {}, t("verify.plan")),
          h("label", { class: "check" }, hashes, t("verify.hashes")),
          h("ul", {}, ...entries.map((each) => h("li", {}, called(each)))),
        ],
        choices: [{ text: t("verify.start"), kind: "primary", scope: create, step: looking() }],
        keep: t("dialog.close"),
      }),
    },
  });

  // A route's body names no engine for "those without one": what else matches is left out.
  const isMeant = (found, entry) =>
    found.worker_address === entry.worker_address && found.path === entry.path;

  async function ask(those, options, say) {
    const answers = await forEach(
      those,
      (each) => post("virtualenvs/verify", bodyOf(each, options)).catch((error) => ({ error })),
      (done, of) => of > 1 && say(t("change.progress", { done, of })),
    );
    const found = answers.map(
      (each, place) => each.list?.find((one) => isMeant(one, those[place])) ?? null,
    );
    // Those that match nothing, though all answered, are not there any more.
    const isAbsent = ({ error, unreachable, complete }, place) =>
      error
        ? isGone(error, those[place].worker_address)
        : !found[place] && complete && !unreachable.length;
    const absent = those.filter((_, place) => isAbsent(answers[place], place));
    return {
      found,
      notices: [
        goneNotice(absent.map(called), those.length),
        ...noticesOf(answers.filter((each, place) => !isAbsent(each, place))),
      ],
    };
  }

  function looking() {
    return {
      busy: t("verify.looking"),
      work: async (say) => {
        const { notices, found } = await ask(entries, { hashes: hashes.checked }, say);
        const broken = entries.filter((_, place) => found[place]?.faults?.length);
        onDone();
        return {
          parts: [
            ...notices,
            broken.length
              ? notice(
                  "bad",
                  h("p", { class: "strong" }, count("verify.broken", broken.length)),
                  h("p", {}, t("verify.repair.plan")),
                )
              : found.some(Boolean) && notice("good", h("p", {}, t("verify.whole"))),
            findings(found),
          ],
          choices: broken.length
            ? [
                {
                  text: count("verify.repair", broken.length),
                  kind: "primary",
                  scope: create,
                  step: repairing(broken),
                },
              ]
            : [],
          keep: t("dialog.close"),
        };
      },
    };
  }

  function repairing(broken) {
    return {
      busy: t("verify.repairing"),
      work: async (say) => {
        const { notices, found } = await ask(broken, { repair: true }, say);
        const repaired = found.filter((each) => each?.repaired).length;
        onDone();
        return {
          parts: [
            ...notices,
            notice(
              repaired === broken.length ? "good" : "warn",
              h("p", { class: "strong" }, count("verify.repaired", repaired)),
            ),
            findings(found),
          ],
        };
      },
    };
  }
}

const called = (entry) => [keyText(entry), " · ", h("code", {}, entry.worker_address)];

function noticesOf(answers) {
  return answers.flatMap((each) => (each.error ? [errorNotice(each.error)] : partialNotice(each)));
}

function findings(found) {
  return h(
    "ul",
    { class: "findings" },
    ...found.filter(Boolean).map((each) =>
      h(
        "li",
        {},
        h("p", {}, badge(each.state), " ", called(each)),
        each.faults === null && h("p", { class: "hint" }, t("verify.not_looked_at")),
        each.faults?.length > 0 && h("ul", {}, ...translations(each, "faults").map((fault) => h("li", {}, fault))),
        each.additions?.length > 0 && h("p", {}, t("verify.additions")),
        each.additions?.length > 0 && h("ul", {}, ...each.additions.map((path) => h("li", {}, h("code", {}, path)))),
        each.repaired && h("p", {}, t("verify.was_repaired")),
        each.repaired === false &&
          h("p", { class: "holders" }, t("verify.not_repaired", { why: wording(each, "not_repaired") ?? "" })),
      ),
    ),
  );
}
