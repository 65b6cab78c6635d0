use serde_json::json;

use super::{Content, Said, Tag};
use crate::admin::wire::{ErrorAnswer, LiveLine, PublishLine, PublishSummary, PublishedMessage};

pub(in crate::admin) fn publish() -> Said {
    let lines = |kind| Content::lines_as::<PublishLine>(kind);
    let bodies = vec![
        lines("application/x-ndjson"),
        lines("application/ndjson"),
        lines("application/jsonl"),
        Content::Bytes("*/*"),
    ];
    Said::of(
        "publish",
        Tag::Messages,
        "Publishes one message, or a stream of them",
        "With a content type of JSON lines each line is a message, and the answer counts what was stored; it comes when \
         the stream has ended, or at the first line that is wrong. With any other content type the body is one message: \
         its subject and id stand in the query or in headers, `Content-Type`, `traceparent` and `tracestate` go with it, \
         and `Tidegate-Header-NAME: value` becomes its header NAME.\n\nA message is answered for only after its broker has \
         stored it. With an id it is safe to send it again.",
    )
    .header("Tidegate-Subject", "The subject of one message, where the query has none.")
    .header("Tidegate-Id", "The id of one message, where the query has none.")
    .header("traceparent", "The trace that one message belongs to, as W3C Trace Context writes it.")
    .header("tracestate", "What that trace carries along.")
    .takes(
        false,
        "A message, or a stream of messages. Each may have as many bytes as `max_publish_bytes` of `[http]` says, 8 MiB \
         where it says nothing; a stream may have any number of them.",
        bodies,
    )
    .answers(
        200,
        "One message is stored, or all lines are.",
        Content::either::<PublishedMessage, PublishSummary>(),
    )
    .fails(400, &["no-such-broker", "which-broker", "no-subject", "invalid-message", "invalid-line", "broken-body"])
    .fails(408, &["too-slow"])
    .fails(413, &["too-large"])
    .fails(503, &["broker-unavailable"])
    .fails(507, &["queue-full"])
    .fails_with(Content::either::<PublishSummary, ErrorAnswer>())
    .example_taken(json!({ "subject": "orders.eu", "id": "order-7", "json": { "id": 7, "cents": 120 } }))
    .example(json!({ "sequence": 1, "duplicate": false }))
}

pub(in crate::admin) fn happening() -> Said {
    Said::of(
        "watch",
        Tag::Messages,
        "What becomes of messages, as it happens",
        "A line of JSON for each delivery that ends, until the client goes or the host ends. The first line says \
         `watching`; after ten seconds without anything else comes `quiet`; whoever reads too slowly is told by `missed` \
         how much was left out, and slows nothing down. A caller who is limited to some handlers sees those alone.",
    )
    .answers(200, "The lines.", Content::lines::<LiveLine>())
    .fails(403, &["payload-withheld"])
    .fails(503, &["no-handlers-here", "too-many-look"])
    .example(json!({ "kind": "missed", "count": 12 }))
}
