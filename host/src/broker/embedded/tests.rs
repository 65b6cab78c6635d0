//! What needs a look behind the queue's back: damage, foreign files, failures of the store.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on should say where"
)]

use std::time::Duration;

use bytes::Bytes;
use rusqlite::Connection;
use tokio::time::Instant;

use super::inbox::Waiter;
use super::*;
use crate::broker::{DeadLetterQuery, Demand, SettleError, Settlement};
use crate::message::Headers;

const LEASE: Duration = Duration::from_secs(60);

fn message(body: &str) -> Publish {
    let mut headers = Headers::default();
    headers.push("A", "b");
    Publish { subject: "a.b".to_owned(), id: None, headers, body: Bytes::from(body.to_owned()) }
}

fn spec(name: &str) -> SubscriptionSpec {
    SubscriptionSpec {
        name: name.to_owned(),
        stream: None,
        subjects: vec![">".to_owned()],
        ack_wait: LEASE,
        max_in_flight: 10,
        create: true,
    }
}

fn demand(messages: usize) -> Demand {
    Demand { messages, bytes: usize::MAX }
}

fn behind_its_back(directory: &Path) -> Connection {
    let connection = Connection::open(directory.join(schema::STORE_FILE)).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    connection
}

#[tokio::test]
async fn damaged_messages_become_dead_letters_and_the_rest_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let queue = EmbeddedQueue::open(Options::new(directory.path())).await.unwrap();
    let source = queue.subscribe(&spec("s")).await.unwrap();
    queue.publish((1..=5).map(|n| message(&n.to_string())).collect()).await;
    let damage = [
        "UPDATE message SET body = x'00' WHERE seq = 1",
        "UPDATE message SET headers = x'07' WHERE seq = 2",
        "UPDATE message SET subject = CAST(x'ff' AS TEXT) WHERE seq = 3",
        "UPDATE message SET id = 'other' WHERE seq = 4",
    ];
    behind_its_back(directory.path()).execute_batch(&damage.join(";")).unwrap();
    let came = source.receive(demand(10)).await.unwrap();
    assert_eq!(came.iter().map(|one| one.message.body.clone()).collect::<Vec<_>>(), ["5"]);
    let letters = queue.dead_letters().list(&DeadLetterQuery::default()).await.unwrap().letters;
    assert_eq!(letters.len(), 4);
    for stored in &letters {
        let record = &stored.letter.record;
        assert_eq!((record.reason.as_str(), record.subscription.as_str()), ("invalid-message", "s"));
        assert!(record.error.starts_with("the stored message is damaged"), "{}", record.error);
        assert_eq!(record.fingerprint.len(), 16);
    }
    // By its sequence: ids of the same millisecond are in no order.
    let second = letters.iter().find(|stored| stored.letter.record.sequence == 2).unwrap();
    let second = queue.dead_letters().get(&second.letter.record.id).await.unwrap().letter;
    assert_eq!(second.body, "2", "what could be read is kept");
    assert_eq!(second.headers.get("Dlq-Unreadable-Headers"), Some(&Bytes::from_static(b"\x07")));
    let stats = queue.stats();
    assert_eq!((stats.messages, stats.dead_letters, stats.unreadable), (1, 4, 4));
}

#[tokio::test]
async fn a_store_that_fails_closes_the_queue_and_confirms_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let queue = EmbeddedQueue::open(Options::new(directory.path())).await.unwrap();
    let source = queue.subscribe(&spec("s")).await.unwrap();
    assert!(queue.publish(vec![message("1")]).await[0].is_ok());
    behind_its_back(directory.path()).execute_batch("ALTER TABLE seen RENAME COLUMN ids TO lost").unwrap();
    behind_its_back(directory.path()).execute_batch("DROP TABLE message").unwrap();
    let refused = queue.publish(vec![message("2")]).await.remove(0);
    assert!(matches!(refused, Err(PublishError::Unavailable(_))), "{refused:?}");
    let Status::Failed(why) = queue.status() else { panic!("the status hides the failure") };
    assert!(why.contains("the queue is closed"), "{why}");
    assert!(source.receive(demand(1)).await.is_err());
    assert!(queue.dead_letters().discard(&crate::settle::dead_letter::DeadLetterId("x".to_owned())).await.is_err());
    queue.close().await;
}

#[tokio::test]
async fn files_of_others_and_of_newer_versions_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    behind_its_back(directory.path()).execute_batch("CREATE TABLE t (x)").unwrap();
    let refused = EmbeddedQueue::open(Options::new(directory.path())).await.map(|_| ());
    assert!(matches!(refused, Err(OpenError::Foreign { .. })), "{refused:?}");

    let directory = tempfile::tempdir().unwrap();
    EmbeddedQueue::open(Options::new(directory.path())).await.unwrap().close().await;
    behind_its_back(directory.path()).execute_batch("PRAGMA user_version = 2").unwrap();
    let refused = EmbeddedQueue::open(Options::new(directory.path())).await.map(|_| ());
    assert!(matches!(refused, Err(OpenError::Newer { found: 2, known: 1, .. })), "{refused:?}");
    let refused = EmbeddedQueue::inspect(directory.path()).await.map(|_| ());
    assert!(matches!(refused, Err(OpenError::Newer { .. })), "{refused:?}");

    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(schema::STORE_FILE), vec![b'x'; 8192]).unwrap();
    let refused = EmbeddedQueue::open(Options::new(directory.path())).await.map(|_| ());
    assert!(matches!(refused, Err(OpenError::Store { .. })), "{refused:?}");
}

#[tokio::test]
async fn deliveries_that_nobody_took_come_back_at_once_and_do_not_count() {
    let directory = tempfile::tempdir().unwrap();
    let queue = EmbeddedQueue::open(Options::new(directory.path())).await.unwrap();
    let source = queue.subscribe(&spec("s")).await.unwrap();
    queue.publish(vec![message("1")]).await;
    for _ in 0..3 {
        let (reply, mut served) = tokio::sync::oneshot::channel();
        let until = Instant::now() + LEASE;
        let waiter = Waiter { subscription: 1, demand: demand(1), lease: LEASE, until, reply };
        queue.inner.inbox.push(Op::Receive(waiter), 0).await.unwrap();
        let mut pause = tokio::time::interval(Duration::from_millis(1));
        let handover = loop {
            pause.tick().await;
            if let Ok(handover) = served.try_recv() {
                break handover.unwrap();
            }
        };
        // As when a receive is dropped with its answer on the way.
        drop(handover);
    }
    let came = source.receive(demand(1)).await.unwrap();
    assert_eq!(came[0].progress.deliveries, 1);
}

#[tokio::test]
async fn a_dead_letter_with_the_id_of_another_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let queue = EmbeddedQueue::open(Options::new(directory.path())).await.unwrap();
    let source = queue.subscribe(&spec("s")).await.unwrap();
    queue.publish(vec![message("1"), message("2")]).await;
    let came = source.receive(demand(2)).await.unwrap();
    let found = |at: usize| row::Found {
        sequence: came[at].message.sequence.cast_signed(),
        target: None,
        bytes: 0,
        message: came[at].message.clone(),
        damage: None,
    };
    let damage = row::Damage { problem: "the checksum", headers: Vec::new() };
    let record = dead::damaged_row("s", &found(0), &damage, &came[0].progress).unwrap().record;
    let mut settled = Vec::new();
    for delivery in &came {
        let letter = crate::settle::dead_letter::DeadLetter {
            record: serde_json::from_str(&record).unwrap(),
            headers: delivery.message.headers.clone(),
            body: delivery.message.body.clone(),
        };
        let settle = crate::broker::Settle {
            receipt: delivery.receipt.clone(),
            settlement: Settlement::DeadLetter(Box::new(letter)),
            lease_ends_at: delivery.lease_ends_at,
        };
        settled.extend(source.settle(vec![settle]).await);
    }
    assert!(settled[0].is_ok(), "{settled:?}");
    assert!(matches!(settled[1], Err(SettleError::DeadLetter(_))), "{settled:?}");
    assert_eq!((queue.stats().messages, queue.stats().dead_letters), (1, 1), "the second is still there");
}

/// Two subscriptions that have looked at all there is, each at its own subject.
async fn two_that_have_caught_up(queue: &EmbeddedQueue) -> [Arc<dyn Source>; 2] {
    let mut sources = Vec::new();
    for name in ["a", "b"] {
        let subjects = vec![name.to_owned()];
        let source = queue.subscribe(&SubscriptionSpec { subjects, ..spec(name) }).await.unwrap();
        queue.publish(vec![Publish { subject: name.to_owned(), ..message("first") }]).await;
        assert_eq!(source.receive(demand(10)).await.unwrap().len(), 1);
        sources.push(source);
    }
    sources.try_into().unwrap_or_else(|_| panic!("two"))
}

#[tokio::test]
async fn where_all_that_one_wants_is_found_what_others_want_is_not_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let queue = EmbeddedQueue::open(Options::new(directory.path())).await.unwrap();
    let [a, _b] = two_that_have_caught_up(&queue).await;
    let subjects = ["a", "b", "b", "a", "b", "b"];
    queue.publish(subjects.map(|to| Publish { subject: to.to_owned(), ..message(to) }).to_vec()).await;
    let came = a.receive(demand(10)).await.unwrap();
    assert_eq!(came.iter().map(|one| one.message.sequence).collect::<Vec<_>>(), [3, 6]);
    let cursor = "SELECT cursor FROM subscription WHERE name = 'a'";
    let cursor: i64 = behind_its_back(directory.path()).query_row(cursor, [], |row| row.get(0)).unwrap();
    assert_eq!(cursor, 6, "the two behind it were not looked at");
    queue.publish(vec![Publish { subject: "a".to_owned(), ..message("next") }]).await;
    assert_eq!(a.receive(demand(10)).await.unwrap()[0].message.sequence, 9, "and nothing is passed over");
}

/// What cannot be read may be somebody else's, and is in no count of what is wanted.
#[tokio::test]
async fn a_damaged_message_of_another_hides_none() {
    let directory = tempfile::tempdir().unwrap();
    let queue = EmbeddedQueue::open(Options::new(directory.path())).await.unwrap();
    let [a, _b] = two_that_have_caught_up(&queue).await;
    queue.publish(["b", "a"].map(|to| Publish { subject: to.to_owned(), ..message(to) }).to_vec()).await;
    let damage = "UPDATE message SET subject = CAST(x'ff' AS TEXT) WHERE seq = 3";
    behind_its_back(directory.path()).execute_batch(damage).unwrap();
    let came = a.receive(demand(10)).await.unwrap();
    assert_eq!(came.iter().map(|one| one.message.sequence).collect::<Vec<_>>(), [4]);
}

/// A first run that the cursor has left far behind is given a row, and is held and counted as before.
#[test]
fn a_straggler_keeps_its_lease() {
    let totals = state::Totals { next_seq: 11, ..state::Totals::default() };
    let mut state = state::State::new(totals, window::Window::default());
    let marks = state::Marks { cursor: 10, floor: 1, ..state::Marks::default() };
    let everything = Filters::new(vec![">".to_owned()]);
    state.subscriptions.insert(1, state::Subscription::new(1, "s".to_owned(), everything, marks));
    let lease = state::Lease {
        subscription: 1,
        sequence: 3,
        ends: Instant::now() + LEASE,
        deliveries: 1,
        has_row: false,
        targeted: false,
        subject: "a".into(),
        bytes: 1,
        handed_us: 0,
    };
    state.begin();
    let token = state.lease(lease);
    state.commit();
    assert_eq!(state.subscriptions[&1].straggler(6), Some(3));
    assert_eq!(state.subscriptions[&1].straggler(7), None);
    state.begin();
    state.give_row(1, 3).unwrap();
    assert_eq!(state.subscriptions[&1].floor_now(), 11);
    assert!(state.held(1, 3, token).unwrap().has_row);
    state.rollback();
    assert_eq!(state.subscriptions[&1].floor_now(), 3);
    assert!(!state.held(1, 3, token).unwrap().has_row);
}
