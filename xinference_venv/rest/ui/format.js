// Values as people read them: sizes, times, what an environment is called.

import { now } from "./clock.js";
import { h } from "./dom.js";
import { count, language, t } from "./i18n.js";

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const SPANS = [
  ["day", 86400],
  ["hour", 3600],
  ["minute", 60],
  ["second", 1],
];

// Bytes, in three digits or so.
export function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  let value = bytes;
  let unit = 0;
  while (value >= 1023.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : 1;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

// How long something takes, in seconds.
export function span(seconds) {
  if (seconds < 9.95) return t("time.seconds", { seconds: Math.max(0, seconds).toFixed(1) });
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (!minutes) return t("time.seconds", { seconds: whole });
  if (minutes < 60) return t("time.minutes", { minutes, seconds: whole % 60 });
  return t("time.hours", { hours: Math.floor(minutes / 60), minutes: minutes % 60 });
}

// A time (seconds since the epoch) as how long ago it was; the exact one shows when pointed at.
export function ago(at) {
  if (at === null || at === undefined) return h("span", { class: "faint" }, "–");
  const date = new Date(at * 1000);
  const exact = date.toLocaleString(language, { timeZoneName: "short" });
  return h("time", { datetime: date.toISOString(), title: exact, "data-ago": at }, sinceThen(at));
}

const sinceThen = (at) => age(now() - at);

// Bring the times that are shown as ages up to now.
export function grow() {
  for (const each of document.querySelectorAll("time[data-ago]"))
    each.textContent = sinceThen(Number(each.dataset.ago));
}

export function age(seconds) {
  if (seconds < 5) return t("time.now");
  const [unit, length] = SPANS.find(([, each]) => seconds >= each);
  const style = new Intl.RelativeTimeFormat(language, { style: "short" });
  return style.format(-Math.floor(seconds / length), unit);
}

export function clock(at) {
  return new Date(at * 1000).toLocaleTimeString(language);
}

// Keys of environments as people call them.
export function keyText(key) {
  const engine = key.model_engine ? ` · ${key.model_engine}` : "";
  return `${key.model_name}${engine} · Python ${key.python_version}`;
}

// Which processes use an environment.
export function holders(entry) {
  const leases = entry.leases.map((lease) => {
    const uid = lease.model_uid ? `${lease.model_uid}, ` : "";
    const unsure = lease.holder === "unknown" ? `, ${t("holder.unknown")}` : "";
    return t("holder.lease", { uid, pid: lease.process.pid, host: lease.process.host, unsure });
  });
  const users = (entry.users ?? []).map((user) =>
    t("holder.user", { pid: user.pid, command: user.command }),
  );
  const unknown = entry.unknown_users ? [count("holder.others", entry.unknown_users)] : [];
  return [...leases, ...users, ...unknown];
}
