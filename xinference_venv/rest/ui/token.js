// The dialog that asks for a token; it is kept for this tab, and sent to our API only.

import { hasToken, may, useToken } from "./api.js";
import { button, field } from "./controls.js";
import { open } from "./dialog.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { errorNotice, notice } from "./notices.js";

let asking = null;

// Ask for a token once, however many requests want one; resolves to whether it is known.
export function askToken() {
  asking ??= ask().finally(() => {
    asking = null;
  });
  return asking;
}

async function ask() {
  const input = h("input", {
    id: "token-text",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
  });
  const status = h("div", { role: "alert" });
  const isNeeded = hasToken() || !may("list");
  const dialog = open({ title: t("token.title") });
  let known = false;

  async function use(event) {
    event?.preventDefault();
    try {
      known = await useToken(input.value);
      if (known) dialog.close();
      else status.replaceChildren(notice("bad", h("p", {}, t("token.unknown"))));
    } catch (error) {
      status.replaceChildren(errorNotice(error));
    }
  }

  async function forget() {
    await useToken("");
    dialog.close();
  }

  const form = h(
    "form",
    { id: "token-form", on: { submit: use } },
    field(t("token.field"), input, { hint: t("token.hint") }),
  );
  dialog.body.append(h("p", {}, t(isNeeded ? "token.why" : "token.optional")), status, form);
  if (hasToken())
    dialog.foot.append(button({ text: t("token.forget"), kind: "quiet", onClick: forget }));
  dialog.foot.append(button({ text: t("token.use"), kind: "primary", onClick: use }));
  input.focus();
  await dialog.closed;
  return known;
}
