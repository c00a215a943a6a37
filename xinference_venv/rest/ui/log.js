// uv's output in a build, read on while it is open.

import { get } from "./api.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { errorTitle } from "./notices.js";

const EVERY_SECONDS = 1;
// The log of what runs is among the newest; that of what has ended may have many behind it.
const NEWEST = 2;
const LOOKED_AT = 20;

// A panel that shows the log of a worker's job once it is opened. Tell it when the job `ended`.
export function logPanel({ address, jobId, model, signal }) {
  const text = h("pre", { role: "group", tabindex: "0", "aria-label": t("logs.text") });
  const status = h("p", { class: "hint", role: "status" });
  const element = h(
    "details",
    { class: "log", on: { toggle: () => element.open && turn() } },
    h("summary", {}, t("logs.title")),
    text,
    status,
  );
  let found = null;
  let offset = 0;
  let over = false;
  let complete = false;
  let running = false;

  async function turn() {
    if (running || complete || signal.aborted || !element.open) return;
    running = true;
    const last = over;
    try {
      found ??= await find();
      if (found) await readOn();
      status.textContent = found || !last ? "" : t("logs.shared");
      complete ||= last && !found;
    } catch (error) {
      if (error.name !== "AbortError") status.textContent = errorTitle(error);
      complete = last;
    }
    running = false;
    if (!complete) setTimeout(turn, EVERY_SECONDS * 1000);
  }

  // The log of this very job: others of the model may be newer. A job has none before its build
  // begins, and none at all when it joined that of another one.
  async function find() {
    if (!model) return null;
    const own = jobId.split("@")[0];
    const answer = await get(
      "logs",
      { model_name: model, worker_ip: address, count: over ? LOOKED_AT : NEWEST },
      signal,
    );
    return answer.list.find((each) => each.job_id === own)?.log_id ?? null;
  }

  async function readOn() {
    const part = await get(`logs/${found}`, { worker_address: address, offset }, signal);
    const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 30;
    text.append(part.text);
    offset = part.offset;
    complete = part.ended;
    if (atEnd) text.scrollTop = text.scrollHeight;
  }

  return {
    element,
    ended(now) {
      over = now;
    },
  };
}
