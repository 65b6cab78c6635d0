import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { handle } from "../src/invoice.js";
import { parsed, text, utf8 } from "../src/tidegate.js";

const lines = [];
/** What a host offers. */
const host = { info: (text) => lines.push(text), span: (_name, _fields, work) => work() };

test("an order", () => {
  const order = parsed({ body: readFileSync(new URL("../order.json", import.meta.url)) });
  const [invoice] = handle(order, host);
  assert.deepEqual([invoice.to, text(invoice.body)], ["invoices", "order 7: 1250 cents"]);
  assert.deepEqual(lines, ["invoicing order 7"]);
});

test("an order without a price", () => {
  assert.throws(() => handle({ id: 7 }, host), { message: "retry not-priced-yet" });
});

test("an order that costs nothing", () => {
  assert.throws(() => handle({ id: 7, cents: 0 }, host), { message: "reject free-order" });
});

test("what is no JSON is rejected", () => {
  assert.throws(() => parsed({ body: utf8("{") }), { message: "reject invalid-payload" });
});

test("text survives as UTF-8", () => {
  for (const sample of ["", "100 %", "Grüße", "price: 5 €", "😀"]) {
    assert.deepEqual(Buffer.from(utf8(sample)), Buffer.from(sample));
    assert.equal(text(Buffer.from(sample)), sample);
  }
});
