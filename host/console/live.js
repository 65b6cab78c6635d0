// What becomes of messages, as it happens.

import { at, get, lines, send } from "./api.js";
import { button, h, put } from "./dom.js";
import { bytes, clock, count, seconds } from "./format.js";

/** Lines that are kept on the screen. */
const KEPT = 200;

export async function live(view, { signal, me }) {
  const handlers = (await get("/v1/handlers", {}, signal)).handlers.map(({ name }) => name);
  const choice = h("select", { "aria-label": "Handler" }, h("option", { value: "" }, "All handlers"), handlers.map((name) => h("option", { value: name }, name)));
  const payloads = h("input", { type: "checkbox" });
  const state = h("span", { class: "muted", role: "status" });
  const rows = h("tbody");
  let stopped = false, stream = new AbortController();
  const toggle = button("Stop", () => { stopped = !stopped; put(toggle, stopped ? "Go on" : "Stop"); stopped ? stream.abort() : watch(); });
  choice.addEventListener("change", again);
  payloads.addEventListener("change", again);
  signal.addEventListener("abort", () => stream.abort());
  put(view, h("div", { class: "sheet" }, h("div", { class: "bar" }, choice, me.may("operate") && h("label", {}, payloads, "with payloads and logs"), toggle, state),
    h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["When", "Handler", "Subject", "What became of it", "Time", "Fuel"].map((name) => h("th", { scope: "col" }, name)))), rows))));
  watch();

  function again() {
    stream.abort();
    put(rows);
    if (!stopped) watch();
  }

  async function watch() {
    stream = new AbortController();
    const mine = stream;
    put(state, "Connecting…");
    try {
      const answer = await send("GET", at("/v1/live", { handler: choice.value, payloads: payloads.checked }), { signal: mine.signal });
      put(state, "Watching; nothing has come yet.");
      for await (const line of lines(answer)) {
        if (mine.signal.aborted) return;
        if (line.kind === "missed") rows.prepend(h("tr", {}, h("td", { colspan: "6", class: "muted" }, `${count(line.count)} went by too fast to be shown`)));
        else if (line.settled_as) {
          put(state, "Watching.");
          rows.prepend(...shown(line));
        }
        while (rows.children.length > KEPT) rows.lastChild.remove();
      }
      put(state, "The host ended the stream.");
    } catch (error) {
      if (!mine.signal.aborted) put(state, error.message);
    }
  }
}

const KINDS = { completed: "good", skipped: "", retried: "warn", returned: "warn", "dead-lettered": "bad", abandoned: "bad" };

function shown(it) {
  const reason = it.reason === it.settled_as ? "" : ` ${it.reason}`;
  const detail = it.detail ? `: ${it.detail}` : "";
  const again = it.again_in_ms !== undefined && it.again_in_ms !== null ? `, again in ${seconds(it.again_in_ms / 1000)}` : "";
  const main = h("tr", {}, h("td", { class: "nowrap" }, clock(it.at)), h("td", {}, `${it.handler}${it.version ? `@${it.version}` : ""}`), h("td", { class: "break" }, `${it.subject} #${it.sequence}`),
    h("td", { class: "break" }, h("span", { class: `tag ${KINDS[it.settled_as] ?? ""}` }, it.settled_as), `${reason}${detail}${again} `,
      it.dead_letter && h("a", { href: `#/dead-letters/${encodeURIComponent(it.dead_letter)}?broker=${encodeURIComponent(it.broker)}` }, "look at it")),
    h("td", { class: "number" }, seconds(it.run_us / 1e6)), h("td", { class: "number" }, count(it.fuel_used)));
  const more = [
    (it.logs ?? []).map((log) => `${log.level} ${log.text} ${(log.fields ?? []).map(([key, value]) => `${key}=${value}`).join(" ")}`),
    (it.outputs ?? []).map((output) => `→ ${output.subject}, ${bytes(output.size)}: ${output.start}`),
    it.message ? [typeof it.message.body === "string" ? it.message.body : "(bytes)"] : [],
  ].flat();
  return more.length === 0 ? [main] : [main, h("tr", {}, h("td"), h("td", { colspan: "5" }, h("pre", {}, more.join("\n"))))];
}
