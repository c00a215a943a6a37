// Numbers over time as stacked bars, drawn as SVG; the same numbers stand in a table below.

import { h, svg } from "./dom.js";
import { language, t } from "./i18n.js";

const WIDTH = 1000;
const HEIGHT = 180;
const TICKS = 4;

const clock = (at) =>
  new Date(at * 1000).toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit" });

// `steps` have their beginning as `at`, and last `seconds`; `series` are {kind, label, value}, each
// stacked upon the one before it; `format` writes a number, with a new unit for each `thousand`.
export function chart({ title, steps, seconds, series, format, thousand = 1000 }) {
  const sums = steps.map((step) => series.reduce((sum, each) => sum + each.value(step), 0));
  const most = roundUp(Math.max(...sums, 0), thousand);
  const first = steps[0]?.at ?? 0;
  const last = (steps.at(-1)?.at ?? 0) + seconds;
  const x = (at) => ((at - first) / (last - first)) * WIDTH;
  const y = (value) => HEIGHT - (value / most) * HEIGHT;
  const totals = series.map((each) => steps.reduce((sum, step) => sum + each.value(step), 0));
  const used = series.filter((_, place) => totals[place] > 0);
  if (!used.length)
    return h(
      "section",
      { class: "card chart", "aria-label": title },
      h("header", {}, h("h2", {}, title)),
      h("p", { class: "hint" }, t("chart.none")),
    );
  return h(
    "section",
    { class: "card chart", "aria-label": title },
    h("header", {}, h("h2", {}, title)),
    h(
      "div",
      { class: "plot" },
      h("span", { class: "faint number" }, format(most)),
      svg(
        "svg",
        {
          class: "stack",
          viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
          preserveAspectRatio: "none",
          role: "img",
          "aria-label": `${title}: ${words(steps, used, format)}`,
        },
        ...[0.25, 0.5, 0.75].map((part) =>
          svg("path", { class: "grid", d: `M0 ${HEIGHT * part}H${WIDTH}` }),
        ),
        ...steps.flatMap((step) => bars(step, used, { x, y, seconds, format })),
      ),
      h("span", { class: "faint number" }, format(0)),
    ),
    h(
      "div",
      { class: "ticks faint number", "aria-hidden": "true" },
      ...ticks(first, last, seconds),
    ),
    h(
      "ul",
      { class: "legend" },
      ...used.map((each) =>
        h("li", {}, h("span", { class: `swatch ${each.kind}`, "aria-hidden": "true" }), each.label),
      ),
    ),
    numbers(steps, used, format),
  );
}

function bars(step, series, { x, y, seconds, format }) {
  let below = 0;
  return series
    .map((each) => {
      const value = each.value(step);
      const from = below;
      below += value;
      const top = y(below);
      return (
        value > 0 &&
        svg(
          "rect",
          {
            class: each.kind,
            x: x(step.at),
            y: top,
            // A gap of a hair between two steps.
            width: Math.max(x(step.at + seconds) - x(step.at) - 1, 1),
            height: Math.max(y(from) - top, 1),
          },
          svg("title", {}, `${clock(step.at)} ${each.label}: ${format(value)}`),
        )
      );
    })
    .filter(Boolean);
}

// The times at the foot, each where a step begins or the last one ends.
function ticks(first, last, seconds) {
  const steps = Math.round((last - first) / seconds);
  const count = Math.min(TICKS, steps);
  return Array.from({ length: count + 1 }, (_, place) => {
    const at = Math.round((steps * place) / count);
    const tick = h("span", {}, clock(first + at * seconds));
    tick.style.left = `${(at / steps) * 100}%`;
    tick.style.translate = `${(-at / steps) * 100}%`;
    return tick;
  });
}

// The newest numbers: what the picture says at its right end.
function words(steps, series, format) {
  const step = steps.at(-1);
  return step ? series.map((each) => `${each.label} ${format(each.value(step))}`).join(", ") : "–";
}

function numbers(steps, series, format) {
  const list = h("tbody", {});
  const element = h(
    "details",
    { class: "log" },
    h("summary", {}, t("chart.numbers")),
    h(
      "div",
      { class: "sheet" },
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, t("chart.time")),
            ...series.map((each) => h("th", { scope: "col", class: "number" }, each.label)),
          ),
        ),
        list,
      ),
    ),
  );
  // Many rows that few look at are made when they are.
  element.addEventListener("toggle", () => {
    if (!element.open || list.childElementCount) return;
    list.append(
      ...[...steps].reverse().map((step) =>
        h(
          "tr",
          {},
          h("td", {}, clock(step.at)),
          ...series.map((each) => h("td", { class: "number" }, format(each.value(step)))),
        ),
      ),
    );
  });
  return element;
}

// The next number of few digits above, in the unit in which it is written, for the end of a scale.
function roundUp(value, thousand) {
  if (value <= 0) return 1;
  const unit = thousand ** Math.floor(Math.log(value) / Math.log(thousand));
  const digit = 10 ** Math.floor(Math.log10(value / unit));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10]
    .map((each) => each * digit * unit)
    .find((each) => each >= value);
}
