// One environment: what it is, its packages, why each is there, and the output of its builds.

import { get, meaning } from "./api.js";
import { bundleCommands } from "./bundle.js";
import { badge, button, gated, pathText } from "./controls.js";
import { h } from "./dom.js";
import { ago, holders, keyText, size } from "./format.js";
import { t, wording } from "./i18n.js";
import { againLink, linkTo } from "./links.js";
import { errorNotice, errorText, noticeBoard, partialNotice } from "./notices.js";
import { prefetchEnvironments } from "./prefetch.js";
import { removal } from "./removal.js";
import { table } from "./table.js";
import { ROLES, explanation } from "./tree.js";
import { verification } from "./verify.js";

const PARTS = { packages: showPackages, tree: showTree, logs: showLogs };

// What an address means, as parameters of a route.
const named = (values) =>
  meaning({
    model_name: values.model,
    model_engine: values.engine,
    python_version: values.python,
    worker_address: values.worker,
  });

// Of several that match (3.12 means 3.12.1 too), the one that is called just so.
const meant = (list, values) =>
  list.find((each) => each.python_version === values.python) ?? list[0];

export async function showEnvironment(place, values, signal, heading) {
  heading.textContent = values.model ?? "";
  const board = noticeBoard();
  const about = h("div", {}, h("p", { class: "empty busy", role: "status" }, t("table.reading")));
  const part = h("div", { class: "part" });
  const now = values.part in PARTS ? values.part : "packages";
  const tabs = Object.keys(PARTS).map((each) => {
    const query = new URLSearchParams({ ...values, part: each });
    return h(
      "a",
      { href: `#/environment?${query}`, "aria-current": each === now ? "true" : null },
      t(`environment.${each}`),
    );
  });
  const parts = h("nav", { class: "tabs", "aria-label": t("environment.parts") }, ...tabs);
  place.append(board.element, about, parts, part);
  // What it is; whether it is there.
  async function draw() {
    const answer = await get("virtualenvs", named(values), signal);
    const entry = meant(answer.list, values);
    board.show(partialNotice(answer));
    parts.hidden = !entry;
    about.replaceChildren(
      entry
        ? facts(entry, () => attempt(draw))
        : h(
            "div",
            { class: "empty" },
            h("p", {}, t("environment.absent")),
            h("a", { href: "#/environments" }, t("view.environments")),
          ),
    );
    return Boolean(entry);
  }

  async function attempt(work) {
    try {
      return await work();
    } catch (error) {
      if (error.name !== "AbortError") {
        for (const each of place.querySelectorAll(".busy")) each.remove();
        board.show(errorNotice(error));
      }
      return false;
    }
  }

  await attempt(async () => {
    if (!(await draw())) return;
    part.append(h("p", { class: "empty busy", role: "status" }, t("table.reading")));
    const read = h("div", { class: "part" });
    await PARTS[now](read, values, signal);
    part.replaceChildren(read);
  });
}

function sizes(entry) {
  if (entry.size_bytes === null || !entry.shared_bytes) return size(entry.size_bytes);
  return t("environment.sizes", {
    own: size(entry.size_bytes),
    shared: size(entry.shared_bytes),
    total: size(entry.size_bytes + entry.shared_bytes),
  });
}

function changes(entry) {
  if (!entry.changed_on_host.length) return [];
  return [[t("environment.changed"), entry.changed_on_host.join(", "), "long"]];
}

function facts(entry, onChanged) {
  const rows = [
    [t("column.engine"), entry.model_engine ?? "–"],
    [t("column.python"), entry.python ?? entry.python_version],
    [t("column.worker"), h("code", {}, entry.worker_address)],
    [t("column.state"), [badge(entry.state), entry.reason && ` ${wording(entry, "reason")}`]],
    [t("column.size"), sizes(entry)],
    ...changes(entry),
    [t("column.shared"), entry.shared_with.map(keyText).join("; ") || "–"],
    [t("column.users"), holders(entry).join("; ") || "–"],
    [t("environment.created"), ago(entry.created)],
    [t("column.used"), ago(entry.last_used)],
    [t("environment.path"), pathText(entry.path, t("environment.path")), "long"],
    [t("environment.real"), pathText(entry.real_path, t("environment.real")), "long"],
  ];
  const remove = button({
    text: t("remove.open"),
    glyph: "remove",
    kind: "danger",
    onClick: () => removal([entry], onChanged),
  });
  const verify = button({
    text: t("verify.open"),
    kind: "quiet",
    onClick: () => verification([entry], onChanged),
  });
  const prefetch = button({
    text: t("prefetch.open"),
    kind: "quiet",
    onClick: () => prefetchEnvironments([entry]),
  });
  return h(
    "div",
    { class: "about" },
    h(
      "dl",
      { class: "facts" },
      ...rows.map(([name, value, kind]) =>
        h("div", { class: kind }, h("dt", {}, name), h("dd", {}, value)),
      ),
    ),
    h(
      "div",
      { class: "toolbar" },
      h("a", { class: "button quiet", href: linkTo("compare", entry) }, t("environment.compare")),
      h(
        "a",
        {
          class: "button quiet",
          href: againLink(entry),
        },
        t("environment.again"),
      ),
      gated(prefetch, "create"),
      gated(verify, "create"),
      gated(remove, "delete"),
    ),
    entry.state === "ready" && bundleCommands(entry),
  );
}

async function showPackages(place, values, signal) {
  const answer = await get("virtualenvs/packages", named(values), signal);
  const listed = meant(answer.list, values);
  const packages = [...listed.packages, ...listed.unlocked.map(besides)];
  const shown = packageTable();
  const search = h("input", { id: "filter-package", type: "search", on: { input: () => draw() } });
  const draw = () =>
    shown.show(packages.filter((each) => each.name.includes(search.value.trim().toLowerCase())));
  place.append(
    h("div", { class: "toolbar" }, h("label", {}, t("column.package"), search)),
    shown.element,
  );
  draw();
}

// A package that the lock does not name, as a row of those that it does.
function besides(each) {
  const role = each.by_hand ? "by_hand" : "visible";
  return { ...each, role, why: t(`role.${role}.means`) };
}

function places(each) {
  if (each.role === "hidden" || each.role === "shadowed") return "–";
  const paths = new Set(each.places.map((place) => place.path));
  return [...paths].join("; ") || t("environment.in_itself");
}

function packageTable() {
  return table({
    label: t("environment.packages"),
    keyOf: (each) => `${each.role} ${each.name}`,
    sort: "role",
    empty: () => t("environment.no_packages"),
    columns: [
      {
        key: "name",
        title: t("column.package"),
        value: (each) => each.name,
        cell: (each) => h("span", { class: "strong" }, each.name),
      },
      {
        key: "version",
        title: t("column.version"),
        value: (each) => each.version,
        cell: (each) => h("code", {}, each.version ?? "–"),
      },
      {
        key: "role",
        title: t("column.role"),
        value: (each) => ROLES.indexOf(each.role),
        cell: (each) => h("span", { class: `role ${each.role}` }, t(`role.${each.role}`)),
      },
      {
        key: "size",
        title: t("column.size"),
        number: true,
        value: (each) => each.size_bytes,
        cell: (each) => size(each.size_bytes),
      },
      {
        key: "why",
        title: t("column.why"),
        kind: "why",
        value: (each) => wording(each, "why"),
        cell: (each) => wording(each, "why"),
      },
      {
        key: "where",
        title: t("column.where"),
        kind: "why",
        value: (each) => places(each),
        cell: (each) => places(each),
      },
    ],
  });
}

async function showTree(place, values, signal) {
  const answer = await get("virtualenvs/explain", named(values), signal);
  const title = h("h2", { class: "unseen" }, t("environment.tree"));
  place.append(title, explanation(meant(answer.list, values)));
}

async function showLogs(place, values, signal) {
  const answer = await get("logs", { ...named(values), count: 5 }, signal);
  if (!answer.list.length) place.append(h("p", { class: "empty" }, t("logs.none")));
  place.append(
    ...answer.list.map((log, position) =>
      h(
        "details",
        { class: "log", open: position === 0 },
        h(
          "summary",
          {},
          badge(log.outcome),
          " ",
          ago(log.started),
          " ",
          log.error && h("span", {}, errorText(log.error)),
        ),
        h("pre", { role: "group", tabindex: "0", "aria-label": t("logs.text") }, log.text || t("logs.empty")),
      ),
    ),
  );
}
