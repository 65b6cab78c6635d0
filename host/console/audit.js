// Who changed what, the newest first.

import { get } from "./api.js";
import { button, h, put } from "./dom.js";
import { moment } from "./format.js";
import { table } from "./table.js";

export async function audit(view, { signal, me }) {
  if (!me.may("operate")) {
    put(view, h("p", { class: "note warn" }, `The audit log needs the role “operate”; ${me.name} has the role “${me.role}”.`));
    return;
  }
  const list = table({
    columns: [
      { name: "When", cell: ({ at }) => h("span", { class: "nowrap" }, moment(at)) },
      { name: "Who", cell: ({ who, role }) => `${who} (${role})` },
      { name: "Action", cell: ({ action }) => h("code", {}, action) },
      { name: "To what", cell: ({ target }) => h("span", { class: "break" }, target) },
      { name: "What came of it", cell: result },
      { name: "From", cell: ({ from }) => from },
    ],
    key: ({ id }) => id,
    empty: "Nothing was changed yet.",
    page: 100000,
  });
  let entries = [], next;
  const more = button("Show older ones", load);
  put(view, h("div", { class: "sheet" }, list.element, more));
  await load();

  async function load() {
    const page = await get("/v1/audit", { before: next, limit: 100 }, signal);
    entries = entries.concat(page.entries);
    next = page.next;
    more.hidden = !next;
    list.show(entries);
  }
}

function result({ result: it }) {
  if (!it) return h("span", { class: "tag warn" }, "unfinished");
  const deploy = it.deploy && (it.deploy.ended === "failed" ? `failed at ${it.deploy.step}: ${it.deploy.why}` : it.deploy.ended === "cut-off" ? `cut off at ${it.deploy.step}` : `${it.deploy.ended} as version ${it.deploy.version}`);
  const good = it.status !== undefined && it.status !== null && it.status < 400 && it.deploy?.ended !== "failed" && it.deploy?.ended !== "cut-off";
  return h("span", { class: "break" }, h("span", { class: `tag ${good ? "good" : "bad"}` }, it.code ?? it.status ?? "no answer"), deploy && ` ${deploy}`);
}
