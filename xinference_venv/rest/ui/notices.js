// What went wrong, or is not known: errors of the API, and answers of a part of the workers.

import { h, icon } from "./dom.js";
import { age } from "./format.js";
import { count, language, listed, t, translation, translations, wording } from "./i18n.js";
import { badge } from "./controls.js";

// So many are named of what may be hundreds.
const FEW = 8;
const GLYPHS = { good: "check", info: "info", warn: "warning", bad: "warning" };

// What is shown above the view: `kind` is good, info, warn or bad.
export function notice(kind, ...children) {
  return h("div", { class: `notice ${kind}` }, icon(GLYPHS[kind]), h("div", {}, ...children));
}

// An error with what to do about it, and uv's output; `workers` are those that have it.
export function errorNotice(error, workers = []) {
  const details = error.details ?? {};
  // The workers that there are: none.
  if (error.code === "not_found" && details.workers?.length === 0) return noWorkerNotice();
  const where = [
    workers.length ? null : (details.worker_address ?? details.host),
    details.phase && t("error.phase", { phase: t(`state.${details.phase}`) }),
  ];
  const message = error.message && words(error);
  const output = Array.isArray(details.output) ? details.output.join("\n") : details.output;
  return notice(
    "bad",
    h(
      "p",
      { class: "strong" },
      errorTitle(error),
    ),
    message && h("p", { class: "words" }, message),
    details.known && h("p", { class: "hint" }, t("error.known", { names: listed(details.known) })),
    hintOf(error) && h("p", { class: "hint" }, hintOf(error)),
    workers.length > 0 &&
      h("p", { class: "hint" }, count("error.workers", workers.length), " ", listed(workers)),
    where.some(Boolean) && h("p", { class: "hint" }, where.filter(Boolean).join(" · ")),
    (details.command || output) && uvOutput(details, output),
    Array.isArray(details.workers) && details.workers.map(workerError),
  );
}

// Without a worker there is nothing to show, and one thing to do.
export function noWorkerNotice() {
  return notice(
    "info",
    h("p", { class: "strong" }, t("workers.none")),
    h("p", {}, t("workers.start")),
    h("pre", { tabindex: "0" }, "xinference-venv worker --supervisor HOST:PORT --host ADDRESS"),
  );
}

// What the server says of an error, marked as English where the page has no translation of it.
export function words(error) {
  if (error.details?.scope) return t("access.lacks", { scope: error.details.scope });
  // Its title says it all.
  if (error.code === "unauthorized") return null;
  const own = translation(error.details ?? {}, "message");
  return own ?? h("span", { lang: "en" }, error.message);
}

// The same as a text; in another language than the server's at least the name of the error.
export function errorText(error) {
  const own = translation(error.details ?? {}, "message");
  return own ?? (language === "en" ? error.message : errorTitle(error));
}

// What to do about it: as the server says, unless that has no translation or is the command line's
// way; then what is done about all errors of its kind.
const COMMANDS = /(^|\s)--[a-z]|xinference-venv |force=true/;
export function hintOf(error) {
  if (isOfSupervisor(error)) return t("hint.supervisor");
  const hint = error.details?.hint;
  const theirs = translation(error.details ?? {}, "hint");
  if (theirs && !COMMANDS.test(theirs)) return theirs;
  const own = t(`hint.${error.code}`);
  if (own !== `hint.${error.code}`) return own;
  return hint && !COMMANDS.test(hint) ? h("span", { lang: "en" }, hint) : null;
}

// Warnings of a launch, or of what it would do.
export const warningNotices = (record) =>
  translations(record, "warnings").map((each) => notice("warn", h("p", {}, each)));

// Whether it is the supervisor that does not answer, by how the error names it: then nothing of
// the cluster is known.
function isOfSupervisor(error) {
  const { what } = error.details?.texts?.message?.values ?? {};
  return error.code === "worker_unavailable" && what?.id?.startsWith("the supervisor ") === true;
}

// What an error is called, in the language of the page.
export function errorTitle(error) {
  if (isOfSupervisor(error)) return t("error.supervisor");
  const title = t(`error.${error.code}`);
  return title === `error.${error.code}` ? t("error.error") : title;
}

function uvOutput(details, output) {
  const command = Array.isArray(details.command) ? details.command.join(" ") : details.command;
  const status =
    details.exit_status === undefined
      ? ""
      : ` (${t("error.status", { status: details.exit_status })})`;
  return h(
    "details",
    { open: true },
    h("summary", {}, t("error.uv") + status),
    h("pre", { tabindex: "0" }, [command && `$ ${command}`, output].filter(Boolean).join("\n")),
  );
}

function workerError(each) {
  if (!each.error) return null;
  return h("p", { class: "words" }, h("code", {}, each.worker_address), ": ", words(each.error));
}

// What was to be changed, of so many, and is not there any more; `what` are the names of it.
export function goneNotice(what, of) {
  if (!what.length) return null;
  return notice(
    "info",
    h("p", { class: "strong" }, of === 1 ? t("gone.one_of_one") : count("gone", what.length, { of })),
    of > 1 && h("ul", {}, ...what.map((each) => h("li", {}, each))),
    h("p", {}, t("gone.why")),
  );
}

// Who is missing in an answer gathered of several workers; nothing when it is whole.
export function partialNotice(answer) {
  const notices = [];
  if (answer.unreachable?.length) {
    notices.push(
      notice(
        "warn",
        h("p", { class: "strong" }, count("partial.unreachable", answer.unreachable.length)),
        h("ul", {}, ...answer.unreachable.map(unreachable)),
        h("p", {}, t("partial.next"), " ", h("a", { href: "#/workers" }, t("view.workers"))),
      ),
    );
  }
  // Who is gone for longer is not asked any more; what it has is missing all the same.
  if (answer.gone?.length) {
    notices.push(
      notice(
        "warn",
        h("p", { class: "strong" }, count("partial.gone", answer.gone.length)),
        h("p", {}, listed(answer.gone.slice(0, FEW).map((each) => each.worker_address))),
        h("a", { href: "#/workers" }, t("view.workers")),
      ),
    );
  }
  if (answer.complete === false) notices.push(notice("warn", h("p", {}, t("partial.early"))));
  return notices;
}

function unreachable(worker) {
  const heard =
    worker.snapshot_age === null
      ? ""
      : ` · ${t("worker.heard", { age: age(worker.snapshot_age) })}`;
  return h(
    "li",
    {},
    h("code", {}, worker.worker_address),
    " ",
    badge(worker.state),
    h("span", { class: "age" }, heard),
    " · ",
    h("span", { title: errorText(worker.error) }, errorTitle(worker.error)),
  );
}

// Models whose replicas were not built from one lock.
export function differingNotice(differing) {
  return differing.map((each) =>
    notice(
      "info",
      h("p", { class: "strong" }, t("differing.title", { model: each.model_name })),
      h(
        "ul",
        {},
        ...Object.entries(each.locks).map(([digest, workers]) =>
          h("li", {}, h("code", {}, digest.slice(0, 12)), `: ${listed(workers)}`),
        ),
      ),
    ),
  );
}

// Files and folders of stores that could not be visited.
export function skippedNotice(skipped) {
  if (!skipped?.length) {
    return [];
  }
  return [
    notice(
      "info",
      h("p", { class: "strong" }, t("skipped.title")),
      h(
        "ul",
        {},
        ...skipped.map((each) =>
          h("li", {}, h("code", {}, each.path), `: ${wording(each, "reason")} (${each.worker_address})`),
        ),
      ),
    ),
  ];
}

// Where notices stand: they are replaced only when they say something else, so that nothing
// jumps and a screen reader hears each once.
export function noticeBoard() {
  const element = h("div", { class: "notices", role: "status" });
  let shown = "";
  return {
    element,
    show(...notices) {
      const all = notices.flat(Infinity).filter(Boolean);
      const text = all.map(textOf).join("\n");
      if (text === shown) return;
      shown = text;
      element.replaceChildren(...all);
    },
  };
}

// What a notice says, without ages: these grow by themselves and are no news.
function textOf(shown) {
  const copy = shown.cloneNode(true);
  for (const each of copy.querySelectorAll(".age")) each.remove();
  return copy.textContent;
}
