// The leases: which process uses which environment, and the release of those that are left over.

import { drop, getAgain, isGone } from "./api.js";
import { badge, button, gated } from "./controls.js";
import { h, repeat } from "./dom.js";
import { ago, keyText } from "./format.js";
import { count, t } from "./i18n.js";
import { noteInAddress } from "./links.js";
import { errorNotice, notice, noticeBoard, partialNotice } from "./notices.js";
import { forEach, inSteps } from "./steps.js";
import { table } from "./table.js";

const EVERY_SECONDS = 5;
const keyOf = (lease) => `${lease.worker_address} ${lease.lease_id}`;

export function showLeases(place, values, signal) {
  const board = noticeBoard();
  const shown = table({
    label: t("view.leases"),
    keyOf,
    sort: values.sort ?? "model",
    onSort: (order) => noteInAddress({ sort: order }),
    empty: () =>
      h(
        "div",
        {},
        h("p", {}, t("leases.none")),
        h("a", { href: "#/environments" }, t("view.environments")),
      ),
    columns: [
      {
        key: "model",
        title: t("column.model"),
        value: (each) => each.model_name,
        cell: (each) => h("span", { class: "strong" }, each.model_name),
      },
      {
        key: "keys",
        title: t("disk.environment"),
        value: (each) => each.keys.map(keyText).join("; "),
        cell: (each) => each.keys.map(keyText).join("; ") || t("leases.alone"),
      },
      {
        key: "worker",
        title: t("column.worker"),
        value: (each) => each.worker_address,
        cell: (each) => h("code", {}, each.worker_address),
      },
      {
        key: "holder",
        title: t("leases.holder"),
        value: (each) => each.process.pid,
        cell: (each) => t("leases.process", each.process),
      },
      {
        key: "state",
        title: t("column.state"),
        value: (each) => each.holder,
        cell: (each) => badge(each.holder),
      },
      {
        key: "created",
        title: t("environment.created"),
        value: (each) => each.created,
        cell: (each) => ago(each.created),
      },
      {
        key: "actions",
        title: t("column.actions"),
        kind: "actions",
        cell: (each) => {
          const release = button({
            label: t("leases.release.label", { name: each.model_name, pid: each.process.pid }),
            glyph: "release",
            kind: "danger",
            onClick: () => releasing([each], again),
          });
          return gated(release, "delete");
        },
      },
    ],
  });
  place.append(h("p", { class: "lead" }, t("leases.lead")), board.element, shown.element);
  const again = repeat(EVERY_SECONDS, signal, async () => {
    try {
      const answer = await getAgain("leases", keyOf, signal);
      board.show(partialNotice(answer));
      shown.show(answer.list);
    } catch (error) {
      if (error.name === "AbortError") return;
      shown.fail();
      if (error.code !== "offline") board.show(errorNotice(error));
    }
  });
}

// Open the dialog that releases leases; those of living processes take force, a second choice.
function releasing(leases, onDone) {
  const scope = (made) => gated(made, "delete");
  const lines = (those) =>
    h(
      "ul",
      {},
      ...those.map((each) =>
        h(
          "li",
          {},
          badge(each.holder),
          ` ${each.model_name} · ${t("leases.process", each.process)} · `,
          h("code", {}, each.worker_address),
        ),
      ),
    );

  function planning(force) {
    const alive = leases.filter((each) => each.holder === "alive");
    const refused = alive.length > 0 && !force;
    return {
      busy: "",
      work: async () => ({
        parts: [
          refused &&
            notice(
              "warn",
              h("p", { class: "strong" }, t("leases.refused")),
              h("p", {}, t("leases.ways")),
            ),
          force && notice("warn", h("p", {}, t("leases.forced"))),
          !refused && h("p", {}, t("leases.plan")),
          lines(leases),
        ],
        choices: [
          refused
            ? { text: t("leases.insist"), step: planning(true) }
            : {
                text: t(force ? "leases.force" : "leases.release"),
                glyph: "release",
                kind: "danger solid",
                scope,
                step: applying(force),
              },
        ],
        keep: t("remove.keep"),
      }),
    };
  }

  function applying(force) {
    return {
      busy: t("leases.releasing"),
      work: async () => {
        const answers = await forEach(leases, (each) =>
          drop(`leases/${encodeURIComponent(each.lease_id)}`, { force }).catch((error) => ({ error })),
        );
        onDone();
        const isAbsent = ({ error }, place) =>
          error !== undefined && isGone(error, leases[place].worker_address);
        const absent = answers.some(isAbsent);
        const errors = answers.filter((each, place) => each.error && !isAbsent(each, place));
        const done = answers.filter((each) => each.result).length;
        const deleted = answers.flatMap((each) => each.list ?? []).flatMap((each) => each.deleted);
        return {
          parts: [
            absent && notice("info", h("p", {}, t("leases.gone"))),
            ...errors.map((each) => errorNotice(each.error)),
            done > 0 && notice("good", h("p", { class: "strong" }, count("leases.done", done))),
            deleted.length > 0 && h("p", {}, count("leases.deleted", deleted.length)),
          ],
        };
      },
    };
  }

  inSteps({ title: count("leases.title", leases.length), first: planning(false) });
}
