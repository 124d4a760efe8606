// Numbers, times and sizes as people read them.

const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const FINE = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const MINUTE = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

/** A number of things. */
export function count(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (Math.abs(value) >= 100_000) return SHORT.format(value);
  return Math.abs(value) >= 100 || Number.isInteger(value) ? WHOLE.format(value) : FINE.format(value);
}

/** A whole number with its digits in groups. */
export function whole(value) {
  return value === null || value === undefined ? "–" : WHOLE.format(value);
}

/** A slot: as the chain writes it. */
export function slot(value) {
  return value === null || value === undefined ? "–" : String(value);
}

/** A size. */
export function bytes(value) {
  if (!Number.isFinite(value)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; Math.abs(value) >= 1024 && unit < units.length - 1; unit += 1) value /= 1024;
  return `${FINE.format(value)} ${units[unit]}`;
}

/** A share of one. */
export function percent(value) {
  if (!Number.isFinite(value)) return "–";
  const share = value * 100;
  if (share > 99 && share < 100) return `${(Math.floor(share * 1000) / 1000).toString()} %`;
  return `${FINE.format(share)} %`;
}

/** Milliseconds. */
export function millis(value) {
  if (!Number.isFinite(value)) return "–";
  return value >= 10_000 ? `${FINE.format(value / 1000)} s` : `${FINE.format(value)} ms`;
}

/** How long something is or was, from milliseconds. */
export function duration(value) {
  const seconds = Math.max(0, Math.round(value / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

/** A time of the day. */
export function clock(at) {
  return at === null || at === undefined ? "–" : CLOCK.format(at);
}

/** A time that may be long ago. */
export function when(at) {
  return Date.now() - at > 72_000_000 ? DAY.format(at) : clock(at);
}

/** A time on an axis over `range` milliseconds. */
export function tick(at, range) {
  if (range > 86_400_000) return DAY.format(at);
  return range > 600_000 ? MINUTE.format(at) : CLOCK.format(at);
}

/** A value in its unit. */
export function inUnit(unit, value) {
  const formats = { bytes, "bytes/s": (rate) => `${bytes(rate)}/s`, ratio: percent, ms: millis };
  const format = formats[unit];
  return format ? format(value) : `${count(value)}${unit === "s" ? " s" : ""}`;
}
