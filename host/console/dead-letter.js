// One dead letter, whole: why, with what input, since which version; running it once more, mending its body, redriving it.

import { at, get, remove, send } from "./api.js";
import { ask } from "./dialog.js";
import { button, h, put, say, since } from "./dom.js";
import { editor, refusal } from "./edit.js";
import { bytes, count, digest, millis, moment } from "./format.js";
import { outcome } from "./outcome.js";
import { payload } from "./payload.js";
import { replaying } from "./replay.js";

export async function deadLetter(view, { parts: [id], query, signal, me }) {
  const path = `/v1/dead-letters/${encodeURIComponent(id)}`;
  const broker = query.get("broker") ?? undefined;
  const letter = await get(path, { broker }, signal);
  const facts = (...rows) => h("dl", { class: "facts" }, rows.filter(Boolean).map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]));
  const time = (text) => h("span", {}, moment(text), " (", since(text), ")");
  const replay = me.may("operate") && replaying({ letter, path, broker, signal });
  const editing = h("div");
  const edits = button("Edit…", edit);
  const back = h("div"), became = h("div", { tabindex: "-1" });
  const sends = h("span", { class: "bar" }, button("Redrive", () => redrive(), { class: "main" }), edits);
  const sentBack = (when) => {
    sends.remove();
    put(back, h("p", { class: "note" }, "It was redriven ", since(when), ", and is not sent a second time: when its message fails again, that is a dead letter of its own."));
  };

  put(view,
    h("div", { class: "note bad" }, h("p", {}, h("strong", {}, letter.reason), " ", h("span", { class: "break" }, letter.error))),
    back, became,
    me.may("operate") ? h("div", { class: "bar" },
      sends,
      button("Discard…", discard, { class: "bad" }),
      button("Copy the command", () => copy(`tidegate dlq show ${letter.id}`), { class: "quiet" })) : h("p", { class: "note" }, `Redriving needs the role “operate”; ${me.name} has the role “${me.role}”.`),
    editing, replay && replay.element,
    h("div", { class: "two" },
      h("section", { class: "sheet", "aria-label": "What happened" }, h("h2", {}, "What happened"), facts(
        ["Dead-lettered", time(letter.dead_at)], ["First seen", time(letter.first_seen)], ["Published", time(letter.published_at)],
        ["Attempts", `${count(letter.attempts)}, of ${count(letter.deliveries)} deliveries${letter.defers ? `, ${count(letter.defers)} deferred` : ""}${letter.timeouts ? `, ${count(letter.timeouts)} timed out` : ""}`],
        ["Last run", `${millis(letter.run_ms)}, ${count(letter.fuel_used)} of ${count(letter.fuel_limit)} fuel, ${bytes(letter.memory_peak_bytes)} of memory`],
        ["Handler", h("a", { href: `#/handlers/${encodeURIComponent(letter.handler)}` }, letter.handler)],
        ["Version", [letter.version ? `${letter.version}, ` : "", h("code", { title: letter.digest }, digest(letter.digest))]], ["Host", letter.host],
        letter.trace_id && ["Trace", h("code", {}, letter.trace_id)],
        letter.redrives > 0 && ["Came back", `${count(letter.redrives)} times after it was redriven`])),
      h("section", { class: "sheet", "aria-label": "The message" }, h("h2", {}, "The message"), facts(
        ["Subject", letter.subject], ["Id", h("code", {}, letter.message_id)], ["Subscription", letter.subscription], ["Broker", letter.broker],
        letter.stream && ["Stream", letter.stream], ["Sequence", count(letter.sequence)], ["Fingerprint", h("a", { href: `#/dead-letters?fingerprint=${encodeURIComponent(letter.fingerprint)}` }, h("code", {}, letter.fingerprint))],
        ["Dead letter", h("code", {}, letter.id)]))),
    h("section", { class: "sheet", "aria-label": "Body" }, h("h2", {}, "Body"),
      letter.payload_withheld ? h("p", { class: "note warn" }, "Body and headers need the role “operate”.") : payload(letter)),
    (letter.headers ?? []).length > 0 && h("section", { class: "sheet", "aria-label": "Headers" }, h("h2", {}, "Headers"), h("div", { class: "scroll" }, h("table", {},
      h("tbody", {}, letter.headers.map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "break mono" }, value))))))),
    (letter.logs ?? []).length > 0 && h("section", { class: "sheet", "aria-label": "Log" }, h("h2", {}, "The last lines of its log"), h("pre", { tabindex: "0" }, letter.logs.join("\n"))),
    (letter.backtrace ?? []).length > 0 && h("section", { class: "sheet", "aria-label": "Backtrace" }, h("h2", {}, "Where it failed"), h("pre", { tabindex: "0" }, letter.backtrace.join("\n"))),
    (letter.history ?? []).length > 0 && h("section", { class: "sheet", "aria-label": "Attempts" }, h("h2", {}, "Attempts"), h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "number" }, "Attempt"), ["Ended", "Why", "What was said"].map((text) => h("th", { scope: "col" }, text)), h("th", { scope: "col", class: "number" }, "Time"))),
      h("tbody", {}, letter.history.map((run) => h("tr", {}, h("td", { class: "number" }, run.attempt), h("td", { class: "nowrap" }, moment(run.at)), h("td", {}, h("code", {}, run.reason)), h("td", { class: "break" }, run.error), h("td", { class: "number" }, millis(run.run_ms)))))))));

  if (letter.redriven_at) sentBack(letter.redriven_at);

  function edit() {
    const why = refusal(letter);
    if (why !== null) return say(why, "bad");
    if (editing.hasChildNodes()) return;
    const close = () => { put(editing); edits.focus(); };
    const { element, focus } = editor({ letter, attempt: replay.run, redrive: (body) => redrive(false, body), close });
    put(editing, element);
    focus();
  }

  /** Sends it back; with another body, where one is given. */
  async function redrive(force = false, body = undefined) {
    const edited = body !== undefined;
    const text = ["It goes back to the subscription that gave it up, and starts with no attempts.", edited ? "It has the edited body; the dead letter keeps its own." : letter.same_version ? h("p", { class: "note warn" }, "It failed in a version that still runs, and may fail again.") : []].flat();
    if (!force && !(await ask({ title: edited ? "Redrive the message with this body?" : "Redrive the message?", text, yes: "Redrive" }))) return;
    const watched = await outcome({ letter, signal });
    try {
      await send("POST", at(`${path}/redrive`, { broker, force, edited }), { body });
      say(edited ? "The message was redriven with the edited body." : "The message was redriven.");
      put(editing);
      put(became, watched.element);
      sentBack(new Date().toISOString());
      became.focus();
    } catch (error) {
      watched.stop();
      // No force sends back what was sent back: the message would be there twice.
      const again = !force && error.code === "redriven-too-often";
      if (again && (await ask({ title: "Redrive it all the same?", text: error.message, yes: "Redrive", bad: true }))) return redrive(true, body);
      if (!again) say(error.message, "bad");
    }
  }

  async function discard() {
    if (!(await ask({ title: "Discard this dead letter for good?", text: "Nothing of it is kept.", yes: "Discard", bad: true }))) return;
    try {
      await remove(path, { broker });
      say("The dead letter was discarded.");
      location.hash = "#/dead-letters";
    } catch (error) {
      say(error.message, "bad");
    }
  }
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    say(text);
  }
}
