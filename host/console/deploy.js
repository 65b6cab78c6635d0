// A module is dragged in or chosen, and when somebody says so it is deployed: each step is shown as the host does it.

import { at, lines, send } from "./api.js";
import { button, h, put } from "./dom.js";
import { bytes, digest, sentence } from "./format.js";

const WORDS = {
  upload: "upload", signature: "signature", validate: "validate", compile: "compile", imports: "imports", init: "init",
  golden: "golden messages", cluster: "cluster", switch: "switch", canary: "canary", shadow: "shadow",
};

/** The place where a module of `name` is dropped: that fills the form, and its button deploys. `done` is called when a deploy has ended. */
export function deploy(name, done) {
  const file = h("input", { type: "file", accept: ".wasm", "aria-label": "Module (.wasm)" });
  const way = h("select", { "aria-label": "How it comes live" },
    h("option", { value: "all" }, "Live at once, for all messages"),
    h("option", { value: "canary" }, "Canary: a share of the messages first"),
    h("option", { value: "shadow" }, "Shadow: copies only, with no effect"));
  const share = h("input", { value: "5%", size: "5", "aria-label": "Share of the messages" });
  const time = h("input", { value: "10m", size: "5", "aria-label": "For how long" });
  const trial = h("span", { class: "bar", hidden: true }, h("label", {}, "Share", share), h("label", {}, "for", time));
  const picked = h("p", { role: "status" }), progress = h("div", { "aria-live": "polite" });
  way.addEventListener("change", () => { trial.hidden = way.value === "all"; });
  const drop = h("div", { class: "drop" },
    h("p", {}, "Drag a module here, or choose one; nothing runs before you press “Deploy”."), h("div", { class: "bar" }, file, way, trial, button("Deploy", () => start(file.files[0]), { class: "main" })), picked);
  for (const event of ["dragenter", "dragover"]) {
    drop.addEventListener(event, (it) => { it.preventDefault(); drop.classList.add("over"); });
  }
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const given = event.dataTransfer.files;
    if (given.length === 0) return;
    file.files = given;
    chosen();
  });
  file.addEventListener("change", chosen);
  return h("section", { class: "sheet", "aria-label": "Deploy" }, h("h2", {}, "Deploy a version"), drop, progress);

  /** What would be deployed: the field itself shows no size. */
  function chosen() {
    const module = file.files[0];
    put(picked, module && [h("strong", {}, module.name), `, ${bytes(module.size)}, is not deployed yet: choose how it comes live, and press “Deploy”.`]);
  }

  async function start(module) {
    if (!module) {
      put(progress, h("p", { class: "note warn" }, "Choose a module first: the .wasm file that the build made."));
      return;
    }
    put(picked);
    const steps = h("ul", { class: "steps" });
    put(progress, h("p", {}, `${module.name}, ${bytes(module.size)}`), steps);
    const line = (kind, what, text, time = "") =>
      steps.append(h("li", {}, h("span", { class: "what" }, what), h("span", { class: `grow ${kind}` }, text), h("span", { class: "muted" }, time)));
    const query = { source: module.name };
    if (way.value === "canary") Object.assign(query, { canary: share.value, promote_after: time.value });
    if (way.value === "shadow") Object.assign(query, { shadow: share.value, for: time.value });
    try {
      const answer = await send("POST", at(`/v1/handlers/${encodeURIComponent(name)}/versions`, query), { body: module, headers: { "Content-Type": "application/wasm" } });
      let ended = false;
      for await (const it of lines(answer)) {
        if (it.step) line("", WORDS[it.step.name] ?? it.step.name, it.step.detail, `${Math.round(it.step.ms)} ms`);
        if (it.done) { ended = true; finished(it.done, line); }
        if (it.failed) { ended = true; failed(it.failed, line); }
      }
      if (!ended) put(progress, steps, h("p", { class: "note bad", role: "alert" }, "The host's answer broke off. The history below says whether the version is live."));
    } catch (error) {
      steps.append(h("li", {}, h("span", { class: "note bad", role: "alert" }, error.message)));
    }
    done();
  }

  function finished(result, line) {
    const what = result.unchanged ? `version ${result.version} is what runs already; nothing was changed`
      : result.rollout ? `version ${result.version} is tried as a ${result.rollout.kind} on ${result.rollout.share}`
        : `version ${result.version} is live`;
    line("note good", "done", `${what} (${digest(result.digest)})`, `${Math.round(result.ms)} ms`);
    for (const change of result.changes ?? []) line("muted", "", `${change.what}: ${change.before} → ${change.after}`);
    for (const run of result.golden ?? []) line("muted", "", `${run.place}: ${run.outcome}, ${run.fuel} fuel${run.fuel_before ? ` (${run.fuel_before} before)` : ""}`);
  }

  function failed(fail, line) {
    line("note bad", WORDS[fail.step] ?? fail.step, `${sentence(fail.message)} Nothing was changed.`);
    for (const run of fail.golden ?? []) if (run.unexpected) line("muted", "", `${run.place}: ${run.outcome}; ${run.unexpected}`);
  }
}
