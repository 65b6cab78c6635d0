use serde_json::json;

use super::{Said, Tag};

pub(in crate::admin) fn list() -> Said {
    Said::of(
        "listDeadLetters",
        Tag::DeadLetters,
        "A page of dead letters",
        "Broker by broker, the newest first, without bodies. Headers need the role `operate`. A caller who is limited to \
         some handlers sees those of these alone, and pages may be shorter than asked for: `next` alone says whether \
         there are more.",
    )
    .gives("A page.")
    .fails(400, &["no-such-broker"])
    .fails(503, &["store-unavailable"])
    .example(json!({ "letters": [], "next": "main/01KB6ZQ0V4Y8T2J5M9N3C7D1FG" }))
}

pub(in crate::admin) fn show() -> Said {
    Said::of(
        "showDeadLetter",
        Tag::DeadLetters,
        "One dead letter, whole",
        "With its history, and with the role `operate` also with the headers and the body of its message.",
    )
    .gives("The dead letter.")
    .fails(400, &["no-such-broker"])
    .fails(404, &["no-such-dead-letter"])
    .fails(503, &["store-unavailable"])
}

pub(in crate::admin) fn discard() -> Said {
    Said::of(
        "discardDeadLetter",
        Tag::DeadLetters,
        "Removes a dead letter",
        "It is gone with its message, and cannot be brought back.",
    )
    .gives("It is removed.")
    .fails(400, &["no-such-broker"])
    .fails(404, &["no-such-dead-letter"])
    .fails(503, &["store-unavailable"])
}

pub(in crate::admin) fn redrive() -> Said {
    Said::of(
        "redriveDeadLetter",
        Tag::DeadLetters,
        "Sends a dead letter back",
        "Its message is published to its subject again, for the subscription that gave it up. One that was sent back \
         before, or came back too often, is sent back only with `force`.",
    )
    .gives("Where it stands now.")
    .fails(400, &["no-such-broker", "invalid-message"])
    .fails(404, &["no-such-dead-letter"])
    .fails(409, &["already-redriven", "redriven-too-often"])
    .fails(413, &["too-large"])
    .fails(503, &["store-unavailable", "broker-unavailable"])
    .fails(507, &["queue-full"])
    .example(json!({ "sequence": 78, "duplicate": false }))
}
