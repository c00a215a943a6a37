// The options of a launch that few need, and those that it has without a field of the form.

import { button, field } from "./controls.js";
import { h, newId } from "./dom.js";
import { FLAGS, LISTS } from "./draft.js";
import { t } from "./i18n.js";
import { readRequirement, requirementsField } from "./requirements.js";

const CHOICES = { inherit: ["host", "exact", "none"], view: ["links", "files"] };
const BOUNDS = new Set(["constraints", "overrides", "build_constraints"]);
const EXAMPLES = {
  constraints: "numpy<2",
  overrides: "torch==2.8.0",
  exclude: "flash-attn",
  build_constraints: "setuptools<80",
  must_import: "numpy",
  import_check: "torch.nn",
};

// The part of the form that is folded until one of it is used; `text` makes a field of the draft.
export function moreOptions(draft, text) {
  const lists = LISTS.filter((each) => each in EXAMPLES).map((name) =>
    requirementsField({
      id: `launch-${name}`,
      label: t(`option.${name}`),
      hint: t(`option.${name}.hint`),
      placeholder: EXAMPLES[name],
      values: draft[name],
      check: BOUNDS.has(name) ? readRequirement : async (given) => given,
    }),
  );
  const used =
    FLAGS.some((each) => draft[each]) ||
    Object.keys(EXAMPLES).some((each) => draft[each].length) ||
    [...Object.keys(CHOICES), "model_size_in_billions", "quantization"].some((each) => draft[each]);
  const element = h(
    "details",
    { class: "wide more", open: used },
    h("summary", {}, t("launch.more")),
    h(
      "div",
      { class: "options-grid" },
      field(t("option.size"), text("model_size_in_billions", "size"), {
        hint: t("option.size.hint"),
      }),
      field(t("option.quantization"), text("quantization", "quantization"), {
        hint: t("option.size.hint"),
      }),
      ...Object.keys(CHOICES).map((name) => choice(draft, name)),
      check(
        t("option.background"),
        t("option.background.hint"),
        "launch-background",
        draft.background,
        (on) => {
          draft.background = on;
        },
      ),
      check(t("option.proof"), t("option.proof.hint"), "launch-proof", !draft.no_proof, (on) => {
        draft.no_proof = !on;
      }),
      check(
        t("option.refresh"),
        t("option.refresh.hint"),
        "launch-refresh",
        draft.refresh,
        (on) => {
          draft.refresh = on;
        },
      ),
      check(
        t("option.any_engine"),
        t("option.any_engine.hint"),
        "launch-any-engine",
        draft.any_engine,
        (on) => {
          draft.any_engine = on;
        },
      ),
      ...lists.map((each) => each.element),
    ),
  );
  return { element, lists };
}

function choice(draft, name) {
  const select = h(
    "select",
    {
      id: `launch-${name}`,
      value: draft[name],
      on: { change: () => (draft[name] = select.value) },
    },
    h("option", { value: "" }, t("option.configured")),
    ...CHOICES[name].map((each) => h("option", { value: each }, t(`option.${name}.${each}`))),
  );
  return field(t(`option.${name}`), select, { hint: t(`option.${name}.hint`) });
}

function check(label, hint, id, checked, onChange) {
  const hintId = newId("hint");
  const box = h("input", {
    id,
    type: "checkbox",
    checked,
    "aria-describedby": hintId,
    on: { change: () => onChange(box.checked) },
  });
  return h(
    "div",
    { class: "field" },
    h("label", { class: "check" }, box, label),
    h("p", { class: "hint", id: hintId }, hint),
  );
}

// What is asked for besides: each can be taken out, none is out of sight.
export function alsoField(draft) {
  const list = h("ul", { class: "chips" });
  const element = h(
    "div",
    { class: "field wide", id: "launch-also" },
    h("p", { class: "strong" }, t("launch.also")),
    h("p", { class: "hint" }, t("launch.also.hint")),
    list,
  );

  function draw() {
    const names = Object.keys(draft.also);
    element.hidden = !names.length;
    list.replaceChildren(
      ...names.map((name) =>
        h(
          "li",
          {},
          h("code", {}, `${name}: ${JSON.stringify(draft.also[name])}`),
          button({
            label: t("packages.remove", { name }),
            glyph: "close",
            onClick: () => {
              delete draft.also[name];
              draw();
            },
          }),
        ),
      ),
    );
  }

  draw();
  return { element, draw };
}
