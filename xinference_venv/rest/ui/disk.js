// What the disks of the workers hold: a bar for each, then by model and by environment.

import { get } from "./api.js";
import { bar, legend } from "./bars.js";
import { button, gated } from "./controls.js";
import { announce, h } from "./dom.js";
import { ago, keyText, size } from "./format.js";
import { collectGarbage } from "./garbage.js";
import { count, t } from "./i18n.js";
import { errorNotice, noticeBoard, partialNotice } from "./notices.js";
import { table } from "./table.js";

// More workers than these have a line each, not a card.
const FEW = 6;
const sum = (list, bytes) => list.reduce((total, each) => total + bytes(each), 0);

export function showDisk(place, values, signal) {
  const board = noticeBoard();
  const list = h("div", { class: "cards single" });
  const measure = button({ text: t("disk.again"), glyph: "again", kind: "quiet", onClick: look });
  const status = h("p", { class: "busy", role: "status" });
  const totals = h("div", {});
  const clean = gated(
    button({ text: t("gc.open"), glyph: "remove", kind: "danger", onClick: () => collectGarbage(look) }),
    "delete",
  );
  place.append(
    h("p", { class: "lead" }, t("disk.lead")),
    h("div", { class: "toolbar" }, measure, clean, status),
    board.element,
    totals,
    list,
  );

  async function look() {
    measure.disabled = true;
    status.textContent = t("disk.measuring");
    try {
      const answer = await get("disk", { worker_ip: values.worker }, signal);
      board.show(partialNotice(answer));
      totals.replaceChildren(...inAll(answer.list));
      list.replaceChildren(...disks(answer.list));
      announce(t("disk.measured"));
    } catch (error) {
      if (error.name !== "AbortError") board.show(errorNotice(error));
    }
    status.textContent = "";
    measure.disabled = false;
  }

  look();
}

// The parts of a disk, which add up to all of it: what the workers on it have. Files of uv's cache
// that environments are linked to are on the disk once: they count as the environments'.
function partsOf(reports) {
  const all = sum(
    reports.flatMap((each) => each.environments),
    (each) => each.size_bytes - each.shared_bytes,
  );
  // Workers of one machine may have one cache, and environments of other homes be linked to it.
  const caches = new Map(reports.map((each) => [each.uv_cache.path, each.uv_cache]));
  const cached = sum([...caches.values()], (each) => each.size_bytes);
  const linked = sum(reports, (each) => each.uv_cache.shared_bytes);
  const shared = Math.min(linked, cached, all);
  const parts = [
    { kind: "own", bytes: all - shared, label: t("disk.own") },
    { kind: "linked", bytes: shared, label: t("disk.linked") },
    { kind: "cache", bytes: cached - shared, label: t("disk.cache") },
    { kind: "in-place", bytes: sum(reports, (each) => each.in_place.size_bytes), label: t("disk.in_place") },
    { kind: "old", bytes: sum(reports, (each) => each.unmanaged.size_bytes), label: t("disk.unmanaged") },
  ];
  const ours = sum(parts, (each) => each.bytes);
  const [{ total_bytes: whole, free_bytes: free }] = reports;
  const other = Math.max(0, whole - free - ours);
  return [
    ...parts,
    { kind: "other", bytes: other, label: t("disk.other") },
    { kind: "free", bytes: free, label: t("disk.free") },
  ];
}

// What each model takes; an environment of several models counts for each of them.
function modelsOf(environments) {
  const models = new Map();
  for (const each of environments) {
    for (const name of new Set(each.keys.map((key) => key.model_name))) {
      const model = models.get(name) ?? { name, size_bytes: 0, shared_bytes: 0, environments: 0 };
      model.size_bytes += each.size_bytes;
      model.shared_bytes += each.shared_bytes;
      model.environments += 1;
      models.set(name, model);
    }
  }
  return [...models.values()];
}

// What all of them hold together, before each by itself.
function inAll(reports) {
  if (reports.length < 2) return [];
  // Workers may share a home, and homes a disk: each counts once.
  const homes = new Map(reports.map((each) => [each.store_id || each.worker_address, each]));
  const disks = [
    ...Map.groupBy(homes.values(), (each) => each.disk_id || each.worker_address).values(),
  ];
  const all = disks.map(partsOf);
  const parts = all[0].map((part, place) => ({
    ...part,
    bytes: sum(all, (each) => each[place].bytes),
  }));
  const whole = sum(disks, ([each]) => each.total_bytes);
  const words = parts.map((each) => `${each.label} ${size(each.bytes)}`).join(", ");
  return [
    h(
      "section",
      { class: "card", "aria-label": t("disk.all") },
      h(
        "header",
        {},
        h("h2", {}, t("disk.all")),
        h(
          "span",
          { class: "faint" },
          `${count("workers", reports.length)} · ${count("disks", disks.length)} · ${t("disk.total", { size: size(whole) })}`,
        ),
      ),
      bar(parts, whole, { label: t("disk.picture", { worker: t("disk.all"), parts: words }) }),
      legend(parts),
    ),
  ];
}

// A card for each worker; of many a line, which opens.
function disks(reports) {
  if (reports.length <= FEW) return reports.map(disk);
  const used = (each) => each.total_bytes - each.free_bytes;
  return [...reports]
    .sort((one, other) => used(other) / other.total_bytes - used(one) / one.total_bytes)
    .map((report) => {
      const parts = partsOf([report]);
      const label = `${report.worker_address} ${size(report.free_bytes)} ${t("disk.free")}`;
      const line = h(
        "details",
        { class: "disk-line" },
        h(
          "summary",
          {},
          h("code", {}, report.worker_address),
          bar(parts, report.total_bytes, { label, thin: true }),
          h("span", { class: "number" }, `${size(report.free_bytes)} ${t("disk.free")}`),
        ),
      );
      line.addEventListener("toggle", () => {
        if (line.open && line.childElementCount === 1) line.append(disk(report));
      });
      return line;
    });
}

function disk(report) {
  const parts = partsOf([report]);
  const saved = sum(report.environments, (each) => each.shared_bytes);
  const all = sum(parts.filter(isOurs), (each) => each.bytes);
  const models = modelsOf(report.environments);
  const words = parts.map((each) => `${each.label} ${size(each.bytes)}`).join(", ");
  return h(
    "section",
    { class: "card", "aria-label": report.worker_address },
    h(
      "header",
      {},
      h("h2", {}, h("code", {}, report.worker_address)),
      h("span", { class: "faint" }, t("disk.total", { size: size(report.total_bytes) })),
    ),
    bar(parts, report.total_bytes, {
      label: t("disk.picture", { worker: report.worker_address, parts: words }),
    }),
    legend(parts),
    all > 0 && ours(parts, report),
    h(
      "p",
      { class: "hint" },
      saved > 0 && `${t("disk.saved", { size: size(saved) })} `,
      report.uv_cache.path && [`${t("disk.cache.path")} `, h("code", {}, report.uv_cache.path)],
    ),
    h("h3", {}, t("disk.by_model")),
    usage(
      "model",
      models,
      (each) => each.name,
      (each) => each.name,
    ),
    h("h3", {}, t("disk.by_environment")),
    usage("environment", report.environments, (each) => each.env_id, environmentName),
  );
}

const isOurs = (part) => part.kind !== "free" && part.kind !== "other";

// The same without what is not ours: else a large disk shows nothing.
function ours(parts, report) {
  const own = parts.filter(isOurs);
  const all = sum(own, (each) => each.bytes);
  const words = own.map((each) => `${each.label} ${size(each.bytes)}`).join(", ");
  return h(
    "div",
    {},
    h("p", { class: "hint" }, t("disk.ours", { size: size(all) })),
    bar(own, all, { label: t("disk.picture", { worker: report.worker_address, parts: words }) }),
  );
}

function environmentName(each) {
  const names = each.keys.map(keyText);
  const used = each.leases.length || each.busy ? ` · ${t("disk.in_use")}` : "";
  return h(
    "span",
    { title: each.env_id },
    names.length ? names.join("; ") : t("disk.unneeded"),
    h("span", { class: "faint" }, used),
  );
}

function usage(kind, list, keyOf, nameOf) {
  const largest = Math.max(1, ...list.map((each) => each.size_bytes));
  const shown = table({
    label: t(`disk.by_${kind}`),
    keyOf,
    sort: "-size",
    empty: () => t("environments.none"),
    columns: [
      {
        key: "name",
        title: t(`disk.${kind}`),
        value: (each) => each.name ?? each.keys.map(keyText).join(),
        cell: nameOf,
      },
      {
        key: "size",
        title: t("column.size"),
        number: true,
        value: (each) => each.size_bytes,
        cell: (each) => size(each.size_bytes),
      },
      {
        key: "shared",
        title: t("disk.shared"),
        number: true,
        value: (each) => each.shared_bytes,
        cell: (each) => size(each.shared_bytes),
      },
      kind === "model"
        ? {
            key: "count",
            title: t("view.environments"),
            number: true,
            value: (each) => each.environments,
            cell: (each) => String(each.environments),
          }
        : {
            key: "used",
            title: t("column.used"),
            value: (each) => each.last_used,
            cell: (each) => ago(each.last_used),
          },
      { key: "bar", title: t("disk.bar"), kind: "drawn", cell: (each) => drawn(each, largest) },
    ],
  });
  shown.show(list);
  return shown.element;
}

function drawn(each, largest) {
  const parts = [
    { kind: "own", bytes: each.size_bytes - each.shared_bytes, label: t("disk.alone") },
    { kind: "shared", bytes: each.shared_bytes, label: t("disk.shared") },
  ];
  return bar(parts, largest, {
    thin: true,
    label: parts.map((part) => `${part.label} ${size(part.bytes)}`).join(", "),
  });
}
