// The frame: who is signed in, which page is open, and going from one to the other.
//
// A page is a function `page(view, { parts, query, signal, me })`: it fills `view`, and stops what it began when `signal` ends.

import { audit } from "./audit.js";
import { get, hasToken, setToken, whenAsked } from "./api.js";
import { deadLetter } from "./dead-letter.js";
import { deadLetters } from "./dead-letters.js";
import { signIn } from "./dialog.js";
import { button, h, passing, put, say } from "./dom.js";
import { handler } from "./handler.js";
import { handlers } from "./handlers.js";
import { live } from "./live.js";
import { overview } from "./overview.js";
import { subscription, subscriptions } from "./subscriptions.js";

const NAVIGATION = [
  ["", "Overview"], ["subscriptions", "Subscriptions"], ["handlers", "Handlers"], ["dead-letters", "Dead letters"],
  ["live", "Live"], ["audit", "Audit log"],
];
const PAGES = {
  "": () => [overview, "Overview"],
  subscriptions: (parts) => (parts.length > 0 ? [subscription, parts[0]] : [subscriptions, "Subscriptions"]),
  handlers: (parts) => (parts.length > 0 ? [handler, parts[0]] : [handlers, "Handlers"]),
  "dead-letters": (parts) => (parts.length > 0 ? [deadLetter, "Dead letter"] : [deadLetters, "Dead letters"]),
  live: () => [live, "Live"],
  audit: () => [audit, "Audit log"],
};
const ROLES = ["read", "operate", "deploy"];

const main = document.getElementById("main");
let me = null;
let leaving = new AbortController();

/** Who is here, and what they may do: `may("operate")`. */
function person({ name, role, handlers: limited }) {
  return { name, role, may: (wanted) => ROLES.indexOf(role) >= ROLES.indexOf(wanted), limited };
}

function top(host) {
  const here = location.hash.replace(/^#\/?/, "").split(/[/?]/)[0];
  const links = NAVIGATION.map(([path, name]) =>
    h("a", { href: `#/${path}`, "aria-current": path === here ? "page" : undefined }, name));
  put(document.getElementById("top"),
    h("a", { class: "brand", href: "#/" }, h("img", { src: "/console/icon.svg", alt: "" }), "Tidegate", host && h("span", { class: "host" }, host)),
    h("nav", { "aria-label": "Pages" }, links),
    h("div", { class: "who" }, me && h("span", {}, `${me.name} (${me.role})`), hasToken() && button("Sign out", leave, { class: "quiet" }),
      button("Light or dark", turn, { class: "quiet" })));
}

let host = null;

async function open() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [first, ...parts] = path.split("/").map(decodeURIComponent);
  const [page, title] = PAGES[first]?.(parts.filter(Boolean)) ?? [lost, "Not here"];
  document.title = `${title} – ${host ?? "Tidegate"}`;
  top(host);
  // A view of its own for each page: what an old one still writes is seen by nobody.
  const view = h("div", { class: "page" });
  put(main, h("div", { class: "head" }, h("h1", { tabindex: "-1" }, title)), view);
  try {
    await page(view, { parts: parts.filter(Boolean), query: new URLSearchParams(query ?? ""), signal, me, head: main.firstChild });
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    put(view, h("p", { class: "note bad", role: "alert" }, error.message), button("Try again", open));
  }
}

function lost(view) {
  put(view, h("p", { class: "note warn" }, "There is no such page. ", h("a", { href: "#/" }, "Go to the overview.")));
}

async function enter() {
  const test = async (token) => {
    setToken(token);
    try {
      me = person(await get("/v1/whoami"));
      return null;
    } catch (error) {
      setToken(null);
      return error.message;
    }
  };
  try {
    me = person(await get("/v1/whoami"));
  } catch (error) {
    if (error.status !== 401) {
      put(main, h("p", { class: "note bad", role: "alert" }, error.message), button("Try again", start));
      return false;
    }
    const wrong = hasToken() ? error.message : null;
    setToken(null);
    await signIn({ why: wrong, test });
  }
  return true;
}

async function start() {
  top(null);
  if (!(await enter())) return;
  const status = await get("/v1/status").catch(() => null);
  host = status?.host ?? null;
  await open();
}

function leave() {
  setToken(null);
  me = null;
  leaving.abort();
  put(main);
  return start();
}

function turn() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  localStorage.setItem("tidegate.theme", document.documentElement.dataset.theme);
}

const theme = localStorage.getItem("tidegate.theme");
if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;

setInterval(passing, 1000);

// A token that ends its life while somebody works: they sign in again, and are where they were.
let asking = false;
whenAsked((fail) => {
  if (asking || me === null) return;
  asking = true;
  say(fail.message, "bad");
  setToken(null);
  start().finally(() => { asking = false; });
});

addEventListener("hashchange", async () => {
  await open();
});
addEventListener("hashchange", () => {
  scrollTo(0, 0);
  // A screen reader says where one is now.
  main.querySelector("h1")?.focus();
});
addEventListener("keydown", (event) => {
  const typing = event.target instanceof Element && event.target.closest("input, textarea, select, dialog");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const search = main.querySelector("input[type=search]");
    if (search) { event.preventDefault(); search.focus(); }
  }
});

start();
