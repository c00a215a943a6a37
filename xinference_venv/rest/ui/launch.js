// The launch form: what is asked for, where, what it would do, and the launch itself.

import { get, post } from "./api.js";
import { button, choices, field, gated, badge } from "./controls.js";
import { h } from "./dom.js";
import { listed, t } from "./i18n.js";
import { linkToJob } from "./jobs.js";
import { errorNotice, notice, noticeBoard } from "./notices.js";
import { readFolder, readRequirement, requirementsField } from "./requirements.js";
import { explanation } from "./tree.js";
import { onWorkers } from "./workers.js";

// Those that the built-in catalogue knows; of a model that names its own, these are offered.
const ENGINES = [
  "diffusers",
  "llama.cpp",
  "mlx",
  "sentence_transformers",
  "sglang",
  "transformers",
  "trt-llm",
  "vllm",
];
const FORMATS = ["pytorch", "awq", "bnb", "fp8", "ggufv2", "gptq", "mlx"];
const PYTHONS = ["3.10", "3.11", "3.12", "3.13"];
const TOGGLE = { configured: null, on: true, off: false };
const PLACES = ["any", "named", "everywhere"];

// What was filled in stays while the page is open, through other views and languages.
const draft = {
  model: "",
  engine: "",
  format: "",
  python: "",
  toggle: "configured",
  packages: [],
  links: [],
  where: "any",
  workers: new Set(),
};

// The launch as the API takes it; `known` are the models of the catalogue, by name.
function bodyOf(wanted, known) {
  const body = { model_name: wanted.model.trim() };
  for (const [name, value] of Object.entries({
    model_engine: wanted.engine,
    model_format: wanted.format,
    python_version: wanted.python,
  })) {
    if (value.trim()) body[name] = value.trim();
  }
  const enabled = TOGGLE[wanted.toggle];
  if (enabled !== null) body.enable_virtual_env = enabled;
  // Of a model that the catalogue does not have, what is given is all there is.
  if (known.has(body.model_name)) body.virtual_env_packages = wanted.packages;
  else body.virtualenv = { packages: wanted.packages };
  if (wanted.links.length) body.virtual_env_find_links = wanted.links;
  return body;
}

function placeOf(wanted) {
  if (wanted.where === "everywhere") return { everywhere: true };
  return wanted.where === "named" ? { workers: [...wanted.workers] } : {};
}

export function showLaunch(place, values, signal) {
  if (values.model) draft.model = values.model;
  if (values.engine) draft.engine = values.engine;
  const board = noticeBoard();
  const outcome = h("div", { class: "outcome", id: "plan" });
  const about = h("p", { class: "hint", id: "model-hint" });
  const models = choices("models", []);
  const engines = choices("engines", ENGINES);
  const formats = choices("formats", FORMATS);
  let known = new Map();

  const text = (name, more = {}) => {
    const input = h("input", {
      id: `launch-${name}`,
      autocomplete: "off",
      spellcheck: "false",
      ...more,
      value: draft[name],
    });
    input.addEventListener("input", () => {
      draft[name] = input.value;
      if (name === "model") describe();
    });
    return input;
  };
  const packages = requirementsField({
    id: "launch-packages",
    label: t("launch.packages"),
    hint: t("launch.packages.hint"),
    placeholder: "transformers>=4.53",
    values: draft.packages,
    check: readRequirement,
  });
  const links = requirementsField({
    id: "launch-links",
    label: t("launch.links"),
    hint: t("launch.links.hint"),
    placeholder: "/srv/wheels",
    values: draft.links,
    check: readFolder,
  });
  const workers = h("div", { class: "options", role: "group", "aria-label": t("column.workers") });

  function describe() {
    const model = known.get(draft.model.trim());
    offer(engines, model?.engines?.length ? model.engines : ENGINES);
    offer(formats, model?.formats?.length ? model.formats : FORMATS);
    const packages =
      model && (model.packages.length ? listed(model.packages) : t("launch.model.bare"));
    if (!draft.model.trim()) about.textContent = t("launch.model.hint");
    else
      about.textContent = model
        ? `${model.description ?? ""} ${t("launch.model.known", { packages })}`.trim()
        : t("launch.model.new");
  }

  function drawWorkers(all) {
    const shown = all.map((each) => {
      const box = h("input", {
        type: "checkbox",
        checked: draft.workers.has(each.worker_address),
        on: { change: () => choose(each.worker_address, box.checked) },
      });
      return h(
        "label",
        { class: "check" },
        box,
        h("code", {}, each.worker_address),
        ` ${each.host_name} `,
        badge(each.state),
      );
    });
    const states = JSON.stringify(all.map((each) => [each.worker_address, each.state]));
    if (workers.dataset.states === states) return;
    workers.dataset.states = states;
    workers.replaceChildren(...shown);
  }

  function choose(address, chosen) {
    if (chosen) draft.workers.add(address);
    else draft.workers.delete(address);
  }

  // Settle what was typed and not added, then do it with the form locked.
  async function act(work) {
    if (!form.reportValidity()) return;
    await catalogue;
    if (!(await packages.settled()) || !(await links.settled())) return;
    if (draft.where === "named" && !draft.workers.size) {
      board.show(notice("bad", h("p", {}, t("launch.where.none"))));
      return;
    }
    board.show();
    buttons.forEach((each) => (each.disabled = true));
    try {
      await work(bodyOf(draft, known));
    } catch (error) {
      outcome.replaceChildren();
      if (error.name !== "AbortError") board.show(errorNotice(error));
    }
    buttons.forEach((each) => gated(Object.assign(each, { disabled: false }), "create"));
  }

  async function plan(body) {
    outcome.replaceChildren(h("p", { class: "busy", role: "status" }, t("launch.planning")));
    const where = draft.where === "named" ? { worker_ip: [...draft.workers][0] } : {};
    drawPlan(outcome, await post("virtualenvs/plan", { ...body, ...where }, signal));
  }

  async function launch(body) {
    const { job_id: jobId } = await post("virtualenvs", { ...body, ...placeOf(draft) });
    location.hash = linkToJob(jobId, body.model_name);
  }

  const buttons = [
    gated(
      button({
        text: t("launch.start"),
        glyph: "launch",
        kind: "primary",
        type: "submit",
        id: "launch-start",
      }),
      "create",
    ),
    gated(
      button({
        text: t("launch.plan"),
        kind: "quiet",
        onClick: () => act(plan),
        id: "launch-plan",
      }),
      "create",
    ),
  ];
  const form = h(
    "form",
    {
      class: "form",
      on: {
        submit: (event) => {
          event.preventDefault();
          act(launch);
        },
      },
    },
    field(t("column.model"), text("model", { required: true, list: "models" }), { wide: true }),
    about,
    models,
    field(t("column.engine"), text("engine", { list: "engines" }), {
      hint: t("launch.engine.hint"),
    }),
    engines,
    field(t("launch.format"), text("format", { list: "formats" }), {
      hint: t("launch.format.hint"),
    }),
    formats,
    field(
      t("launch.python"),
      text("python", { list: "pythons", pattern: "3\\.[0-9]+(\\.[0-9]+)?" }),
      { hint: t("launch.python.hint") },
    ),
    choices("pythons", PYTHONS),
    radios("toggle", Object.keys(TOGGLE), () => {}),
    packages.element,
    links.element,
    radios("where", PLACES, (chosen) => (workers.hidden = chosen !== "named")),
    workers,
    h(
      "div",
      { class: "toolbar wide" },
      ...buttons,
      buttons[0].disabled && h("span", { class: "hint" }, buttons[0].title),
    ),
  );
  workers.hidden = draft.where !== "named";
  place.append(h("p", { class: "lead" }, t("launch.lead")), form, board.element, outcome);
  describe();
  onWorkers((all, error) => error || drawWorkers(all), signal);
  // What a name means depends on it.
  const catalogue = get("models", {}, signal).then(
    ({ list }) => {
      known = new Map(list.map((each) => [each.model_name, each]));
      models.append(...list.map((each) => h("option", { value: each.model_name })));
      describe();
    },
    (error) =>
      error.name === "AbortError" || error.code === "offline" || board.show(errorNotice(error)),
  );
}

// What a list of choices offers from now on.
function offer(list, values) {
  list.replaceChildren(...values.map((each) => h("option", { value: each })));
}

// One of several, for a name of the draft.
function radios(name, options, onChange) {
  const change = (value) => {
    draft[name] = value;
    onChange(value);
  };
  return h(
    "fieldset",
    { class: "field wide" },
    h("legend", {}, t(`launch.${name}`)),
    h(
      "div",
      { class: "segments" },
      ...options.map((each) =>
        h(
          "label",
          {},
          h("input", {
            type: "radio",
            name,
            value: each,
            checked: draft[name] === each,
            on: { change: () => change(each) },
          }),
          h("span", {}, t(`launch.${name}.${each}`)),
        ),
      ),
    ),
    h("p", { class: "hint" }, t(`launch.${name}.hint`)),
  );
}

function drawPlan(outcome, planned) {
  const heading = h("h2", { tabindex: "-1" }, t("plan.title"));
  const where = h("p", { class: "hint" }, t("plan.where", { worker: planned.worker_address }));
  outcome.replaceChildren(heading, where);
  if (planned.enabled && planned.lock) {
    const warnings = planned.lock.warnings.map((each) => notice("warn", h("p", {}, each)));
    outcome.append(...warnings, explanation(planned));
  } else {
    outcome.append(notice("info", h("p", {}, t("plan.none"))));
  }
  heading.focus();
}
