// When each worker was in which phase of a launch, as bars over one time: a picture of what the
// phases say in text.

import { h, svg } from "./dom.js";
import { span } from "./format.js";
import { t } from "./i18n.js";
import { STEPS } from "./progress.js";

const WIDTH = 1000;
const HEIGHT = 12;

// `workers` as in `progress.js`; `now` is in seconds since the epoch.
export function timeLine(workers, now, isOver) {
  const began = workers.filter((each) => each.began !== null);
  if (!began.length) return null;
  const first = Math.min(...began.map((each) => each.began));
  const ends = began.map((each) => (isOver(each) ? each.at : now));
  const length = Math.max(...ends) - first || 1;
  const at = (time) => ((time - first) / length) * WIDTH;
  return h(
    "section",
    { class: "timeline", "aria-label": t("job.timeline") },
    h("h2", {}, t("job.timeline")),
    h(
      "div",
      { class: "timeline-rows" },
      ...began.flatMap((worker) => {
        const end = isOver(worker) ? worker.at : now;
        const spans = worker.spans.map((each, place) =>
          place === worker.spans.length - 1 && each.phase !== "ready" ? { ...each, to: end } : each,
        );
        const words = spans
          .map((each) => `${t(`state.${each.phase}`)} ${span(each.to - each.from)}`)
          .join(", ");
        return [
          h("code", {}, worker.address),
          svg(
            "svg",
            {
              class: "bar thin",
              viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
              preserveAspectRatio: "none",
              role: "img",
              "aria-label": `${worker.address}: ${words}`,
            },
            ...spans.map((each) =>
              svg(
                "rect",
                {
                  class: `phase-${each.phase}`,
                  x: at(each.from),
                  y: 0,
                  width: Math.max(at(each.to) - at(each.from), 2),
                  height: HEIGHT,
                },
                svg("title", {}, `${t(`state.${each.phase}`)} ${span(each.to - each.from)}`),
              ),
            ),
          ),
          h("span", { class: "number faint" }, span(end - worker.began)),
        ];
      }),
    ),
    h(
      "ul",
      { class: "legend" },
      ...STEPS.filter((each) => began.some((one) => one.spans.some((two) => two.phase === each)))
        .filter((each) => each !== "ready")
        .map((each) =>
          h(
            "li",
            {},
            h("span", { class: `swatch phase-${each}`, "aria-hidden": "true" }),
            t(`state.${each}`),
          ),
        ),
    ),
  );
}
