// The language of the page: what its keys mean, chosen by the browser or the user.

export const LANGUAGES = { en: "English", zh: "中文" };
const KEPT = "xinference-venv-language";

let table = {};
let plurals;
export let language = "en";

function wanted() {
  const kept = localStorage.getItem(KEPT);
  const all = kept ? [kept] : navigator.languages;
  return all.map((each) => each.split("-")[0]).find((each) => each in LANGUAGES) ?? "en";
}

export async function load() {
  language = wanted();
  const answer = await fetch(`ui/${language}.json`);
  table = await answer.json();
  plurals = new Intl.PluralRules(language);
  document.documentElement.lang = language === "zh" ? "zh-Hans" : language;
}

export async function choose(name) {
  localStorage.setItem(KEPT, name);
  await load();
}

// The text of a key, with `{name}` replaced by the values.
export function t(key, values = {}) {
  const text = table[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

// The text of a number of things: the keys end with `.one` and `.other`.
export function count(key, number, values = {}) {
  const shown = Object.entries({ ...values, count: number }).map(([name, value]) => [
    name,
    typeof value === "number" ? value.toLocaleString(language) : value,
  ]);
  return t(`${key}.${plurals.select(number)}`, Object.fromEntries(shown));
}

// Names behind each other, as the language lists them.
export function listed(names) {
  return new Intl.ListFormat(language, { type: "conjunction" }).format(names);
}
