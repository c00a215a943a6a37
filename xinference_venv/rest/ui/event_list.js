// All events of a launch, for who wants to know exactly; what is there already stays.

import { h } from "./dom.js";
import { clock } from "./format.js";
import { count, t, wording } from "./i18n.js";

export function eventList() {
  const body = h("ol", { class: "events", tabindex: "0" });
  const summary = h("summary", {});
  let first = null;
  let shown = 0;
  return {
    element: h("details", { class: "log" }, summary, body),
    show(events) {
      if (events[0] !== first) {
        first = events[0];
        shown = 0;
        body.replaceChildren();
      }
      summary.textContent = count("job.events", events.length);
      body.append(...events.slice(shown).map(eventLine));
      shown = events.length;
    },
  };
}

function eventLine(event) {
  return h(
    "li",
    {},
    h("span", { class: "faint number" }, clock(event.at)),
    event.worker_address && h("code", {}, event.worker_address),
    h("span", {}, t(`state.${event.phase}`)),
    h("span", { class: "words" }, wording(event, "message")),
  );
}
