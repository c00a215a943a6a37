// Bars of parts, drawn as SVG: a picture of numbers that are also there as text.

import { h, svg } from "./dom.js";
import { size } from "./format.js";

// `parts` are {kind, bytes, label}; the whole width is `whole` bytes.
export function bar(parts, whole, { label, thin = false }) {
  const height = thin ? 10 : 26;
  let left = 0;
  const shapes = parts
    .filter((each) => each.bytes > 0)
    .map((each) => {
      const width = (each.bytes / Math.max(whole, 1)) * 1000;
      const shape = svg(
        "rect",
        // A part too small to see is still shown.
        { class: `fill ${each.kind}`, x: left, y: 0, width: Math.max(width, 1.5), height },
        svg("title", {}, `${each.label}: ${size(each.bytes)}`),
      );
      left += width;
      return shape;
    });
  return svg(
    "svg",
    {
      class: thin ? "bar thin" : "bar",
      viewBox: `0 0 1000 ${height}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": label,
    },
    ...shapes,
  );
}

// What takes nothing is left out.
export function legend(parts) {
  return h(
    "ul",
    { class: "legend" },
    ...parts
      .filter((each) => each.bytes > 0)
      .map((each) =>
        h(
          "li",
          {},
          h("span", { class: `swatch ${each.kind}`, "aria-hidden": "true" }),
          `${each.label} `,
          h("strong", {}, size(each.bytes)),
        ),
      ),
  );
}
