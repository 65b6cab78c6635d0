// Makes an invoice of every order.

import { output, reject, retry } from "./tidegate.js";

/** What is returned is published and the message is acknowledged; what is thrown says what becomes of it instead. */
export function handle(order, { info }) {
  if (order.cents === undefined) {
    throw retry("not-priced-yet");
  }
  if (order.cents === 0) {
    throw reject("free-order", `order ${order.id} costs nothing`);
  }
  info(`invoicing order ${order.id}`, { cents: order.cents });
  return [output("invoices", `order ${order.id}: ${order.cents} cents`)];
}
