use serde_json::json;

use super::{Said, Tag};

/// The path names a subscription, and what counts is its handler.
const THEIRS: &[&str] = &["limited-to-handlers"];
const UNKEPT: &[&str] = &["no-subscriptions-here", "not-kept", "cluster-not-told"];
const ALONE: &[&str] = &["no-cluster"];

pub(in crate::admin) fn kept() -> Said {
    Said::of(
        "keptSubscriptions",
        Tag::Subscriptions,
        "The subscriptions that brokers keep messages for",
        "An embedded queue keeps a message until every subscription that wants it has settled it, whether or not the \
         configuration still has that subscription. Other brokers keep messages for nobody, and have none here.",
    )
    .gives("All of them.")
    .fails(503, &["store-unavailable"])
    .example(json!({ "subscriptions": [{
        "broker": "main",
        "name": "orders-old",
        "subjects": ["orders.>"],
        "ready": 200,
        "pending": 3,
        "last_seen": "2026-11-29T06:00:00.000Z",
        "in_use": false,
    }]}))
}

pub(in crate::admin) fn forget() -> Said {
    Said::of(
        "forgetSubscription",
        Tag::Subscriptions,
        "Forgets a subscription that is gone for good",
        "It holds no messages any more: those that all others have settled are removed, and those that nobody else wants as \
         `messages` says. One that the configuration has is not forgotten.",
    )
    .gives("It is forgotten.")
    .fails(400, &["no-such-broker", "which-broker"])
    .fails(404, &["no-such-subscription"])
    .fails(409, &["subscription-in-use"])
    .fails(503, &["store-unavailable"])
    .example(json!({ "broker": "main", "name": "orders-old", "held": 203 }))
}

pub(in crate::admin) fn pause() -> Said {
    let said = Said::of(
        "pauseSubscription",
        Tag::Subscriptions,
        "Pauses a subscription, on this host or on all",
        "It takes no messages until it is resumed, or until the time in `for` is over; that outlasts a restart and a changed \
         configuration. What runs goes on to its end, and what has not begun goes back to its broker without counting an \
         attempt. One that is paused already is from now on paused as this says. Other hosts go on, unless `hosts` is `all`: \
         then all of the cluster stop, those that are away as soon as they are back. A token that is limited to handlers may not \
         do that.",
    );
    paused(said).fails(403, THEIRS)
}

pub(in crate::admin) fn pause_handler() -> Said {
    let said = Said::of(
        "pauseHandler",
        Tag::Subscriptions,
        "Pauses all subscriptions of a handler, on this host or on all",
        "Those that it has now, each as if it were paused by itself: one that the configuration brings later takes messages.",
    );
    paused(said)
}

pub(in crate::admin) fn resume() -> Said {
    let said = Said::of(
        "resumeSubscription",
        Tag::Subscriptions,
        "Resumes a subscription, on this host or on all",
        "It takes messages again: one at a time at first, and within ten seconds as many as may run at once. A circuit \
         that is open is closed by it too. One that is not paused goes on as it is. Ended is the pause of this host, or with \
         `hosts=all` that of all; where the other one still holds it, `still` says so.",
    );
    resumed(said).fails(403, THEIRS)
}

pub(in crate::admin) fn resume_handler() -> Said {
    let said = Said::of(
        "resumeHandler",
        Tag::Subscriptions,
        "Resumes all subscriptions of a handler, on this host or on all",
        "Each as if it were resumed by itself.",
    );
    resumed(said)
}

pub(in crate::admin) fn past() -> Said {
    Said::of(
        "pastMessages",
        Tag::Subscriptions,
        "The messages that a subscription's stream still has",
        "Those that it wants, settled or not, as they were published, the oldest first, a page at a time. Looking changes \
         nothing: none is handed out or settled, and nothing is made on a broker for it. `keeps_settled` says whether the \
         broker keeps what every subscription has settled; the embedded queue does not.",
    )
    .gives("A page of messages. It may be shorter than it was asked to be: `next` alone says whether it is the last.")
    .fails(403, THEIRS)
    .fails(404, &["no-such-subscription"])
    .fails(503, &["no-past", "broker-unavailable"])
    .example(json!({
        "messages": [{
            "id": "m-7",
            "subject": "orders.eu",
            "sequence": 7,
            "published_at": "2026-11-29T06:00:00.000000000Z",
            "headers": [["Kind", "new"]],
            "body": "{\"id\": 7}",
        }],
        "next": 7,
        "oldest": "2026-11-28T06:00:00.000Z",
        "keeps_settled": true,
    }))
}

fn paused(said: Said) -> Said {
    let said = said.gives("The pause holds.").fails(404, &["no-such-subscription"]);
    said.fails(409, ALONE).fails(503, UNKEPT).example(json!({ "subscriptions": [{
        "name": "orders",
        "handler": "invoice",
        "in_flight": 3,
        "pause": {
            "kind": "operator",
            "hosts": "this",
            "by": "ops",
            "why": "the database moves",
            "since": "2026-11-29T06:00:00.000Z",
            "until": "2026-11-29T06:10:00.000Z",
        },
    }]}))
}

fn resumed(said: Said) -> Said {
    said.gives("That pause is over.")
        .fails(404, &["no-such-subscription"])
        .fails(409, ALONE)
        .fails(503, UNKEPT)
        .example(json!({ "subscriptions": [{ "name": "orders", "handler": "invoice", "was_paused": true }] }))
}
