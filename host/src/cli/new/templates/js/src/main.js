// What the module exports: takes the message apart, hands its body to the handler as JSON, and settles by what it does.

import log from "tidegate:events/log@0.1.0";
import { handle } from "./invoice.js";
import { failed, parsed } from "./tidegate.js";

export const handler = {
  handle(message) {
    const info = (text, fields = {}) =>
      log.write("info", text, Object.entries(fields).map(([name, value]) => [name, String(value)]));
    try {
      return handle(parsed(message), { info, message });
    } catch (error) {
      throw failed(error);
    }
  },
};
