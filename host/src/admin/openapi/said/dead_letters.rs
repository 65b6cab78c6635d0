use serde_json::json;

use super::{Content, Said, Tag, UNAVAILABLE, UNFIT};
use crate::admin::wire::ExportLine;

pub(in crate::admin) fn list() -> Said {
    Said::of(
        "listDeadLetters",
        Tag::DeadLetters,
        "A page of dead letters",
        "The newest first, over all brokers, without bodies. Headers and log lines need the role `operate`. A caller who is \
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
         alone. JetStream cannot count by itself: until the host has read them all in the background, the newest 200,000 \
         are counted, and `more` says when there are older ones, unless the `whole` is asked for. A task that is given \
         the answer's `until` means those that were counted, and none that died since.",
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
        "same_version": 0,
        "until": "2026-11-29T03:10:02.519348000Z",
        "deaths": { "from": "2026-11-28T22:00:00.000Z", "step_seconds": 3600, "letters": [3, 0, 0, 1200, 3, 1] },
    }))
}

pub(in crate::admin) fn export() -> Said {
    Said::of(
        "exportDeadLetters",
        Tag::DeadLetters,
        "Dead letters, whole, as lines",
        "Broker by broker, the oldest first, each with its record, headers and body, as it can be brought in again. The last \
         line says how many there were: where it is missing, the answer was cut off.",
    )
    .answers(200, "The dead letters.", Content::lines::<ExportLine>())
    .fails(400, &["no-such-broker"])
}

pub(in crate::admin) fn import() -> Said {
    Said::of(
        "importDeadLetters",
        Tag::DeadLetters,
        "Brings dead letters in",
        "What an export gave. A dead letter that is there is left as it is. It ends at the first line that is wrong or cannot \
         be stored; those before it are stored, and it is safe to send all again.",
    )
    .takes(true, "The lines of an export.", vec![Content::lines::<ExportLine>()])
    .gives("How many were stored, and how many were there.")
    .fails(400, &["no-such-broker", "invalid-line", "broken-body"])
    .fails(408, &["too-slow"])
    .fails(413, &["too-large"])
    .fails(503, &["store-unavailable"])
    .example(json!({ "imported": 1204, "present": 0 }))
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
         before, or came back too often, is sent back only with `force`. With `edited` the body of this request takes the \
         place of its own, and with `to` it goes to another subject and whoever receives that: the header `Dlq-Redrive-Of` then says \
         which dead letter it is of. For `to` the token may not be limited to handlers, as a subject leads to any.",
    )
    .takes(false, "With `edited`, the body of the message.", vec![Content::Bytes("*/*")])
    .gives("Where it stands now.")
    .fails(400, &["no-such-broker", "invalid-message", "broken-body"])
    .fails(408, &["too-slow"])
    .fails(404, &["no-such-dead-letter"])
    .fails(409, &["already-redriven", "redriven-too-often", "same-version", "no-handlers-here", "nobody-takes-it"])
    .fails(403, &["limited-to-handlers"])
    .fails(413, &["too-large"])
    .fails(503, &["store-unavailable", "broker-unavailable", "versions-unreadable"])
    .fails(507, &["queue-full"])
    .example(json!({ "sequence": 78, "duplicate": false }))
}

pub(in crate::admin) fn replay() -> Said {
    Said::of(
        "replayDeadLetter",
        Tag::DeadLetters,
        "Runs the message of a dead letter once more",
        "On the version that gave it up, or on the one that `version` names, by the limits of that version, as the attempt \
         that failed last. It has no effect: what the handler would send is shown and sent nowhere, what it measures is \
         counted nowhere, and the dead letter stays as it is. It runs when no message wants to, two at once at the most. With \
         `edited` it is run with the body of this request.",
    )
    .takes(false, "With `edited`, the body of the message.", vec![Content::Bytes("*/*")])
    .gives("What came of it, and how that differs from what the dead letter says.")
    .fails(400, &["no-such-broker", "broken-body"])
    .fails(404, &["no-such-dead-letter", "no-such-handler", "no-such-version"])
    .fails(408, &["too-slow"])
    .fails(409, &["no-version-ran", "version-forgotten", "not-granted"])
    .fails(413, &["too-large"])
    .fails(422, UNFIT)
    .fails(500, &["replay-broken"])
    .fails(503, &["store-unavailable", "too-many-replays", "replay-unfinished"])
    .fails(503, UNAVAILABLE)
}

pub(in crate::admin) fn tasks() -> Said {
    Said::of(
        "listDeadLetterTasks",
        Tag::DeadLetters,
        "The tasks over dead letters",
        "Those that go on, and the last fifty that ended. A caller who is limited to some handlers sees the tasks of callers \
         who are limited to the same.",
    )
    .gives("The tasks, the newest first.")
    .fails(503, &["no-tasks-here"])
    .example(json!({ "tasks": [] }))
}

pub(in crate::admin) fn begin_task() -> Said {
    Said::of(
        "beginDeadLetterTask",
        Tag::DeadLetters,
        "Sends many back, or removes many",
        "The host goes through the dead letters that match and have died by now, the oldest first, and goes on with it when \
         it is killed in the middle. What the broker cannot take now is waited for; what it will never take is counted and \
         passed over. A discard has to say how many it removes. A redrive with `canary` sends some back first, watches what \
         becomes of them on this host, and is aborted when too many of them fail again. Those that failed in a version that still \
         runs are told as `same_version`, and with `only_if_version_changed` passed over. With `to` they go to another subject, which a \
         token that is limited to handlers may not; where nobody takes it, the task is aborted and nothing is lost.",
    )
    .gives("The task, which has begun.")
    .fails(403, &["limited-to-handlers"])
    .fails(400, &["no-such-broker"])
    .fails(409, &["too-many-tasks", "other-count", "no-handlers-here"])
    .fails(503, &["no-tasks-here", "store-unavailable", "task-unwritable", "versions-unreadable"])
}

pub(in crate::admin) fn task() -> Said {
    Said::of("showDeadLetterTask", Tag::DeadLetters, "One task over dead letters", "How far it is, and how it ended.")
        .gives("The task.")
        .fails(404, &["no-such-task"])
        .fails(503, &["no-tasks-here"])
}

pub(in crate::admin) fn pause_task() -> Said {
    Said::of(
        "pauseDeadLetterTask",
        Tag::DeadLetters,
        "Holds a task over dead letters",
        "Nothing more is begun with until it is told to go on, over starts of the host too; a dead letter that is under way is \
         finished. What became of a canary is looked at meanwhile, and may end the task. One that is held stays so.",
    )
    .gives("The task, as it stands.")
    .fails(404, &["no-such-task"])
    .fails(409, &["task-ended"])
    .fails(503, &["no-tasks-here", "task-unwritable"])
}

pub(in crate::admin) fn resume_task() -> Said {
    Said::of(
        "resumeDeadLetterTask",
        Tag::DeadLetters,
        "Lets a task over dead letters go on",
        "From where it was. One that goes on stays so.",
    )
    .gives("The task, as it stands.")
    .fails(404, &["no-such-task"])
    .fails(409, &["task-ended", "too-many-tasks"])
    .fails(503, &["no-tasks-here", "task-unwritable"])
}

pub(in crate::admin) fn cancel_task() -> Said {
    Said::of(
        "cancelDeadLetterTask",
        Tag::DeadLetters,
        "Ends a task over dead letters",
        "What was sent back or removed stays so; a dead letter that is under way is finished. A task that has ended is as it \
         was.",
    )
    .gives("The task, as it stands.")
    .fails(404, &["no-such-task"])
    .fails(503, &["no-tasks-here", "task-unwritable"])
}
