// The doctor: what is wrong with each host and with the cluster, and what to do about it.

import { get } from "./api.js";
import { button } from "./controls.js";
import { announce, h } from "./dom.js";
import { count, t, wording } from "./i18n.js";
import { errorNotice, notice, noticeBoard, partialNotice } from "./notices.js";

const TONES = { ok: "good", warning: "warn", failed: "bad" };
const ORDER = ["failed", "warning", "ok"];

const worst = (checks) =>
  ORDER.find((each) => checks.some((check) => check.verdict === each)) ?? "ok";

export function showDoctor(place, values, signal) {
  const board = noticeBoard();
  const list = h("div", { class: "cards single" });
  const status = h("p", { class: "busy", role: "status" });
  const examine = button({ text: t("doctor.again"), glyph: "again", kind: "quiet", onClick: look });
  place.append(
    h("p", { class: "lead" }, t("doctor.lead")),
    h("div", { class: "toolbar" }, examine, status),
    board.element,
    list,
  );

  async function look() {
    examine.disabled = true;
    status.textContent = t("doctor.looking");
    try {
      const answer = await get("diagnosis", { worker_ip: values.worker }, signal);
      const all = [...answer.cluster, ...answer.list.flatMap((each) => each.checks)];
      const wrong = all.filter((each) => each.verdict !== "ok").length;
      const isWhole = answer.complete && !answer.unreachable.length && !answer.gone.length;
      const outcome = wrong
        ? count("doctor.found", wrong)
        : t(isWhole ? "doctor.well" : "doctor.well.partly");
      board.show(
        partialNotice(answer),
        notice(TONES[worst(all)], h("p", { class: "strong" }, outcome)),
      );
      const hosts = [...answer.list].sort(
        (one, other) => ORDER.indexOf(worst(one.checks)) - ORDER.indexOf(worst(other.checks)),
      );
      list.replaceChildren(
        card(t("doctor.cluster"), "", answer.cluster),
        ...hosts.map((each) => card(each.worker_address, each.host_name, each.checks)),
      );
      announce(outcome);
    } catch (error) {
      if (error.name !== "AbortError") board.show(errorNotice(error));
    }
    status.textContent = "";
    examine.disabled = false;
  }

  look();
}

// What a check is of; one of a later release may have a name that is not known here.
function nameOf(check) {
  const key = `check.${check.name.replaceAll(" ", "_")}`;
  return t(key) === key ? check.name : t(key);
}

function card(name, host, checks) {
  const wrong = checks.filter((each) => each.verdict !== "ok");
  const well = checks.filter((each) => each.verdict === "ok");
  const tone = worst(checks);
  return h(
    "section",
    { class: "card", "aria-label": name },
    h(
      "header",
      {},
      h("h2", {}, name, host && h("span", { class: "faint" }, ` ${host}`)),
      h("span", { class: `badge ${TONES[tone]}` }, t(`doctor.${tone}`)),
    ),
    ...wrong
      .sort((one, other) => ORDER.indexOf(one.verdict) - ORDER.indexOf(other.verdict))
      .map((each) =>
        notice(
          TONES[each.verdict],
          h("p", { class: "strong" }, nameOf(each)),
          h("p", { class: "words" }, wording(each, "found")),
          each.hint && h("p", { class: "hint" }, wording(each, "hint")),
        ),
      ),
    well.length > 0 &&
      h(
        "details",
        { open: !wrong.length },
        h("summary", {}, count("doctor.fine", well.length)),
        h(
          "dl",
          { class: "facts" },
          ...well.map((each) =>
            h("div", { class: "long" }, h("dt", {}, nameOf(each)), h("dd", {}, wording(each, "found"))),
          ),
        ),
      ),
  );
}
