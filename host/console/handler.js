// One handler: its versions, what is tried beside the active one, deploying and going back.

import { get, poll, post } from "./api.js";
import { deploy } from "./deploy.js";
import { ask } from "./dialog.js";
import { button, h, put, say, since } from "./dom.js";
import { bytes, count, digest, moment, seconds } from "./format.js";
import { fuel, hosts } from "./handlers.js";

const LOOK = 2500;

export async function handler(view, { parts: [name], signal, me }) {
  const path = `/v1/handlers/${encodeURIComponent(name)}`;
  const trouble = h("div", { "aria-live": "polite" });
  const [facts, trial, versions, history, cluster] = Array.from({ length: 5 }, () => h("div"));
  let shown = "";
  const refresh = async () => {
    const it = await get(path, {}, signal);
    // Buttons stay as they are, with the focus that is on them, while nothing has changed.
    const text = JSON.stringify(it);
    if (text === shown) return;
    shown = text;
    put(trouble, it.trouble && h("p", { class: "note bad", role: "alert" }, it.trouble),
      it.deploying && h("p", { class: "note warn" }, `${it.deploying.by} deploys, since ${moment(it.deploying.since)}.`));
    put(facts, active(it));
    put(trial, it.rollout && rollout(it.rollout));
    put(versions, versionTable(it));
    put(history, past(it.history));
    put(cluster, it.cluster && hosts(it.cluster, name));
  };
  put(view, trouble, trial, facts, me.may("deploy") ? deploy(name, refresh) : h("p", { class: "note" }, `Deploying needs the role “deploy”; ${me.name} has the role “${me.role}”.`),
    versions, cluster, history);
  poll(LOOK, signal, refresh, (error) => error && put(trouble, h("p", { class: "note bad", role: "alert" }, error.message)));

  async function change(what, verb, query, question) {
    if (!(await ask(question))) return;
    try {
      const done = await post(`${path}/${verb}`, query);
      say(typeof what === "function" ? what(done) : what);
    } catch (error) {
      say(error.message, "bad");
    }
    await refresh();
  }

  function active(it) {
    const version = it.versions.find(({ state }) => state === "active");
    if (!version) return h("div", { class: "sheet" }, h("p", { class: "empty" }, "No version is active: deploy one."));
    const { limits, outputs, config, secrets, buckets, hosts } = version.settings;
    const grants = Object.entries(outputs ?? {}).map(([output, { broker, subject }]) => `${output} → ${subject} (${broker})`);
    return h("div", { class: "sheet" }, h("h2", {}, `Version ${version.number} is active`), h("dl", { class: "facts" }, [
      ["Module", h("code", {}, version.digest)], ["Contract", version.contract], ["From", version.source],
      ["Deployed", `${moment(version.deployed_at)} by ${version.deployed_by}`],
      version.signed_by && ["Signed by", version.signed_by.name ?? version.signed_by.key],
      ["Limits", `${count(limits.fuel)} fuel, ${limits.timeout}, ${bytes(limits.memory)} of memory`],
      ["Outputs", grants.length > 0 ? grants.join(", ") : "none are granted"],
      config && ["Values", Object.entries(config).map(([value, text]) => `${value} = ${text}`).join(", ")],
      secrets && ["Secrets", Object.entries(secrets).map(([secret, from]) => `${secret} (${from})`).join(", ")],
      buckets && ["Buckets", Object.entries(buckets).map(([bucket, to]) => `${bucket} → ${to.bucket} (${to.broker}, ${to.access})`).join(", ")],
      hosts && ["Hosts", hosts.join(", ")],
      ["Instances", limits.reuse > 1 ? `reused for up to ${count(limits.reuse)} messages` : "a fresh one for each message"],
    ].filter(Boolean).map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)])));
  }

  function rollout(it) {
    const left = it.promote_after_seconds ?? it.ends_after_seconds;
    const row = (label, side) => h("tr", {}, h("th", { scope: "row" }, label), [count(side.messages), count(side.ended), count(side.faults), count(side.failures), count(side.dead_letters),
      seconds(side.figures.p99_seconds), fuel(side.figures.mean_fuel)].map((value) => h("td", { class: "number" }, value)));
    return h("div", { class: "sheet" }, h("div", { class: "bar" }, h("h2", { class: "grow" }, `${it.kind === "canary" ? "Canary" : "Shadow"}: version ${it.version} on ${it.share}`),
      me.may("deploy") && button("Promote", () => change(`Version ${it.version} is the active one.`, "promote", { version: it.version }, {
        title: `Make version ${it.version} the active one?`, text: "It gets all messages from now on.", yes: "Promote" }), { class: "main" }),
      me.may("deploy") && button("Abort", () => change(({ unrecorded }) => (unrecorded ? `The ${it.kind} has ended. That is not recorded yet, and is tried again: ${unrecorded}` : `The ${it.kind} has ended.`), "abort", { version: it.version }, {
        title: `End the ${it.kind}?`, text: `Version ${it.stable.version} goes on with all messages.`, yes: "Abort", bad: true }), { class: "bad" })),
    h("p", {}, it.note, left !== null && left !== undefined && ` (${seconds(left)})`, ". Begun ", since(it.started_at), ` by ${it.started_by}.`),
    h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, h("td"), ["Messages", "Ended", "Faults", "Failures", "Dead letters", "p99", "Fuel of a run"].map((text) => h("th", { scope: "col", class: "number" }, text)))),
      h("tbody", {}, row(`active: ${it.stable.version}`, it.stable), row(`${it.kind}: ${it.version}`, it.candidate)))),
    it.cluster && together(it),
    it.shadow && shadow(it.shadow));
  }

  /** What it came to on each host of a cluster. */
  function together(it) {
    const { hosts: each, trying, not_yet: notYet, shadow: compared } = it.cluster;
    const numbers = (tally) => `${count(tally.messages)} messages, ${count(tally.faults)} faults, ${count(tally.failures)} failures, ${count(tally.dead_letters)} dead letters`;
    return h("details", {}, h("summary", {}, `On all hosts: ${numbers(it.cluster.candidate)}`),
      notYet?.length > 0 && h("p", { class: "note warn" }, `Has not begun on: ${notYet.join(", ")}`),
      trying?.length > 0 && h("p", { class: "muted" }, `Tried on: ${trying.join(", ")}`),
      compared && h("p", {}, `${count(compared.compared)} compared, ${count(compared.different)} different.`),
      h("ul", {}, each.map((host) => h("li", {}, h("strong", {}, host.host), `: ${numbers(host.candidate)}; the active one ${numbers(host.stable)}`))));
  }

  function shadow(it) {
    return h("div", {}, h("p", {}, `${count(it.compared)} compared: ${count(it.same)} the same, ${count(it.different)} different (${count(it.by_outcome)} by outcome, ${count(it.by_outputs)} by outputs, ${count(it.by_fault)} by fault).`),
      (it.differences ?? []).slice(0, 8).map((difference) => h("details", {}, h("summary", {}, `${difference.subject}: ${difference.told}`),
        h("dl", { class: "facts" }, h("dt", {}, "Message"), h("dd", {}, difference.message_id), h("dt", {}, "Active"), h("dd", {}, did(difference.stable)), h("dt", {}, "Shadow"), h("dd", {}, did(difference.candidate))),
        difference.body_start && h("pre", {}, difference.body_start))));
  }

  function did(it) {
    return `${it.outcome}${it.detail ? `: ${it.detail}` : ""}, ${count(it.outputs_count)} outputs, ${count(it.fuel_used)} fuel`;
  }

  function versionTable(it) {
    const states = { active: "good", candidate: "warn", loaded: "", kept: "" };
    return h("div", { class: "sheet" }, h("h2", {}, "Versions that are kept"), h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "number" }, "Version"), h("th", { scope: "col" }, "State"), h("th", { scope: "col" }, "Module"), h("th", { scope: "col", class: "number" }, "Size"),
        h("th", { scope: "col", class: "number" }, "Runs"), h("th", { scope: "col", class: "number" }, "p99"), h("th", { scope: "col", class: "number" }, "Fuel"), h("th", { scope: "col" }, "Deployed"), h("td"))),
      h("tbody", {}, it.versions.map((version) => h("tr", {}, h("td", { class: "number" }, version.number), h("td", {}, h("span", { class: `tag ${states[version.state]}` }, version.state)),
        h("td", {}, h("code", {}, digest(version.digest)), h("br"), h("span", { class: "muted break" }, version.source)), h("td", { class: "number" }, bytes(version.size)),
        h("td", { class: "number" }, count(version.figures?.runs)), h("td", { class: "number" }, seconds(version.figures?.p99_seconds)), h("td", { class: "number" }, fuel(version.figures?.mean_fuel)),
        h("td", {}, since(version.deployed_at), h("br"), h("span", { class: "muted" }, version.deployed_by)),
        h("td", {}, me.may("deploy") && !it.rollout && version.state !== "active" && version.state !== "candidate" && button("Roll back", () => change(`Version ${version.number} is the active one again.`, "rollback", { to: version.number }, {
          title: `Go back to version ${version.number}?`, text: `Version ${it.active} stops taking messages; those that it runs end on it.`, yes: "Roll back" }), { "aria-label": `Roll back to version ${version.number}` }))))))));
  }

  function past(events) {
    return h("div", { class: "sheet" }, h("h2", {}, "What happened"), events.length === 0 ? h("p", { class: "empty" }, "Nothing yet.") : h("div", { class: "scroll" }, h("table", {},
      h("tbody", {}, events.slice(0, 50).map((event) => h("tr", {}, h("td", { class: "nowrap" }, moment(event.at)), h("td", {}, event.event), h("td", { class: "number" }, event.version ?? ""), h("td", { class: "break" }, event.detail), h("td", {}, event.who)))))));
  }
}
