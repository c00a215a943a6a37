// Controls that several views have: buttons, links, badges, copying, and what is not allowed.

import { may } from "./api.js";
import { announce, h, icon, newId } from "./dom.js";
import { count, t } from "./i18n.js";

// A button with an icon; without `text` it shows the icon alone and is called `label`.
export function button({ text, label, glyph, kind = "", onClick, type = "button", id }) {
  return h(
    "button",
    {
      id,
      type,
      class: text ? kind : `bare ${kind}`,
      title: text ? null : label,
      "aria-label": text && !label ? null : label,
      on: onClick ? { click: onClick } : {},
    },
    glyph && icon(glyph),
    text,
  );
}

// The bar above a table by which it is filtered.
export function filterBar(...parts) {
  const named = { class: "toolbar", role: "search", "aria-label": t("filter.label") };
  return h("div", named, ...parts);
}

// Filters of a bar: in its line on a wide screen, behind a button on a narrow one. Returns the parts
// of the bar, and `use`, which takes how many filters are in use.
export function foldedFilters(...fields) {
  const filters = h("div", { class: "filters", id: newId("filters") }, ...fields);
  const text = h("span", {}, t("filter.open"));
  const unfold = h(
    "button",
    { type: "button", class: "quiet unfold", "aria-expanded": "false", "aria-controls": filters.id },
    icon("filter"),
    text,
  );
  unfold.addEventListener("click", () => {
    const isOpen = filters.classList.toggle("open");
    unfold.setAttribute("aria-expanded", String(isOpen));
  });
  const use = (many) => (text.textContent = many ? count("filter.used", many) : t("filter.open"));
  return { parts: [unfold, filters], use };
}

// Disable a button where the token lacks a scope, and say so.
export function gated(control, scope) {
  if (!may(scope)) {
    const why = t("access.lacks", { scope: `virtualenv:${scope}` });
    control.disabled = true;
    control.title = why;
    control.setAttribute("aria-description", why);
  }
  return control;
}

// A button that copies a text, and says that it did.
export function copyButton(text, what) {
  const copy = button({
    label: t("copy.label", { what }),
    glyph: "copy",
    onClick: async () => {
      try {
        await navigator.clipboard.writeText(text);
      } catch {
        copyBySelection(text);
      }
      copy.replaceChildren(icon("check"));
      announce(t("copy.done", { what }));
      setTimeout(() => copy.replaceChildren(icon("copy")), 1500);
    },
  });
  return copy;
}

// The older way: browsers give the clipboard to pages of https or of this machine only.
function copyBySelection(text) {
  const field = h("textarea", { class: "unseen", value: text });
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

// A path that can be copied.
export function pathText(path, what) {
  return h("span", { class: "path" }, h("code", { title: path }, path), copyButton(path, what));
}

const TONES = {
  draining: "warn",
  ready: "good",
  alive: "good",
  building: "busy",
  suspect: "warn",
  "in-place": "good",
  unmanaged: "plain",
  unknown: "warn",
  broken: "bad",
  gone: "bad",
  failed: "bad",
  cancelled: "plain",
  queued: "plain",
  died: "bad",
};

// A state in words and colour; what is no end of a job is busy.
export function badge(state, text) {
  return h("span", { class: `badge ${TONES[state] ?? "busy"}` }, text ?? t(`state.${state}`));
}

// A labelled field: the label, the control, and a hint below that describes it.
export function field(label, control, { hint, wide } = {}) {
  const hintId = hint && `${control.id}-hint`;
  if (hint) control.setAttribute("aria-describedby", hintId);
  return h(
    "div",
    { class: wide ? "field wide" : "field" },
    h("label", { for: control.id }, label),
    control,
    hint && h("p", { class: "hint", id: hintId }, hint),
  );
}

// The choices of a text field that takes others too.
export function choices(id, values) {
  return h("datalist", { id }, ...values.map((each) => h("option", { value: each })));
}
