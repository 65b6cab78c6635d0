// The handler, natively: `make test`. What a host offers stands in below.

#undef NDEBUG
#include <assert.h>
#include <string.h>

#include "tidegate.h"

static int lines;

void tidegate_events_log_write(tidegate_events_log_level_t level, message_handler_string_t *text,
                               message_handler_list_tuple2_string_string_t *fields) {
    (void)level, (void)text, (void)fields;
    lines++;
}
uint64_t tidegate_events_spans_start(message_handler_string_t *name,
                                     message_handler_list_tuple2_string_string_t *attributes) {
    (void)name, (void)attributes;
    return 0;
}
void tidegate_events_spans_end(uint64_t span, message_handler_string_t *failure) { (void)span, (void)failure; }
void exports_tidegate_events_handler_message_free(message_t *message) { (void)message; }
void exports_tidegate_events_handler_list_outgoing_free(outputs_t *outputs) { (void)outputs; }

static bool is(message_handler_string_t found, const char *expected) {
    return found.len == strlen(expected) && !memcmp(found.ptr, expected, found.len);
}

int main(void) {
    outputs_t outputs;
    failure_t failure;

    message_t order = {.body = {(uint8_t *)"7 1250", 6}};
    assert(exports_tidegate_events_handler_handle(&order, &outputs, &failure));
    assert(outputs.len == 1 && is(outputs.ptr[0].to, "invoices"));
    assert(outputs.ptr[0].body.len == 19 && !memcmp(outputs.ptr[0].body.ptr, "order 7: 1250 cents", 19));
    assert(lines == 1);

    message_t unpriced = {.body = {(uint8_t *)"7", 1}};
    assert(!exports_tidegate_events_handler_handle(&unpriced, &outputs, &failure));
    assert(failure.tag == TIDEGATE_EVENTS_TYPES_FAILURE_RETRY && is(failure.val.retry.reason.code, "not-priced-yet"));

    message_t free_of_charge = {.body = {(uint8_t *)"7 0", 3}};
    assert(!exports_tidegate_events_handler_handle(&free_of_charge, &outputs, &failure));
    assert(failure.tag == TIDEGATE_EVENTS_TYPES_FAILURE_REJECT && is(failure.val.reject.code, "free-order"));

    puts("3 passed");
}
