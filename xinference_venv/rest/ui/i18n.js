// The language of the page: what its keys mean, chosen by the browser or the user.

export const LANGUAGES = { en: "English", zh: "中文" };
const KEPT = "xinference-venv-language";

let table = {};
// What the server says, by its English patterns; English is there where the page has other ways.
let sentences = {};
let plurals;
export let language = "en";

function wanted() {
  const kept = localStorage.getItem(KEPT);
  const all = kept ? [kept] : navigator.languages;
  return all.map((each) => each.split("-")[0]).find((each) => each in LANGUAGES) ?? "en";
}

export async function load() {
  language = wanted();
  const read = async (name) => (await fetch(`ui/${name}.json`)).json();
  [table, sentences] = await Promise.all([read(language), read(`sentences.${language}`)]);
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

const PLACE = /\{([a-z_][a-z0-9_]*)\}/g;
const SPACED = new RegExp(`( ?)${PLACE.source}( ?)`, "g");
const HAN = /\p{Script=Han}/u;

// A sentence of the server (a pattern with values, which may be sentences) in the language of the
// page; null where the page does not know it.
function translated({ id, values }) {
  const isPunctuation = !/[a-z]/i.test(id.replace(PLACE, ""));
  const pattern = sentences[id] ?? (language === "en" || isPunctuation ? id : null);
  if (pattern === null) return null;
  return pattern.replace(SPACED, (place, before, name, after, at) => {
    const value = values[name];
    if (typeof value !== "object") return before + value + after;
    const inside = translated(value) ?? english(value);
    // Words of another script stand apart in Chinese, and Chinese ones do not.
    const isBound = (one, other) => HAN.test(one ?? "") && HAN.test(other ?? "");
    const left = isBound(pattern[at - 1], inside[0]) ? "" : before;
    const right = isBound(inside.at(-1), pattern[at + place.length]) ? "" : after;
    return left + inside + right;
  });
}

function english({ id, values }) {
  return id.replace(PLACE, (_, name) => {
    const value = values[name];
    return typeof value === "object" ? english(value) : value;
  });
}

// What the server says under a key of a record: its translation, or null for what has none.
export function translation(record, key) {
  const sentence = record.texts?.[key];
  if (!sentence || Array.isArray(sentence)) return null;
  return translated(sentence);
}

// The same for each text of a list.
export function translations(record, key) {
  const known = record.texts?.[key] ?? [];
  return record[key].map((text, place) => (known[place] && translated(known[place])) || text);
}

// What the server says under a key, in the language of the page, else in its own.
export const wording = (record, key) => translation(record, key) ?? record[key];

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
