use serde_json::json;

use super::{Said, Tag};

pub(in crate::admin) fn list() -> Said {
    Said::of(
        "listDeadLetters",
        Tag::DeadLetters,
        "A page of dead letters",
        "Broker by broker, the newest first, without bodies. Headers and log lines need the role `operate`. A caller who is \
         limited to some handlers sees those of these alone. A page may be shorter than asked for, or empty: one request \
         looks at so many and no more, and `next` alone says whether there are more.",
    )
    .gives("A page.")
    .fails(400, &["no-such-broker"])
    .fails(503, &["store-unavailable"])
    .example(json!({ "letters": [], "next": "main/01KB6ZQ0V4Y8T2J5M9N3C7D1FG" }))
}

pub(in crate::admin) fn stats() -> Said {
    Said::of(
        "countDeadLetters",
        Tag::DeadLetters,
        "How many dead letters there are of each kind",
        "Counted by their fingerprint (the same for the same error of the same handler, whatever the version and whatever \
         numbers and ids stand in it), or by another of their traits: the largest groups with the newest dead letter of \
         each, and how many are in none of them. A caller who is limited to some handlers has those of these counted \
         alone. JetStream cannot count by itself: there the newest 200,000 are counted, and `more` says when there are \
         older ones.",
    )
    .gives("The counts.")
    .fails(400, &["no-such-broker"])
    .fails(503, &["store-unavailable"])
    .example(json!({
        "groups": [{
            "key": "62324982debe2072",
            "letters": 1204,
            "first_dead_at": "2026-11-28T22:14:03.120Z",
            "last_dead_at": "2026-11-29T03:01:44.871Z",
            "newest": {
                "id": "01KB6ZQ0V4Y8T2J5M9N3C7D1FG",
                "broker": "main",
                "subscription": "orders",
                "handler": "invoice",
                "version": 7,
                "digest": "9b74c9897bac770ffc029102a200c5de9b74c9897bac770ffc029102a200c5de",
                "reason": "handler-rejected",
                "error": "order 17 has no total",
            },
        }],
        "others": 3,
        "other_groups": 2,
        "matched": 1207,
        "examined": 1207,
    }))
}

pub(in crate::admin) fn show() -> Said {
    Said::of(
        "showDeadLetter",
        Tag::DeadLetters,
        "One dead letter, whole",
        "With its history, and with the role `operate` also with the last log lines, the headers and the body of its message.",
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
