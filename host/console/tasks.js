// Tasks over dead letters: everything that matches a filter is redriven or discarded by the host, which goes on with it whether or
// not anybody looks, and after a restart.

import { get, post } from "./api.js";
import { ask } from "./dialog.js";
import { button, h, put, say, since } from "./dom.js";
import { count, many } from "./format.js";
import { order } from "./order.js";

const LOOK = 1000;

/** Whether a task is not over. */
function goesOn({ standing }) {
  return standing === "running" || standing === "paused";
}

/** The warning that so many failed in a version that still runs; nothing for none. */
export function failsAgain(same) {
  return same > 0 && h("p", { class: "note warn" }, `${count(same)} of them failed in a version that still runs, and may fail again.`);
}

/** Shows the tasks that run and the last that ended; `begin(act, { filter, matched, more, same })` starts one. */
export function tasks({ signal, me, ended }) {
  const element = h("div", { "aria-live": "polite" });
  let timer, running = new Set();
  signal.addEventListener("abort", () => clearTimeout(timer));
  look();
  return { element, begin };

  async function look() {
    clearTimeout(timer);
    const list = await get("/v1/dead-letters/tasks", {}, signal).catch(() => null);
    if (signal.aborted || list === null) return;
    const now = new Set(list.tasks.filter(goesOn).map(({ id }) => id));
    if ([...running].some((id) => !now.has(id))) ended();
    running = now;
    // Of those that ended the last one is enough: the command line has the others.
    const shown = list.tasks.filter((task, index) => goesOn(task) || index === 0);
    put(element, shown.length > 0 && h("section", { class: "sheet", "aria-label": "Tasks" }, h("h2", {}, "Tasks"), shown.map(one)));
    if (running.size > 0) timer = setTimeout(look, LOOK);
  }

  function one(task) {
    const path = `/v1/dead-letters/tasks/${encodeURIComponent(task.id)}`;
    const unknown = task.unknown ?? 0, dealt = task.done + task.gone + unknown + task.held_back + (task.passed_over ?? 0) + task.failed;
    const word = task.action === "redrive" ? "redriven" : "discarded";
    const parts = [`${count(task.done)} ${word}`, task.gone > 0 && `${count(task.gone)} were gone`, unknown > 0 && `${count(unknown)} were gone when the host came back after a kill, by this task or by others`, task.held_back > 0 && `${count(task.held_back)} held back: they came back too often`, task.passed_over > 0 && `${count(task.passed_over)} passed over: they failed in a version that still runs`,
      task.failed > 0 && `${count(task.failed)} failed: ${task.failures?.[0]?.why ?? ""}`,
      task.failed === 0 && task.failures?.[0]?.why].filter(Boolean);
    const canary = task.canary && `, ${count(task.canary.sent)} went first: ${count(task.canary.well)} did well, ${count(task.canary.badly)} failed again`;
    const kinds = { running: "warn", paused: "warn", done: "good", cancelled: "", aborted: "bad" };
    return h("div", {}, h("p", {}, h("span", { class: `tag ${kinds[task.standing] ?? ""}` }, task.standing), ` ${task.action}${task.to ? ` to ${task.to}` : ""} by ${task.by}, `, since(task.begun_at), ": ",
      parts.join(", "), task.total !== undefined && task.total !== null && ` of ${count(task.total)}`, canary, task.why && `. ${task.why}`, task.waits_for && `. It waits: ${task.waits_for}`, task.paused_by && `. It was paused by ${task.paused_by}`),
    goesOn(task) && h("div", { class: "bar" }, task.total > 0 && h("progress", { class: "grow", max: String(task.total), value: dealt, "aria-label": `${task.action} so far` }),
      me.may("operate") && (task.standing === "paused" ? button("Resume", () => change(`${path}/resume`, {}, "The task goes on.")) : button("Pause", () => change(`${path}/pause`, {}, "The task is paused, until it is told to go on."))),
      me.may("operate") && button("Cancel", () => change(`${path}/cancel`, {}, "The task was cancelled; what it had done stays done."), { class: "bad" })));
  }

  async function begin(action, { filter, matched, more, same }) {
    const discards = action === "discard";
    const form = order({ filter, signal });
    const text = discards ? "Nothing of them is kept. When others match by then, nothing is discarded."
      : [h("p", {}, "They go back to the subscriptions that gave them up, and start with no attempts. The host goes on with it when this page is closed."),
        more && h("p", {}, "There are more of them than the host counts at once: all that match are meant, however many they are."), failsAgain(same), form.element].filter(Boolean);
    const title = `${discards ? "Discard" : "Redrive"} ${more ? "at least " : ""}${many(matched, "dead letter")}${discards ? " for good" : ""}?`;
    const agreed = await ask({ title, text, yes: discards ? "Discard" : "Redrive", bad: discards, typed: discards ? String(matched) : undefined });
    if (!agreed) return;
    await change("/v1/dead-letters/tasks", { ...filter, action, ...(discards ? { count: matched } : form.said()) }, discards ? "The task has begun: they are being discarded." : "The task has begun: they are being redriven, and what becomes of it stands under Tasks.");
  }

  async function change(path, query, done) {
    try {
      const task = await post(path, query);
      // One that is quick has ended before the next look: it was running all the same.
      running.add(task.id);
      say(done);
    } catch (error) {
      say(error.message, "bad");
    }
    await look();
  }
}
