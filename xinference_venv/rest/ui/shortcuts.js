// Keyboard shortcuts, and the sheet that lists them.

import { open } from "./dialog.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";

// After "g": the view of each letter.
const VIEWS = {
  e: "environments",
  m: "models",
  l: "launch",
  j: "jobs",
  d: "disk",
  w: "workers",
  s: "leases",
  o: "doctor",
  h: "history",
};
const PAIR_MILLISECONDS = 1500;
const TYPING = "input:not([type=checkbox], [type=radio]), select, textarea, [contenteditable]";

let pairUntil = 0;

// Listen for as long as the page is open.
export function listenForShortcuts() {
  document.addEventListener("keydown", (event) => {
    const taken = event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented;
    if (taken || event.target.closest?.(TYPING) || document.querySelector("dialog[open]")) return;
    if (event.timeStamp < pairUntil && event.key in VIEWS) {
      pairUntil = 0;
      location.hash = `#/${VIEWS[event.key]}`;
    } else if (event.key === "g") {
      pairUntil = event.timeStamp + PAIR_MILLISECONDS;
      return;
    } else if (event.key === "/") {
      const search = document.querySelector("main input[type=search]");
      if (!search) return;
      if (!search.checkVisibility()) document.querySelector("main .unfold")?.click();
      search.focus();
    } else if (event.key === "n") {
      location.hash = "#/launch";
    } else if (event.key === "?") {
      showShortcuts();
    } else {
      return;
    }
    pairUntil = 0;
    event.preventDefault();
  });
}

export function showShortcuts() {
  const keys = [
    [["/"], t("keys.search")],
    [["n"], t("keys.launch")],
    [["?"], t("keys.help")],
    [["Esc"], t("keys.close")],
    ...Object.entries(VIEWS).map(([key, view]) => [["g", key], t(`view.${view}`)]),
  ];
  open({ title: t("keys.title") }).body.append(
    h(
      "dl",
      { class: "keys" },
      ...keys.map(([those, meaning]) =>
        h(
          "div",
          {},
          h("dt", {}, ...those.map((each) => [h("kbd", {}, each), " "])),
          h("dd", {}, meaning),
        ),
      ),
    ),
  );
}
