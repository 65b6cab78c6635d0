// Numbers, times and sizes as people read them.

const whole = new Intl.NumberFormat("en");
const SI = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

/** A count: whole up to a hundred thousand, then with a letter. */
export function count(value) {
  if (value === null || value === undefined) return "–";
  if (Math.abs(value) < 1e5) return whole.format(Math.round(value));
  return short(value);
}

/** How many match, of what was counted: at least so many, where the host does not look at all of them. */
export function atLeast({ matched, more }) {
  return `${more ? "at least " : ""}${count(matched)}`;
}

/** Three digits and a letter. */
export function short(value) {
  for (const [unit, letter] of SI) if (Math.abs(value) >= unit) return `${digits(value / unit)}${letter}`;
  return digits(value);
}

function digits(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(size % 1 < 0.05 ? 0 : 1);
  return String(Number(value.toFixed(size >= 1 ? 1 : 2)));
}

/** A rate a second. */
export function rate(value) {
  return value === null || value === undefined ? "–" : `${short(value)}/s`;
}

/** A length of time in seconds. */
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0 s";
  if (value < 1e-3) return `${digits(value * 1e6)} µs`;
  if (value < 1) return `${digits(value * 1e3)} ms`;
  if (value < 120) return `${digits(value)} s`;
  if (value < 7200) return `${Math.floor(value / 60)} min`;
  if (value < 172800) return `${Math.floor(value / 3600)} h ${Math.floor(value / 60) % 60} min`;
  return `${Math.floor(value / 86400)} d ${Math.floor(value / 3600) % 24} h`;
}

/** A length of time that was measured in whole milliseconds. */
export function millis(value) {
  return value === 0 ? "under 1 ms" : seconds(value / 1000);
}

/** A size in bytes. */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit === 0 ? value : digits(value)} ${units[unit]}`;
}

/** How long ago a moment was. */
export function ago(text, now = Date.now()) {
  if (!text) return "–";
  const passed = (now - Date.parse(text)) / 1000;
  if (Number.isNaN(passed)) return text;
  if (passed < 0) return `in ${seconds(-passed)}`;
  return passed < 1 ? "now" : `${seconds(Math.floor(passed))} ago`;
}

/** A moment by this machine's clock and place, to the second. */
export function moment(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return String(text ?? "–");
  return date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

/** The time of day of a moment, to the millisecond. All parts are asked for: of a fraction alone nothing else is shown. */
export function clock(text) {
  const parts = { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" };
  return new Date(text).toLocaleTimeString(undefined, parts);
}

/** The start of a digest. */
export function digest(text) {
  if (!text) return "–";
  return String(text).replace(/^sha256:/, "").slice(0, 12);
}

/** A text as a sentence: with its full stop, where it has none. */
export function sentence(text) {
  return /[.!?…]$/.test(text.trim()) ? text.trim() : `${text.trim()}.`;
}

/** One or many of something. */
export function many(number, one, several = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : several}`;
}
