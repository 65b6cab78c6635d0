//! A server that comes back from an earlier state: it lost its newest messages, and gives their sequences to new ones.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tidegate::broker::{Broker as _, Delivery, SettleError, Settlement, Source, Standing, Status};
use tidegate::message::{Headers, Publish};
use tokio::time::Instant;

use super::setup::api_ok;
use super::{ack_all, connect, nothing_is_left, options, place_on};
use crate::broker_contract::{
    LONG_LEASE, PATIENCE, Place, ack, dead_letter, demand, eventually, give_back, receive, settle, settle_one, text,
};
use crate::support::nats::NatsServer;

/// Publishes when the server is there again.
async fn publish(place: &Place, body: &str) {
    eventually("it is published", || async {
        place.broker.publish(vec![place.message("a", None, body)]).await[0].is_ok()
    })
    .await;
}

/// The messages with these sequences, received over whatever trouble a new start of the server makes. What it hands out anew
/// as it forgot that it was acknowledged is acknowledged again.
async fn until_received(source: &dyn Source, sequences: std::ops::RangeInclusive<u64>) -> Vec<Delivery> {
    let mut wanted: BTreeSet<u64> = sequences.collect();
    let mut came = Vec::new();
    let until = Instant::now() + PATIENCE;
    while !wanted.is_empty() {
        assert!(Instant::now() < until, "{wanted:?} did not come");
        let Ok(received) = source.receive(demand(wanted.len())).await else {
            tokio::task::yield_now().await;
            continue;
        };
        for delivery in received {
            if wanted.remove(&delivery.message.sequence) {
                came.push(delivery);
            } else {
                assert!(delivery.standing == Standing::Done, "{delivery:?}");
                settle_one(source, ack(&delivery)).await.unwrap();
            }
        }
    }
    came
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_messages_in_the_place_of_lost_ones_run_and_count_from_the_start() {
    // The story: the power failed, nats-server came back without its last two minutes, and the host acknowledged new
    // messages without running them, as others had been done at their sequences.
    let mut server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("earlier", &[">"], LONG_LEASE).await;
    place.publish("a", (1..=10).map(|n| n.to_string())).await;
    ack_all(&*source, &receive(&*source, 10).await).await;
    nothing_is_left(&*source).await;
    let kept = server.copy();
    place.publish("a", (11..=30).map(|n| n.to_string())).await;
    let lost = receive(&*source, 20).await;
    // Two of them came back several times before they were done: what is noted of them is of them alone.
    for delivery in &lost[..2] {
        let progress = delivery.progress.returned(true, None);
        settle_one(&*source, give_back(delivery, Duration::ZERO, progress)).await.unwrap();
    }
    let again = receive(&*source, 2).await;
    assert!(again.iter().all(|delivery| delivery.progress.attempt() == 2));
    ack_all(&*source, &lost[2..]).await;

    server.put_back(&kept).await;
    for number in 11..=30 {
        publish(&place, &format!("new {number}")).await;
    }
    let came = until_received(&*source, 11..=30).await;
    for delivery in &came {
        let Delivery { message, progress, standing, .. } = delivery;
        assert!(*standing == Standing::Due, "message {} would be taken for one that is done", message.sequence);
        assert_eq!(text(message), format!("new {}", message.sequence));
        assert_eq!((progress.attempt(), progress.failures), (1, 0), "it has the history of another");
        assert!(lost.iter().all(|lost| lost.message.id != message.id), "outputs of the two would have the same id");
    }
    ack_all(&*source, &came).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_lost_message_is_no_word_on_the_one_in_its_place() {
    // The story: a run had begun before the server came back from an earlier state. Its acknowledgement was taken for one
    // of the new message that stood at its sequence.
    let mut server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let (other, _other_folder) = connect(options(&server)).await;
    let (place, elsewhere) = (place_on(broker.clone(), ()), place_on(other.clone(), ()));
    let source = place.subscribe("earlier", &[">"], LONG_LEASE).await;
    let kept = server.copy();
    place.publish("a", (1..=3).map(|n| n.to_string())).await;
    let lost = receive(&*source, 3).await;

    server.put_back(&kept).await;
    for number in 1..=3 {
        publish(&place, &format!("new {number}")).await;
    }
    // Another host has the new ones: this one does not even know of them.
    let theirs = elsewhere.subscribe("earlier", &[">"], LONG_LEASE).await;
    let came = until_received(&*theirs, 1..=3).await;
    eventually("it is connected again", || async { broker.status() == Status::Connected }).await;
    // They run on, as they are nobody else's: longer than the server would have left them.
    let receipts: Vec<_> = lost.iter().map(|delivery| delivery.receipt.clone()).collect();
    let extended = source.extend(&receipts).await;
    assert!(extended.iter().zip(&lost).all(|(until, lost)| until.is_some_and(|until| until > lost.lease_ends_at)));
    let group = lost.iter().map(ack).collect();
    assert!(source.settle(group).await.iter().all(Result::is_ok), "what was done with them is done");
    let backlog = source.backlog().await.unwrap();
    assert_eq!(backlog.pending, 3, "they were acknowledged for others");
    // And with a message of its own in the place, which came while the lost one still ran.
    for delivery in &came {
        let progress = delivery.progress.returned(false, None);
        settle_one(&*theirs, give_back(delivery, Duration::ZERO, progress)).await.unwrap();
    }
    other.close().await;
    let ours = until_received(&*source, 1..=3).await;
    assert!(
        ours.iter().all(|delivery| delivery.standing == Standing::Due && text(&delivery.message).starts_with("new"))
    );
    let group = lost.iter().map(ack).collect();
    assert!(source.settle(group).await.iter().all(Result::is_ok));
    assert_eq!(source.backlog().await.unwrap().pending, 3, "they were acknowledged for others");
    ack_all(&*source, &ours).await;
    nothing_is_left(&*source).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_output_or_dead_letter_was_lost_with_its_acknowledgement_runs_again() {
    // The story: the power failed a moment after a dead letter was stored and its message given up. The server had the
    // message on the disk, and neither of the others; the host acknowledged the message as done.
    let mut server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("earlier", &["a"], Duration::from_secs(6)).await;
    place.publish("a", ["completed", "given up"]).await;
    let came = receive(&*source, 2).await;
    let kept = server.copy();
    let output = place.message("out", Some("of-the-first"), "output");
    settle_one(&*source, settle(&came[0], Settlement::Ack { outputs: vec![output] })).await.unwrap();
    settle_one(&*source, dead_letter(&came[1], "earlier", 0)).await.unwrap();

    server.put_back(&kept).await;
    let mut left = BTreeSet::from([1, 2]);
    let until = Instant::now() + PATIENCE;
    while !left.is_empty() {
        assert!(Instant::now() < until, "{left:?} did not come");
        // Each by itself, as it comes: the other may come when the lease of the first is over.
        for delivery in source.receive(demand(1)).await.unwrap_or_default() {
            assert!(delivery.standing == Standing::Due, "nothing is left of what it left: {delivery:?}");
            if settle_one(&*source, ack(&delivery)).await.is_ok() {
                left.remove(&delivery.message.sequence);
            }
        }
    }
    nothing_is_left(&*source).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_takes_outputs_in_where_it_had_some_before_has_lost_those() {
    // The story: a server of a cluster came back without its last outputs, and the next ones took their places before anybody looked.
    // Made anew under the host, a stream is the same: nothing ends, and it begins from the first place.
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let out = json!({ "name": "OUT", "subjects": ["out"] });
    api_ok(&server, "STREAM.CREATE.OUT", &out).await;
    let source = place.subscribe("earlier", &["a"], LONG_LEASE).await;
    place.publish("a", ["1", "2", "3", "4"]).await;
    let came = receive(&*source, 4).await;
    let output = |id: &str| Publish {
        subject: "out".to_owned(),
        id: Some(id.to_owned()),
        headers: Headers::default(),
        body: Bytes::from_static(b"output"),
    };
    let with_output = |delivery: &Delivery, id: &str| settle(delivery, Settlement::Ack { outputs: vec![output(id)] });
    settle_one(&*source, with_output(&came[0], "of-1")).await.unwrap();
    api_ok(&server, "STREAM.DELETE.OUT", &json!({})).await;
    api_ok(&server, "STREAM.CREATE.OUT", &out).await;

    // What was stored at that moment may have been lost with it: it is stored again before it is acknowledged.
    let second = settle_one(&*source, with_output(&came[1], "of-2")).await;
    assert!(matches!(second, Err(SettleError::Unconfirmed(_))), "{second:?}");
    settle_one(&*source, with_output(&came[1], "of-2")).await.unwrap();
    // What was handed out before is not acknowledged by what was known then; what is to come again may.
    let third = settle_one(&*source, ack(&came[2])).await;
    assert!(matches!(third, Err(SettleError::LeaseLost)), "{third:?}");
    let progress = came[3].progress.returned(false, None);
    settle_one(&*source, give_back(&came[3], Duration::ZERO, progress)).await.unwrap();
    let again = receive(&*source, 1).await;
    assert!(again[0].message.sequence == 4 && again[0].standing == Standing::Due, "{again:?}");
    settle_one(&*source, with_output(&again[0], "of-4")).await.unwrap();
    assert_eq!(source.backlog().await.unwrap().pending, 1, "the third comes when its lease is over");
    broker.close().await;
}
