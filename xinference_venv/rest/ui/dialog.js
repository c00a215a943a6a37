// Dialogs: modal, named by their heading, closed by Escape; the focus goes back where it was.

import { h, newId } from "./dom.js";
import { button } from "./controls.js";
import { t } from "./i18n.js";

// Open a dialog and return `{element, body, foot, close, closed}`; `closed` resolves at its end.
export function open({ title, wide = false, onCancel }) {
  const name = newId("dialog");
  const before = document.activeElement;
  const body = h("div", { class: "dialog-body" });
  const foot = h("div", { class: "dialog-foot" });
  const heading = h("h2", { id: name, tabindex: "-1" }, title);
  const element = h(
    "dialog",
    { class: wide ? "wide" : null, "aria-labelledby": name },
    h(
      "header",
      {},
      heading,
      button({ label: t("dialog.close"), glyph: "close", onClick: () => element.close() }),
    ),
    body,
    foot,
    h("div", { class: "unseen live", role: "status" }),
  );
  const closed = new Promise((resolve) => {
    element.addEventListener("close", () => {
      element.remove();
      // What opened it may have been drawn again, or be gone with what was removed.
      (before?.checkVisibility() ? before : document.querySelector("h1"))?.focus();
      onCancel?.();
      resolve();
    });
  });
  document.body.append(element);
  element.showModal();
  heading.focus();
  return { element, body, foot, close: () => element.close(), closed };
}
