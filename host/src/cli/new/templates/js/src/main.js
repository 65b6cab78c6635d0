// What the module exports: takes the message apart, hands its body to the handler as JSON, and settles by what it does.

import log from "tidegate:events/log@0.1.0";
import spans from "tidegate:events/spans@0.1.0";
import { handle } from "./invoice.js";
import { failed, parsed } from "./tidegate.js";

const named = (fields) => Object.entries(fields).map(([name, value]) => [name, String(value)]);

/** Writes a line to the log. */
const info = (text, fields = {}) => log.write("info", text, named(fields));

/** Does some work within a span of the message's trace, which ends as failed when something is thrown. */
const span = (name, fields, work) => {
  const started = spans.start(name, named(fields));
  let failure = null;
  try {
    return work();
  } catch (error) {
    failure = String(error?.message ?? error);
    throw error;
  } finally {
    spans.end(started, failure);
  }
};

export const handler = {
  handle(message) {
    try {
      return handle(parsed(message), { info, span, message });
    } catch (error) {
      throw failed(error);
    }
  },
};
