//! Two hosts of one subscription: what one remembers of a message that it returned, the other knows when it comes there.

use std::time::{Duration, SystemTime};

use tidegate::broker::jetstream::{Auth, Options};
use tidegate::broker::{Broker as _, Source};
use tidegate::settle::progress::{AttemptRecord, Progress};

use super::{ack_all, connect, options, place_on};
use crate::broker_contract::{LONG_LEASE, give_back, receive, receive_one};
use crate::support::nats::NatsServer;

fn failure(attempt: u32) -> AttemptRecord {
    AttemptRecord {
        attempt,
        at: SystemTime::now(),
        run_ms: 7,
        reason: "handler-retry".to_owned(),
        error: "later".to_owned(),
        fingerprint: None,
        digest: "0123456789ab".to_owned(),
    }
}

async fn returned(source: &dyn Source, progress: impl Fn(&Progress) -> Progress, count: usize) {
    let came = receive(source, count).await;
    let group = came.iter().map(|delivery| give_back(delivery, Duration::ZERO, progress(&delivery.progress))).collect();
    for result in source.settle(group).await {
        result.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_host_returned_costs_no_attempt_on_another_and_its_failures_are_known_there() {
    let server = NatsServer::start().await;
    let ((one, _first), (two, _second)) = (connect(options(&server)).await, connect(options(&server)).await);
    let (one, two) = (place_on(one, ()), place_on(two, ()));
    let (ours, theirs) =
        (one.subscribe("shared", &[">"], LONG_LEASE).await, two.subscribe("shared", &[">"], LONG_LEASE).await);
    one.publish("a", ["1"]).await;
    returned(&*ours, |progress| progress.returned(false, None), 1).await;
    returned(
        &*theirs,
        |progress| {
            assert_eq!((progress.deliveries, progress.attempt(), progress.unexplained()), (2, 1, 0));
            progress.returned(true, Some(failure(1)))
        },
        1,
    )
    .await;
    // What was noted here is older, and does not count.
    let third = receive_one(&*ours).await;
    let known = &third.progress;
    assert_eq!((known.deliveries, known.attempt(), known.failures, known.unexplained()), (3, 2, 1, 0));
    assert_eq!(known.previous_failure().as_deref(), Some("handler-retry: later"));
    ack_all(&*ours, &[third]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_a_host_gives_back_at_once_costs_nothing_elsewhere() {
    const COUNT: usize = 500;
    let server = NatsServer::start().await;
    let ((one, _first), (two, _second)) = (connect(options(&server)).await, connect(options(&server)).await);
    let (one, two) = (place_on(one, ()), place_on(two, ()));
    let mut spec = one.spec("shared", &[">"], LONG_LEASE);
    spec.max_in_flight = 2 * COUNT;
    let (ours, theirs) = (one.broker.subscribe(&spec).await.unwrap(), two.broker.subscribe(&spec).await.unwrap());
    one.publish("a", (0..COUNT).map(|number| number.to_string())).await;
    returned(&*ours, |progress| progress.returned(false, None), COUNT).await;
    let came = receive(&*theirs, COUNT).await;
    let attempts: Vec<u32> = came.iter().map(|delivery| delivery.progress.attempt()).collect();
    assert_eq!(attempts, [1; COUNT]);
    ack_all(&*theirs, &came).await;
}

/// The notes are a help and no condition: without them every delivery counts, and nothing waits for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_hosts_cannot_tell_each_other_it_is_said_and_messages_come_all_the_same() {
    let denied = "authorization { users: [{ user: host, password: host, permissions: { publish: { \
                  deny: [\"$JS.API.STREAM.CREATE.NOTES_tidegate\", \"tidegate-note.>\"] }, subscribe: \">\" } }] }";
    let server = NatsServer::start_with(denied).await;
    let auth = Auth::UserPassword { user: "host".to_owned(), password: "host".to_owned() };
    let login = || Options { auth: auth.clone(), request_timeout: Duration::from_secs(1), ..options(&server) };
    let ((one, _first), (two, _second)) = (connect(login()).await, connect(login()).await);
    let (ours, theirs) = (place_on(one.clone(), ()), place_on(two, ()));
    let (source, other) =
        (ours.subscribe("shared", &[">"], LONG_LEASE).await, theirs.subscribe("shared", &[">"], LONG_LEASE).await);
    let warnings = one.warnings();
    let of_notes: Vec<&String> = warnings.iter().filter(|text| text.contains("NOTES_tidegate")).collect();
    assert!(matches!(of_notes.as_slice(), [text] if text.contains("Permissions Violation")), "{warnings:?}");
    ours.publish("a", ["1"]).await;
    returned(&*source, |progress| progress.returned(false, None), 1).await;
    let second = receive_one(&*other).await;
    assert_eq!((second.progress.deliveries, second.progress.attempt()), (2, 2));
    ack_all(&*other, &[second]).await;
}
