// What the cluster did over the last day, as its supervisor remembers it.

import { get } from "./api.js";
import { chart } from "./charts.js";
import { h, repeat } from "./dom.js";
import { size, span } from "./format.js";
import { count, t } from "./i18n.js";
import { errorNotice, noticeBoard } from "./notices.js";
import { STEPS } from "./progress.js";

const EVERY_SECONDS = 30;
const ENDS = { ready: "end-ready", failed: "end-failed", cancelled: "end-cancelled" };

export function showHistory(place, values, signal) {
  const board = noticeBoard();
  const status = h("p", { class: "busy", role: "status" }, t("table.reading"));
  const list = h("div", { class: "cards single" });
  place.append(h("p", { class: "lead" }, t("history.lead")), board.element, status, list);
  let shown = "";
  repeat(EVERY_SECONDS, signal, async () => {
    try {
      const answer = await get("history", {}, signal);
      status.textContent = "";
      board.show();
      // What is being looked at stays while nothing is new.
      const text = JSON.stringify(answer);
      if (text === shown) return;
      shown = text;
      list.replaceChildren(...drawn(answer));
    } catch (error) {
      status.textContent = "";
      if (error.name !== "AbortError" && error.code !== "offline") board.show(errorNotice(error));
    }
  });
}

function drawn({ steps, step_seconds: seconds }) {
  if (!steps.length)
    return [
      h(
        "div",
        { class: "card empty" },
        h("p", {}, t("history.none")),
        h("a", { href: "#/workers" }, t("view.workers")),
      ),
    ];
  const whole = (value) => value.toLocaleString();
  const phases = STEPS.filter((each) => each !== "ready");
  return [
    chart({
      title: t("history.disk"),
      steps,
      seconds,
      format: size,
      thousand: 1024,
      series: [
        {
          kind: "own",
          label: t("disk.free"),
          value: (each) => each.free_bytes,
        },
      ],
    }),
    chart({
      title: t("history.launches"),
      steps,
      seconds,
      format: whole,
      series: Object.entries(ENDS).map(([end, kind]) => ({
        kind,
        label: t(`state.${end}`),
        value: (each) => each.ended[end] ?? 0,
      })),
    }),
    chart({
      title: t("history.phases"),
      steps,
      seconds,
      format: (value) => span(value),
      series: phases.map((phase) => ({
        kind: `phase-${phase}`,
        label: t(`state.${phase}`),
        value: (each) => each.phase_seconds[phase] ?? 0,
      })),
    }),
    h("p", { class: "hint" }, count("history.of", steps.at(-1).workers)),
  ];
}
