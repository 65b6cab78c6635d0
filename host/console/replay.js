// A dead letter's message once more, on a version that the host keeps, with no effect: what came of it beside what is recorded.

import { at, get, send } from "./api.js";
import { button, h, put, say } from "./dom.js";
import { bytes, count, digest, many, millis, seconds } from "./format.js";
import { payload } from "./payload.js";

/** Replays that are kept on the page, beside what the dead letter says. */
const KEPT = 3;

/** `run(body)` runs the message, with another body where one is given; `element` has the choice of version and what came of it. */
export function replaying({ letter, path, broker, signal }) {
  const which = h("select", { "aria-label": "Version to run it on" });
  const note = h("div");
  const said = h("p", { role: "status", class: "muted" }, "It runs when no message wants to. Nothing is sent, nothing is counted, and the dead letter stays as it is.");
  const result = h("div");
  const past = [];
  const go = button("Replay", () => run(), { class: "main" });
  const element = h("section", { class: "sheet", "aria-label": "Replay" }, h("h2", {}, "Run it once more"), note, h("div", { class: "bar" }, which, go), said, result);
  offer();
  return { element, run };

  async function offer() {
    const handler = await get(`/v1/handlers/${encodeURIComponent(letter.handler)}`, {}, signal).catch(() => null);
    if (signal.aborted) return;
    const kept = handler?.versions ?? [];
    const same = kept.filter((version) => version.digest === letter.digest);
    const ran = same.find(({ number }) => number === letter.version) ?? same[0];
    const active = kept.find(({ state }) => state === "active");
    const words = (version) => [`version ${version.number}`, version === ran && "gave it up", version === active && "active", `${digest(version.digest)}`].filter(Boolean).join(", ");
    // Which one it was, of several with the same module, the host knows best.
    const optionOf = (version) => (version === ran ? "" : String(version.number));
    put(which, kept.map((version) => h("option", { value: optionOf(version) }, words(version))));
    // After a deploy the question is what the new version does with it; before one, whether it fails again.
    const first = active ?? ran ?? kept[0];
    which.value = first ? optionOf(first) : "";
    which.hidden = go.hidden = kept.length === 0;
    const it = letter.version ? `Version ${letter.version}, which gave it up,` : `The version that gave it up (${digest(letter.digest)})`;
    put(note, ran && active && ran !== active && h("p", { class: "muted" }, `Version ${active.number} is chosen, which is active now; version ${ran.number} gave it up.`),
      kept.length === 0 && h("p", { class: "note warn" }, `No version of the handler “${letter.handler}” is kept on this host: there is nothing to run it on.`),
      kept.length > 0 && !letter.digest && h("p", { class: "note warn" }, `No version ran on it. ${active ? `Version ${active.number}, the active one, can be tried.` : ""}`),
      kept.length > 0 && letter.digest && !ran && h("p", { class: "note warn" }, `${it} was forgotten: the host keeps the newest versions, as many as “registry.keep_versions” says. ${active ? `Version ${active.number}, the active one, can be tried instead.` : ""}`));
  }

  async function run(body) {
    const edited = body !== undefined;
    put(said, "It runs…");
    try {
      const answer = await send("POST", at(`${path}/replay`, { broker, version: which.value, edited }), { body, signal });
      past.unshift({ edited, ...await answer.json() });
      past.length = Math.min(past.length, KEPT);
    } catch (error) {
      if (signal.aborted) return;
      put(said, "It was not run.");
      say(error.message, "bad");
      return;
    }
    const [last] = past;
    put(said, `Version ${last.version}${edited ? " with the edited body" : ""}: ${last.difference || `${last.replayed.outcome}, as recorded`}. Nothing was sent, and the dead letter is as it was.`);
    put(result, beside(past), made(last.replayed));
  }
}

/** What the dead letter says, and what came of each replay, the newest first. */
function beside(past) {
  const { recorded } = past[0];
  const columns = past.map(({ version, edited, replayed: it }) => ({
    name: `Version ${version}${edited ? ", edited" : ""}`,
    cells: [h("span", { class: `tag ${it.outcome === "completed" ? "good" : it.outcome === "skipped" ? "" : "bad"}` }, it.outcome),
      h("span", { class: "break" }, it.detail ?? "–", it.after_ms !== undefined && it.after_ms !== null && ` (again in ${seconds(it.after_ms / 1000)})`),
      `${count(it.fuel)}${it.fuel_limit ? ` of ${count(it.fuel_limit)}` : ""}`, `${bytes(it.memory_peak_bytes)} of ${bytes(it.memory_limit_bytes)}`,
      `${seconds(it.run_us / 1e6)} of ${seconds(it.timeout_ms / 1000)}`, (it.outputs ?? []).length > 0 ? many(it.outputs.length, "output") : "nothing"],
  }));
  const first = { name: "The dead letter says", cells: [h("span", { class: "tag bad" }, recorded.outcome), h("span", { class: "break" }, recorded.error),
    count(recorded.fuel), bytes(recorded.memory_peak_bytes), millis(recorded.run_ms), "nothing"] };
  const all = [first, ...columns];
  return h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, h("td"), all.map(({ name }) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, ["Outcome", "What was said", "Fuel", "Memory", "Time", "Would have sent"].map((row, index) =>
      h("tr", {}, h("th", { scope: "row" }, row), all.map(({ cells }) => h("td", {}, cells[index])))))));
}

/** Something that the run would have changed in a bucket or asked of a host. */
function did({ effect, bucket, key, bytes: size, by, method, url }) {
  if (effect === "set") return `set ${key} in bucket ${bucket} to ${bytes(size)}`;
  if (effect === "deleted") return `delete ${key} in bucket ${bucket}`;
  return effect === "incremented" ? `add ${by} to ${key} in bucket ${bucket}` : `send ${method} ${url}`;
}

/** What the last run would have sent, and what it said and measured. */
function made({ outputs = [], effects = [], logs = [], measurements = [], backtrace = [] }) {
  const headers = (output) => (output.headers ?? []).map(([name, value]) => `${name}: ${value}`).join("\n");
  const log = ({ at_us: time, level, text, fields = [] }) => `${seconds(time / 1e6).padStart(8)} ${level.padEnd(5)} ${text} ${fields.map(([key, value]) => `${key}=${value}`).join(" ")}`;
  const measured = ({ name, kind, value, labels = [] }) => `${kind} ${name} ${value} ${labels.map(([key, it]) => `${key}=${it}`).join(" ")}`;
  return [
    backtrace.length > 0 && [h("h3", {}, "Where it failed"), h("pre", { tabindex: "0", "aria-label": "Where it failed" }, backtrace.join("\n"))],
    outputs.map((output, index) => [h("h3", {}, `Output ${index + 1}: `, h("span", { class: "break" }, output.subject), ` (${output.broker})`),
      headers(output) && h("pre", { tabindex: "0", "aria-label": `Headers of output ${index + 1}` }, headers(output)), payload(output)]),
    effects.length > 0 && [h("h3", {}, "Would have done"), h("pre", { tabindex: "0", "aria-label": "What it would have done" }, effects.map(did).join("\n"))],
    logs.length > 0 && [h("h3", {}, "Log"), h("pre", { tabindex: "0", "aria-label": "Log of this run" }, logs.map(log).join("\n"))],
    measurements.length > 0 && [h("h3", {}, "Measured"), h("pre", { tabindex: "0", "aria-label": "Measured" }, measurements.map(measured).join("\n"))],
  ];
}
