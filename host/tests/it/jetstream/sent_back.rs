//! What is sent back through streams that collect from others, and what a host leaves that was killed in the middle of it.

use std::time::{Duration, SystemTime};

use async_nats::jetstream::{self, consumer, kv, stream};
use bytes::Bytes;
use tidegate::broker::{Broker as _, DeadLetterError, PublishError, SendBack, Settlement, Source, SubscriptionSpec};
use tidegate::message::Publish;
use tidegate::settle::dead_letter::{DeadLetter, DeadLetterId, DeadLetterRecord};

use super::{connect, options, place_on};
use crate::broker_contract::{LONG_LEASE, Place, dead, receive_one, settle, settle_one};
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
        record: DeadLetterRecord { stream: Some("ALL".to_owned()), ..dead(&delivery, "collected", 0).record },
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

/// A message of the subject `a` that was given up, and its dead letter.
async fn given_up(place: &Place, source: &dyn Source) -> DeadLetter {
    place.publish("a", ["poison"]).await;
    let delivery = receive_one(source).await;
    let letter = dead(&delivery, "orders", 0);
    settle_one(source, settle(&delivery, Settlement::DeadLetter(Box::new(letter.clone())))).await.unwrap();
    letter
}

/// A stream of some subjects, which keeps what consumers want, and one consumer of it for one of them.
async fn stream_with_consumer(js: &jetstream::Context, config: stream::Config, durable: Option<&str>, subject: &str) {
    let stream = js.create_stream(config).await.unwrap();
    let durable_name = durable.map(str::to_owned);
    let wants = consumer::pull::Config { durable_name, filter_subject: subject.to_owned(), ..Default::default() };
    stream.create_consumer(wants).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_where_nobody_would_run_it_or_where_the_server_and_the_host_keep_what_is_theirs() {
    // The stories: a typing error behind `orders.` was confirmed by a stream that nobody read there, and dropped; and whoever
    // might send dead letters back set what was to run, by a subject of the cluster's bucket and a body of his own.
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("orders", &["a"], LONG_LEASE).await;
    let js = jetstream::new(server.client().await);
    let bucket = "tidegate-main-desired";
    js.create_key_value(kv::Config { bucket: bucket.to_owned(), ..Default::default() }).await.unwrap();
    let of = |name: &str, subject: &str| stream::Config {
        name: name.to_owned(),
        subjects: vec![subject.to_owned()],
        retention: stream::RetentionPolicy::Interest,
        ..Default::default()
    };
    stream_with_consumer(&js, of("OTHER", "other.>"), Some("known"), "other.known").await;
    stream_with_consumer(&js, of("READ", "read.>"), None, "").await;
    js.create_stream(stream::Config { retention: stream::RetentionPolicy::Limits, ..of("MORE", "more.>") })
        .await
        .unwrap();
    let source_of = stream::Source { name: "MORE".to_owned(), ..Default::default() };
    let gathers = stream::Config { name: "GATHERED".to_owned(), sources: Some(vec![source_of]), ..Default::default() };
    stream_with_consumer(&js, gathers, Some("gathered"), "more.a").await;

    let letters = broker.dead_letters();
    let letter = given_up(&place, &*source).await;
    let id = &letter.record.id;
    let to = |to: &str| SendBack { to: Some(to.to_owned()), body: Some("mine".into()), ..SendBack::default() };
    for (subject, why) in [
        ("$KV.tidegate-main-desired.invoice", "begin with `$`"),
        ("_INBOX.a.b", "begin with `_INBOX`"),
        ("dlq.a.b.c.1-0", "stream `DLQ_tidegate`, which takes it in, is one of the host's own"),
        ("tidegate-note.TEST.orders.1", "stream `NOTES_tidegate`, which takes it in, is one of the host's own"),
        ("other.typo", "no durable consumer of stream `OTHER`"),
        ("read.a", "no durable consumer of stream `READ`"),
        ("more.b", "no durable consumer of stream `MORE`"),
        ("elsewhere", "no stream takes that subject in"),
    ] {
        let refused = letters.send_back(id, &to(subject)).await.unwrap_err();
        let told = refused.to_string();
        assert!(matches!(refused, DeadLetterError::NobodyTakes { .. }), "{told}");
        assert!(told.contains(subject) && told.contains(why), "{told}");
    }
    // One that was brought in with such a subject, and a consumer that receives it.
    let held = js.get_stream(format!("KV_{bucket}")).await.unwrap();
    let wants = consumer::pull::Config { durable_name: Some("orders".to_owned()), ..Default::default() };
    held.create_consumer(wants).await.unwrap();
    let mut foreign = letter.clone();
    foreign.record = DeadLetterRecord {
        id: DeadLetterId(ulid::Ulid::generate().to_string()),
        subject: format!("$KV.{bucket}.invoice"),
        stream: Some(format!("KV_{bucket}")),
        ..foreign.record
    };
    assert!(letters.restore(foreign.clone()).await.unwrap());
    let refused = letters.redrive(&foreign.record.id, false).await;
    assert!(
        matches!(&refused, Err(DeadLetterError::Publish { source: PublishError::Invalid(why), .. }) if why.contains("(`to`)")),
        "{refused:?}"
    );
    assert_eq!(held.get_info().await.unwrap().state.messages, 0, "nothing was written into the bucket");
    assert_eq!(letters.depth().await.unwrap(), 2, "both stay");

    letters.send_back(id, &to("other.known")).await.unwrap();
    letters.send_back(&foreign.record.id, &to("more.a")).await.unwrap();
    assert_eq!(letters.depth().await.unwrap(), 0);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_try_sent_elsewhere_is_not_told_as_sent_to_where_it_came_from() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("orders", &["a"], LONG_LEASE).await;
    let js = jetstream::new(server.client().await);
    let letters = broker.dead_letters();
    // As a host leaves it that was killed after the stream had confirmed, and before the letter was moved.
    for (subject, body, is_it) in [("test.b", "poison", false), ("test.a", "mended", false), ("test.a", "poison", true)]
    {
        let id = given_up(&place, &*source).await.record.id;
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Msg-Id", format!("redrive-{id}").as_str());
        js.publish_with_headers(subject, headers, body.into()).await.unwrap().await.unwrap();
        let told = letters.redrive(&id, false).await;
        match is_it {
            true => assert!(told.unwrap().duplicate),
            false => assert!(matches!(told, Err(DeadLetterError::AlreadyRedriven(_))), "{subject} {body}: {told:?}"),
        }
        assert_eq!(letters.depth().await.unwrap(), 0);
        if subject == "test.a" {
            drop(receive_one(&*source).await);
        }
    }
    broker.close().await;
}
