// What a launch form says, as plain values: from a launch that was, and to one that is asked for.
// No element is made here.

const TOGGLE = { configured: null, on: true, off: false };
// What the form has a field for, by the name of the API.
export const TEXTS = [
  "model_engine",
  "model_format",
  "python_version",
  "model_size_in_billions",
  "quantization",
  "inherit",
  "view",
];
export const LISTS = [
  "virtual_env_find_links",
  "constraints",
  "overrides",
  "exclude",
  "build_constraints",
  "must_import",
  "import_check",
];
export const FLAGS = ["no_proof", "any_engine", "refresh"];
// What is of one running model alone, or was decided by who may ask.
const NOT_KEPT = ["version", "restricted", "model_uid"];
// What a block has when it says nothing.
const BLOCK_DEFAULTS = { inherit_pip_config: true };

// A form in which nothing is filled in. `own`: not the catalogue's model but packages of its own;
// `also`: what was asked for and has no field, by its name in the API.
export function blank() {
  return {
    model: "",
    own: false,
    toggle: "configured",
    packages: [],
    where: "any",
    count: "1",
    require: "",
    background: false,
    workers: new Set(),
    also: {},
    ...Object.fromEntries(TEXTS.map((name) => [name, ""])),
    ...Object.fromEntries(LISTS.map((name) => [name, []])),
    ...Object.fromEntries(FLAGS.map((name) => [name, false])),
  };
}

// The form that asks for a launch that was, where and how soon it was asked for, and for nothing
// else: on these workers, of which `require` must become ready (null: all), in the `background`
// or not.
export function draftOf({ launch, workers, require = null, background = false }) {
  const draft = blank();
  const rest = { ...launch };
  const take = (name) => {
    const value = rest[name];
    delete rest[name];
    return value;
  };
  NOT_KEPT.forEach(take);
  draft.model = take("model_name");
  const enabled = take("enable_virtual_env") ?? null;
  draft.toggle = Object.keys(TOGGLE).find((each) => TOGGLE[each] === enabled);
  for (const name of TEXTS) draft[name] = take(name) ?? "";
  for (const name of LISTS) draft[name] = [...(take(name) ?? [])];
  for (const name of FLAGS) draft[name] = take(name) ?? false;
  const block = take("virtualenv");
  draft.own = Boolean(block);
  if (block) {
    draft.packages = [...block.packages];
    for (const [name, value] of Object.entries(block)) {
      if (name !== "packages" && !saysNothing(value, BLOCK_DEFAULTS[name]))
        draft.also[`virtualenv.${name}`] = value;
    }
  } else {
    draft.packages = [...(take("virtual_env_packages") ?? [])];
  }
  for (const [name, value] of Object.entries(rest))
    if (!saysNothing(value)) draft.also[name] = value;
  if (workers.length) {
    draft.where = "named";
    draft.workers = new Set(workers);
  }
  if (require !== null && require < workers.length) draft.require = String(require);
  draft.background = background;
  return draft;
}

const saysNothing = (value, usual = false) =>
  value === null || value === usual || (Array.isArray(value) && !value.length);

// The launch as the API takes it.
export function bodyOf(draft) {
  const body = { model_name: draft.model.trim() };
  const enabled = TOGGLE[draft.toggle];
  if (enabled !== null) body.enable_virtual_env = enabled;
  for (const name of TEXTS) if (draft[name].trim()) body[name] = draft[name].trim();
  for (const name of LISTS) if (draft[name].length) body[name] = draft[name];
  for (const name of FLAGS) if (draft[name]) body[name] = true;
  if (draft.own) body.virtualenv = { packages: draft.packages };
  else if (draft.packages.length) body.virtual_env_packages = draft.packages;
  for (const [name, value] of Object.entries(draft.also)) {
    const [, inner] = name.split("virtualenv.");
    if (inner === undefined) body[name] = value;
    else body.virtualenv[inner] = value;
  }
  return body;
}

// Where it is to be launched, and how soon, as the API takes it.
export function placeOf(draft) {
  const where = draft.require ? { require: Number(draft.require) } : {};
  if (draft.background) where.background = true;
  if (draft.where === "everywhere") return { ...where, everywhere: true };
  if (draft.where === "named") return { ...where, workers: [...draft.workers] };
  return { ...where, count: Number(draft.count) || 1 };
}

// A model of the catalogue has no block: what is in one goes with it.
export function setOwn(draft, own) {
  draft.own = own;
  if (own) return;
  for (const name of Object.keys(draft.also))
    if (name.startsWith("virtualenv.")) delete draft.also[name];
}

// The names that look most like one, for a name that is none of them.
export function similar(name, names) {
  const wanted = name.toLowerCase();
  return [...names]
    .map((each) => ({ each, far: distance(wanted, each.toLowerCase()) }))
    .filter(({ each, far }) => far <= Math.max(2, wanted.length / 4) || each.includes(wanted))
    .sort((one, other) => one.far - other.far)
    .slice(0, 3)
    .map(({ each }) => each);
}

// Levenshtein's distance.
function distance(one, other) {
  let row = [...other, ""].map((_, place) => place);
  for (let i = 1; i <= one.length; i++) {
    const above = row;
    row = [i];
    for (let j = 1; j <= other.length; j++) {
      const change = above[j - 1] + (one[i - 1] === other[j - 1] ? 0 : 1);
      row.push(Math.min(change, above[j] + 1, row[j - 1] + 1));
    }
  }
  return row[other.length];
}
