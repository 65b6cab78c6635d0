// Makes elements. Text becomes text nodes and nothing else: what a message holds is shown, and never run.

import { ago, moment } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "value") {
      element.value = value;
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...flat(children));
  return element;
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
}

/** An element of HTML with attributes, listeners (`on`) and children. */
export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same of SVG. */
export function svg(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

/** Puts children in the place of what an element had. */
export function put(element, ...children) {
  element.replaceChildren(...flat(children));
  return element;
}

/**
 * A button. What it does may take time; until it is done, pressing it again does nothing. It is not disabled meanwhile: a
 * disabled one loses the focus, and a question that is closed gives it back.
 */
export function button(label, act, properties = {}) {
  const element = h("button", { type: "button", ...properties }, label);
  element.addEventListener("click", async () => {
    if (element.getAttribute("aria-busy") === "true") return;
    element.setAttribute("aria-busy", "true");
    try {
      await act();
    } finally {
      element.removeAttribute("aria-busy");
    }
  });
  return element;
}

/** How long ago a moment was, which goes on: `passing` says it anew each second. A screen reader is told of it once. */
export function since(text) {
  return text ? h("time", { datetime: text, "aria-live": "off", title: moment(text) }, ago(text)) : "–";
}

/** Tells all times on the page how late it is by now. */
export function passing() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const now = ago(time.dateTime);
    if (time.textContent !== now) time.textContent = now;
  }
}

let quiet;

/** Says something at the lower edge of the window, and to a screen reader. */
export function say(text, kind = "good") {
  const place = document.getElementById("said");
  place.className = kind;
  put(place, text);
  clearTimeout(quiet);
  quiet = setTimeout(() => put(place), kind === "bad" ? 12000 : 5000);
}
