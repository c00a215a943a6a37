// Environments made ahead of need: where, then what would be done, then a job for each model.

import { get, isGone, meaning, post } from "./api.js";
import { choices, field, gated } from "./controls.js";
import { h } from "./dom.js";
import { bodyOf, draftOf } from "./draft.js";
import { keyText, size } from "./format.js";
import { count, t } from "./i18n.js";
import { linkToJob } from "./links.js";
import { errorNotice, goneNotice, notice } from "./notices.js";
import { workerPicker } from "./picker.js";
import { forEach, inSteps } from "./steps.js";
import { explanation } from "./tree.js";

const PLACES = ["everywhere", "named"];
const create = (made) => gated(made, "create");

// Of models of the catalogue: their engine and Python can be chosen.
export function prefetchModels(models) {
  const text = (name, more) =>
    h("input", { id: `prefetch-${name}`, autocomplete: "off", spellcheck: "false", ...more });
  const engine = text("engine", { list: "prefetch-engines" });
  const python = text("python", { placeholder: "3.12" });
  const engines = [...new Set(models.flatMap((each) => each.engines))].sort();
  prefetch({
    names: models.map((each) => each.model_name),
    parts: [
      field(t("column.engine"), engine, { hint: t("launch.engine.hint") }),
      choices("prefetch-engines", engines),
      field(t("launch.python"), python, { hint: t("launch.python.hint") }),
    ],
    launches: async () =>
      models.map((each) => {
        const body = { model_name: each.model_name };
        if (engine.value.trim()) body.model_engine = engine.value.trim();
        if (python.value.trim()) body.python_version = python.value.trim();
        return { name: each.model_name, body };
      }),
  });
}

// Of environments: what each was last launched with, once for those that were launched alike.
export function prefetchEnvironments(entries) {
  const named = new Map(entries.map((each) => [keyText(each), each]));
  prefetch({
    names: [...named.keys()],
    parts: [],
    launches: () =>
      forEach([...named], async ([name, entry]) => {
        try {
          const { list } = await get("virtualenvs/packages", meaning(entry));
          const found = list.find((each) => each.python_version === entry.python_version);
          const launch = found?.launch;
          return { name, body: launch ? bodyOf(draftOf({ launch, workers: [] })) : null };
        } catch (error) {
          if (!isGone(error, entry.worker_address)) throw error;
          return { name, body: null, isAbsent: true };
        }
      }),
  });
}

function prefetch({ names, parts, launches }) {
  const leaving = new AbortController();
  const workers = new Set();
  const picker = workerPicker(workers, leaving.signal);
  const where = h(
    "select",
    { id: "prefetch-where", on: { change: () => (picker.hidden = where.value !== "named") } },
    ...PLACES.map((each) => h("option", { value: each }, t(`launch.where.${each}`))),
  );
  picker.hidden = true;
  const dialog = inSteps({
    title: count("prefetch.title", names.length),
    onClose: () => leaving.abort(),
    first: { busy: "", work: async () => asking() },
  });

  function asking(...notices) {
    return {
      parts: [
        ...notices,
        h("p", {}, t("prefetch.lead")),
        h("ul", { class: "chips" }, ...names.map((each) => h("li", {}, h("code", {}, each)))),
        h(
          "div",
          { class: "form" },
          ...parts,
          field(t("launch.where"), where, { hint: t("launch.where.hint") }),
          picker,
        ),
      ],
      choices: [{ text: t("prefetch.plan"), kind: "primary", scope: create, step: planning() }],
      keep: t("dialog.close"),
    };
  }

  const chosen = () => (where.value === "named" ? [...workers].sort() : []);

  function planning() {
    return {
      busy: t("launch.planning"),
      work: async (say) => {
        const at = chosen();
        if (where.value === "named" && !at.length)
          return asking(notice("bad", h("p", {}, t("launch.where.none"))));
        const planned = await forEach(
          await launches(),
          async ({ name, body, isAbsent }) => {
            if (!body) return { name, isAbsent };
            const one = { ...body, ...(at.length ? { worker_ip: at[0] } : {}) };
            const outcome = await post("virtualenvs/plan", one, leaving.signal).then(
              (plan) => ({ plan }),
              (error) => ({ error }),
            );
            return { name, body, ...outcome };
          },
          (done, of) => of > 1 && say(t("change.progress", { done, of })),
        );
        const possible = planned.filter((each) => each.plan?.lock);
        return {
          parts: [h("p", { class: "hint" }, t("prefetch.planned")), ...planned.map(planOf)],
          choices: possible.length
            ? [
                {
                  text: count("prefetch.start", possible.length),
                  glyph: "launch",
                  kind: "primary",
                  scope: create,
                  step: beginning(possible, at),
                },
              ]
            : [],
          keep: t("dialog.close"),
        };
      },
    };
  }

  function beginning(those, at) {
    return {
      busy: t("job.retrying"),
      work: async () => {
        const { list } = await post("prefetch", {
          models: those.map((each) => each.body),
          workers: at,
        });
        const failed = list.filter((each) => each.error);
        if (!failed.length) {
          dialog.close();
          location.hash = "#/jobs";
          return { parts: [] };
        }
        return {
          parts: list.map((each) =>
            h(
              "section",
              {},
              h("h3", {}, each.model_name),
              each.error
                ? errorNotice(each.error)
                : h("a", { href: linkToJob(each.job_id, each.model_name) }, t("prefetch.follow")),
            ),
          ),
        };
      },
    };
  }
}

// What would be done for one model: on each worker what that does not have yet.
function planOf({ name, plan, error, isAbsent }) {
  const shown = isAbsent ? goneNotice([name], 1) : outcomeOf(plan, error);
  return h("section", { class: "planned" }, h("h3", {}, name), shown);
}

function outcomeOf(plan, error) {
  if (error) return errorNotice(error);
  if (!plan) return notice("warn", h("p", {}, t("prefetch.not_kept")));
  if (!plan.lock) return notice("info", h("p", {}, t("plan.none")));
  const installed = plan.tree.filter((each) => each.first && each.role === "installed");
  // Not every index gives sizes: then there is no sum.
  const sizes = installed.map((each) => each.size);
  const bytes = sizes.includes(null) ? null : sizes.reduce((sum, each) => sum + each, 0);
  const all = count("prefetch.packages", installed.length);
  return h(
    "details",
    {},
    h("summary", {}, bytes ? `${all} · ${size(bytes)}` : all),
    explanation(plan),
  );
}
