//! Dead letters in their stream: once each, whole whatever their size, and looking leaves no trace.

use std::time::SystemTime;

use bytes::Bytes;
use tidegate::broker::{
    Broker as _, By, DeadLetterError, DeadLetterFilter, DeadLetterQuery, SendBack, Settlement, Tally,
};
use tidegate::message::Publish;
use tidegate::settle::dead_letter::DeadLetterId;

use super::{connect, options, place_on};
use crate::broker_contract::{LONG_LEASE, dead, dead_letter, receive, receive_one, settle, settle_one};
use crate::support::nats::NatsServer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_death_is_stored_once_and_survives_a_restart() {
    let mut server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("once", &[">"], LONG_LEASE).await;
    place.publish("a", ["poison"]).await;
    let delivery = receive_one(&*source).await;
    let letter = dead(&delivery, "once", 0);
    let id = letter.record.id.clone();
    settle_one(&*source, settle(&delivery, Settlement::DeadLetter(Box::new(letter)))).await.unwrap();
    // As after a crash between the dead letter and the end of its message: given up once more, under another id.
    settle_one(&*source, dead_letter(&delivery, "once", 0)).await.unwrap();
    let letters = broker.dead_letters();
    assert_eq!(letters.depth().await.unwrap(), 1);
    server.restart().await;
    let mut found = letters.get(&id).await;
    let until = tokio::time::Instant::now() + crate::broker_contract::PATIENCE;
    while matches!(found, Err(DeadLetterError::Store(_))) && tokio::time::Instant::now() < until {
        found = letters.get(&id).await;
    }
    assert_eq!(found.unwrap().letter.body, "poison");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_a_stream_made_anew_does_not_take_the_place_of_another() {
    // The story: a stream was deleted and made anew, so its sequences began at one again, and the dead letter of
    // message 1 was taken for one that is there already. It would have been lost.
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let js = async_nats::jetstream::new(server.client().await);
    let mut ids = Vec::new();
    for body in ["old", "new"] {
        let source = place.subscribe("anew", &[">"], LONG_LEASE).await;
        place.publish("a", [body]).await;
        let delivery = receive_one(&*source).await;
        assert_eq!(delivery.message.sequence, 1);
        let letter = dead(&delivery, "anew", 0);
        ids.push(letter.record.id.clone());
        settle_one(&*source, settle(&delivery, Settlement::DeadLetter(Box::new(letter)))).await.unwrap();
        js.delete_stream("TEST").await.unwrap();
    }
    let letters = broker.dead_letters();
    assert_eq!(letters.depth().await.unwrap(), 2);
    assert_eq!(letters.get(&ids[0]).await.unwrap().letter.body, "old");
    assert_eq!(letters.get(&ids[1]).await.unwrap().letter.body, "new");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_of_a_stream_made_anew_are_kept_beside_those_of_before_when_they_are_sent_back() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let js = async_nats::jetstream::new(server.client().await);
    let letters = broker.dead_letters();
    let mut ids = Vec::new();
    for body in ["old", "new"] {
        let source = place.subscribe("anew", &[">"], LONG_LEASE).await;
        place.publish("a", [body]).await;
        let delivery = receive_one(&*source).await;
        let letter = dead(&delivery, "anew", 0);
        let id = letter.record.id.clone();
        settle_one(&*source, settle(&delivery, Settlement::DeadLetter(Box::new(letter)))).await.unwrap();
        letters.redrive(&id, false).await.unwrap();
        ids.push(id);
        js.delete_stream("TEST").await.unwrap();
    }
    for (id, body) in ids.iter().zip(["old", "new"]) {
        let kept = letters.get(id).await.unwrap();
        assert!(kept.redriven_at.is_some() && kept.letter.body == body, "{kept:?}");
    }
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_would_run_is_not_sent_back() {
    // The story: the subjects of a subscription were changed, and what it had given up before was sent back to where it did
    // not receive any more. The dead letter was marked as sent back, and nobody ever ran the message.
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let js = async_nats::jetstream::new(server.client().await);
    let letters = broker.dead_letters();
    let source = place.subscribe("narrowed", &[">"], LONG_LEASE).await;
    place.publish("a", ["poison"]).await;
    let delivery = receive_one(&*source).await;
    let letter = dead(&delivery, "narrowed", 0);
    let id = letter.record.id.clone();
    settle_one(&*source, settle(&delivery, Settlement::DeadLetter(Box::new(letter)))).await.unwrap();
    let refused = async || match letters.redrive(&id, false).await {
        Err(DeadLetterError::Publish { source, .. }) => source.to_string(),
        other => panic!("{other:?}"),
    };

    place.subscribe("narrowed", &["b"], LONG_LEASE).await;
    let why = refused().await;
    assert!(why.contains("does not receive its subject `test.a` any more (it receives test.b)"), "{why}");
    let source = place.subscribe("narrowed", &[">"], LONG_LEASE).await;

    let mut stream = js.get_stream("TEST").await.unwrap();
    let mut config = stream.info().await.unwrap().config.clone();
    config.subjects = vec!["test.b".to_owned()];
    js.update_stream(config.clone()).await.unwrap();
    let why = refused().await;
    assert!(why.contains("stream `TEST`") && why.contains("does not take in its subject `test.a`"), "{why}");
    // Another stream takes it in now: confirmed there, it would be gone as well.
    let elsewhere = async_nats::jetstream::stream::Config {
        name: "OTHER".to_owned(),
        subjects: vec!["test.a".to_owned()],
        ..Default::default()
    };
    js.create_stream(elsewhere).await.unwrap();
    refused().await;
    // Of a broker without streams: where it would go is asked.
    let mut foreign = letters.get(&id).await.unwrap().letter;
    foreign.record.stream = None;
    foreign.record.id = DeadLetterId(ulid::Ulid::generate().to_string());
    assert!(letters.restore(foreign.clone()).await.unwrap());
    let why = letters.redrive(&foreign.record.id, false).await;
    assert!(matches!(why, Err(DeadLetterError::Publish { .. })), "`OTHER` has no such subscription: {why:?}");

    js.delete_stream("OTHER").await.unwrap();
    config.subjects = vec!["test.>".to_owned()];
    js.update_stream(config).await.unwrap();
    for id in [&id, &foreign.record.id] {
        letters.redrive(id, false).await.unwrap();
        assert_eq!(receive_one(&*source).await.message.body, "poison");
    }
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_full_sends_back_what_it_has_and_each_once() {
    // The story: it was published again, and then the full stream had no room to keep it among those that were sent back.
    // The person read an error, tried again later, and the message ran a second time.
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("full", &[">"], LONG_LEASE).await;
    let letters = broker.dead_letters();
    place.publish("a", ["1", "2"]).await;
    let mut ids = Vec::new();
    for delivery in receive(&*source, 2).await {
        let letter = dead(&delivery, "full", 0);
        ids.push(letter.record.id.clone());
        settle_one(&*source, settle(&delivery, Settlement::DeadLetter(Box::new(letter)))).await.unwrap();
    }
    let js = async_nats::jetstream::new(server.client().await);
    let mut config = js.get_stream("DLQ_tidegate").await.unwrap().cached_info().config.clone();
    // As many as there are: the copy finds room when the first is gone.
    config.max_messages = 2;
    js.update_stream(config.clone()).await.unwrap();
    letters.redrive(&ids[0], false).await.unwrap();
    assert_eq!(receive_one(&*source).await.message.body, "1");
    assert!(letters.get(&ids[0]).await.unwrap().redriven_at.is_some());
    // Fewer bytes than there are: there is no room for a copy at all.
    (config.max_messages, config.max_bytes) = (-1, 1);
    js.update_stream(config).await.unwrap();
    letters.redrive(&ids[1], false).await.unwrap();
    assert_eq!(receive_one(&*source).await.message.body, "2");
    assert_eq!(letters.depth().await.unwrap(), 0);
    for id in &ids {
        let again = letters.redrive(id, false).await;
        assert!(matches!(again, Err(DeadLetterError::AlreadyRedriven(_) | DeadLetterError::NotFound(_))), "{again:?}");
    }
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_body_is_not_said_to_be_sent_when_an_earlier_one_was() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("edited", &[">"], LONG_LEASE).await;
    let (letters, client) = (broker.dead_letters(), server.client().await);
    place.publish("a", ["wrong", "wrong"]).await;
    let mut ids = Vec::new();
    for delivery in receive(&*source, 2).await {
        let letter = dead(&delivery, "edited", 0);
        ids.push(letter.record.id.clone());
        settle_one(&*source, settle(&delivery, Settlement::DeadLetter(Box::new(letter)))).await.unwrap();
    }
    // As after a crash between the publish and the end of the dead letter.
    for (id, body) in ids.iter().zip(["wrong", "mended"]) {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Msg-Id", format!("redrive-{id}").as_str());
        let js = async_nats::jetstream::new(client.clone());
        js.publish_with_headers("test.a", headers, body.into()).await.unwrap().await.unwrap();
    }
    let other = letters.send_back(&ids[0], &SendBack { force: false, body: Some("mended".into()), to: None }).await;
    assert!(matches!(other, Err(DeadLetterError::AlreadyRedriven(_))), "{other:?}");
    let same =
        letters.send_back(&ids[1], &SendBack { force: false, body: Some("mended".into()), to: None }).await.unwrap();
    assert!(same.duplicate);
    assert_eq!(letters.depth().await.unwrap(), 0, "both were sent back");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_leaves_no_room_for_the_record_is_kept_whole() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("large", &[">"], LONG_LEASE).await;
    let body = Bytes::from(vec![b'x'; (1 << 20) - 100]);
    let message = Publish { body: body.clone(), ..place.message("a", None, "") };
    broker.publish(vec![message]).await.remove(0).unwrap();
    let delivery = receive_one(&*source).await;
    let letter = dead(&delivery, "large", 0);
    let id = letter.record.id.clone();
    settle_one(&*source, settle(&delivery, Settlement::DeadLetter(Box::new(letter)))).await.unwrap();
    let letters = broker.dead_letters();
    assert_eq!(letters.depth().await.unwrap(), 1);
    let page = letters.list(&DeadLetterQuery::default()).await.unwrap();
    assert_eq!(page.letters[0].body_size, body.len() as u64);
    assert!(letters.get(&id).await.unwrap().letter.body == body, "the body is not whole");
    // Sent back, it has headers that it had not before, and no longer fits: told, and kept.
    let refused = letters.redrive(&id, false).await;
    assert!(matches!(refused, Err(DeadLetterError::Publish { .. })), "{refused:?}");
    assert_eq!(letters.depth().await.unwrap(), 1);
    letters.discard(&id).await.unwrap();
    let js = async_nats::jetstream::new(server.client().await);
    let info = js.get_stream("DLQ_tidegate").await.unwrap().get_info().await.unwrap();
    assert_eq!(info.state.messages, 0, "the body was left behind");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_leave_no_room_for_the_record_are_kept_whole() {
    // A stream takes 64 KiB of headers, and these are nearly as many before the record comes to them.
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("headers", &[">"], LONG_LEASE).await;
    let js = async_nats::jetstream::new(server.client().await);
    let (long, id) = ("h".repeat(40_000), "i".repeat(24_000));
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", id.as_str());
    headers.insert("X-Long", long.as_str());
    headers.append("X-Twice", "1");
    headers.append("X-Twice", "2");
    js.publish_with_headers("test.a", headers, "body".into()).await.unwrap().await.unwrap();
    let delivery = receive_one(&*source).await;
    let letter = dead(&delivery, "headers", 0);
    let dead_id = letter.record.id.clone();
    settle_one(&*source, settle(&delivery, Settlement::DeadLetter(Box::new(letter)))).await.unwrap();

    let letters = broker.dead_letters();
    let page = letters.list(&DeadLetterQuery::default()).await.unwrap();
    assert_eq!((page.letters.len(), page.letters[0].body_size), (1, 4));
    assert!(id.starts_with(&page.letters[0].letter.record.message_id), "the list has another id");
    let found = letters.get(&dead_id).await.unwrap().letter;
    assert!(found.record.message_id == id, "the message's id is not whole");
    assert!(found.headers.text("X-Long") == Some(long.as_str()), "a long header is not whole");
    let twice: Vec<_> = found.headers.iter().filter(|header| header.name == "X-Twice").collect();
    assert_eq!((twice.len(), found.body.as_ref()), (2, b"body".as_slice()));
    letters.discard(&dead_id).await.unwrap();
    let info = js.get_stream("DLQ_tidegate").await.unwrap().get_info().await.unwrap();
    assert_eq!(info.state.messages, 0, "parts were left behind");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_others_among_the_dead_letters_are_passed_over() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("mixed", &[">"], LONG_LEASE).await;
    let js = async_nats::jetstream::new(server.client().await);
    for n in 0..3 {
        place.publish("a", ["poison"]).await;
        settle_one(&*source, dead_letter(&receive_one(&*source).await, "mixed", 0)).await.unwrap();
        js.publish(format!("dlq.some.body.else.{n}"), "not a dead letter".into()).await.unwrap().await.unwrap();
    }
    let letters = broker.dead_letters();
    let mut query = DeadLetterQuery { limit: 1, ..DeadLetterQuery::default() };
    let mut found = Vec::new();
    loop {
        let page = letters.list(&query).await.unwrap();
        found.extend(page.letters.into_iter().map(|stored| stored.letter.record.sequence));
        let Some(next) = page.next else { break };
        query.after = Some(next);
    }
    assert_eq!(found, [3, 2, 1]);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whether_dead_letters_can_be_stored_is_known_beforehand() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let letters = broker.dead_letters();
    let missing = letters.is_writable().await.unwrap_err().to_string();
    assert!(missing.contains("does not exist"), "{missing}");
    let source = place.subscribe("room", &[">"], LONG_LEASE).await;
    letters.is_writable().await.unwrap();

    let js = async_nats::jetstream::new(server.client().await);
    let mut config = js.get_stream("DLQ_tidegate").await.unwrap().get_info().await.unwrap().config;
    config.max_messages = 1;
    js.update_stream(&config).await.unwrap();
    letters.is_writable().await.unwrap();
    place.publish("a", ["1"]).await;
    settle_one(&*source, dead_letter(&receive_one(&*source).await, "room", 0)).await.unwrap();
    let full = letters.is_writable().await.unwrap_err().to_string();
    assert!(full.contains("is full: it has 1 messages of at most 1") && full.contains("max_msgs"), "{full}");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reserved_headers_are_kept_and_not_executed() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("reserved", &[">"], LONG_LEASE).await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", "the-id");
    headers.insert("Nats-Expected-Stream", "TEST");
    headers.insert("X-Plain", "yes");
    let js = async_nats::jetstream::new(server.client().await);
    js.publish_with_headers("test.a", headers, "x".into()).await.unwrap().await.unwrap();
    let delivery = receive_one(&*source).await;
    assert_eq!(delivery.message.id, "the-id");
    settle_one(&*source, dead_letter(&delivery, "reserved", 0)).await.unwrap();
    let letters = broker.dead_letters();
    let page = letters.list(&DeadLetterQuery::default()).await.unwrap();
    let letter = &page.letters[0].letter;
    assert_eq!(letter.headers.text("Nats-Expected-Stream"), Some("TEST"));
    assert_eq!(letter.headers.text("X-Plain"), Some("yes"));
    letters.redrive(&letter.record.id, false).await.unwrap();
    let again = receive_one(&*source).await;
    assert_eq!((again.message.id.as_str(), again.message.redrives()), ("the-id", 1));
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_that_is_not_of_all_says_how_many_it_left_out() {
    let server = NatsServer::start().await;
    let mut options = options(&server);
    // Nothing is kept in memory, as while it is read.
    (options.dead_letters.count_at_most, options.dead_letters.catalog.rows_at_most) = (4, 0);
    let (broker, _folder) = connect(options).await;
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("cut", &[">"], LONG_LEASE).await;
    for n in 0..10 {
        place.publish("a", ["poison"]).await;
        let delivery = receive_one(&*source).await;
        let mut letter = dead(&delivery, "cut", 0);
        letter.record.reason = if n < 3 { "timeout" } else { "handler-rejected" }.to_owned();
        settle_one(&*source, settle(&delivery, Settlement::DeadLetter(Box::new(letter)))).await.unwrap();
    }
    let letters = broker.dead_letters();
    let counted = async |filter: DeadLetterFilter| {
        let tally = Tally::new(By::Reason, SystemTime::now()).at("here");
        let counted = letters.tally(&filter, tally).await.unwrap().finish(10);
        (counted.matched, counted.examined, counted.is_cut, counted.left_out)
    };
    assert_eq!(counted(DeadLetterFilter::default()).await, (4, 4, true, 6));
    // What the server tells apart is not looked at at all.
    let only = |reason: &str| DeadLetterFilter { reason: Some(reason.to_owned()), ..DeadLetterFilter::default() };
    assert_eq!(counted(only("timeout")).await, (3, 3, false, 0));
    assert_eq!(counted(only("handler-rejected")).await, (4, 4, true, 3));
    let whole = Tally::new(By::Reason, SystemTime::now()).at("here").whole();
    let counted = letters.tally(&only("handler-rejected"), whole).await.unwrap().finish(10);
    assert_eq!((counted.matched, counted.is_cut), (7, false), "what is removed by its count is counted whole");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_through_many_leaves_no_trace() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("many", &[">"], LONG_LEASE).await;
    place.publish("a", (0..700).map(|n| n.to_string())).await;
    let mut deliveries = Vec::new();
    while deliveries.len() < 700 {
        deliveries.extend(receive(&*source, 100).await);
    }
    let group = deliveries
        .iter()
        .map(|delivery| {
            let mut letter = dead(delivery, "many", 0);
            if delivery.message.sequence % 7 == 0 {
                letter.record.reason = "trap:unreachable".to_owned();
            }
            settle(delivery, Settlement::DeadLetter(Box::new(letter)))
        })
        .collect();
    for result in source.settle(group).await {
        result.unwrap();
    }
    let letters = broker.dead_letters();
    assert_eq!(letters.depth().await.unwrap(), 700);
    let filter = DeadLetterFilter { reason: Some("trap:unreachable".to_owned()), ..DeadLetterFilter::default() };
    let mut query = DeadLetterQuery { filter, limit: 30, ..DeadLetterQuery::default() };
    let mut found = 0;
    loop {
        let page = letters.list(&query).await.unwrap();
        assert!(page.letters.iter().all(|stored| stored.letter.record.sequence % 7 == 0));
        found += page.letters.len();
        let Some(next) = page.next else { break };
        query.after = Some(next);
    }
    assert_eq!(found, 100);
    for unknown in ["01HF7YAT00000000000000000A", "nonsense", "", "nonsense@5"] {
        let answer = letters.get(&DeadLetterId(unknown.to_owned())).await;
        assert!(matches!(answer, Err(DeadLetterError::NotFound(_))), "{unknown}: {answer:?}");
    }
    let js = async_nats::jetstream::new(server.client().await);
    let info = js.get_stream("DLQ_tidegate").await.unwrap().get_info().await.unwrap();
    assert_eq!((info.state.consumer_count, info.state.messages), (0, 700));
    broker.close().await;
}
