// Every handler at a glance: which version runs, what it costs, what is tried beside it.

import { get, poll } from "./api.js";
import { h, put, since } from "./dom.js";
import { bytes, count, digest, seconds, short } from "./format.js";
import { holding, table } from "./table.js";

const LOOK = 4000;

export async function handlers(view, { signal }) {
  const search = h("input", { type: "search", placeholder: "Name, digest or person ( / )", "aria-label": "Search handlers" });
  const trouble = h("div", { "aria-live": "polite" });
  const cluster = h("div");
  const list = table({
    columns: [
      { name: "Handler", cell: ({ name }) => h("a", { href: `#/handlers/${encodeURIComponent(name)}` }, name), sort: ({ name }) => name },
      { name: "State", cell: state, sort: ({ trouble: why, rollout }) => (why ? "a" : rollout ? "b" : "c") },
      { name: "Version", number: true, cell: ({ active }) => active?.number ?? "–", sort: ({ active }) => active?.number },
      { name: "Module", cell: ({ active }) => h("code", {}, digest(active?.digest)) },
      { name: "Size", number: true, cell: ({ active }) => bytes(active?.size), sort: ({ active }) => active?.size },
      { name: "Runs", number: true, cell: ({ active }) => count(active?.figures?.runs), sort: ({ active }) => active?.figures?.runs },
      { name: "p99", number: true, cell: ({ active }) => seconds(active?.figures?.p99_seconds), sort: ({ active }) => active?.figures?.p99_seconds },
      { name: "Fuel of a run", number: true, cell: ({ active }) => fuel(active?.figures?.mean_fuel), sort: ({ active }) => active?.figures?.mean_fuel },
      { name: "Deployed", cell: ({ active }) => (active ? h("span", {}, since(active.deployed_at), ` by ${active.deployed_by}`) : "–"), sort: ({ active }) => Date.parse(active?.deployed_at ?? 0) },
    ],
    key: ({ name }) => name,
    empty: "There is no such handler.",
  });
  put(view, cluster, h("div", { class: "sheet" }, h("div", { class: "bar" }, search), trouble, list.element));
  let rows = [];
  const show = () => list.show(holding(rows, search.value, ({ name, active }) => [name, active?.digest ?? "", active?.deployed_by ?? ""]));
  search.addEventListener("input", show);
  poll(LOOK, signal, async () => {
    const all = await get("/v1/handlers", {}, signal);
    rows = all.handlers;
    show();
    put(cluster, all.cluster && hosts(all.cluster));
  }, (error) => put(trouble, error && h("p", { class: "note bad", role: "alert" }, error.message)));
}

function state({ trouble, rollout, deploying, active }) {
  if (trouble) return h("span", {}, active ? h("span", { class: "tag warn" }, "runs, with trouble") : h("span", { class: "tag bad" }, "does not run"), ` ${trouble}`);
  if (deploying) return h("span", { class: "tag warn" }, `${deploying.by} deploys`);
  if (rollout) return h("span", { class: "tag warn" }, `${rollout.kind} of ${rollout.version}, ${rollout.share}`);
  return active ? h("span", { class: "tag good" }, "runs") : h("span", { class: "tag" }, "no version");
}

export function fuel(value) {
  return value === null || value === undefined ? "–" : short(value);
}

/** The hosts of a cluster; with a handler's name, what of it runs there. */
export function hosts(cluster, handler) {
  const kinds = { here: "good", stopped: "", gone: "bad" };
  return h("div", { class: "sheet" }, h("h2", {}, `Hosts of ${cluster.name}`),
    cluster.trouble && h("p", { class: "note bad" }, cluster.trouble),
    h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Host", "State", "Last word", handler && "Runs"].filter(Boolean).map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, cluster.hosts.map((host) => h("tr", {}, h("td", {}, host.name, host.name === cluster.host && " (this one)"),
        h("td", {}, h("span", { class: `tag ${kinds[host.presence]}` }, host.presence)), h("td", {}, since(host.last_word)),
        handler && h("td", {}, standing(host.handlers[handler]))))))));
}

function standing(on) {
  if (!on) return "–";
  const what = on.version === null || on.version === undefined ? "nothing" : `version ${on.version}`;
  const also = on.tries ? `, tries ${on.tries}` : "";
  const trouble = on.trouble && h("span", {}, " ", h("span", { class: "tag warn" }, "trouble"), ` ${on.trouble}`);
  return on.standing === "current" ? h("span", {}, what + also, trouble) : h("span", {}, h("span", { class: "tag warn" }, on.standing), ` ${what}${also}`, on.why && ` (${on.since ? `since ${on.since}: ` : ""}${on.why})`);
}
