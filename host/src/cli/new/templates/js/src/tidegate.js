// The contract's shapes, as in wit/events.wit, by short names.

/** A message to publish once the handler has returned: to an output that the configuration grants. */
export function output(to, text) {
  return {
    to, subject: null, key: null, contentType: "text/plain; charset=utf-8", headers: [], body: utf8(text), id: null,
  };
}

/** Run the message again later; it counts as an attempt. */
export function retry(code, detail = null, afterMs = null) {
  return new Failure({ tag: "retry", val: { afterMs, reason: { code, detail } } });
}

/** To the dead-letter queue, and no more attempts. */
export function reject(code, detail = null) {
  return new Failure({ tag: "reject", val: { code, detail } });
}

/** Acknowledged, and counted as skipped. */
export function skip(code, detail = null) {
  return new Failure({ tag: "skip", val: { code, detail } });
}

/** Back after the delay, at no attempt. */
export function defer(code, afterMs, detail = null) {
  return new Failure({ tag: "defer", val: { afterMs, reason: { code, detail } } });
}

/** What a handler throws to say what becomes of the message. */
export class Failure extends Error {
  constructor(failure) {
    const reason = failure.val.reason ?? failure.val;
    super(`${failure.tag} ${reason.code}`);
    this.failure = failure;
  }
}

/** The body as JSON. What does not parse is rejected: parsing it again can't help. */
export function parsed(message) {
  try {
    return JSON.parse(text(message.body));
  } catch (error) {
    throw reject("invalid-payload", error.message);
  }
}

/** What was thrown, as the contract says it: an error that nobody classified is a retry. */
export function failed(error) {
  return error instanceof Failure ? error.failure : retry("error", String(error?.stack ?? error)).failure;
}

/** Text of UTF-8. QuickJS has no TextDecoder. */
export function text(bytes) {
  let escaped = "";
  for (const byte of bytes) {
    escaped += byte < 0x80 && byte !== 0x25 ? String.fromCharCode(byte) : "%" + byte.toString(16).padStart(2, "0");
  }
  return decodeURIComponent(escaped);
}

/** UTF-8 of text. QuickJS has no TextEncoder. */
export function utf8(text) {
  const bytes = [];
  for (const character of text) {
    const code = character.codePointAt(0);
    if (code < 0x80) bytes.push(code);
    else if (code < 0x800) bytes.push(0xc0 | (code >> 6), 0x80 | (code & 63));
    else if (code < 0x10000) bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
    else bytes.push(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 63), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
  }
  return new Uint8Array(bytes);
}
