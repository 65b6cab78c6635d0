// What becomes of a message that is sent back: seen from before it is sent, so that nothing is missed however quick it is.

import { at, lines, send } from "./api.js";
import { h, put } from "./dom.js";
import { clock, seconds } from "./format.js";

/** After so long without a word it is said why there may be none. */
const PATIENCE = 10000;
/** With these a message is done. */
const ENDS = ["completed", "skipped", "dead-lettered", "already-done"];
const KINDS = { completed: "good", skipped: "good", "already-done": "good", "dead-lettered": "bad" };

/** Begins to look at a dead letter's subscription; `element` shows what is seen of its message, `stop` ends it. */
export async function outcome({ letter, signal }) {
  const end = new AbortController();
  signal.addEventListener("abort", () => end.abort());
  const state = h("p", { role: "status" }), list = h("ul", { class: "steps" });
  const element = h("section", { class: "sheet", "aria-label": "Since it was sent back" }, h("h2", {}, "Since it was sent back"), state, list);
  try {
    // With the answer's head the host says that it tells all from here on.
    const answer = await send("GET", at("/v1/live", { broker: letter.broker, subscription: letter.subscription }), { signal: end.signal });
    put(state, "It waits its turn…");
    const quiet = setTimeout(() => list.children.length === 0 && put(state, "Nothing was seen of it yet. It may wait behind others or for a pause to end, or another host of the cluster has taken it."), PATIENCE);
    watch(answer).finally(() => clearTimeout(quiet));
  } catch (error) {
    if (!signal.aborted) put(state, `What becomes of it cannot be seen from here: ${error.message}`);
  }
  return { element, stop: () => end.abort() };

  async function watch(answer) {
    try {
      for await (const line of lines(answer)) {
        if (line.kind !== "ended" || line.message_id !== letter.message_id) continue;
        list.append(seen(line));
        const ended = ENDS.includes(line.settled_as);
        put(state, ended ? "It has come to its end:" : "It has run, and comes again:");
        if (ended) return end.abort();
      }
      put(state, "The host has ended: what became of it is seen when it runs again.");
    } catch (error) {
      if (!end.signal.aborted) put(state, error.message);
    }
  }
}

function seen(it) {
  const again = it.again_in_ms !== undefined && it.again_in_ms !== null ? `, again in ${seconds(it.again_in_ms / 1000)}` : "";
  const reason = it.reason === it.settled_as ? "" : `${it.reason}`;
  const detail = [reason, it.detail].filter(Boolean).join(": ");
  return h("li", {}, h("span", { class: "muted" }, clock(it.at)), h("span", {}, h("span", { class: `tag ${KINDS[it.settled_as] ?? "warn"}` }, it.settled_as), it.version ? ` on version ${it.version}` : ""),
    h("span", { class: "grow" }, `${detail}${again} `, it.dead_letter && h("a", { href: `#/dead-letters/${encodeURIComponent(it.dead_letter)}?broker=${encodeURIComponent(it.broker)}` }, "its new dead letter")),
    h("span", { class: "muted" }, seconds(it.run_us / 1e6)));
}
