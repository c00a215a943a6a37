// The time as the server has it: that of this computer may be off, and all times are of theirs.

// A header has whole seconds, and an answer is on its way for some.
const TOLERATED_MILLISECONDS = 5000;

let ahead = 0;

// Take in an answer's Date (RFC 9110, 6.6.1).
export function hearDate(text) {
  const off = Date.parse(text) - Date.now();
  if (Number.isFinite(off)) ahead = Math.abs(off) > TOLERATED_MILLISECONDS ? off : 0;
}

// Seconds since the epoch.
export const now = () => (Date.now() + ahead) / 1000;
