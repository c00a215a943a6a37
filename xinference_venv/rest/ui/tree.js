// The tree of what requires what, and what of the host is shadowed or hidden, each with why.

import { button } from "./controls.js";
import { h } from "./dom.js";
import { size } from "./format.js";
import { count, t, wording } from "./i18n.js";

// What the environment has itself comes first, what else of the host is shown last.
export const ROLES = ["by_hand", "installed", "inherited", "shadowed", "hidden", "visible"];
// Those of a lock: a tree has no others.
const LOCKED = ROLES.slice(1, -1);

// Comes in: `tree` (each branch with the position of its `parent`) and `not_shown`.
export function explanation({ tree, not_shown: notShown }) {
  const present = tree.filter((each) => each.first);
  const by = (role) => [...present, ...notShown].filter((each) => each.role === role);
  return h(
    "div",
    { class: "explanation" },
    h("dl", { class: "totals" }, ...LOCKED.map((role) => total(role, by(role)))),
    tree.length > 0 &&
      h(
        "section",
        {},
        h("header", { class: "sub" }, h("h3", {}, t("tree.title")), ...folding()),
        branches(tree),
      ),
    ...["shadowed", "hidden"].map((role) => by(role).length > 0 && hiding(role, by(role))),
  );
}

function total(role, distributions) {
  const sizes = distributions.map((each) => each.size).filter((each) => each !== null);
  const bytes = sizes.length ? ` · ${size(sizes.reduce((sum, each) => sum + each, 0))}` : "";
  return h(
    "div",
    {},
    h("dt", {}, h("span", { class: `role ${role}` }, t(`role.${role}`))),
    h("dd", {}, count("packages", distributions.length) + bytes),
    h("dd", { class: "hint" }, t(`role.${role}.means`)),
  );
}

function folding() {
  const all = (open) => (event) => {
    for (const each of event.target.closest("section").querySelectorAll("details"))
      each.open = open;
  };
  return [
    button({ text: t("tree.unfold"), kind: "quiet small", onClick: all(true) }),
    button({ text: t("tree.fold"), kind: "quiet small", onClick: all(false) }),
  ];
}

function branches(tree) {
  const below = new Map();
  tree.forEach((branch, position) => {
    if (!below.has(branch.parent)) below.set(branch.parent, []);
    below.get(branch.parent).push(position);
  });
  const list = (positions) =>
    h("ul", { class: "tree" }, ...positions.map((each) => h("li", {}, grown(each))));

  function grown(position) {
    const branch = tree[position];
    const children = below.get(position) ?? [];
    if (!children.length) return h("div", { class: "leaf" }, label(branch));
    return h("details", { open: true }, h("summary", {}, label(branch)), list(children));
  }

  return list(below.get(null) ?? []);
}

// Why it is there, where nothing above it in the tree says so, and why it is this version.
function reasonsOf(branch) {
  const reasons = [];
  if (branch.parent === null) reasons.push(wording(branch, "why"));
  if (branch.first && branch.why_version) reasons.push(wording(branch, "why_version"));
  return reasons;
}

function label(branch) {
  const elsewhere = !branch.first && branch.requires.length > 0;
  return [
    h("span", { class: "strong" }, branch.name),
    " ",
    h("code", {}, branch.version ?? t("tree.built")),
    " ",
    h("span", { class: `role ${branch.role}` }, t(`role.${branch.role}`)),
    branch.role === "installed" &&
      branch.first &&
      branch.size !== null &&
      h("span", { class: "number faint" }, ` ${size(branch.size)}`),
    h("span", { class: "why" }, ` ${reasonsOf(branch).join(" · ")}`),
    elsewhere && h("span", { class: "faint" }, ` ${t("tree.elsewhere")}`),
  ];
}

function hiding(role, distributions) {
  return h(
    "section",
    {},
    h("h3", {}, t(`role.${role}.title`)),
    h(
      "ul",
      { class: "reasons" },
      ...distributions.map((each) =>
        h(
          "li",
          {},
          h("span", { class: "strong" }, each.name),
          " ",
          h("code", {}, each.version ?? ""),
          h("span", { class: "why" }, ` ${wording(each, "why")}`),
        ),
      ),
    ),
  );
}
