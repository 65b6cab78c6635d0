// Dead letters: finding them, and redriving or discarding many at once.

import { get, poll, post, remove } from "./api.js";
import { deaths } from "./deaths.js";
import { ask } from "./dialog.js";
import { button, h, put, say, since } from "./dom.js";
import { atLeast, bytes, count, many } from "./format.js";
import { holding, table } from "./table.js";
import { failsAgain, tasks } from "./tasks.js";

const PAGE = 200;
/** A subject up to this long stays on its line. */
const WHOLE = 32;
/** So many groups are shown at first, so that the list below begins on the same screen. */
const GROUPS = 5;
/** So many requests at once while many are redriven: the host answers each after its fsync. */
const AT_ONCE = 8;

export async function deadLetters(view, { signal, me, query }) {
  const status = await get("/v1/status", {}, signal);
  const option = (value, text = value) => h("option", { value }, text);
  const choose = (label, key, values) => {
    const field = h("select", { "aria-label": label }, option("", `Any ${label.toLowerCase()}`), values.map((value) => option(value)));
    field.value = query.get(key) ?? "";
    field.addEventListener("change", reload);
    return field;
  };
  const subscription = choose("Subscription", "subscription", status.subscriptions.map(({ name }) => name));
  const broker = choose("Broker", "broker", status.brokers.map(({ name }) => name));
  const reasons = new Set(status.subscriptions.flatMap(({ counts }) => Object.keys(counts.reasons)));
  for (const settled of ["completed", "skipped"]) reasons.delete(settled);
  if (query.get("reason")) reasons.add(query.get("reason"));
  const reason = choose("Reason", "reason", [...reasons].sort());
  // What a group or another page chose; each can be taken away again.
  const given = new Map(["handler", "fingerprint", "digest", "text"].map((key) => [key, query.get(key)]).filter(([, value]) => value));
  const tags = h("div", { class: "bar" });
  const redriven = h("input", { type: "checkbox" });
  redriven.addEventListener("change", reload);
  const search = h("input", { type: "search", placeholder: "Search ( / ); Enter: all errors", "aria-label": "Search what is shown" });
  search.addEventListener("input", show);
  // What is shown is searched at once; Enter asks the host for all whose error holds the text.
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || search.value.trim() === "") return;
    given.set("text", search.value.trim());
    search.value = "";
    reload();
  });
  const groups = groupsOf((key, value) => { given.set(key, value); reload(); }, (told) => { all = told; act(); });
  const work = tasks({ signal, me, ended: () => reload() });
  // What may be done with all of them at once: the filter that they were counted by, and how many there are. Nothing until then.
  let all = null;

  const chosen = new Map();
  const list = table({
    columns: [
      { name: "", cell: (letter) => box(letter) },
      { name: "When", cell: ({ dead_at: at }) => h("span", { class: "nowrap" }, since(at)) },
      { name: "Why", cell: (letter) => h("a", { class: "nowrap", href: address(letter) }, letter.reason) },
      { name: "What was said", cell: ({ error }) => h("span", { class: "break said" }, error.length > 160 ? `${error.slice(0, 160)}…` : error) },
      { name: "Subject", cell: ({ subject }) => h("span", { class: subject.length > WHOLE ? "break said" : "nowrap" }, subject) },
      { name: "Handler", cell: ({ handler, subscription: by }) => (handler === by ? handler : `${handler} (${by})`) },
      { name: "Attempts", number: true, cell: ({ attempts }) => count(attempts) },
      { name: "Size", number: true, cell: ({ body_size: size }) => bytes(size) },
      { name: "", cell: ({ redriven_at: at, redrives }) => (at ? h("span", { class: "tag" }, "redriven ", since(at)) : redrives > 0 ? h("span", { class: "tag warn" }, `came back ${count(redrives)}×`) : "") },
    ],
    key: ({ broker: at, id }) => `${at} ${id}`,
    empty: "There are no such dead letters.",
    page: 1000,
  });
  let letters = [], next, loading = 0;
  const more = button("Show older ones", load);
  const found = h("span", { class: "muted", role: "status" });
  const everything = h("input", { type: "checkbox" });
  everything.addEventListener("change", () => {
    for (const letter of visible()) mark(letter, everything.checked);
    show();
  });
  const actions = h("div", { class: "bar" });
  // What there is to mend stands above the single ones: below a long list nobody would see it.
  put(view, work.element, h("div", { class: "sheet" }, h("div", { class: "bar" }, subscription, reason, status.brokers.length > 1 && broker, h("label", {}, redriven, "also those redriven"), search, button("Refresh", reload, { class: "quiet" })), tags),
  groups.element, h("div", { class: "sheet" }, h("div", { class: "bar" }, me.may("operate") && h("label", {}, everything, "choose all that are shown"), found), actions, list.element, more));
  await reload();
  // New ones are told of, and not put in while somebody reads.
  poll(5000, signal, async () => {
    const newest = (await get("/v1/dead-letters", { ...filter(), include_redriven: redriven.checked, limit: 1 }, signal)).letters[0];
    if (newest && letters[0] && newest.id > letters[0].id) put(found, "There are newer ones: ", button("show them", reload, { class: "quiet" }));
  }, () => {});

  function filter() {
    return { subscription: subscription.value, reason: reason.value, broker: broker.value, ...Object.fromEntries(given) };
  }

  async function reload() {
    put(tags, [...given].map(([key, value]) => h("span", { class: "tag" }, `${key}: ${value} `,
      button("×", () => { given.delete(key); return reload(); }, { class: "quiet small", "aria-label": `Any ${key}` }))));
    all = null;
    groups.load(filter(), signal);
    letters = [];
    next = undefined;
    chosen.clear();
    everything.checked = false;
    await load();
  }

  async function load() {
    const mine = ++loading;
    const page = await get("/v1/dead-letters", { ...filter(), include_redriven: redriven.checked, after: next, limit: PAGE }, signal);
    // The filter was changed while this was on its way.
    if (mine !== loading) return;
    letters = letters.concat(page.letters);
    next = page.next;
    show();
  }

  function visible() {
    return holding(letters, search.value, (letter) => [letter.reason, letter.error, letter.subject, letter.handler, letter.message_id, letter.id, letter.fingerprint,
      ...(letter.headers ?? []).flat()]);
  }

  function show() {
    const rows = visible();
    list.show(rows);
    more.hidden = !next;
    put(found, rows.length === 0 ? "" : `${many(rows.length, "dead letter")}${next ? " so far, the newest" : ""}`);
    // What came later is not chosen, and whoever chose all while nothing was there chose none.
    everything.checked = rows.length > 0 && rows.every((letter) => chosen.has(name(letter)));
    act();
  }

  function name({ broker: at, id }) {
    return `${at} ${id}`;
  }

  function mark(letter, on) {
    if (on) chosen.set(name(letter), letter);
    else chosen.delete(name(letter));
  }

  function box(letter) {
    if (!me.may("operate")) return "";
    const field = h("input", { type: "checkbox", "aria-label": `Choose ${letter.id}`, class: chosen.has(name(letter)) ? "on" : "" });
    field.checked = chosen.has(name(letter));
    field.addEventListener("change", () => { mark(letter, field.checked); act(); });
    return field;
  }

  function act() {
    const number = chosen.size;
    // Never while something else is shown than what would be acted on: the redriven ones too, or fewer, by what is searched for.
    const may = me.may("operate") && all !== null && all.matched > 0 && !redriven.checked;
    const whole = may && search.value.trim() === "";
    put(actions, number === 0 && may && !whole && h("span", { class: "muted" }, "What is shown is searched: press Enter, and what is done with all that match is offered for these."),
      number === 0 && whole && [h("span", { class: "muted" }, `${atLeast(all)} match in all:`),
        button("Redrive all…", () => work.begin("redrive", all)),
        all.more ? h("span", { class: "muted" }, "To discard all that match, narrow them down, as by their error: there are more than are counted.")
          : button("Discard all…", () => work.begin("discard", all), { class: "bad" })],
    number > 0 && [h("strong", {}, `${count(number)} chosen`),
      button("Redrive", () => batch("redriven", {
        title: `Redrive ${many(number, "dead letter")}?`, text: [h("p", {}, "They go back to the subscription that gave them up, and start with no attempts. Mend the handler first, or they come back."),
          failsAgain([...chosen.values()].filter(({ same_version: same }) => same).length)].filter(Boolean), yes: "Redrive" },
      (letter) => post(`/v1/dead-letters/${encodeURIComponent(letter.id)}/redrive`, { broker: letter.broker })), { class: "main" }),
      button("Discard…", () => batch("discarded", {
        title: `Discard ${many(number, "dead letter")} for good?`, text: "Nothing of them is kept.", yes: "Discard", bad: true, typed: String(number) },
      (letter) => remove(`/v1/dead-letters/${encodeURIComponent(letter.id)}`, { broker: letter.broker })), { class: "bad" })]);
  }

  async function batch(what, question, one) {
    const all = [...chosen.values()];
    if (!(await ask(question))) return;
    const bar = h("progress", { max: String(all.length), value: 0, "aria-label": `${what} so far` });
    let stop = false, done = 0;
    const failures = [], waiting = [...all];
    put(actions, bar, button("Stop", () => { stop = true; }, { class: "bad" }));
    await Promise.all(Array.from({ length: AT_ONCE }, async () => {
      while (waiting.length > 0 && !stop && !signal.aborted) {
        const letter = waiting.shift();
        try {
          await one(letter);
          done += 1;
          chosen.delete(name(letter));
        } catch (error) {
          failures.push(error.message);
        }
        bar.value = done + failures.length;
      }
    }));
    if (signal.aborted) return;
    say(failures.length === 0 ? `${many(done, "dead letter")} ${what}.` : `${count(done)} ${what}, ${count(failures.length)} not: ${failures[0]}`, failures.length === 0 ? "good" : "bad");
    await reload();
  }
}

/** The groups of what was chosen: by fingerprint first, for those are what a person mends. */
function groupsOf(choose, counted) {
  const ways = { fingerprint: "error", handler: "handler", version: "module", reason: "reason", subscription: "subscription", age: "age" };
  const by = h("select", { "aria-label": "Group by" }, Object.entries(ways).map(([value, text]) => h("option", { value }, `by ${text}`)));
  const place = h("div");
  let last = {};
  by.addEventListener("change", () => load(last.filter, last.signal));
  const element = h("section", { class: "sheet", "aria-label": "Groups" }, h("div", { class: "bar" }, h("h2", { class: "grow" }, "What they have in common"), by), place);
  return { element, load };

  async function load(filter, signal) {
    last = { filter, signal };
    const stats = await get("/v1/dead-letters/stats", { ...filter, by: by.value, top: 20 }, signal).catch((error) => {
      if (!signal.aborted) put(place, h("p", { class: "note bad" }, error.message));
    });
    if (!stats || signal.aborted || last.filter !== filter) return;
    // What is done with them is done with these: what dies while somebody reads is not among them.
    counted({ filter: { ...filter, until: stats.until }, matched: stats.matched, more: stats.more === true, same: stats.same_version ?? 0 });
    const keys = { version: "digest" };
    const none = { fingerprint: "no fingerprint", handler: "no handler is known", version: "no version ran" };
    const rows = stats.groups.map((group) => {
      const key = keys[by.value] ?? by.value;
      const name = (by.value === "fingerprint" ? group.newest?.error : undefined) ?? group.key;
      // A filter by nothing is none: all would be meant.
      const pick = group.key === "" ? h("span", { class: "muted" }, `${none[by.value] ?? "nothing is known"}: there is no filter for these alone`) : ["fingerprint", "handler", "version"].includes(by.value)
        ? button(name, () => choose(key, group.key), { class: "quiet left", "aria-label": `Only ${by.value} ${group.key}` }) : name;
      return h("tr", {}, h("td", { class: "number" }, count(group.letters)), h("td", { class: "break" }, pick),
        h("td", {}, group.newest ? `${group.newest.handler}${group.newest.version ? `@${group.newest.version}` : ""}` : "–"), h("td", {}, group.newest?.reason ?? "–"),
        h("td", { class: "nowrap" }, since(group.first_dead_at)), h("td", { class: "nowrap" }, since(group.last_dead_at)));
    });
    const rest = rows.splice(GROUPS), body = h("tbody", {}, rows);
    const others = button(`Show ${many(rest.length, "more group")}`, () => { body.append(...rest); others.remove(); }, { class: "quiet" });
    put(place, stats.deaths && deaths(stats.deaths), rows.length === 0 ? h("p", { class: "empty" }, "There are none.") : h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "number" }, "Number"), ["What", "Handler of the newest", "Reason", "First", "Last"].map((text) => h("th", { scope: "col" }, text)))),
      body)),
    rest.length > 0 && others,
    stats.others > 0 && h("p", { class: "muted" }, `${count(stats.others)} more in ${stats.other_groups_at_least ? "at least " : ""}${count(stats.other_groups)} other groups.`),
    stats.ahead > 0 && h("p", { class: "muted" }, `${count(stats.ahead)} more died at a time that is yet to come, and ${stats.ahead === 1 ? "is" : "are"} not counted: the clock of a host is ahead.`),
    stats.more && h("p", { class: "muted" }, `Of the newest ${count(stats.examined)} of ${count(stats.examined + (stats.left_out ?? 0))}: a filter has fewer to count.`));
  }
}

export function address({ id, broker }) {
  return `#/dead-letters/${encodeURIComponent(id)}?broker=${encodeURIComponent(broker)}`;
}
