// Every subscription at a glance, and one with its last hour.

import { at, get, poll, post } from "./api.js";
import { ask } from "./dialog.js";
import { button, h, put, say } from "./dom.js";
import { bytes, count, digest, moment, rate, seconds, short } from "./format.js";
import { LOOK, charts, tile } from "./overview.js";
import { standing, told } from "./pauses.js";
import { rates } from "./rates.js";
import { holding, table } from "./table.js";

export async function subscriptions(view, { signal, query }) {
  const search = h("input", { type: "search", placeholder: "Name, handler or broker ( / )", "aria-label": "Search subscriptions", value: query.get("q") ?? "" });
  const measure = rates();
  const list = table({
    columns: [
      { name: "Subscription", cell: ({ name }) => link(name), sort: ({ name }) => name },
      { name: "State", cell: state, sort: ({ trouble, stall, pause }) => (trouble ? "a" : stall ? "b" : pause ? "c" : "d") },
      { name: "Handler", cell: ({ handler }) => h("a", { href: `#/handlers/${encodeURIComponent(handler)}` }, handler), sort: ({ handler }) => handler },
      { name: "Broker", cell: ({ broker }) => broker, sort: ({ broker }) => broker },
      { name: "Settled", number: true, cell: ({ rate: now }) => rate(now), sort: ({ rate: now }) => now },
      { name: "Waiting", number: true, cell: ({ counts }) => count(counts.ready), sort: ({ counts }) => counts.ready },
      { name: "Oldest", number: true, cell: ({ counts }) => (counts.ready + counts.pending > 0 ? seconds(counts.oldest_age_seconds) : "–"), sort: ({ counts }) => counts.oldest_age_seconds },
      { name: "In flight", number: true, cell: ({ counts }) => `${count(counts.in_flight)} of ${count(counts.concurrency)}`, sort: ({ counts }) => counts.in_flight },
      { name: "p99", number: true, cell: ({ counts }) => seconds(counts.run_seconds?.p99), sort: ({ counts }) => counts.run_seconds?.p99 },
      { name: "Completed", number: true, cell: ({ counts }) => count(counts.completed), sort: ({ counts }) => counts.completed },
      { name: "Retried", number: true, cell: ({ counts }) => count(counts.retried), sort: ({ counts }) => counts.retried },
      { name: "Dead-lettered", number: true, cell: ({ name, counts }) => dead(name, counts), sort: ({ counts }) => counts.dead_lettered },
    ],
    key: ({ name }) => name,
    empty: "There is no such subscription.",
  });
  const trouble = h("div");
  put(view, h("div", { class: "sheet" }, h("div", { class: "bar" }, search), trouble, list.element));
  let rows = [];
  const show = () => list.show(holding(rows, search.value, ({ name, handler, broker }) => [name, handler, broker]));
  search.addEventListener("input", show);
  poll(LOOK, signal, async () => {
    rows = measure(await get("/v1/status", {}, signal));
    show();
  }, (error) => put(trouble, error && h("p", { class: "note bad", role: "alert" }, error.message)));
}

function link(name) {
  return h("a", { href: `#/subscriptions/${encodeURIComponent(name)}` }, name);
}

function dead(name, counts) {
  if (counts.dead_lettered === 0) return "0";
  return h("a", { href: `#/dead-letters?subscription=${encodeURIComponent(name)}` }, count(counts.dead_lettered));
}

function state({ trouble, pause, stall }) {
  if (pause) return h("span", {}, h("span", { class: "tag warn" }, standing(pause)), ` ${told(pause)}`);
  if (stall && !trouble) return h("span", {}, h("span", { class: "tag bad" }, "stalled"), ` ${stall.why}`);
  return trouble ? h("span", {}, h("span", { class: "tag bad" }, "not running"), ` ${trouble}`) : h("span", { class: "tag good" }, "running");
}

export async function subscription(view, { parts: [name], signal, me }) {
  const facts = h("div", { class: "sheet" });
  const tiles = h("div", { class: "tiles" });
  const reasons = h("div", { class: "sheet" });
  const trouble = h("div", { "aria-live": "polite" });
  const past = charts();
  const path = `/v1/subscriptions/${encodeURIComponent(name)}`;
  let held;
  const pausing = button("Pause…", pause), resuming = button("Resume", resume, { class: "main" });
  put(view, trouble, me.may("operate") && h("div", { class: "bar" }, pausing, resuming), tiles, past.element, h("div", { class: "two" }, facts, reasons));
  poll(10000, signal, () => past.load(name, signal), () => {});
  poll(LOOK, signal, async () => {
    const status = await get("/v1/status", {}, signal);
    const it = status.subscriptions.find((candidate) => candidate.name === name);
    if (!it) throw new Error(`There is no subscription “${name}” on this host.`);
    const { counts } = it;
    put(trouble, it.trouble && h("p", { class: "note bad", role: "alert" }, it.trouble),
      it.stall && h("p", { class: "note bad", role: "alert" }, `Stalled since ${moment(it.stall.since)}: ${it.stall.why}.`),
      it.pause && h("p", { class: "note warn" }, `${it.pause.kind === "circuit" ? "Its circuit is open" : "Paused"} ${told(it.pause)}.`));
    held = it.pause?.hosts;
    pausing.hidden = Boolean(it.pause);
    resuming.hidden = !it.pause;
    put(tiles,
      tile("Completed", count(counts.completed), `${count(counts.skipped)} skipped`),
      tile("Waiting", count(counts.ready), counts.ready > 0 ? `the oldest for ${seconds(counts.oldest_age_seconds)}` : "nothing"),
      tile("In flight", count(counts.in_flight), `of ${count(counts.concurrency)} at once`),
      tile("Retried", count(counts.retried), `${count(counts.returned)} returned at no cost`),
      tile("Dead-lettered", count(counts.dead_lettered), "look at them", { kind: counts.dead_lettered > 0 ? "bad" : "", href: `#/dead-letters?subscription=${encodeURIComponent(name)}` }));
    put(facts, h("h2", {}, "What it is"), h("dl", { class: "facts" }, [
      ["Handler", h("a", { href: `#/handlers/${encodeURIComponent(it.handler)}` }, it.handler)],
      ["Module", h("code", {}, digest(it.digest))], ["Broker", it.broker],
      ["Runs", count(counts.runs)],
      ["Half of the runs within", seconds(counts.run_seconds?.p50)], ["99 of 100 within", seconds(counts.run_seconds?.p99)],
      ["Fuel of a run", counts.runs > 0 ? short(counts.fuel / counts.runs) : "–"], ["Most memory of a run", bytes(counts.memory_peak_bytes)],
      ["Outputs", count(counts.outputs)], ["Done before", count(counts.duplicates)], ["Abandoned", count(counts.abandoned)],
    ].map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)])));
    const codes = Object.entries(counts.reasons).sort(([, a], [, b]) => b - a);
    put(reasons, h("h2", {}, "How settlements came about"), codes.length === 0 ? h("p", { class: "empty" }, "Nothing was settled yet.")
      : h("table", {}, h("tbody", {}, codes.map(([code, number]) => h("tr", {}, h("td", {}, h("code", {}, code)), h("td", { class: "number" }, count(number)))))));
  }, (error) => error && put(trouble, h("p", { class: "note bad", role: "alert" }, error.message)));

  async function pause() {
    const why = h("input", { "aria-label": "Why" }), time = h("select", { "aria-label": "For how long" },
      [["", "until somebody resumes it"], ["10m", "for 10 minutes"], ["1h", "for an hour"], ["12h", "for 12 hours"]].map(([value, text]) => h("option", { value }, text)));
    const hosts = h("select", { "aria-label": "On which hosts" }, h("option", { value: "this" }, "this one"), h("option", { value: "all" }, "all of the cluster"));
    const cluster = await get("/v1/handlers", {}, signal).then((list) => list.cluster, () => undefined);
    const text = [h("p", {}, "What runs is finished; nothing new is taken. Messages wait on the broker, and lose no attempt."),
      h("label", { class: "field" }, "Why", why), h("label", { class: "field" }, "How long", time),
      cluster && h("label", { class: "field" }, `Hosts (this one is ${cluster.host})`, hosts)].filter(Boolean);
    if (!(await ask({ title: `Pause ${name}?`, text, yes: "Pause" }))) return;
    const all = Boolean(cluster) && hosts.value === "all";
    await change("pause", { why: why.value.trim(), for: time.value, hosts: all && "all" }, () => `${name} is paused${all ? " on all hosts" : ""}.`);
  }

  async function resume() {
    await change("resume", { hosts: held === "all" && "all" }, ({ still }) => (still ? `${name} is still paused: ${told(still)}.` : `${name} takes messages again, a few at first.`));
  }

  async function change(verb, query, done) {
    try {
      const { subscriptions } = await post(at(`${path}/${verb}`, query));
      say(done(subscriptions[0]));
    } catch (error) {
      say(error.message, "bad");
    }
  }
}
