// What can be done with a launch: cancel it, or do the same again. Each says first what that means.

import { drop, post } from "./api.js";
import { askedFor } from "./asked.js";
import { button, gated } from "./controls.js";
import { h } from "./dom.js";
import { bodyOf, draftOf, placeOf } from "./draft.js";
import { t } from "./i18n.js";
import { linkToJob } from "./links.js";
import { notice } from "./notices.js";
import { inSteps } from "./steps.js";

const create = (made) => gated(made, "create");

// A button that cancels a launch; `onDone` hears when it has ended, or is not known any more.
export function cancelButton(jobId, onDone, text = null) {
  const cancelling = {
    busy: t("jobs.cancelling"),
    work: async () => {
      const { phase } = await drop(`jobs/${encodeURIComponent(jobId)}`);
      onDone();
      // It may have ended while the question was read.
      const outcome = t(phase === "cancelled" ? "job.cancelled" : `jobs.over.${phase}`);
      return { parts: [notice("info", h("p", {}, outcome))] };
    },
  };
  const asking = {
    busy: "",
    work: async () => ({
      parts: [h("p", {}, t("jobs.cancel.plan"))],
      choices: [
        {
          text: t("jobs.cancel.apply"),
          glyph: "stop",
          kind: "danger solid",
          scope: create,
          step: cancelling,
        },
      ],
      keep: t("jobs.cancel.keep"),
    }),
  };
  return create(
    button({
      text,
      label: text ? null : t("jobs.cancel"),
      glyph: "stop",
      kind: "danger",
      onClick: () => inSteps({ title: t("jobs.cancel"), first: asking, onError: onDone }),
    }),
  );
}

// A button that launches the same on the same workers: `last` as the form takes it. Without a
// `text` it is an icon.
export function retryButton(last, text = null) {
  const { launch, workers } = last;
  const asking = {
    busy: "",
    work: async () => ({
      parts: [
        h("p", {}, t("job.retry.plan", { name: launch.model_name })),
        h("p", {}, ...workers.map((each) => [h("code", {}, each), " "])),
        askedFor(last),
      ],
      choices: [
        { text: t("job.retry"), kind: "primary", glyph: "launch", scope: create, step: launching },
      ],
      keep: t("dialog.close"),
    }),
  };
  const launching = {
    busy: t("job.retrying"),
    work: async () => {
      const draft = draftOf(last);
      const { job_id: jobId } = await post("virtualenvs", {
        ...bodyOf(draft),
        ...placeOf(draft),
      });
      dialog.close();
      location.hash = linkToJob(jobId, launch.model_name);
      return { parts: [] };
    },
  };
  let dialog;
  return create(
    button({
      text,
      label: text ? null : t("job.retry"),
      glyph: "again",
      kind: "quiet",
      onClick: () => (dialog = inSteps({ title: t("job.retry"), first: asking })),
    }),
  );
}
