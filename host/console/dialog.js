// Questions before something is changed. The browser keeps the focus inside, and Escape says no.

import { h, put } from "./dom.js";

/** Asks; true when the person says yes. With `typed` they have to type this very text first. */
export function ask({ title, text, yes, bad = false, typed, wide = false }) {
  return new Promise((done) => {
    const agree = h("button", { type: "submit", class: bad ? "bad" : "main" }, yes);
    const field = typed && h("input", { autocomplete: "off", spellcheck: "false", "aria-label": `Type ${typed} to confirm` });
    if (field) {
      agree.disabled = true;
      field.addEventListener("input", () => { agree.disabled = field.value.trim() !== String(typed); });
    }
    const form = h("form", { method: "dialog" },
      h("h2", {}, title),
      [text].flat().map((part) => (part instanceof Node ? part : h("p", {}, part))),
      field && h("label", { class: "field" }, h("span", {}, "Type ", h("strong", {}, typed), " to confirm"), field),
      h("div", { class: "bar" }, h("button", { type: "button", "data-no": true }, "Cancel"), agree));
    const dialog = h("dialog", { class: wide ? "wide" : undefined, "aria-label": title }, form);
    let answer = false;
    form.addEventListener("submit", (event) => { event.preventDefault(); answer = true; dialog.close(); });
    form.querySelector("[data-no]").addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => { dialog.remove(); done(answer); });
    document.body.append(dialog);
    dialog.showModal();
    (field || (bad ? form.querySelector("[data-no]") : agree)).focus();
  });
}

let open = null;

/** Asks for a token until one is good; `test` says why one is not. */
export function signIn({ why, test }) {
  if (open) return open;
  open = new Promise((done) => {
    const field = h("input", { type: "password", autocomplete: "current-password", spellcheck: "false", required: true });
    const trouble = h("p", { class: "note bad", role: "alert", hidden: !why }, why);
    const form = h("form", {},
      h("h2", {}, "This host asks who you are"),
      h("p", { class: "muted" }, "Give it a token, as `tidegate token new` makes them. It stays in this tab and goes with it."),
      h("label", { class: "field" }, "Token", field), trouble,
      h("div", { class: "bar" }, h("button", { type: "submit", class: "main" }, "Sign in")));
    const dialog = h("dialog", { "aria-label": "Sign in" }, form);
    // There is nothing behind it that could be seen without a token.
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const wrong = await test(field.value.trim());
      if (wrong) {
        trouble.hidden = false;
        put(trouble, wrong);
        field.select();
        return;
      }
      open = null;
      dialog.close();
      dialog.remove();
      done();
    });
    document.body.append(dialog);
    dialog.showModal();
    field.focus();
  });
  return open;
}
