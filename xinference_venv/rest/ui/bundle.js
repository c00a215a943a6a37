// An environment as one file: the commands that write it and make it elsewhere. A browser would
// hold gigabytes in memory, so that these are the command line's.

import { copyButton } from "./controls.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";

const SUPERVISOR = "--supervisor HOST:PORT";

// The part of the page of an environment that says how it is carried to where no index is.
export function bundleCommands(entry) {
  const file = `${entry.model_name}.tar`;
  const options = [
    entry.model_engine && `--engine ${quoted(entry.model_engine)}`,
    `--python-version ${entry.python_version}`,
    `--worker ${entry.worker_address}`,
    SUPERVISOR,
  ].filter(Boolean);
  const name = quoted(entry.model_name);
  return h(
    "details",
    { class: "more" },
    h("summary", {}, t("bundle.title")),
    h("p", {}, t("bundle.lead")),
    command(
      t("bundle.export"),
      `xinference-venv export ${name} ${quoted(file)} ${options.join(" ")}`,
    ),
    command(t("bundle.import"), `xinference-venv import ${quoted(file)} ${SUPERVISOR}`),
  );
}

function command(what, text) {
  return h(
    "div",
    { class: "command" },
    h("p", { class: "hint" }, what),
    h("pre", { role: "group", tabindex: "0", "aria-label": what }, text),
    copyButton(text, what),
  );
}

// As a POSIX shell takes it.
const quoted = (text) =>
  /^[\w.@%+:,/-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
