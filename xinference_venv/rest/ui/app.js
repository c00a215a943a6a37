// The page as a whole: its language, theme and token, its menu, and which view the address means.
//
// An address is "#/VIEW?name=value"; a view is a function that gets a place to draw in, the values
// and a signal that ends what it has begun.

import * as api from "./api.js";
import { showCompare } from "./compare.js";
import { button } from "./controls.js";
import { showDisk } from "./disk.js";
import { showDoctor } from "./doctor.js";
import { $, announce, h, icon } from "./dom.js";
import { showEnvironment } from "./environment.js";
import { showEnvironments } from "./environments.js";
import { grow } from "./format.js";
import { showHistory } from "./history.js";
import { LANGUAGES, choose, count, language, load, t } from "./i18n.js";
import { showJob } from "./job.js";
import { showJobs } from "./jobs.js";
import { showLaunch } from "./launch.js";
import { showLeases } from "./leases.js";
import { showModels } from "./models.js";
import { errorNotice, notice } from "./notices.js";
import { noteScrolled, scrollBack, wasShown } from "./scrolling.js";
import { listenForShortcuts, showShortcuts } from "./shortcuts.js";
import { askToken } from "./token.js";
import { showWorkers } from "./worker_table.js";
import { knownWorkers, watchWorkers } from "./workers.js";

const MENU = [
  "environments",
  "models",
  "launch",
  "jobs",
  "disk",
  "history",
  "workers",
  "leases",
  "doctor",
];
const VIEWS = {
  environments: { show: showEnvironments },
  environment: { show: showEnvironment, within: "environments" },
  compare: { show: showCompare, within: "environments" },
  launch: { show: showLaunch },
  jobs: { show: showJobs },
  job: { show: showJob, within: "jobs" },
  disk: { show: showDisk },
  workers: { show: showWorkers },
  models: { show: showModels },
  leases: { show: showLeases },
  doctor: { show: showDoctor },
  history: { show: showHistory },
};
const THEMES = ["auto", "light", "dark"];
const THEME_KEPT = "xinference-venv-theme";
const GROW_SECONDS = 5;

let leaving = new AbortController();
// Who closed the dialog without a token is not asked again until they want to be.
let declined = false;
let shown = "";

function address() {
  const [name, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return {
    name: name in VIEWS ? name : "environments",
    values: Object.fromEntries(new URLSearchParams(query)),
  };
}

// Draw the view that the address means; the focus goes to its heading after navigation.
function draw() {
  leaving.abort();
  leaving = new AbortController();
  const { name, values } = address();
  const view = VIEWS[name];
  for (const link of $("menu").querySelectorAll("a")) {
    const here = link.dataset.view === (view.within ?? name);
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    // On a narrow screen the menu is a line of which a part is in sight.
    if (here) $("menu").scrollLeft = link.offsetLeft - $("menu").clientWidth / 2;
  }
  const heading = h("h1", { tabindex: "-1" }, t(`view.${name}`));
  const place = h("div", { class: `view ${name}` });
  $("view").replaceChildren(heading, place);
  document.title = `${t(`view.${name}`)} · xinference_venv`;
  view.show(place, values, leaving.signal, heading);
  if (shown && shown !== name) heading.focus();
  shown = name;
}

function drawMenu() {
  $("skip").textContent = t("skip");
  $("menu").setAttribute("aria-label", t("menu.label"));
  $("menu").replaceChildren(
    ...MENU.map((name) => {
      const link = h("a", { href: `#/${name}` }, icon(name), h("span", {}, t(`view.${name}`)));
      link.dataset.view = name;
      return link;
    }),
  );
}

function drawChoices() {
  const theme = localStorage.getItem(THEME_KEPT) ?? "auto";
  const options = (values, name) => values.map((each) => h("option", { value: each }, name(each)));
  const themes = h(
    "select",
    {
      "aria-label": t("theme.label"),
      id: "theme",
      value: theme,
      on: { change: (event) => useTheme(event.target.value) },
    },
    ...options(THEMES, (each) => t(`theme.${each}`)),
  );
  const languages = h(
    "select",
    {
      "aria-label": t("language.label"),
      id: "language",
      value: language,
      on: { change: (event) => useLanguage(event.target.value) },
    },
    ...options(Object.keys(LANGUAGES), (each) => LANGUAGES[each]),
  );
  const token = button({ label: t("token.open"), glyph: "key", id: "token", onClick: enterToken });
  const keys = button({ label: t("keys.title"), glyph: "help", id: "keys", onClick: showShortcuts });
  $("choices").replaceChildren(languages, themes, keys, token);
}

function useTheme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  localStorage.setItem(THEME_KEPT, name);
}

async function useLanguage(name) {
  await choose(name);
  drawMenu();
  drawChoices();
  drawPulse(knownWorkers());
  $("language").focus();
  draw();
}

async function enterToken() {
  declined = !(await askToken());
  if (!declined) draw();
}

function drawPulse(workers, error = null) {
  // What was last known may be old.
  if (error) {
    const dot = h("span", { class: "dot warn", "aria-hidden": "true" });
    return void $("pulse").replaceChildren(dot, t("pulse.unknown"));
  }
  const alive = workers.filter((each) => each.state === "alive").length;
  const tone = alive === workers.length && alive ? "good" : "warn";
  $("pulse").replaceChildren(
    h("span", { class: `dot ${tone}`, "aria-hidden": "true" }),
    count("pulse", workers.length, { alive }),
  );
}

// Say once that nothing answers, and once that it does again.
function connection(answers) {
  const shown = $("connection").childElementCount > 0;
  if (!answers && !shown)
    $("connection").replaceChildren(notice("bad", h("p", {}, t("connection.lost"))));
  if (answers && shown) {
    $("connection").replaceChildren();
    announce(t("connection.back"));
    // It may have been restarted with other tokens.
    api.learnAccess().catch(() => {});
  }
}

// A page of one release and a server of another may misunderstand each other.
function otherRelease() {
  const { page, server } = api.releases;
  if (page === server) return $("release").replaceChildren();
  const reload = button({ text: t("release.reload"), glyph: "again", onClick: () => location.reload() });
  $("release").replaceChildren(
    notice("warn", h("p", { class: "strong" }, t("release.other", { page, server })), reload),
  );
}

async function start() {
  useTheme(localStorage.getItem(THEME_KEPT) ?? "auto");
  await load();
  drawMenu();
  drawChoices();
  api.news.addEventListener("offline", () => connection(false));
  api.news.addEventListener("online", () => connection(true));
  api.news.addEventListener("token", () => declined || enterToken());
  api.news.addEventListener("scopes", draw);
  api.news.addEventListener("release", otherRelease);
  $("skip").addEventListener("click", (event) => {
    event.preventDefault();
    $("main").focus();
  });
  // The rows of a view come later than the browser would scroll.
  history.scrollRestoration = "manual";
  wasShown();
  window.addEventListener("hashchange", ({ oldURL }) => {
    noteScrolled(oldURL);
    const before = wasShown();
    draw();
    if (before) scrollBack($("view"), leaving.signal);
  });
  listenForShortcuts();
  setInterval(grow, GROW_SECONDS * 1000);
  try {
    if (!(await api.learnAccess())) declined = !(await askToken());
  } catch (error) {
    if (error.code !== "offline") $("connection").replaceChildren(errorNotice(error));
  }
  watchWorkers(drawPulse);
  draw();
}

start();
