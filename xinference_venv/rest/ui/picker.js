// The choice of workers: searched by address, host and state; what is chosen is always in sight.

import { badge } from "./controls.js";
import { h, setText } from "./dom.js";
import { count, t } from "./i18n.js";
import { onWorkers } from "./workers.js";

// So many are offered at a time: a search finds the others.
const OFFERED = 40;

// `chosen` is the set of addresses that is changed in place.
export function workerPicker(chosen, signal) {
  let all = [];
  let drawn = "";
  const search = h("input", {
    id: "pick-worker",
    type: "search",
    placeholder: t("picker.search"),
    "aria-label": t("picker.search"),
    on: { input: () => draw() },
  });
  const list = h("div", { class: "options", role: "group", "aria-label": t("column.workers") });
  const total = h("p", { class: "hint", role: "status" });
  const element = h("div", { class: "picker wide" }, search, list, total);

  // One that has left the cluster and is chosen still is shown, since it is asked for.
  function listed() {
    const known = new Set(all.map((each) => each.worker_address));
    const gone = [...chosen].filter((each) => !known.has(each));
    return [
      ...all,
      ...gone.map((each) => ({ worker_address: each, host_name: "", state: "gone" })),
    ];
  }

  function draw() {
    const words = search.value.trim().toLowerCase().split(/\s+/);
    const workers = listed();
    const isChosen = (each) => chosen.has(each.worker_address);
    const text = (each) =>
      `${each.worker_address} ${each.host_name} ${t(`state.${each.state}`)}`.toLowerCase();
    const found = workers.filter(
      (each) => isChosen(each) || words.every((word) => text(each).includes(word)),
    );
    const first = found.filter(isChosen);
    const rows = [...first, ...found.filter((each) => !isChosen(each)).slice(0, OFFERED)];
    const state = JSON.stringify(rows.map((each) => [each.worker_address, each.state]));
    const chosenOf = count("picker.chosen", chosen.size, { of: workers.length });
    const left = found.length - rows.length;
    setText(total, left ? `${chosenOf} ${count("picker.more", left)}` : chosenOf);
    if (state === drawn) return;
    drawn = state;
    list.replaceChildren(...rows.map(option));
  }

  function option(worker) {
    const address = worker.worker_address;
    const box = h("input", {
      type: "checkbox",
      checked: chosen.has(address),
      on: {
        change: () => {
          if (box.checked) chosen.add(address);
          else chosen.delete(address);
          total.textContent = count("picker.chosen", chosen.size, { of: listed().length });
        },
      },
    });
    return h(
      "label",
      { class: "check" },
      box,
      h("code", {}, address),
      ` ${worker.host_name} `,
      badge(worker.state),
    );
  }

  onWorkers((workers, error) => {
    if (error) return;
    all = workers;
    draw();
  }, signal);
  draw();
  return element;
}
