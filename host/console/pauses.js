// What takes no messages because somebody paused it, or because too many of them failed: by whom, why, until when.

import { h } from "./dom.js";
import { count, many, moment } from "./format.js";

/** So many are listed; a page of hundreds says how many more there are. */
const LISTED = 12;

/** The word for a pause. */
export function standing({ kind, until }) {
  if (kind === "operator") return "paused";
  return until ? "circuit open" : "circuit open, a message is tried";
}

/** Who paused it, since when, why, and until when. */
export function told({ kind, by, why, since, until, hosts }) {
  const end = kind === "circuit" ? until && `; a message is tried at ${moment(until)}` : until ? `; until ${moment(until)}` : "; until somebody resumes it";
  return `${hosts === "all" ? "on all hosts " : ""}by ${by}, since ${moment(since)}${why ? `: ${why}` : ""}${end ?? ""}`;
}

/** What of these subscriptions is held; nothing when none is. */
export function heldBack(subscriptions) {
  const held = subscriptions.filter(({ pause }) => pause);
  if (held.length === 0) return null;
  const all = held.length === subscriptions.length ? (held.length === 1 ? "The only subscription takes" : `All ${count(held.length)} subscriptions take`)
    : `${count(held.length)} of ${many(subscriptions.length, "subscription")} ${held.length === 1 ? "takes" : "take"}`;
  return h("div", { class: "note warn" }, h("p", {}, h("strong", {}, `${all} no messages.`)),
    h("ul", {}, held.slice(0, LISTED).map(({ name, pause, counts }) => h("li", {}, h("a", { href: `#/subscriptions/${encodeURIComponent(name)}` }, name),
      `: ${standing(pause)} ${told(pause)}${counts.ready > 0 ? `. ${count(counts.ready)} ${counts.ready === 1 ? "waits" : "wait"}` : ""}.`)),
    held.length > LISTED && h("li", {}, `and ${count(held.length - LISTED)} more`)));
}
