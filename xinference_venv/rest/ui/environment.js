// One environment: what it is, its packages, why each is there, and the output of its builds.

import { get, isGone, meaning } from "./api.js";
import { bundleCommands } from "./bundle.js";
import { badge, button, gated, pathText } from "./controls.js";
import { announce, h, redraw, repeat } from "./dom.js";
import { ago, holders, keyText, size } from "./format.js";
import { t, wording } from "./i18n.js";
import { againLink, linkTo, noteInAddress } from "./links.js";
import { errorNotice, errorText, noticeBoard, partialNotice } from "./notices.js";
import { prefetchEnvironments } from "./prefetch.js";
import { removal } from "./removal.js";
import { table } from "./table.js";
import { ROLES, explanation } from "./tree.js";
import { verification } from "./verify.js";

const EVERY_SECONDS = 4;
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

export function showEnvironment(place, values, signal, heading) {
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
  parts.hidden = true;
  let shownFacts = "";
  let shownPart = "";

  async function look() {
    const answer = await get("virtualenvs", named(values), signal);
    board.show(partialNotice(answer));
    const entry = meant(answer.list, values);
    if (!entry) return drawAbsent(answer.unreachable.length ? "unknown" : "absent");
    await draw(entry);
  }

  // Only what is other than before is drawn again: what is open or has the focus stays so.
  async function draw(entry) {
    const text = JSON.stringify(entry);
    if (text !== shownFacts) {
      const isOpen = about.querySelector("details.more")?.open;
      redraw(about, facts(entry, again));
      if (isOpen) about.querySelector("details.more")?.setAttribute("open", "");
    }
    shownFacts = text;
    parts.hidden = false;
    const made = [entry.path, entry.created, entry.state].join(" ");
    if (made === shownPart) return;
    if (!shownPart) part.append(h("p", { class: "empty busy", role: "status" }, t("table.reading")));
    const read = h("div", { class: "part" });
    await PARTS[now](read, values, signal);
    part.replaceChildren(read);
    shownPart = made;
  }

  function drawAbsent(why) {
    parts.hidden = true;
    part.replaceChildren();
    shownPart = "";
    if (shownFacts === why) return;
    shownFacts = why;
    announce(t(`environment.${why}`));
    const query = new URLSearchParams({ model: values.model ?? "", engine: values.engine ?? "" });
    const launch = t("environment.launch", { name: values.model ?? "" });
    redraw(
      about,
      h(
        "div",
        { class: "empty" },
        h("p", {}, t(`environment.${why}`)),
        h("a", { href: "#/environments" }, t("view.environments")),
        why === "absent" && [" · ", h("a", { href: `#/launch?${query}` }, launch)],
      ),
    );
  }

  const again = repeat(EVERY_SECONDS, signal, async () => {
    try {
      await look();
    } catch (error) {
      if (error.name === "AbortError") return;
      for (const each of place.querySelectorAll(".busy")) each.remove();
      if (isGone(error, values.worker)) drawAbsent("absent");
      else if (error.code !== "offline") board.show(errorNotice(error));
    }
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
  const shown = packageTable(values);
  const search = h("input", {
    id: "filter-package",
    type: "search",
    value: values.text ?? "",
    on: { input: () => find() },
  });
  const draw = () =>
    shown.show(packages.filter((each) => each.name.includes(search.value.trim().toLowerCase())));
  function find() {
    values.text = search.value.trim();
    noteInAddress({ text: values.text });
    draw();
  }
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

function packageTable(values) {
  return table({
    label: t("environment.packages"),
    keyOf: (each) => `${each.role} ${each.name}`,
    sort: values.sort ?? "role",
    onSort: (order) => {
      values.sort = order;
      noteInAddress({ sort: order });
    },
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
