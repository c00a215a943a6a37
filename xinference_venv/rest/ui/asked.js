// What a launch asked for, in words: each part that says something.

import { h } from "./dom.js";
import { t } from "./i18n.js";

// What the page calls a part of a launch; others have the name of the API.
const NAMES = {
  model_engine: "column.engine",
  model_format: "launch.format",
  python_version: "launch.python",
  model_size_in_billions: "option.size",
  quantization: "option.quantization",
  virtual_env_packages: "launch.packages",
  "virtualenv.packages": "launch.packages",
  virtual_env_find_links: "launch.links",
  enable_virtual_env: "launch.toggle",
  inherit: "option.inherit",
  view: "option.view",
  constraints: "option.constraints",
  overrides: "option.overrides",
  exclude: "option.exclude",
  build_constraints: "option.build_constraints",
  must_import: "option.must_import",
  import_check: "option.import_check",
  refresh: "option.refresh",
  any_engine: "option.any_engine",
  no_proof: "asked.no_proof",
};
const LEFT_OUT = new Set(["version", "model_name", "restricted", "virtualenv.inherit_pip_config"]);

// Of a job: its `launch` is null where it was not kept, `asked_by` where it is not known.
export function askedFor({ launch, asked_by: by, background }) {
  const who = by && h("p", {}, t("asked.by", { who: by }));
  return h("div", { class: "asked" }, who, background && h("p", {}, t("asked.background")), partsOf(launch));
}

function partsOf(launch) {
  if (!launch) return h("p", { class: "hint" }, t("asked.not_kept"));
  const { virtualenv, ...rest } = launch;
  const block = Object.entries(virtualenv ?? {}).map(([name, each]) => [`virtualenv.${name}`, each]);
  const parts = [...Object.entries(rest), ...block].filter(
    ([name, value]) => !LEFT_OUT.has(name) && saysSomething(name, value),
  );
  if (!parts.length) return h("p", { class: "hint" }, t("asked.nothing"));
  return h(
    "dl",
    { class: "facts" },
    ...parts.map(([name, value]) =>
      h(
        "div",
        { class: Array.isArray(value) ? "long" : null },
        h("dt", {}, name in NAMES ? t(NAMES[name]) : h("code", {}, name)),
        h("dd", {}, inWords(value)),
      ),
    ),
  );
}

// False says something where nothing would mean "as configured".
const saysSomething = (name, value) => {
  if (Array.isArray(value)) return value.length > 0;
  return name === "enable_virtual_env" ? value !== null : Boolean(value);
};

function inWords(value) {
  if (Array.isArray(value)) return value.map((each) => [h("code", {}, String(each)), " "]);
  if (value === true) return t("launch.toggle.on");
  if (value === false) return t("launch.toggle.off");
  return String(value);
}
