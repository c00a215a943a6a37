// The addresses of views of one thing, and what the address of a view says of it.

// Have the address of this view say what it shows, by name; what is empty is left out. So it can
// be reloaded, sent, and come back to.
export function noteInAddress(values) {
  const [view, query = ""] = location.hash.split("?");
  const named = new URLSearchParams(query);
  for (const [name, value] of Object.entries(values)) {
    if (value) named.set(name, value);
    else named.delete(name);
  }
  history.replaceState(history.state, "", named.size ? `${view}?${named}` : view);
}

// Of a view of one environment, or of any that has its name.
export function linkTo(view, entry) {
  const query = new URLSearchParams({
    model: entry.model_name,
    python: entry.python_version,
    worker: entry.worker_address,
  });
  if (entry.model_engine) query.set("engine", entry.model_engine);
  return `#/${view}?${query}`;
}

// Of the comparison of two environments.
export function linkToComparison(left, right) {
  const query = new URLSearchParams(linkTo("compare", left).split("?")[1]);
  for (const [name, value] of new URLSearchParams(linkTo("compare", right).split("?")[1]))
    query.set(`other_${name}`, value);
  return `#/compare?${query}`;
}

export const linkToJob = (jobId, model) =>
  `#/job?${new URLSearchParams({ id: jobId, model: model ?? "" })}`;

// Of the form that is filled in with what an environment was launched with.
export function againLink(entry) {
  const query = new URLSearchParams({
    again: "environment",
    model: entry.model_name,
    engine: entry.model_engine ?? "",
    python: entry.python_version,
    worker: entry.worker_address,
  });
  return `#/launch?${query}`;
}

// The same of a job on these workers.
export const againLinkOfJob = (jobId, workers) =>
  `#/launch?${new URLSearchParams({ again: "job", id: jobId, workers: workers.join(" ") })}`;
