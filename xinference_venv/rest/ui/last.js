// A launch that was, to do it again: of an environment what it was last launched with, of a job
// what was asked for. Each is null where the workers did not keep it.

import { get, meaning } from "./api.js";

// What the address of a form means: `{launch, workers}`, of a job `require` and `background` too.
export function lastLaunch(values, signal) {
  return values.again === "job" ? ofJob(values, signal) : ofEnvironment(values, signal);
}

async function ofEnvironment(values, signal) {
  const named = meaning({
    model_name: values.model,
    model_engine: values.engine,
    python_version: values.python,
    worker_address: values.worker,
  });
  const { list } = await get("virtualenvs/packages", named, signal);
  // 3.12 means 3.12.1 too.
  const found = list.find((each) => each.python_version === values.python);
  return { launch: found?.launch ?? null, workers: [values.worker] };
}

// What a worker tells of a job; `launch` and `asked_by` are null where they are not known.
export async function jobOf(jobId, worker, signal) {
  const { list } = await get("jobs", { worker_ip: worker }, signal);
  return list.find((each) => each.job_id === jobId) ?? { launch: null, asked_by: null };
}

async function ofJob(values, signal) {
  const workers = values.workers.split(" ").filter(Boolean);
  return { ...(await jobOf(values.id, workers[0], signal)), workers };
}
