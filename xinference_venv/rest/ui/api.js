// The REST API as the page asks it: tokens, errors, and what the token allows.

import { hearDate } from "./clock.js";

const ROOT = new URL("v1/", document.baseURI);
// A proxy may have several servers at one origin, each with tokens of its own.
const KEPT = `xinference-venv-token ${ROOT.pathname}`;

// An error of the API (`code`, `message`, `details`), or `offline` where nothing answers.
class ApiError extends Error {
  constructor(status, body) {
    super(body.message);
    this.status = status;
    this.code = body.code;
    this.details = body.details ?? {};
  }
}

// Who wants to know: `token` when one is needed, `scopes` when it allows something else than was
// known, `release` when the server is of another one, `offline` and `online` as requests fare.
export const news = new EventTarget();

let token = sessionStorage.getItem(KEPT) ?? "";
let scopes = new Set();
// That of the server which sent this page, and that of the one which answers now.
export const releases = { page: null, server: null };

export const may = (scope) => scopes.has(`virtualenv:${scope}`);
export const hasToken = () => token !== "";

// Use a token from now on, in this tab only; an empty one forgets it. Returns whether it is known.
export async function useToken(text) {
  token = text.trim();
  if (token) sessionStorage.setItem(KEPT, token);
  else sessionStorage.removeItem(KEPT);
  return learnAccess();
}

export async function learnAccess() {
  const answer = await ask("GET", "access");
  const before = [...scopes].join();
  scopes = new Set(answer.scopes);
  if (before && before !== answer.scopes.join()) news.dispatchEvent(new Event("scopes"));
  return scopes.size > 0;
}

function hearRelease(release) {
  if (!release) return;
  releases.page ??= release;
  if (release === (releases.server ?? releases.page)) return;
  releases.server = release;
  news.dispatchEvent(new Event("release"));
}

// The address of a route; parameters that are empty are left out.
export function route(path, parameters = {}) {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  return url;
}

// The parameters that mean one environment: "null" is the engine of those without one.
export const meaning = (entry) => ({
  model_name: entry.model_name,
  model_engine: entry.model_engine || "null",
  python_version: entry.python_version,
  worker_ip: entry.worker_address,
});

// Ask, and hand on the response whatever it says; raises an `ApiError` that is offline.
export async function send(method, url, { body, headers = {}, signal } = {}) {
  const all = { ...headers };
  if (token) all.Authorization = `Bearer ${token}`;
  if (body !== undefined) all["Content-Type"] = "application/json";
  try {
    const answer = await fetch(url, {
      method,
      signal,
      headers: all,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
    });
    hearDate(answer.headers.get("Date"));
    hearRelease(answer.headers.get("X-Virtualenv-Release"));
    news.dispatchEvent(new Event("online"));
    return answer;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    news.dispatchEvent(new Event("offline"));
    throw new ApiError(0, { code: "offline", message: "" });
  }
}

// Whether an error says that what was asked for on a worker is not there: workers that do not answer
// have no say in it.
export function isGone(error, worker) {
  const { unreachable, complete } = error.details ?? {};
  if (error.code === "worker_unavailable" && complete)
    return unreachable.every((each) => each.worker_address !== worker);
  return error.code === "not_found";
}

// The error that a response tells of, or that it is no answer of ours.
export async function errorOf(answer) {
  if (answer.status === 401) news.dispatchEvent(new Event("token"));
  const body = await answer
    .json()
    .catch(() => ({ code: "error", message: `${answer.status} ${answer.statusText}` }));
  if (answer.status === 403) {
    const challenge = answer.headers.get("WWW-Authenticate") ?? "";
    const lacks = /scope="([^"]+)"/.exec(challenge)?.[1];
    body.details = { ...body.details, scope: lacks };
    // What it allows was changed meanwhile.
    if (lacks) learnAccess().catch(() => {});
  }
  return new ApiError(answer.status, body);
}

async function ask(method, path, parameters, options) {
  const answer = await send(method, route(path, parameters), options);
  if (!answer.ok) throw await errorOf(answer);
  return answer.json();
}

export const get = (path, parameters, signal) => ask("GET", path, parameters, { signal });
// The newest answer of each route that is asked again and again, with its ETag.
const newest = new Map();

// Ask for a list again: only what differs is sent, and each row that does not is the same object
// as the last time; so is the whole answer if nothing does. `keyOf` names a row.
export async function getAgain(path, keyOf, signal) {
  const before = newest.get(path);
  const headers = before ? { "If-None-Match": before.etag } : {};
  const answer = await send("GET", route(path, { changes: true }), { headers, signal });
  if (before && answer.status === 304) return before.body;
  if (!answer.ok) throw await errorOf(answer);
  const { since, dropped, ...body } = await answer.json();
  const rows = new Map(since ? before.rows : []);
  for (const each of dropped ?? []) rows.delete(keyOf(each));
  for (const each of body.list) rows.set(keyOf(each), each);
  body.list = [...rows.values()];
  newest.set(path, { etag: answer.headers.get("ETag"), rows, body });
  return body;
}

export const post = (path, body, signal) => ask("POST", path, {}, { body, signal });
export const put = (path, body) => ask("PUT", path, {}, { body });
export const drop = (path, parameters) => ask("DELETE", path, parameters);
