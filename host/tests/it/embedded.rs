//! The embedded queue: the contract of all brokers, and what it alone promises.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate::broker::embedded::{EmbeddedQueue, OpenError, Options};
use tidegate::broker::{
    Broker, DeadLetterError, DeadLetters, ForgetError, Left, PublishError, SettleError, Settlement, Status,
};

use crate::broker_contract::{
    LONG_LEASE, Place, ack, bodies, broker_contract, dead_letter, demand, eventually, give_back, receive, receive_one,
    settle, settle_one,
};

pub(crate) async fn open(options: Options) -> (Place, Arc<EmbeddedQueue>) {
    let queue = EmbeddedQueue::open(options).await.unwrap();
    let broker: Arc<dyn Broker> = Arc::clone(&queue) as Arc<dyn Broker>;
    (Place { broker, stream: None, prefix: "test".to_owned(), _keep: Box::new(()) }, queue)
}

async fn place(_name: &'static str) -> Place {
    let directory = tempfile::tempdir().unwrap();
    let (place, _) = open(Options::new(directory.path())).await;
    Place { _keep: Box::new(directory), ..place }
}

mod contract {
    use super::*;

    broker_contract!(super::place);
}

/// Nothing is said at the end: the queue is left as a killed process would leave it.
fn abandon(place: Place, queue: Arc<EmbeddedQueue>) {
    drop(queue);
    drop(place);
}

#[tokio::test]
async fn what_was_in_flight_comes_back_after_a_restart_and_counts() {
    let directory = tempfile::tempdir().unwrap();
    for delivery in 1..=3 {
        let (place, queue) = open(Options::new(directory.path())).await;
        let source = place.subscribe("s", &[">"], LONG_LEASE).await;
        if delivery == 1 {
            place.publish("a", ["1", "2", "3"]).await;
        }
        let came = receive(&*source, 2).await;
        assert_eq!(bodies(&came), ["1", "2"], "delivery {delivery}");
        for one in &came {
            assert_eq!((one.progress.deliveries, one.progress.unexplained()), (delivery, delivery - 1));
        }
        drop(source);
        abandon(place, queue);
    }
    let (place, queue) = open(Options::new(directory.path())).await;
    let source = place.subscribe("s", &[">"], LONG_LEASE).await;
    let came = receive(&*source, 3).await;
    assert_eq!(bodies(&came), ["1", "2", "3"]);
    assert_eq!(came[2].progress.deliveries, 1);
    assert_eq!(queue.stats().messages, 3);
}

#[tokio::test]
async fn a_settlement_by_an_earlier_holder_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (place, queue) = open(Options::new(directory.path())).await;
    let lease = Duration::from_millis(300);
    let source = place.subscribe("s", &[">"], lease).await;
    place.publish("a", ["1"]).await;
    let mut stale = receive_one(&*source).await;
    let held = receive_one(&*source).await;
    assert_eq!(held.progress.deliveries, 2);
    // The earlier holder's clock stood still: it still believes in its lease.
    stale.lease_ends_at += LONG_LEASE;
    for settlement in [
        Settlement::Ack { outputs: vec![place.message("a", None, "never")] },
        Settlement::Return { delay: Duration::ZERO, progress: Box::new(stale.progress.clone()) },
        dead_letter(&stale, "s", 0).settlement,
    ] {
        let answer = settle_one(&*source, settle(&stale, settlement)).await;
        assert!(matches!(answer, Err(SettleError::LeaseLost)), "{answer:?}");
    }
    assert_eq!(source.extend(&[stale.receipt.clone()]).await, [None]);
    assert_eq!((queue.stats().messages, queue.stats().dead_letters, queue.stats().leases_lost), (1, 0, 3));
    settle_one(&*source, ack(&held)).await.unwrap();
    assert_eq!(queue.stats().messages, 0);
    // Nor does one from before a restart, though the new process counts its leases from the start.
    place.publish("a", ["2"]).await;
    let stale = receive_one(&*source).await;
    drop(source);
    abandon(place, queue);
    let (place, _queue) = open(Options::new(directory.path())).await;
    let source = place.subscribe("s", &[">"], LONG_LEASE).await;
    let mut again = Vec::new();
    while again.len() < 8 {
        let delivery = receive_one(&*source).await;
        assert_ne!(delivery.receipt, stale.receipt);
        settle_one(&*source, give_back(&delivery, Duration::ZERO, delivery.progress.clone())).await.unwrap();
        again.push(delivery);
    }
    let answer = settle_one(&*source, ack(&stale)).await;
    assert!(matches!(answer, Err(SettleError::LeaseLost)), "{answer:?}");
}

/// As many subscriptions as handlers of a large host, each with subjects of its own and some that all want.
#[tokio::test]
async fn each_of_hundreds_gets_what_it_wants_and_nothing_else() {
    const SUBSCRIPTIONS: usize = 200;
    let directory = tempfile::tempdir().unwrap();
    for round in 1..=2 {
        let (place, queue) = open(Options::new(directory.path())).await;
        let subscribe = |number| {
            let (name, own) = (format!("s{number}"), format!("in.{number}.>"));
            let place = &place;
            async move { place.subscribe(&name, &[&own, "all.*"], LONG_LEASE).await }
        };
        let sources = futures_util::future::join_all((0..SUBSCRIPTIONS).map(subscribe)).await;
        // All of them wait, and are woken by what is theirs.
        let waiting = futures_util::future::join_all(sources.iter().map(|source| receive(&**source, 3)));
        let publishing = async {
            place.publish("all.of", [format!("for all {round}")]).await;
            place.publish("all.of.them", ["for nobody"]).await;
            for number in 0..SUBSCRIPTIONS {
                place.publish(&format!("in.{number}.a"), [format!("{number}")]).await;
                place.publish(&format!("in.{number}"), ["for nobody"]).await;
                place.publish(&format!("in.{number}.b.c"), [format!("{number} too")]).await;
            }
        };
        let (came, ()) = tokio::join!(waiting, publishing);
        for (number, came) in came.iter().enumerate() {
            assert_eq!(bodies(came), [format!("for all {round}"), format!("{number}"), format!("{number} too")]);
        }
        let settled = sources.iter().zip(&came).map(|(source, came)| source.settle(came.iter().map(ack).collect()));
        assert!(futures_util::future::join_all(settled).await.into_iter().flatten().all(|settled| settled.is_ok()));
        for source in &sources {
            let backlog = source.backlog().await.unwrap();
            assert_eq!((backlog.ready, backlog.pending, backlog.oldest), (0, 0, None));
        }
        assert_eq!(queue.stats().messages, round * (1 + SUBSCRIPTIONS as u64), "what nobody wants is kept");
        drop(sources);
        abandon(place, queue);
    }
}

#[tokio::test]
async fn filters_that_change_take_what_was_passed_over_since_the_last_message_that_was_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let (place, queue) = open(Options::new(directory.path())).await;
    let source = place.subscribe("s", &["a"], LONG_LEASE).await;
    place.publish("b", ["before"]).await;
    place.publish("a", ["wanted"]).await;
    settle_one(&*source, ack(&receive_one(&*source).await)).await.unwrap();
    place.publish("b", ["1", "2"]).await;
    {
        let mut waiting = std::pin::pin!(source.receive(demand(1)));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        place.publish("b", ["3"]).await;
        assert!(futures_util::poll!(waiting.as_mut()).is_pending(), "none of it is wanted");
    }
    drop(source);
    abandon(place, queue);
    let (place, queue) = open(Options::new(directory.path())).await;
    let source = place.subscribe("s", &["a", "b"], LONG_LEASE).await;
    assert_eq!(source.backlog().await.unwrap().ready, 3);
    place.publish("b", ["4"]).await;
    let came = receive(&*source, 4).await;
    assert_eq!(bodies(&came), ["1", "2", "3", "4"]);
    for delivery in &came {
        settle_one(&*source, ack(delivery)).await.unwrap();
    }
    assert_eq!(queue.stats().messages, 1);
}

#[tokio::test]
async fn a_message_is_kept_until_the_last_subscription_has_settled_it() {
    let directory = tempfile::tempdir().unwrap();
    let (place, queue) = open(Options::new(directory.path())).await;
    let quick = place.subscribe("quick", &[">"], LONG_LEASE).await;
    let slow = place.subscribe("slow", &["a"], LONG_LEASE).await;
    place.publish("a", ["1", "2", "3", "4"]).await;
    place.publish("b", ["only quick"]).await;
    let came = receive(&*quick, 5).await;
    // All but the first: what follows an unsettled message must be remembered as settled over a restart.
    for delivery in &came[1..] {
        settle_one(&*quick, ack(delivery)).await.unwrap();
    }
    assert_eq!(queue.stats().messages, 4);
    let first = receive_one(&*slow).await;
    settle_one(&*slow, ack(&first)).await.unwrap();
    assert_eq!(queue.stats().messages, 4, "the first is still held by quick");
    drop((quick, slow));
    abandon(place, queue);

    let (place, queue) = open(Options::new(directory.path())).await;
    let quick = place.subscribe("quick", &[">"], LONG_LEASE).await;
    let slow = place.subscribe("slow", &["a"], LONG_LEASE).await;
    let came = receive(&*quick, 1).await;
    assert_eq!((bodies(&came), came[0].progress.deliveries), (vec!["1".to_owned()], 2));
    settle_one(&*quick, ack(&came[0])).await.unwrap();
    assert_eq!(queue.stats().messages, 3);
    let rest = receive(&*slow, 3).await;
    assert_eq!(bodies(&rest), ["2", "3", "4"]);
    for delivery in &rest {
        settle_one(&*slow, ack(delivery)).await.unwrap();
    }
    let backlog = quick.backlog().await.unwrap();
    assert_eq!((queue.stats().messages, queue.stats().bytes, backlog.ready, backlog.pending), (0, 0, 0, 0));
}

#[tokio::test]
async fn a_redrive_reaches_only_who_gave_it_up() {
    let directory = tempfile::tempdir().unwrap();
    let (place, queue) = open(Options::new(directory.path())).await;
    let one = place.subscribe("one", &[">"], LONG_LEASE).await;
    let two = place.subscribe("two", &[">"], LONG_LEASE).await;
    place.publish("a", ["1"]).await;
    let given_up = receive_one(&*one).await;
    let done = receive_one(&*two).await;
    settle_one(&*two, ack(&done)).await.unwrap();
    let letter = dead_letter(&given_up, "one", 0);
    settle_one(&*one, letter).await.unwrap();
    let letters = place.broker.dead_letters();
    let page = letters.list(&Default::default()).await.unwrap();
    letters.redrive(&page.letters[0].letter.record.id, false).await.unwrap();
    place.publish("a", ["2"]).await;
    assert_eq!(bodies(&receive(&*two, 1).await), ["2"], "the redriven one is not for two");
    let came = receive(&*one, 2).await;
    assert_eq!(bodies(&came), ["1", "2"]);
    settle_one(&*one, ack(&came[0])).await.unwrap();
    assert_eq!(queue.stats().messages, 1);
}

#[tokio::test]
async fn ids_are_known_over_a_restart_and_forgotten_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { dedupe_max: 4, ..Options::new(directory.path()) };
    let (place, queue) = open(options.clone()).await;
    let is_duplicate = async |place: &Place, id: &str| {
        place.broker.publish(vec![place.message("a", Some(id), "x")]).await.remove(0).unwrap().duplicate
    };
    for id in ["1", "2", "3", "4"] {
        assert!(!is_duplicate(&place, id).await);
    }
    assert!(is_duplicate(&place, "1").await);
    abandon(place, queue);
    let (place, queue) = open(options.clone()).await;
    assert!(is_duplicate(&place, "1").await, "known over a restart");
    assert!(!is_duplicate(&place, "5").await);
    assert_eq!(queue.stats().ids_forgotten_early, 1, "the oldest made room for the fifth");
    assert!(!is_duplicate(&place, "1").await);
    abandon(place, queue);
    let brief = Options { dedupe_window: Duration::from_millis(1), ..options };
    let (place, queue) = open(brief).await;
    eventually("an id is forgotten at its time", || async { !is_duplicate(&place, "5").await }).await;
    assert_eq!(queue.stats().ids_forgotten_early, 0, "what time takes is not early");
}

#[tokio::test]
async fn a_full_queue_refuses_publishes_and_goes_on_consuming() {
    for limit in ["messages", "bytes"] {
        let directory = tempfile::tempdir().unwrap();
        let mut options = Options::new(directory.path());
        match limit {
            "messages" => options.max_messages = 2,
            _ => options.max_bytes = 2 * ("test.a".len() as u64 + 100),
        }
        let (place, queue) = open(options).await;
        let source = place.subscribe("s", &[">"], LONG_LEASE).await;
        let body = "x".repeat(100);
        let publish = || async { place.broker.publish(vec![place.message("a", None, &body)]).await.remove(0) };
        publish().await.unwrap();
        publish().await.unwrap();
        let refused = publish().await;
        assert!(matches!(refused, Err(PublishError::Full(_))), "{limit}: {refused:?}");
        let came = receive(&*source, 2).await;
        // An output takes the place of its message, and so does a dead letter.
        let outputs = vec![place.message("a", None, &body)];
        settle_one(&*source, settle(&came[0], Settlement::Ack { outputs })).await.unwrap();
        let refused = publish().await;
        assert!(matches!(refused, Err(PublishError::Full(_))), "{limit}: {refused:?}");
        settle_one(&*source, dead_letter(&came[1], "s", 0)).await.unwrap();
        publish().await.unwrap();
        assert_eq!((queue.stats().messages, queue.stats().refused), (2, 2), "{limit}");
    }
}

/// Full of messages of which each makes two: they come to an end all the same, and the queue is held.
#[tokio::test]
async fn a_full_queue_takes_a_little_more_from_those_who_empty_it() {
    const LIMIT: u64 = 40;
    let directory = tempfile::tempdir().unwrap();
    let (place, queue) = open(Options { max_messages: LIMIT, ..Options::new(directory.path()) }).await;
    let (splits, ends) =
        (place.subscribe("splits", &["in"], LONG_LEASE).await, place.subscribe("ends", &["out"], LONG_LEASE).await);
    place.publish("in", (0..LIMIT).map(|number| number.to_string())).await;
    let came = receive(&*splits, LIMIT as usize).await;
    let split = |at: usize| {
        settle(
            &came[at],
            Settlement::Ack { outputs: vec![place.message("out", None, "one"), place.message("out", None, "other")] },
        )
    };
    // An eighth above the limit, and no further: others have to take some first.
    let mut done = 0;
    let refused = loop {
        match settle_one(&*splits, split(done)).await {
            Ok(()) => done += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, SettleError::Output(PublishError::Full(_))), "{refused:?}");
    assert_eq!((done, queue.stats().messages), (5, LIMIT + 5));
    while done < came.len() {
        settle_one(&*ends, ack(&receive_one(&*ends).await)).await.unwrap();
        settle_one(&*splits, split(done)).await.unwrap();
        done += 1;
        assert!(queue.stats().messages <= LIMIT + 5);
    }
}

#[tokio::test]
async fn outputs_of_one_message_are_all_stored_or_none() {
    let directory = tempfile::tempdir().unwrap();
    let (place, queue) = open(Options { max_messages: 2, ..Options::new(directory.path()) }).await;
    let source = place.subscribe("s", &["in"], LONG_LEASE).await;
    place.publish("in", ["1"]).await;
    let came = receive_one(&*source).await;
    let outputs =
        |count: u32| (1..=count).map(|number| place.message("out", Some(&format!("o{number}")), "1")).collect();
    let refused = settle_one(&*source, settle(&came, Settlement::Ack { outputs: outputs(4) })).await;
    assert!(matches!(refused, Err(SettleError::Output(PublishError::Full(_)))), "{refused:?}");
    assert_eq!(queue.stats().messages, 1);
    settle_one(&*source, settle(&came, Settlement::Ack { outputs: outputs(1) })).await.unwrap();
    assert_eq!(queue.stats().messages, 1, "the output is in the place of its message");
}

#[tokio::test]
async fn age_removes_only_what_nobody_has_yet_to_settle() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { max_age: Duration::from_millis(1), ..Options::new(directory.path()) };
    let (place, queue) = open(options.clone()).await;
    let source = place.subscribe("s", &["wanted"], LONG_LEASE).await;
    place.publish("wanted", ["1", "2", "3"]).await;
    place.publish("unwanted", ["4", "5"]).await;
    let came = receive(&*source, 2).await;
    settle_one(&*source, give_back(&came[0], LONG_LEASE, came[0].progress.clone())).await.unwrap();
    drop(source);
    abandon(place, queue);
    // A sweep runs at the start, and then at intervals.
    let (place, queue) = open(options).await;
    eventually("the unwanted are gone", || async {
        place.publish("wanted", ["more"]).await;
        queue.stats().expired >= 2
    })
    .await;
    let source = place.subscribe("s", &["wanted"], LONG_LEASE).await;
    assert_eq!(bodies(&receive(&*source, 2).await), ["2", "3"]);
    assert_eq!(source.backlog().await.unwrap().pending, 3);
    assert_eq!(queue.stats().expired, 2);
}

#[tokio::test]
async fn a_subscription_that_is_gone_is_shown_and_can_be_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let (place, queue) = open(Options::new(directory.path())).await;
    let gone = place.subscribe("gone", &["a", "b.*"], LONG_LEASE).await;
    let stays = place.subscribe("stays", &[">"], LONG_LEASE).await;
    place.publish("a", ["1", "2", "3"]).await;
    let held = receive(&*gone, 2).await;
    settle_one(&*gone, give_back(&held[0], LONG_LEASE, held[0].progress.clone())).await.unwrap();
    for delivery in receive(&*stays, 3).await {
        settle_one(&*stays, ack(&delivery)).await.unwrap();
    }
    let refused = place.broker.forget("gone", Left::Kept).await;
    assert!(matches!(refused, Err(ForgetError::InUse(_))), "{refused:?}");
    drop((gone, stays));
    abandon(place, queue);

    let (place, queue) = open(Options::new(directory.path())).await;
    let stays = place.subscribe("stays", &[">"], LONG_LEASE).await;
    let all = place.broker.kept().await.unwrap();
    assert_eq!(
        all.iter().map(|one| (one.name.as_str(), one.in_use)).collect::<Vec<_>>(),
        [("gone", false), ("stays", true)]
    );
    assert_eq!(all[0].subjects, ["test.a", "test.b.*"]);
    assert_eq!((all[0].ready, all[0].pending), (1, 2));
    assert!(all[0].last_seen <= all[1].last_seen);
    // Nobody else has yet to settle this one.
    place.publish("a", ["4"]).await;
    place.broker.forget("gone", Left::Kept).await.unwrap();
    let unknown = place.broker.forget("gone", Left::Kept).await;
    assert!(matches!(unknown, Err(ForgetError::Unknown(_))), "{unknown:?}");
    assert_eq!(place.broker.kept().await.unwrap().len(), 1);
    // What others had settled goes with it, and what they have not stays.
    eventually("what it held is gone", || async { queue.stats().messages == 1 }).await;
    let delivery = receive_one(&*stays).await;
    assert_eq!(bodies(std::slice::from_ref(&delivery)), ["4"]);
    settle_one(&*stays, ack(&delivery)).await.unwrap();
    assert_eq!(queue.stats().messages, 0);
}

#[tokio::test]
async fn what_a_forgotten_subscription_alone_wanted_stays_or_goes_as_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let (place, queue) = open(Options::new(directory.path())).await;
    let stays = place.subscribe("stays", &["a"], LONG_LEASE).await;
    for (left, count) in [(Left::Kept, 5), (Left::Removed, 2)] {
        // One that is out of the configuration is not in use, with no restart.
        drop(place.subscribe("gone", &["a", "b"], LONG_LEASE).await);
        if left == Left::Kept {
            place.publish("b", ["1", "2", "3"]).await;
            place.publish("a", ["4"]).await;
            place.publish("c", ["5"]).await;
        }
        place.broker.forget("gone", left).await.unwrap();
        eventually("what is to go has gone", || async { queue.stats().messages == count }).await;
    }
    // The others' stay: that which `stays` has yet to settle, and that which nobody ever wanted.
    assert_eq!(bodies(&receive(&*stays, 1).await), ["4"]);
}

#[tokio::test]
async fn filters_that_change_count_for_what_was_not_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let (place, queue) = open(Options::new(directory.path())).await;
    let source = place.subscribe("s", &["a"], LONG_LEASE).await;
    place.publish("a", ["1"]).await;
    settle_one(&*source, ack(&receive_one(&*source).await)).await.unwrap();
    place.publish("b", ["2", "3"]).await;
    place.publish("a", ["4"]).await;
    drop(source);
    abandon(place, queue);
    let (place, _queue) = open(Options::new(directory.path())).await;
    let source = place.subscribe("s", &["b"], LONG_LEASE).await;
    assert_eq!(source.backlog().await.unwrap().ready, 2);
    assert_eq!(bodies(&receive(&*source, 2).await), ["2", "3"]);
    assert_eq!(source.backlog().await.unwrap().ready, 0);
}

#[tokio::test]
async fn one_process_owns_the_directory_and_others_may_look() {
    let directory = tempfile::tempdir().unwrap();
    let none = EmbeddedQueue::inspect(directory.path()).await;
    assert!(matches!(none, Err(OpenError::Io { .. })), "{none:?}");
    let (place, queue) = open(Options::new(directory.path())).await;
    let second = EmbeddedQueue::open(Options::new(directory.path())).await.map(|_| ());
    let Err(OpenError::Owned { owner, .. }) = second else { panic!("{second:?}") };
    assert_eq!(owner, format!("process {}", std::process::id()));
    let source = place.subscribe("s", &[">"], LONG_LEASE).await;
    place.publish("a", ["1", "2"]).await;
    let delivery = receive_one(&*source).await;
    settle_one(&*source, dead_letter(&delivery, "s", 0)).await.unwrap();

    let inspector = EmbeddedQueue::inspect(directory.path()).await.unwrap();
    assert_eq!(inspector.subscriptions().await.unwrap()[0].ready, 1);
    let page = inspector.list(&Default::default()).await.unwrap();
    let id = &page.letters[0].letter.record.id;
    assert_eq!(inspector.get(id).await.unwrap().letter.body, "1");
    assert!(matches!(inspector.redrive(id, true).await, Err(DeadLetterError::Store(_))));
    assert!(matches!(inspector.discard(id).await, Err(DeadLetterError::Store(_))));
    place.broker.close().await;
    // And it is let go at the close, not only when the last clone is dropped.
    let (_place, second) = open(Options::new(directory.path())).await;
    assert_eq!((second.stats().messages, queue.stats().messages), (1, 1));
    assert_eq!(second.check().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_closed_queue_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let (place, _queue) = open(Options::new(directory.path())).await;
    let source = place.subscribe("s", &[">"], LONG_LEASE).await;
    place.publish("a", ["1"]).await;
    let held = receive_one(&*source).await;
    let waiting = tokio::spawn({
        let source = Arc::clone(&source);
        async move { source.receive(demand(1)).await }
    });
    tokio::task::yield_now().await;
    place.broker.close().await;
    let waited = waiting.await.unwrap();
    assert!(matches!(waited, Err(tidegate::broker::ReceiveError::Closed)), "{waited:?}");
    assert!(matches!(settle_one(&*source, ack(&held)).await, Err(SettleError::Unconfirmed(_))));
    let refused = place.broker.publish(vec![place.message("a", None, "late")]).await.remove(0);
    assert!(matches!(refused, Err(PublishError::Unavailable(_))), "{refused:?}");
    assert_eq!(source.extend(std::slice::from_ref(&held.receipt)).await, [None]);
    assert_eq!(place.broker.status(), Status::Connected);
}

#[tokio::test]
async fn options_that_cannot_work_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let good = Options::new(directory.path());
    let rows: [(&str, Options); 3] = [
        ("max_payload", Options { max_payload: 0, ..good.clone() }),
        ("max_bytes", Options { max_bytes: 0, ..good.clone() }),
        ("max_messages", Options { max_messages: 0, ..good.clone() }),
    ];
    for (name, options) in rows {
        let refused = EmbeddedQueue::open(options).await.map(|_| ());
        assert!(matches!(&refused, Err(OpenError::Option { option, .. }) if *option == name), "{refused:?}");
    }
    let file = directory.path().join("a file");
    std::fs::write(&file, "").unwrap();
    let refused = EmbeddedQueue::open(Options::new(Path::new(&file).join("queue"))).await.map(|_| ());
    assert!(matches!(refused, Err(OpenError::Io { .. })), "{refused:?}");
}
