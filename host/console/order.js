// What is said of a redrive of many: how fast, which go first and how they are judged, and whether those go too that came back.

import { get } from "./api.js";
import { button, h, put } from "./dom.js";
import { atLeast, count } from "./format.js";

/** The form of it; `said()` has what was filled in, as the host takes it. `filter`: of which dead letters. */
export function order({ filter, signal }) {
  let last = 0;
  const number = (properties) => h("input", { type: "number", ...properties });
  const rate = number({ name: "rate", min: "0.001", max: "1000000", step: "any", placeholder: "no limit" });
  const canary = number({ name: "canary", min: "1", max: "200", step: "1", placeholder: "none" });
  const above = number({ name: "above", min: "0", max: "100", step: "any", placeholder: "10", disabled: true });
  const wait = h("input", { name: "wait", placeholder: "60s", autocomplete: "off", spellcheck: "false", disabled: true });
  const force = h("input", { name: "force", type: "checkbox" });
  const to = h("input", { name: "to", placeholder: "where they came from", autocomplete: "off", spellcheck: "false" });
  const changed = h("input", { name: "changed", type: "checkbox" });
  // How a canary is judged can be said of one alone.
  canary.addEventListener("input", () => { above.disabled = wait.disabled = canary.value === ""; });
  const counted = h("div", { role: "status" });
  const element = h("div", {},
    h("div", { class: "fields" },
      field("At most so many a second", rate, "As fast as the broker takes them, when it is empty."),
      field("So many go first, as a canary", canary, "At most 200. The others follow when these do well."),
      field("End it when more than this share fails, in %", above, "Of those that went first: a first run that fails is enough."),
      field("How long the first ones may take", wait, "As 90s or 5m. It ends too when some have not ended by then.")),
    h("label", {}, changed, "only those that failed in a version that does not run any more"),
    h("label", {}, force, "also those that came back three times"),
    field("To another subject", to, "Whoever receives that subject gets them. Versions and the canary are still judged by the handler that gave them up."),
    h("div", { class: "bar" }, h("span", { class: "muted grow" }, "What would go, by their errors, with nothing sent:"), button("Dry run", dry)), counted);
  return { element, said };

  function said() {
    const first = canary.value.trim();
    return { rate: rate.value.trim(), canary: first, abort_above: first && above.value.trim(), canary_wait: first && wait.value.trim(), only_if_version_changed: changed.checked, to: to.value.trim(), force: force.checked };
  }

  async function dry() {
    const mine = ++last;
    put(counted, h("p", { class: "muted" }, "They are counted…"));
    try {
      const stats = await get("/v1/dead-letters/stats", { ...filter, by: "fingerprint", top: 5 }, signal);
      if (mine !== last) return;
      const rows = stats.groups.map(({ key, letters, newest }) => h("tr", {}, h("td", { class: "number" }, count(letters)), h("td", { class: "break" }, newest?.error ?? key)));
      put(counted, h("p", {}, `${atLeast(stats)} would be sent back now.`), rows.length > 0 && h("table", {}, h("tbody", {}, rows)),
        stats.others > 0 && h("p", { class: "muted" }, `${count(stats.others)} more have other errors.`));
    } catch (error) {
      if (!signal.aborted && mine === last) put(counted, h("p", { class: "note bad" }, error.message));
    }
  }
}

let fields = 0;

function field(label, input, hint) {
  const id = `hint-${++fields}`;
  input.setAttribute("aria-describedby", id);
  return h("div", {}, h("label", { class: "field" }, label, input), h("p", { class: "muted small", id }, hint));
}
