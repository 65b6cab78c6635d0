// The body of a dead letter, changed by hand: tried in a replay, and sent back in the place of the first one.

import { button, h, put, say } from "./dom.js";
import { bytes } from "./format.js";
import { laidOut } from "./payload.js";

/** A larger body makes a browser slow with every letter that is typed; the command line has an editor for it. */
const LARGEST = 1024 * 1024;

/** Why a body cannot be edited here; nothing when it can. */
export function refusal(letter) {
  if (letter.body === undefined || letter.body === null) {
    return `The body is no text, and cannot be edited here. On a terminal: tidegate dlq show ${letter.id} --body > body, then tidegate dlq redrive ${letter.id} --body body`;
  }
  if (letter.body.length > LARGEST) {
    return `The body has ${bytes(letter.body_size)}, more than can be edited here. On a terminal: tidegate dlq redrive ${letter.id} --edit`;
  }
  return null;
}

/** An editor for the body of a dead letter. `attempt(body)` tries it, `redrive(body)` sends it back, `close()` gives up. */
export function editor({ letter, attempt, redrive, close }) {
  // A field has line feeds alone: what came with other line ends goes back with them, where they were all the same.
  const ends = lineEnds(letter.body);
  const area = h("textarea", { spellcheck: "false", "aria-label": "The body, to be edited" });
  area.value = letter.body;
  const before = area.value;
  const state = h("p", { role: "status", class: "muted" });
  const anyway = h("input", { type: "checkbox" });
  const override = h("label", { hidden: true }, anyway, "send it all the same, though it is no JSON");
  const lay = button("Lay out", () => { area.value = laidOut(area.value); look(); }, { class: "quiet" });
  area.addEventListener("input", look);
  anyway.addEventListener("change", look);
  const element = h("section", { class: "sheet", "aria-label": "Edit the body" }, h("h2", {}, "Edit the body"),
    h("p", { class: "muted" }, "The dead letter keeps its own body; the message that goes back says in the header Dlq-Redrive-Of which one it is.",
      ends === null && " Its line ends differ from each other: all of them become line feeds when it is edited."),
    area, h("div", { class: "bar" }, state, override, lay),
    h("div", { class: "bar" }, button("Replay with this body", () => checked(attempt)), button("Redrive with this body", () => checked(redrive), { class: "main" }),
      button("Cancel", close, { class: "quiet" })));
  const meant = isMeantAsJson(letter);
  look();
  return { element, focus: () => area.focus() };

  function look() {
    const wrong = fault(area.value);
    lay.hidden = wrong !== null;
    override.hidden = !meant || wrong === null;
    state.className = wrong !== null && meant ? "note warn" : "muted";
    put(state, area.value === before ? "Nothing is changed yet. " : "", wrong === null ? "This is JSON." : meant ? `This is no JSON: ${wrong}` : "");
  }

  function checked(act) {
    if (area.value === before) return say("Nothing is changed: the body is as it was.", "bad");
    const wrong = meant && !anyway.checked ? fault(area.value) : null;
    if (wrong !== null) {
      area.focus();
      return say(`This is no JSON, and was not sent: ${wrong}`, "bad");
    }
    return act(ends === null ? area.value : area.value.replaceAll("\n", ends));
  }
}

/** Whether the body is JSON, or was to be: what is broken in it may be why it failed. */
function isMeantAsJson({ body, headers = [] }) {
  const said = headers.some(([name, value]) => name.toLowerCase() === "content-type" && /[/+]json\b/i.test(value));
  return said || fault(body) === null || /^\s*[[{]/.test(body);
}

/** What is wrong with a text as JSON; nothing when it is JSON. */
function fault(text) {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return error.message;
  }
}

/** The line end of a text, where it has one kind of them; null where it has several. */
function lineEnds(text) {
  const kinds = new Set(text.match(/\r\n|\r|\n/g) ?? []);
  return kinds.size > 1 ? null : [...kinds][0] ?? "\n";
}
