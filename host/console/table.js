// A table that is filled anew without losing its place: rows are kept by their key, and only what changed is touched.

import { h, put } from "./dom.js";

/**
 * `columns`: `{ name, number, cell(row) }`, where a cell gives a node or a text, and where a column can be sorted,
 * `sort(row)`. `key(row)` names a row. So many rows are laid out at once; a button shows the next ones.
 */
export function table({ caption, columns, key, empty, page = 200 }) {
  const body = h("tbody");
  const shown = new Map();
  let all = [], limit = page, by = null, down = true;
  const heads = columns.map((column, index) => {
    const cell = h("th", { scope: "col", class: column.number && "number" });
    if (!column.sort) return put(cell, column.name);
    const sort = h("button", { type: "button" }, column.name);
    sort.addEventListener("click", () => {
      down = by === index ? !down : Boolean(column.number);
      by = index;
      heads.forEach((head, at) => (at === index ? head.setAttribute("aria-sort", down ? "descending" : "ascending") : head.removeAttribute("aria-sort")));
      draw();
    });
    return put(cell, sort);
  });
  const more = h("button", { type: "button", hidden: true });
  more.addEventListener("click", () => { limit += page; draw(); });
  const nothing = h("p", { class: "empty", hidden: true });
  const element = h("div", {}, h("div", { class: "scroll" },
    h("table", {}, caption && h("caption", {}, caption), h("thead", {}, h("tr", {}, heads)), body)), nothing, more);

  function draw() {
    const rows = by === null ? all : [...all].sort(compared);
    const seen = new Set();
    const lines = rows.slice(0, limit).map((row) => {
      const name = key(row);
      seen.add(name);
      return line(name, row);
    });
    for (const name of shown.keys()) if (!seen.has(name)) shown.delete(name);
    lines.forEach((it, index) => { if (body.children[index] !== it) body.insertBefore(it, body.children[index] ?? null); });
    while (body.children.length > lines.length) body.lastChild.remove();
    nothing.hidden = rows.length > 0;
    put(nothing, empty);
    more.hidden = rows.length <= limit;
    put(more, `Show more (${rows.length - limit} are not shown)`);
  }

  function line(name, row) {
    let known = shown.get(name);
    if (!known) {
      known = { element: h("tr", {}, columns.map(({ number }) => h("td", { class: number && "number" }))), texts: [] };
      shown.set(name, known);
    }
    columns.forEach((column, index) => {
      const content = column.cell(row);
      // A node is made anew each time, so it is told by what it says; one that has the focus stays while that is the same.
      const text = content instanceof Element ? saying(content) : String(content ?? "–");
      if (known.texts[index] === text) return;
      known.texts[index] = text;
      put(known.element.children[index], content ?? "–");
    });
    return known.element;
  }

  function compared(one, other) {
    const { sort } = columns[by];
    const [a, b] = [sort(one), sort(other)];
    const order = typeof a === "string" ? a.localeCompare(b) : (a ?? -Infinity) - (b ?? -Infinity);
    return down ? -order : order;
  }

  return {
    element,
    show(rows) { all = rows; draw(); },
  };
}

function saying(element) {
  const one = (it) => `${it.className} ${it.getAttribute("href") ?? ""} ${it.getAttribute("aria-label") ?? ""}`;
  return [element, ...element.querySelectorAll("*")].map(one).join("|") + element.textContent;
}

/** Rows in which a text stands somewhere. */
export function holding(rows, wanted, texts) {
  const words = wanted.trim().toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return rows;
  return rows.filter((row) => {
    const all = texts(row).join(" ").toLowerCase();
    return words.every((word) => all.includes(word));
  });
}
