// A change in steps: the plan is shown first, and nothing happens until it is chosen.

import { button } from "./controls.js";
import { open } from "./dialog.js";
import { announce, h } from "./dom.js";
import { t } from "./i18n.js";
import { errorNotice } from "./notices.js";

// Open a dialog and take the first step. A step is `{busy, work}`: `work(say)` returns
// `{parts, choices, keep}`, where a choice is a button that takes a further step, and `keep` the
// name of the button that takes none. `say` changes what is shown while it works. `onError` hears that
// a step failed: what is shown elsewhere may be old.
export function inSteps({ title, first, onClose, onError }) {
  const dialog = open({ title, wide: true, onCancel: onClose });

  async function take(step) {
    const status = h("p", { class: "busy", role: "status" }, step.busy);
    show(step.busy ? [status] : [], []);
    if (step.busy) announce(step.busy);
    try {
      const { parts, choices = [], keep } = await step.work((text) => (status.textContent = text));
      show(parts, [...choices.map(choice), shut(keep)]);
      announceOutcome();
    } catch (error) {
      show([errorNotice(error)], [shut()]);
      announceOutcome();
      onError?.();
    }
  }

  function choice({ text, glyph, kind = "danger", scope, step }) {
    const made = button({ text, glyph, kind, onClick: () => take(step) });
    return scope ? scope(made) : made;
  }

  const shut = (text = t("dialog.done")) =>
    button({ text, kind: "quiet", onClick: dialog.close });

  function show(parts, buttons) {
    dialog.body.replaceChildren(...parts.flat(Infinity).filter(Boolean));
    dialog.foot.replaceChildren(...buttons);
    // What had the focus may be gone; the first choice is never the one that changes something.
    (buttons.at(-1) ?? dialog.element.querySelector("h2")).focus();
  }

  // The focus is on a button, and what came of the step stands before it.
  function announceOutcome() {
    const titles = [...dialog.body.querySelectorAll(".notice p:first-child")];
    const shown = titles.length ? titles : [...dialog.body.querySelectorAll("p")].slice(0, 1);
    announce(shown.map((each) => each.textContent).join(" "));
  }

  take(first);
  return dialog;
}

// Do something for each of many, a few at a time; returns the answers in their order.
export async function forEach(list, work, onDone = () => {}) {
  const answers = [];
  let next = 0;
  let done = 0;
  async function turn() {
    while (next < list.length) {
      const place = next++;
      answers[place] = await work(list[place]);
      onDone(++done, list.length);
    }
  }
  await Promise.all(Array.from({ length: Math.min(4, list.length) }, turn));
  return answers;
}
