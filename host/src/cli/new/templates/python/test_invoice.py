import json
import unittest
from pathlib import Path

from invoice import handle
from tidegate import Failure


class Invoice(unittest.TestCase):
    def setUp(self):
        self.lines = []

    def info(self, text, **fields):
        self.lines.append(text)

    def test_an_order(self):
        order = json.loads(Path(__file__).with_name("order.json").read_text())
        [invoice] = handle(order, self.info)
        self.assertEqual((invoice.to, invoice.body), ("invoices", b"order 7: 1250 cents"))
        self.assertEqual(self.lines, ["invoicing order 7"])

    def test_an_order_without_a_price(self):
        with self.assertRaises(Failure) as raised:
            handle({"id": 7}, self.info)
        self.assertEqual((raised.exception.kind, raised.exception.code), ("retry", "not-priced-yet"))

    def test_an_order_that_costs_nothing(self):
        with self.assertRaises(Failure) as raised:
            handle({"id": 7, "cents": 0}, self.info)
        self.assertEqual((raised.exception.kind, raised.exception.code), ("reject", "free-order"))


if __name__ == "__main__":
    unittest.main()
