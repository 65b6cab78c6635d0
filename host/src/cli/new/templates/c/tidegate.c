#include "tidegate.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static message_handler_string_t copied(const char *chars) {
    size_t length = strlen(chars);
    // A length of zero needs no memory, and the contract's code frees none then.
    message_handler_string_t copy = {length ? malloc(length) : NULL, length};
    if (length && !copy.ptr) abort();
    if (length) memcpy(copy.ptr, chars, length);
    return copy;
}

static message_handler_string_t formatted(const char *format, va_list values) {
    char chars[1024];
    vsnprintf(chars, sizeof chars, format, values);
    return copied(chars);
}

static void explain(tidegate_events_types_reason_t *reason, const char *code, const char *detail, va_list values) {
    reason->code = copied(code);
    reason->detail.is_some = detail != NULL;
    if (detail) reason->detail.val = formatted(detail, values);
}

bool output(outputs_t *outputs, const char *to, const char *format, ...) {
    outputs->ptr = realloc(outputs->ptr, (outputs->len + 1) * sizeof *outputs->ptr);
    if (!outputs->ptr) abort();
    exports_tidegate_events_handler_outgoing_t *added = &outputs->ptr[outputs->len++];
    memset(added, 0, sizeof *added);
    va_list values;
    va_start(values, format);
    message_handler_string_t body = formatted(format, values);
    va_end(values);
    added->to = copied(to);
    added->body = (message_handler_list_u8_t){body.ptr, body.len};
    return true;
}

bool retry(failure_t *failure, const char *code, const char *detail, ...) {
    va_list values;
    va_start(values, detail);
    failure->tag = TIDEGATE_EVENTS_TYPES_FAILURE_RETRY;
    failure->val.retry.after_ms.is_some = false;
    explain(&failure->val.retry.reason, code, detail, values);
    va_end(values);
    return false;
}

bool reject(failure_t *failure, const char *code, const char *detail, ...) {
    va_list values;
    va_start(values, detail);
    failure->tag = TIDEGATE_EVENTS_TYPES_FAILURE_REJECT;
    explain(&failure->val.reject, code, detail, values);
    va_end(values);
    return false;
}

bool skip(failure_t *failure, const char *code, const char *detail, ...) {
    va_list values;
    va_start(values, detail);
    failure->tag = TIDEGATE_EVENTS_TYPES_FAILURE_SKIP;
    explain(&failure->val.skip, code, detail, values);
    va_end(values);
    return false;
}

void info(const char *format, ...) {
    va_list values;
    va_start(values, format);
    message_handler_string_t line = formatted(format, values);
    va_end(values);
    message_handler_list_tuple2_string_string_t no_fields = {NULL, 0};
    tidegate_events_log_write(TIDEGATE_EVENTS_LOG_LEVEL_INFO, &line, &no_fields);
    free(line.ptr);
}

uint64_t span_start(const char *name) {
    message_handler_string_t text = {(uint8_t *)name, strlen(name)};
    message_handler_list_tuple2_string_string_t no_attributes = {NULL, 0};
    return tidegate_events_spans_start(&text, &no_attributes);
}

void span_end(uint64_t span, const char *failure) {
    message_handler_string_t text = {(uint8_t *)failure, failure ? strlen(failure) : 0};
    tidegate_events_spans_end(span, failure ? &text : NULL);
}

char *text(char *buffer, size_t size, const message_handler_list_u8_t *bytes) {
    size_t length = bytes->len < size ? bytes->len : size - 1;
    if (length) memcpy(buffer, bytes->ptr, length);
    buffer[length] = '\0';
    return buffer;
}

// What the module exports. What the handler is given is its to free.
bool exports_tidegate_events_handler_handle(message_t *message, outputs_t *outputs, failure_t *failure) {
    *outputs = (outputs_t){NULL, 0};
    bool done = handle(message, outputs, failure);
    exports_tidegate_events_handler_message_free(message);
    if (!done) exports_tidegate_events_handler_list_outgoing_free(outputs);
    return done;
}
