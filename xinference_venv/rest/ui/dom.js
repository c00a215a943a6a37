// Elements from data. All text goes in as text: nothing here, or anywhere, makes markup of it.

const SVG = "http://www.w3.org/2000/svg";

// An element: `h("button", {class: "quiet", type: "button", on: {click}}, "text", child)`.
// Attributes that are null, undefined or false are left out; true stands without a value.
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

// The same, of SVG.
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value))
        element.addEventListener(event, listener);
    } else if (name === "value" && "value" in element) {
      element.value = value ?? "";
    } else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  // A choice is made once the options are there.
  element.append(
    ...children
      .flat(Infinity)
      .filter((each) => each !== null && each !== undefined && each !== false),
  );
  if (attributes.value !== undefined && element.localName === "select")
    element.value = attributes.value ?? "";
  return element;
}

// Replace what is in an element. If the focus is on a control in it, it goes to the one that stands in
// its place.
export function redraw(element, ...children) {
  const controls = () => [...element.querySelectorAll("a, button, input, summary")];
  const place = controls().indexOf(document.activeElement);
  element.replaceChildren(...children);
  if (place >= 0) (controls()[place] ?? document.querySelector("h1")).focus();
}

export const $ = (id) => document.getElementById(id);

// The shapes of icons, as strokes on a field of 24 by 24.
const STROKES = {
  add: "M12 5v14M5 12h14",
  remove: "M5 7h14M10 7V4.5h4V7M7 7l1 12.5h8L17 7M10.5 10.5v5.5M13.5 10.5v5.5",
  close: "M6 6l12 12M18 6 6 18",
  copy: "M9 9h10v11H9zM15 9V4H5v11h4",
  check: "M5 12.5l4.5 4.5L19 7.5",
  pause: "M9 6v12M15 6v12",
  stop: "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17zM9 9l6 6M15 9l-6 6",
  warning: "M12 4 21 19.5H3zM12 10v4.5M12 16.9v.2",
  info: "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17zM12 11v5.5M12 7.7v.2",
  environments: "M12 3.5 19.5 8v8L12 20.5 4.5 16V8zM4.5 8l7.5 4.3L19.5 8M12 12.3v8.2",
  launch: "M8 5.5v13l10.5-6.5z",
  jobs: "M4 7h2M9 7h11M4 12h2M9 12h11M4 17h2M9 17h11",
  disk: "M5 7c0-1.7 3.1-3 7-3s7 1.3 7 3-3.1 3-7 3-7-1.3-7-3zM5 7v10c0 1.7 3.1 3 7 3s7-1.3 7-3V7M5 12c0 1.7 3.1 3 7 3s7-1.3 7-3",
  workers: "M4 5h16v5H4zM4 14h16v5H4zM7 7.5h.2M7 16.5h.2M11 7.5h6M11 16.5h6",
  key: "M14.5 4a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zM10.6 13.4 4 20M6.5 17.5l2 2M15.5 8.5v.2",
  models: "M4 5.5h7v13H4zM13 5.5h7v13h-7zM6.5 9h2M15.5 9h2",
  leases: "M7 11V8a5 5 0 0 1 10 0v3M5.5 11h13v9h-13zM12 14.5v2.5",
  release: "M7 11V8a5 5 0 0 1 9.5-2.2M5.5 11h13v9h-13zM12 14.5v2.5",
  doctor: "M9.5 4.5h5v5h5v5h-5v5h-5v-5h-5v-5h5z",
  help: "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17zM9.5 9.5a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.1.9-1.1 1.8M12 16.4v.2",
  filter: "M4 6h16M7 12h10M10 18h4",
  history: "M4 19h16M4 19V5M7.5 15.5l3.5-4 3 2.5 5-6.5",
  again: "M19 12a7 7 0 1 1-2-5M17.5 3v4.2h-4.2",
};

export function icon(name) {
  return svg(
    "svg",
    { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" },
    svg("path", { d: STROKES[name] }),
  );
}

let numbers = 0;

// An id that no other element has, for labels.
export function newId(prefix) {
  numbers += 1;
  return `${prefix}-${numbers}`;
}

// Announce a text to screen readers; the same text again is read again. While a dialog is open they
// get nothing of what is outside of it, so that it has a place of its own for this.
export function announce(text) {
  const live = [...document.querySelectorAll("dialog[open] > .live")].at(-1) ?? $("live");
  live.textContent = live.textContent === text ? `${text}\u00a0` : text;
}

// Give an element a text that screen readers announce: not again while it is the same.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// So many times as long as it took: a large cluster is not asked all the time.
const PAUSES = 4;

// Do something now and every so many seconds, while the page is visible, until `signal` ends it;
// less often where it takes long.
// Returns a function that does it at once.
export function repeat(seconds, signal, work) {
  let timer;
  let running = false;
  async function turn() {
    clearTimeout(timer);
    if (running || signal.aborted) return;
    running = true;
    const began = performance.now();
    try {
      if (!document.hidden) await work();
    } finally {
      running = false;
      const took = performance.now() - began;
      const pause = Math.max(seconds * 1000, took * PAUSES);
      if (!signal.aborted) timer = setTimeout(turn, pause);
    }
  }
  signal.addEventListener("abort", () => clearTimeout(timer));
  document.addEventListener("visibilitychange", turn, { signal });
  turn();
  return turn;
}
