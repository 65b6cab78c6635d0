// Speaks to the host. The token stays in this tab: it is sent in a header, never in an address, and goes with the tab.

const KEY = "tidegate.token";

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

let asked = () => {};

/** Calls `listener` when the host wants a token, or another one. */
export function whenAsked(listener) {
  asked = listener;
}

export function hasToken() {
  return sessionStorage.getItem(KEY) !== null;
}

export function setToken(token) {
  if (token === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, token);
}

/** Sends a request; the answer as it is when it succeeded, an `ApiError` otherwise. */
export async function send(method, path, { body, headers = {}, signal } = {}) {
  const token = sessionStorage.getItem(KEY);
  if (token !== null) headers = { ...headers, Authorization: `Bearer ${token}` };
  let answer;
  try {
    answer = await fetch(path, { method, body, headers, signal, cache: "no-store", credentials: "omit", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The host does not answer. Is it running, and reachable from here?");
  }
  if (answer.ok) return answer;
  const fail = await refusal(answer);
  if (answer.status === 401) asked(fail);
  throw fail;
}

async function refusal(answer) {
  try {
    const { error } = await answer.clone().json();
    return new ApiError(answer.status, error.code, error.message);
  } catch {
    return new ApiError(answer.status, "unexpected", `The host answered with status ${answer.status}.`);
  }
}

/** A path with a query; what is empty is left out. */
export function at(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== false);
  return given.length === 0 ? path : `${path}?${new URLSearchParams(given)}`;
}

export async function get(path, query, signal) {
  const answer = await send("GET", at(path, query), { signal });
  return answer.json();
}

export async function post(path, query, body) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  const answer = await send("POST", at(path, query), { headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const text = await answer.text();
  return text === "" ? null : JSON.parse(text);
}

export async function remove(path, query) {
  await send("DELETE", at(path, query));
}

/** What `/ready` says: it is an answer also when the host is not ready. */
export async function readiness(signal) {
  const token = sessionStorage.getItem(KEY);
  // Whoever shows no token is told what is not ready, and not why.
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  const answer = await fetch("/ready", { signal, headers, cache: "no-store", credentials: "omit" });
  return answer.json();
}

/** Each line of a stream of JSON, as it comes. */
export async function* lines(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      for (const part of parts) if (part !== "") yield JSON.parse(part);
    }
    if (rest !== "") yield JSON.parse(rest);
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Does something again and again until `signal` ends; not while nobody looks. What fails is told once, and tried again. */
export async function poll(every, signal, once, failed) {
  while (!signal.aborted) {
    try {
      await once();
      failed(null);
    } catch (error) {
      if (signal.aborted || error.name === "AbortError") return;
      failed(error);
    }
    await rest(every, signal);
  }
}

async function rest(milliseconds, signal) {
  await new Promise((done) => {
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); done(); }, { once: true });
  });
  while (document.hidden && !signal.aborted) {
    await new Promise((done) => {
      document.addEventListener("visibilitychange", done, { once: true });
      signal.addEventListener("abort", done, { once: true });
    });
  }
}
