// The field of packages: each line is checked as it is typed, and added by the plus icon.

import { post } from "./api.js";
import { button } from "./controls.js";
import { announce, h, newId } from "./dom.js";
import { t, wording } from "./i18n.js";
import { errorText } from "./notices.js";

const PAUSE_MILLISECONDS = 200;

// `values` is the list that is changed in place; `id` names the input; `onChange` hears of it.
export function requirementsField({ id, label, hint, placeholder, values, check, onChange }) {
  const statusId = newId("status");
  const status = h("p", { class: "status", id: statusId, role: "status" });
  const input = h("input", {
    id,
    placeholder,
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": `${id}-hint ${statusId}`,
    on: { input: later, keydown: byKey },
  });
  const list = h("ul", { class: "chips", "aria-label": label });
  const plus = button({
    label: t("packages.add", { label }),
    glyph: "add",
    kind: "quiet",
    onClick: add,
    id: `${id}-add`,
  });
  let timer;
  let asked = 0;

  function later() {
    clearTimeout(timer);
    timer = setTimeout(look, PAUSE_MILLISECONDS);
  }

  // What the line means, or null; only the newest question is answered on the page.
  async function look() {
    clearTimeout(timer);
    const text = input.value.trim();
    asked += 1;
    const mine = asked;
    if (!text) {
      say("", "");
      return null;
    }
    try {
      const meant = await check(text);
      if (mine === asked) say("good", meant);
      return text;
    } catch (error) {
      if (mine === asked) say("bad", reason(error));
      return null;
    }
  }

  function say(kind, text) {
    status.className = `status ${kind}`;
    status.textContent = text;
    input.setAttribute("aria-invalid", String(kind === "bad"));
  }

  async function add() {
    const text = await look();
    input.focus();
    if (text === null) return;
    if (!values.includes(text)) values.push(text);
    input.value = "";
    say("", "");
    announce(t("packages.added", { name: text }));
    draw();
    onChange?.();
  }

  function byKey(event) {
    // Enter adds the line, rather than sending the form.
    if (event.key !== "Enter") return;
    event.preventDefault();
    add();
  }

  function draw() {
    list.replaceChildren(
      ...values.map((text, position) =>
        h(
          "li",
          {},
          h("code", {}, text),
          button({
            label: t("packages.remove", { name: text }),
            glyph: "close",
            onClick: () => {
              values.splice(position, 1);
              draw();
              input.focus();
              announce(t("packages.removed", { name: text }));
              onChange?.();
            },
          }),
        ),
      ),
    );
  }

  draw();
  const element = h(
    "div",
    { class: "field wide" },
    h("label", { for: id }, label),
    h("div", { class: "with-button" }, input, plus),
    status,
    h("p", { class: "hint", id: `${id}-hint` }, hint),
    list,
  );
  // Whether a line was typed and not added: it is added, or the form must wait.
  return {
    element,
    settled: async () => !input.value.trim() || (await add(), !input.value.trim()),
  };
}

function reason(error) {
  if (!error.message) return t("error.offline");
  // The page's own words.
  if (!error.code) return error.message;
  const why = errorText(error);
  return error.details?.hint
    ? t("packages.refused", { why, hint: wording(error.details, "hint") })
    : why;
}

// What a package line means, as the server reads it.
export async function readRequirement(text) {
  const { name, text: understood } = await post("requirements", { text });
  return name && !understood.startsWith(name) ? `${name} · ${understood}` : understood;
}

// A folder for wheels: only its form can be checked here, the worker knows whether it is allowed.
export async function readFolder(text) {
  if (!text.startsWith("/")) throw new Error(t("links.absolute"));
  return text;
}
