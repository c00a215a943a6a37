// Who goes back in the history of the browser finds a view scrolled to where they left it, although its
// rows come later than the view.

// How far each address was scrolled, by its hash: the page, and the table that scrolls by itself.
const left = new Map();

const sheet = () => document.querySelector(".sheet");

// Whether the entry of the history is one that was shown before; from now on it is.
export function wasShown() {
  const before = Boolean(history.state?.shown);
  history.replaceState({ shown: true }, "");
  return before;
}

// Note how far the view of an address is scrolled, which is still shown.
export function noteScrolled(url) {
  left.set(new URL(url).hash, { page: scrollY, table: sheet()?.scrollTop ?? 0 });
}

// Scroll to where this address was left as soon as there is so much of it, unless a person does
// something else meanwhile.
export function scrollBack(place, signal) {
  const { page, table } = left.get(location.hash) ?? { page: 0, table: 0 };
  if (!page && !table) return;
  const observer = new MutationObserver(scroll);
  const end = () => observer.disconnect();
  function scroll() {
    scrollTo(0, page);
    if (sheet()) sheet().scrollTop = table;
    if (scrollY >= page - 1 && (sheet()?.scrollTop ?? 0) >= table - 1) end();
  }
  observer.observe(place, { childList: true, subtree: true });
  for (const kind of ["keydown", "pointerdown", "wheel"])
    addEventListener(kind, end, { once: true, signal });
  signal.addEventListener("abort", end);
}
