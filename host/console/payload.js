// A message's body as text, as JSON, or byte by byte.

import { button, h, put } from "./dom.js";
import { bytes } from "./format.js";

/** So much of a body is shown at once: a browser lays out no more than this without a pause. */
const SHOWN = 64 * 1024;
const ROW = 16;

/** A body that is text (`body`), or else bytes (`body_base64`). */
export function payload({ body, body_base64: base64, body_size: size }) {
  const raw = body !== undefined && body !== null ? new TextEncoder().encode(body) : decode(base64 ?? "");
  const ways = new Map();
  const json = body ? parsed(body) : null;
  if (json !== null) ways.set("JSON", () => json);
  if (body !== undefined && body !== null) ways.set("Text", () => body);
  ways.set("Hex", () => hex(raw));
  const place = h("pre", { class: "payload", tabindex: "0", "aria-label": "body" });
  const note = h("span", { class: "muted" });
  const tabs = h("div", { class: "choice", role: "group", "aria-label": "How the body is shown" });
  const show = (name) => {
    const text = ways.get(name)();
    put(place, text.length > SHOWN ? text.slice(0, SHOWN) : text);
    put(note, text.length > SHOWN ? `${bytes(size)}, the start of it` : bytes(size));
    for (const tab of tabs.querySelectorAll("button")) tab.setAttribute("aria-pressed", String(tab.textContent === name));
  };
  for (const name of ways.keys()) tabs.append(button(name, () => show(name)));
  show(ways.keys().next().value);
  return h("div", {}, h("div", { class: "bar" }, tabs, note, save(raw)), raw.length === 0 ? h("p", { class: "muted" }, "The body is empty.") : place);
}

function save(raw) {
  return button("Save…", () => {
    // Any bytes, as a file: never something that the browser would open as a page of this origin.
    const address = URL.createObjectURL(new Blob([raw], { type: "application/octet-stream" }));
    h("a", { href: address, download: "message.bin" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }, { class: "quiet" });
}

/** JSON laid out, with its numbers as they were written; `null` when it is none. */
function parsed(text) {
  if (text.length > 1024 * 1024) return null;
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  return laidOut(text);
}

/** Lays JSON text out without reading its values: `9007199254740993` stays what it is. */
export function laidOut(text) {
  let out = "", depth = 0, index = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  while (index < text.length) {
    const char = text[index];
    if (char === '"') {
      const end = closing(text, index);
      out += text.slice(index, end);
      index = end;
      continue;
    }
    const next = (char === "{" || char === "[") && text.slice(index + 1, index + 64).match(/^\s*([}\]])/);
    if (char === "{" || char === "[") {
      if (next) { out += char + next[1]; index += 1 + next[0].length; continue; }
      depth += 1;
      out += char + line();
    } else if (char === "}" || char === "]") {
      depth -= 1;
      out += line() + char;
    } else if (char === ",") out += char + line();
    else if (char === ":") out += ": ";
    else if (!/\s/.test(char)) out += char;
    index += 1;
  }
  return out;
}

function closing(text, from) {
  let index = from + 1;
  while (index < text.length && text[index] !== '"') index += text[index] === "\\" ? 2 : 1;
  return index + 1;
}

function hex(raw) {
  const rows = [];
  for (let start = 0; start < raw.length && rows.length < SHOWN / 64; start += ROW) {
    const row = [...raw.subarray(start, start + ROW)];
    const numbers = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const letters = row.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".")).join("");
    rows.push(`${start.toString(16).padStart(6, "0")}  ${numbers.padEnd(ROW * 3)} ${letters}`);
  }
  return rows.join("\n");
}

function decode(base64) {
  return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
}
