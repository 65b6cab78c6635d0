//! What is sent back through streams that collect from others, and what a host leaves that was killed in the middle of it.

use std::time::{Duration, SystemTime};

use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use tidegate::broker::{Broker as _, DeadLetterError, Settlement, SubscriptionSpec};
use tidegate::message::Publish;
use tidegate::settle::dead_letter::{DeadLetter, DeadLetterId};

use super::{connect, options, place_on};
use crate::broker_contract::{LONG_LEASE, dead, receive_one, settle, settle_one};
use crate::support::nats::NatsServer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_goes_to_the_stream_that_its_subscriptions_one_collects_from_and_bears_no_mark_of_it() {
    // The story: the header that keeps a publish to one stream stays in the message, and mirrors of that stream, which
    // have another name, took it for theirs and stood still.
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let js = jetstream::new(server.client().await);
    let place = place_on(broker.clone(), ());
    // Makes the stream TEST.
    let direct = place.subscribe("direct", &[">"], LONG_LEASE).await;
    let source = |name: &str| stream::Source { name: name.to_owned(), ..Default::default() };
    let all = stream::Config { name: "ALL".to_owned(), sources: Some(vec![source("TEST")]), ..Default::default() };
    js.create_stream(all).await.unwrap();
    let spec = SubscriptionSpec {
        name: "collected".to_owned(),
        stream: Some("ALL".to_owned()),
        subjects: vec!["test.>".to_owned()],
        ack_wait: LONG_LEASE,
        max_in_flight: 10,
        create: true,
    };
    let collected = broker.subscribe(&spec).await.unwrap();
    place.publish("a", ["poison"]).await;
    let delivery = receive_one(&*collected).await;
    let letter = DeadLetter {
        record: tidegate::settle::dead_letter::DeadLetterRecord {
            stream: Some("ALL".to_owned()),
            ..dead(&delivery, "collected", 0).record
        },
        ..dead(&delivery, "collected", 0)
    };
    let id = letter.record.id.clone();
    settle_one(&*collected, settle(&delivery, Settlement::DeadLetter(Box::new(letter.clone())))).await.unwrap();
    let letters = broker.dead_letters();
    letters.redrive(&id, false).await.unwrap();
    assert_eq!(receive_one(&*collected).await.message.redrives(), 1);
    drop(receive_one(&*direct).await);
    assert_eq!(receive_one(&*direct).await.message.headers.get("Nats-Expected-Stream"), None);
    // It died on a broker without streams: the one of the subscription is looked for.
    let mut foreign = letter;
    foreign.record.stream = None;
    foreign.record.id = DeadLetterId(ulid::Ulid::generate().to_string());
    assert!(letters.restore(foreign.clone()).await.unwrap());
    letters.redrive(&foreign.record.id, false).await.unwrap();
    assert_eq!(receive_one(&*collected).await.message.body, "poison");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_killed_between_the_copy_and_the_end_of_a_letter_sends_nothing_twice_and_loses_no_part() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("large", &[">"], LONG_LEASE).await;
    let letters = broker.dead_letters();
    let js = jetstream::new(server.client().await);
    // One that leaves room for a redrive, but none for the record beside it.
    let body = Bytes::from(vec![b'x'; (1 << 20) - 1500]);
    let mut ids = Vec::new();
    for _ in 0..2 {
        broker.publish(vec![Publish { body: body.clone(), ..place.message("a", None, "") }]).await.remove(0).unwrap();
        let delivery = receive_one(&*source).await;
        let letter = dead(&delivery, "large", 0);
        ids.push(letter.record.id.clone());
        settle_one(&*source, settle(&delivery, Settlement::DeadLetter(Box::new(letter)))).await.unwrap();
    }
    // As such a host leaves it: the copy is there, and so is the letter.
    let kept = js.get_stream("DLQ_tidegate").await.unwrap();
    for id in &ids {
        let place = letters.get(id).await.unwrap().handle;
        let sequence = place.0.split_once('@').unwrap().1.parse().unwrap();
        let message = kept.get_raw_message(sequence).await.unwrap();
        let subject = message.subject.as_str().replacen("dlq.", "dlq-redriven.", 1);
        js.publish_with_headers(subject, message.headers, message.payload).await.unwrap().await.unwrap();
    }
    assert_eq!(letters.depth().await.unwrap(), 2);
    let hour = Duration::from_secs(3600);
    assert_eq!(letters.forget_redriven(SystemTime::now() + hour, 1).await.unwrap(), 1);
    assert!(letters.get(&ids[0]).await.unwrap().letter.body == body, "its body went with the copy");
    let second = letters.redrive(&ids[1], false).await;
    assert!(matches!(second, Err(DeadLetterError::AlreadyRedriven(_))), "{second:?}");
    assert_eq!(letters.depth().await.unwrap(), 1);
    assert_eq!(source.backlog().await.unwrap().ready, 0, "nothing was sent");
    // Sent back in earnest, its parts go with the copy.
    letters.redrive(&ids[0], false).await.unwrap();
    assert!(receive_one(&*source).await.message.body == body);
    assert_eq!(letters.forget_redriven(SystemTime::now() + hour, 10).await.unwrap(), 2);
    let left = js.get_stream("DLQ_tidegate").await.unwrap().get_info().await.unwrap().state.messages;
    assert_eq!(left, 0, "parts were left behind");
    broker.close().await;
}
