// How the host does: what is wrong, what flows, what waits.

import { get, poll, readiness } from "./api.js";
import { chart } from "./chart.js";
import { h, put } from "./dom.js";
import { bytes, count, many, rate, seconds, short } from "./format.js";
import { heldBack } from "./pauses.js";
import { rates } from "./rates.js";

/** Between two looks; a chart gets a point every ten seconds. */
export const LOOK = 2000;
const DRAW = 10000;

export async function overview(view, { signal }) {
  const trouble = h("div", { "aria-live": "polite" });
  const paused = h("div", { "aria-live": "polite" });
  const tiles = h("div", { class: "tiles" });
  const brokers = h("div", { class: "sheet" });
  const past = charts();
  put(view, trouble, paused, tiles, past.element, brokers);
  const measure = rates();
  let held = "";
  poll(LOOK, signal, async () => {
    const [status, ready] = await Promise.all([get("/v1/status", {}, signal), readiness(signal)]);
    // A host that is stalled, or does not follow its cluster, is ready all the same; but all is not well.
    const isPaused = status.subscriptions.some(({ pause }) => pause);
    const isWell = !(ready.stalled ?? []).length && !(ready.refused ?? []).length && !ready.cluster && !isPaused;
    put(trouble, [(!ready.ready || isWell) && state(ready, status), stalls(status), refused(ready.refused ?? []), ready.cluster && cluster(ready.cluster)]);
    // Links keep the focus that is on them, and nobody is told twice, while it says the same.
    const now = heldBack(status.subscriptions);
    if ((now?.textContent ?? "") !== held) put(paused, now);
    held = now?.textContent ?? "";
    put(tiles, tilesOf(status, measure(status)));
    put(brokers, brokersOf(status));
  }, (error) => error && put(trouble, h("p", { class: "note bad", role: "alert" }, error.message)));
  poll(DRAW, signal, () => past.load(undefined, signal), () => {});
}

function state(ready, status) {
  if (ready.ready) {
    return h("p", { class: "note good" }, `Everything runs: ${many(status.subscriptions.length, "subscription")}, up for ${seconds(Math.floor(status.uptime_seconds))}.`);
  }
  return h("div", { class: "note bad", role: "alert" }, h("p", {}, h("strong", {}, "Not everything runs.")),
    h("ul", {}, (ready.troubles ?? []).slice(0, 12).map(({ what, why }) => h("li", {}, h("strong", {}, what), `: ${why}`)),
      (ready.troubles ?? []).length > 12 && h("li", {}, `and ${ready.troubles.length - 12} more`)));
}

/** Why what is deployed elsewhere does not come here. */
function cluster(why) {
  return h("div", { class: "note bad", role: "alert" }, h("p", {}, h("strong", {}, "This host does not follow its cluster"), `, and goes on with what it runs: ${why}`));
}

/** What is to run in the cluster, and cannot be taken here. */
function refused(handlers) {
  return handlers.length > 0 && h("div", { class: "note bad", role: "alert" }, h("p", {}, h("strong", {}, "Not taken from the cluster: what ran before goes on.")),
    h("ul", {}, handlers.slice(0, 12).map(({ what, why }) => h("li", {}, h("strong", {}, what), `: ${why}`)),
      handlers.length > 12 && h("li", {}, `and ${handlers.length - 12} more`)));
}

/** What gets nowhere. */
function stalls({ subscriptions }) {
  const stalled = subscriptions.filter(({ stall }) => stall);
  return stalled.length > 0 && h("div", { class: "note bad", role: "alert" }, h("p", {}, h("strong", {}, "Stalled: messages are held, and none comes to its end.")),
    h("ul", {}, stalled.slice(0, 12).map(({ name, stall }) => h("li", {}, h("a", { href: `#/subscriptions/${encodeURIComponent(name)}` }, name), `: ${stall.why}`)),
      stalled.length > 12 && h("li", {}, `and ${stalled.length - 12} more`)));
}

function tilesOf(status, rows) {
  const known = (figure) => rows.map((row) => row[figure]).filter((value) => value !== null);
  const together = (figure) => (known(figure).length === 0 ? null : known(figure).reduce((total, value) => total + value));
  const [ended, fuel] = [together("rate"), together("fuelRate")];
  const sum = (figure) => status.subscriptions.reduce((total, { counts }) => total + figure(counts), 0);
  const oldest = Math.max(0, ...status.subscriptions.map(({ counts }) => counts.oldest_age_seconds));
  const dead = status.brokers.reduce((total, broker) => total + (broker.dead_letters ?? 0), 0);
  const [held, limit] = [sum((counts) => counts.in_flight), sum((counts) => counts.concurrency)];
  const waiting = sum((counts) => counts.ready);
  return [
    tile("Settled", rate(ended), `${count(sum((counts) => counts.completed + counts.skipped + counts.dead_lettered))} since the start`),
    tile("Waiting", count(waiting), waiting > 0 ? `the oldest for ${seconds(oldest)}` : "nothing", { kind: oldest > 300 ? "warn" : "" }),
    tile("In flight", count(held), `of ${count(limit)} at once, ${bytes(sum((counts) => counts.in_flight_bytes))}`),
    tile("Dead letters", count(dead), dead > 0 ? "look at them" : "none wait", { kind: dead > 0 ? "bad" : "", href: "#/dead-letters" }),
    tile("Retried", count(sum((counts) => counts.retried)), `${count(sum((counts) => counts.returned))} returned at no cost`),
    tile("Fuel", fuel === null ? "–" : `${short(fuel)}/s`, `${short(sum((counts) => counts.fuel))} since the start`),
  ];
}

export function tile(name, value, more, { kind = "", href } = {}) {
  return h(href ? "a" : "div", { class: `tile ${kind}`, href }, h("span", { class: "name" }, name), h("span", { class: "value" }, value), h("span", { class: "more" }, more));
}

function brokersOf(status) {
  return [h("h2", {}, "Brokers"), h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, ["Name", "Kind", "State"].map((name) => h("th", { scope: "col" }, name)), h("th", { class: "number", scope: "col" }, "Dead letters"))),
    h("tbody", {}, status.brokers.map((broker) => h("tr", {}, h("td", {}, broker.name), h("td", {}, broker.type),
      h("td", {}, broker.connected ? h("span", { class: "tag good" }, "connected") : [h("span", { class: "tag bad" }, "away"), " ", broker.trouble]),
      h("td", { class: "number" }, count(broker.dead_letters))))))),
  status.brokers.flatMap((broker) => (broker.warnings ?? []).map((warning) => h("p", { class: "muted" }, `${broker.name}: ${warning}`)))];
}

/** The charts of the last hour, of one subscription or of all. */
export function charts() {
  const flow = chart({
    title: "Messages settled", unit: rate, stacked: true,
    lines: [{ name: "completed", kind: "s1" }, { name: "skipped", kind: "s4" }, { name: "retried", kind: "s2" }, { name: "dead-lettered", kind: "s3" }],
  });
  const runs = chart({ title: "Time of a run", unit: seconds, lines: [{ name: "half within (p50)", kind: "s1" }, { name: "99 % within (p99)", kind: "s2" }] });
  const held = chart({ title: "In flight", unit: short, lines: [{ name: "held", kind: "s1" }, { name: "handled at once at most", kind: "faint" }] });
  const waiting = chart({ title: "Waiting", unit: short, lines: [{ name: "messages", kind: "s1" }] });
  const fuel = chart({ title: "Fuel", unit: rate, lines: [{ name: "fuel", kind: "s4" }] });
  const age = chart({ title: "Age of the oldest", unit: seconds, lines: [{ name: "seconds", kind: "s2" }] });
  return {
    element: h("div", { class: "charts" }, [flow, runs, held, waiting, fuel, age].map(({ element }) => element)),
    async load(subscription, signal) {
      const past = await get("/v1/history", { subscription }, signal);
      const each = (values) => values.map((value, index) => value / (past.seconds[index] || 1));
      flow.draw(past.at, [each(past.completed), each(past.skipped), each(past.retried), each(past.dead_lettered)]);
      runs.draw(past.at, [past.p50_seconds, past.p99_seconds]);
      held.draw(past.at, [past.in_flight, past.concurrency]);
      waiting.draw(past.at, [past.ready]);
      fuel.draw(past.at, [each(past.fuel)]);
      age.draw(past.at, [past.oldest_age_seconds]);
    },
  };
}
