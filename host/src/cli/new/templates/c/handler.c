// Makes an invoice of every order. A body is `id cents`; the price is not there until the order is priced.

#include "tidegate.h"

bool handle(const message_t *message, outputs_t *outputs, failure_t *failure) {
    char body[64];
    unsigned long id, cents;
    int found = sscanf(text(body, sizeof body, &message->body), "%lu %lu", &id, &cents);
    if (found < 1) return reject(failure, "invalid-payload", "expected `id cents`, and not `%s`", body);
    if (found < 2) return retry(failure, "not-priced-yet", NULL);
    if (cents == 0) return reject(failure, "free-order", "order %lu costs nothing", id);
    info("invoicing order %lu for %lu cents", id, cents);
    return output(outputs, "invoices", "order %lu: %lu cents", id, cents);
}
