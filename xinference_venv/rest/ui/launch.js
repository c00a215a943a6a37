// The launch form: what is asked for, where, what it would do, and the launch itself.

import { get, post } from "./api.js";
import { button, choices, field, gated } from "./controls.js";
import { h } from "./dom.js";
import { blank, bodyOf, draftOf, placeOf, setOwn, similar } from "./draft.js";
import { listed, t } from "./i18n.js";
import { lastLaunch } from "./last.js";
import { linkToJob } from "./links.js";
import { errorNotice, notice, noticeBoard, warningNotices } from "./notices.js";
import { alsoField, moreOptions } from "./options.js";
import { workerPicker } from "./picker.js";
import { readFolder, readRequirement, requirementsField } from "./requirements.js";
import { explanation } from "./tree.js";

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
const PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"];
const TOGGLES = ["configured", "on", "off"];
const PLACES = ["any", "named", "everywhere"];

const KEPT = "xinference-venv-launch";

// The login of a URL, `user:password@`.
const LOGIN = /(?<=:\/\/)[^\s/?#"]*@/g;

// What was filled in stays in its tab: through other views and languages, and when the page is
// loaded again; then without logins, which no browser is to keep.
let draft = kept();
addEventListener("pagehide", () => {
  const plain = { ...draft, workers: [...draft.workers] };
  sessionStorage.setItem(KEPT, JSON.stringify(plain).replace(LOGIN, ""));
});

function kept() {
  const found = JSON.parse(sessionStorage.getItem(KEPT) ?? "{}");
  return Object.assign(blank(), found, { workers: new Set(found.workers) });
}

// An address can name a model and engine to begin with, or a launch that was (`again`).
export async function showLaunch(place, values, signal) {
  const notices = [];
  if (values.again) {
    const wait = h("p", { class: "busy", role: "status" }, t("launch.again.reading"));
    place.append(wait);
    draft = blank();
    try {
      const last = await lastLaunch(values, signal);
      if (last.launch) draft = draftOf(last);
      notices.push(last.launch ? notice("info", h("p", {}, t("launch.again.filled"))) : notKept());
    } catch (error) {
      if (error.name === "AbortError") return;
      notices.push(errorNotice(error), notice("info", h("p", {}, t("launch.again.empty"))));
    }
    wait.remove();
  } else if (values.model) {
    draft = Object.assign(blank(), { model: values.model, model_engine: values.engine ?? "" });
  }
  // What is changed in the form now is not to be overwritten when it is drawn again.
  history.replaceState(null, "", "#/launch");
  drawForm(place, signal, notices);
}

const notKept = () => notice("warn", h("p", {}, t("launch.again.not_kept")));

function drawForm(place, signal, notices) {
  const board = noticeBoard();
  const catalogueBoard = noticeBoard();
  const outcome = h("div", { class: "outcome", id: "plan" });
  const about = h("p", { class: "hint", id: "model-hint", role: "status" });
  const models = choices("models", []);
  const engines = choices("engines", ENGINES);
  const formats = choices("formats", FORMATS);
  // The models of the catalogue by name; null while it is not known which there are.
  let known = null;

  const text = (name, id, more = {}) => {
    const input = h("input", {
      id: `launch-${id}`,
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
  const model = text("model", "model", { required: true, list: "models" });
  const own = h("input", {
    id: "launch-own",
    type: "checkbox",
    checked: draft.own,
    on: {
      change: () => {
        setOwn(draft, own.checked);
        also.draw();
        describe();
      },
    },
  });
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
    values: draft.virtual_env_find_links,
    check: readFolder,
  });
  const more = moreOptions(draft, text);
  const also = alsoField(draft);
  const workers = workerPicker(draft.workers, signal);
  const number = (name) =>
    text(name, name, { type: "number", min: "1", step: "1", placeholder: t(`launch.${name}.all`) });
  const howMany = field(t("launch.count"), number("count"), { hint: t("launch.count.hint") });
  const required = field(t("launch.require"), number("require"), {
    hint: t("launch.require.hint"),
  });

  function describe() {
    const name = draft.model.trim();
    const found = draft.own ? null : known?.get(name);
    offer(engines, found?.engines?.length ? found.engines : ENGINES);
    offer(formats, found?.formats?.length ? found.formats : FORMATS);
    about.className = isUnknown() ? "hint bad" : "hint";
    model.setAttribute("aria-invalid", String(isUnknown()));
    about.replaceChildren(...[aboutModel(name, found)].flat());
  }

  function aboutModel(name, found) {
    if (!name) return t("launch.model.hint");
    if (draft.own) return t("launch.model.own");
    if (found) {
      const packages = found.packages.length ? listed(found.packages) : t("launch.model.bare");
      return `${found.description ?? ""} ${t("launch.model.known", { packages })}`.trim();
    }
    if (!known) return t("launch.catalogue.reading");
    return [
      `${t("launch.model.unknown", { name })} `,
      ...similar(name, known.keys()).map((each) => [
        button({ text: each, kind: "quiet small", onClick: () => correct(each) }),
        " ",
      ]),
    ].flat();
  }

  function correct(name) {
    model.value = draft.model = name;
    describe();
    model.focus();
  }

  const isUnknown = () =>
    Boolean(known && !draft.own && draft.model.trim() && !known.has(draft.model.trim()));

  // Settle what was typed and not added, then do it with the form locked.
  async function act(work) {
    if (!form.reportValidity()) return;
    await catalogue;
    // What a name means is not known: launching it would be a guess.
    if (!known) return;
    for (const each of [packages, links, ...more.lists]) if (!(await each.settled())) return;
    if (isUnknown()) {
      const refused = t("launch.model.refused", { name: draft.model.trim() });
      board.show(notice("bad", h("p", { class: "strong" }, t("error.unknown_model")), refused));
      model.focus();
      return;
    }
    if (draft.where === "named" && !draft.workers.size) {
      refuse(notice("bad", h("p", {}, t("launch.where.none"))));
      return;
    }
    board.show();
    lock(true);
    try {
      await work(bodyOf(draft));
    } catch (error) {
      outcome.replaceChildren();
      if (error.name !== "AbortError") refuse(errorNotice(error));
    }
    lock(false);
  }

  // Why not, where it is seen: below the form, which may be longer than the screen.
  function refuse(why) {
    board.show(why);
    board.element.scrollIntoView({ block: "nearest" });
  }

  function lock(locked) {
    buttons.forEach((each) => (each.disabled = locked || !known));
    if (!locked) buttons.forEach((each) => gated(each, "create"));
  }

  async function plan(body) {
    outcome.replaceChildren(h("p", { class: "busy", role: "status" }, t("launch.planning")));
    const where = draft.where === "named" ? { worker_ip: [...draft.workers][0] } : {};
    drawPlan(outcome, await post("virtualenvs/plan", { ...body, ...where }, signal));
  }

  async function launch(body) {
    const { job_id: jobId } = await post("virtualenvs", { ...body, ...placeOf(draft) });
    draft = blank();
    location.hash = linkToJob(jobId, body.model_name);
  }

  function clear() {
    draft = blank();
    place.replaceChildren();
    drawForm(place, signal, []);
  }

  const buttons = [
    button({
      text: t("launch.start"),
      glyph: "launch",
      kind: "primary",
      type: "submit",
      id: "launch-start",
    }),
    button({
      text: t("launch.plan"),
      kind: "quiet",
      onClick: () => act(plan),
      id: "launch-plan",
    }),
  ];
  const why = h("span", { class: "hint" });
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
    field(t("column.model"), model, { wide: true }),
    about,
    h("label", { class: "check wide" }, own, t("launch.own")),
    models,
    field(t("column.engine"), text("model_engine", "engine", { list: "engines" }), {
      hint: t("launch.engine.hint"),
    }),
    engines,
    field(t("launch.format"), text("model_format", "format", { list: "formats" }), {
      hint: t("launch.format.hint"),
    }),
    formats,
    field(
      t("launch.python"),
      text("python_version", "python", { list: "pythons", pattern: "3\\.[0-9]+(\\.[0-9]+)?" }),
      { hint: t("launch.python.hint") },
    ),
    choices("pythons", PYTHONS),
    radios("toggle", TOGGLES, () => {}),
    packages.element,
    links.element,
    more.element,
    also.element,
    radios("where", PLACES, showPlace),
    workers,
    howMany,
    required,
    h(
      "div",
      { class: "toolbar wide" },
      ...buttons,
      button({ text: t("launch.clear"), kind: "quiet", onClick: clear, id: "launch-clear" }),
      why,
    ),
  );

  function showPlace(chosen) {
    workers.hidden = chosen !== "named";
    howMany.hidden = chosen !== "any";
  }

  showPlace(draft.where);
  place.append(
    h("p", { class: "lead" }, t("launch.lead")),
    ...notices,
    catalogueBoard.element,
    form,
    board.element,
    outcome,
  );
  lock(true);
  buttons.forEach((each) => gated(each, "create"));
  why.textContent = buttons[0].title || t("launch.catalogue.reading");
  describe();
  let catalogue = readCatalogue();

  // What a name means depends on it: until it is read nothing is launched.
  async function readCatalogue() {
    catalogueBoard.show();
    try {
      const { list } = await get("models", {}, signal);
      known = new Map(list.map((each) => [each.model_name, each]));
      models.replaceChildren(...list.map((each) => h("option", { value: each.model_name })));
      lock(false);
      why.textContent = buttons[0].title;
      describe();
    } catch (error) {
      if (error.name === "AbortError") return;
      why.textContent = "";
      catalogueBoard.show(
        errorNotice(error),
        notice(
          "warn",
          h("p", {}, t("launch.catalogue.unread")),
          button({
            text: t("launch.catalogue.again"),
            kind: "quiet small",
            onClick: () => (catalogue = readCatalogue()),
          }),
        ),
      );
    }
  }
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
    outcome.append(...warningNotices(planned.lock), explanation(planned));
  } else {
    outcome.append(notice("info", h("p", {}, t("plan.none"))));
  }
  heading.focus();
}
