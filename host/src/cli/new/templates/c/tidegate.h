// The contract's shapes, as in bindings/message_handler.h, by short names.

#ifndef TIDEGATE_H
#define TIDEGATE_H

#include <stdio.h>

#include "bindings/message_handler.h"

typedef exports_tidegate_events_handler_message_t message_t;
typedef exports_tidegate_events_handler_list_outgoing_t outputs_t;
typedef exports_tidegate_events_handler_failure_t failure_t;

// The handler: true when the message is done and `outputs` are to be published, false when `failure` says what becomes of
// it. The functions below give back what it returns: `return reject(...)`.
bool handle(const message_t *message, outputs_t *outputs, failure_t *failure);

// Adds a message to publish to an output that the configuration grants. The format is printf's, as in all of these; what
// is longer than 1023 bytes is cut.
__attribute__((format(printf, 3, 4))) bool output(outputs_t *outputs, const char *to, const char *format, ...);

// Run the message again later; it counts as an attempt. The detail is for a person and may be NULL.
__attribute__((format(printf, 3, 4))) bool retry(failure_t *failure, const char *code, const char *detail, ...);

// To the dead-letter queue, and no more attempts.
__attribute__((format(printf, 3, 4))) bool reject(failure_t *failure, const char *code, const char *detail, ...);

// Acknowledged, and counted as skipped.
__attribute__((format(printf, 3, 4))) bool skip(failure_t *failure, const char *code, const char *detail, ...);

// Writes a line to the log.
__attribute__((format(printf, 1, 2))) void info(const char *format, ...);

// Starts a span of the message's trace, inside the innermost one that is open, and gives back what it is ended by.
uint64_t span_start(const char *name);

// Ends a span, and what is open inside it; as failed, unless the failure is NULL.
void span_end(uint64_t span, const char *failure);

// Bytes as a C string in a buffer; what does not fit is cut.
char *text(char *buffer, size_t size, const message_handler_list_u8_t *bytes);

#endif
