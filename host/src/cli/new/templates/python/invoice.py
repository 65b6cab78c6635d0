"""Makes an invoice of every order."""

from tidegate import output, reject, retry


def handle(order, info):
    """What is returned is published and the message is acknowledged; what is raised says what becomes of it instead."""
    if "cents" not in order:
        raise retry("not-priced-yet")
    if order["cents"] == 0:
        raise reject("free-order", f"order {order['id']} costs nothing")
    info(f"invoicing order {order['id']}", cents=order["cents"])
    return [output("invoices", f"order {order['id']}: {order['cents']} cents")]
