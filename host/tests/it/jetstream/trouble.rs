//! What the server may do to us: be away, die, forget, hang, lose the consumer.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use tidegate::broker::jetstream::{Confirm, Options};
use tidegate::broker::{Broker as _, ReceiveError, SettleError, Standing, Status, SubscribeError};
use tokio::time::{Instant, timeout};

use super::{ack_all, connect, nothing_is_left, options, place_on};
use crate::broker_contract::{LONG_LEASE, PATIENCE, ack, demand, eventually, receive, receive_one, settle_one, text};
use crate::support::nats::NatsServer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crashed_server_forgot_is_known_to_be_done() {
    // The story: nats-server was killed under load. It had confirmed the acknowledgements, and wrote the consumer's
    // state behind; thousands of messages came back and their handlers ran again.
    let mut server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("crash", &[">"], Duration::from_secs(3)).await;
    place.publish("a", (0..500).map(|n| n.to_string())).await;
    let came = receive(&*source, 500).await;
    // What the server has on disk now is what a crash leaves: the acknowledgements are still to come.
    let kept = server.copy();
    ack_all(&*source, &came).await;
    server.put_back(&kept).await;

    let mut back = BTreeSet::new();
    let until = Instant::now() + PATIENCE;
    while back.len() < 500 {
        assert!(Instant::now() < until, "only {} came back", back.len());
        // Away while it connects again.
        let Ok(came) = source.receive(demand(500)).await else {
            tokio::task::yield_now().await;
            continue;
        };
        for delivery in &came {
            assert!(delivery.standing == Standing::Done, "message {} would run again", delivery.message.sequence);
            back.insert(delivery.message.sequence);
        }
        ack_all(&*source, &came).await;
    }
    // The server knows too.
    nothing_is_left(&*source).await;
    place.publish("a", ["fresh"]).await;
    let fresh = receive_one(&*source).await;
    assert!(fresh.standing == Standing::Due && text(&fresh.message) == "fresh");
    assert!(broker.counts().reconnects >= 1 && broker.counts().already_done >= 500);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_being_worked_on_is_not_handed_out_again_by_a_crash() {
    let mut server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("held", &[">"], LONG_LEASE).await;
    place.publish("a", (0..20).map(|n| n.to_string())).await;
    let kept = server.copy();
    let held = receive(&*source, 20).await;
    // The server forgets that it handed them out, and hands them out again.
    server.put_back(&kept).await;
    let until = Instant::now() + PATIENCE;
    while broker.counts().held_back < 20 {
        assert!(Instant::now() < until, "only {} were held back", broker.counts().held_back);
        if let Ok(Ok(came)) = timeout(Duration::from_millis(50), source.receive(demand(20))).await {
            assert!(came.is_empty(), "handed out twice");
        }
    }
    ack_all(&*source, &held).await;
    // One settlement settles both.
    nothing_is_left(&*source).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_at_the_start_is_waited_for() {
    let mut server = NatsServer::not_started();
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    assert!(matches!(broker.status(), Status::Away(_)));
    let refused = broker.subscribe(&place.spec("early", &[">"], LONG_LEASE)).await;
    assert!(matches!(refused, Err(SubscribeError::Away { .. })), "it was not away");
    assert!(broker.publish(vec![place.message("a", None, "x")]).await[0].is_err());
    server.restart().await;
    eventually("it is connected", || async { broker.status() == Status::Connected }).await;
    let source = place.subscribe("early", &[">"], LONG_LEASE).await;
    place.publish("a", ["1"]).await;
    ack_all(&*source, &receive(&*source, 1).await).await;
    assert_eq!(broker.counts().reconnects, 0, "the first connection is no reconnect");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_in_the_middle_of_a_receive_is_bridged() {
    let mut server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("bridge", &[">"], LONG_LEASE).await;
    let receiving = tokio::spawn({
        let source = source.clone();
        async move {
            let mut troubles = 0;
            loop {
                match source.receive(demand(10)).await {
                    Ok(came) if came.is_empty() => {}
                    Ok(came) => return (came, troubles),
                    Err(ReceiveError::Away(_)) => troubles += 1,
                    Err(error) => panic!("a restart is no reason for: {error}"),
                }
            }
        }
    });
    eventually("a receive is under way", || async { !source.still_owed().is_zero() }).await;
    server.kill();
    eventually("it is noticed", || async { matches!(broker.status(), Status::Away(_)) }).await;
    server.restart().await;
    eventually("it is connected again", || async { broker.status() == Status::Connected }).await;
    eventually("the stream is back", || async {
        broker.publish(vec![place.message("a", Some("1"), "x")]).await[0].is_ok()
    })
    .await;
    let (came, troubles) = timeout(PATIENCE, receiving).await.unwrap().unwrap();
    assert_eq!(came.len(), 1);
    assert!(troubles >= 1, "the caller was not told");
    ack_all(&*source, &came).await;
    assert!(broker.counts().reconnects >= 1);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_deleted_is_gone_and_can_be_made_anew() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let spec = place.spec("doomed", &[">"], LONG_LEASE);
    let source = broker.subscribe(&spec).await.unwrap();
    place.publish("a", ["1"]).await;
    let first = receive(&*source, 1).await;
    let js = async_nats::jetstream::new(server.client().await);
    let waiting = tokio::spawn({
        let source = source.clone();
        async move {
            loop {
                if let Err(error) = source.receive(demand(10)).await {
                    return error;
                }
            }
        }
    });
    source.backlog().await.unwrap();
    js.delete_consumer_from_stream("doomed", "TEST").await.unwrap();
    let error = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert!(matches!(error, ReceiveError::Gone(_)), "{error:?}");
    // With nobody there an acknowledgement is not confirmed.
    let unconfirmed = settle_one(&*source, ack(&first[0])).await;
    assert!(matches!(unconfirmed, Err(SettleError::Unconfirmed(_))), "{unconfirmed:?}");
    assert!(matches!(source.receive(demand(1)).await, Err(ReceiveError::Gone(_))));
    let source = broker.subscribe(&spec).await.unwrap();
    let again = receive_one(&*source).await;
    assert!(again.standing == Standing::Due, "a consumer that was made anew starts anew");
    ack_all(&*source, &[again]).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_confirms_nothing_and_loses_nothing() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("hang", &[">"], Duration::from_secs(3)).await;
    place.publish("a", (0..10).map(|n| n.to_string())).await;
    let came = receive(&*source, 10).await;
    let lease = came[0].lease_ends_at;
    server.freeze();
    let group = came.iter().map(ack).collect();
    let answers = timeout(PATIENCE, source.settle(group)).await.unwrap();
    assert!(answers.iter().all(Result::is_err), "confirmed by a server that hangs: {answers:?}");
    assert!(Instant::now() >= lease, "it was given up before the lease was over");
    assert_eq!(source.extend(&[came[0].receipt.clone()]).await, [None]);
    server.thaw();
    // What was sent may have arrived late, or it comes back: then it is known to be done.
    eventually("all of it is settled", || async {
        if let Ok(Ok(back)) = timeout(Duration::from_millis(50), source.receive(demand(10))).await {
            assert!(back.iter().all(|delivery| delivery.standing == Standing::Done));
            source.settle(back.iter().map(ack).collect()).await;
        }
        source.backlog().await.is_ok_and(|backlog| (backlog.ready, backlog.pending) == (0, 0))
    })
    .await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_group_is_settled_when_it_is_confirmed() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let mut spec = place.spec("groups", &[">"], LONG_LEASE);
    spec.max_in_flight = 5_000;
    let source = broker.subscribe(&spec).await.unwrap();
    place.publish("a", (0..5_000).map(|n| n.to_string())).await;
    let mut groups = Vec::new();
    let mut count = 0;
    while count < 5_000 {
        let came = receive(&*source, 500).await;
        count += came.len();
        groups.push(came);
    }
    for group in &groups {
        ack_all(&*source, group).await;
    }
    // At once, not after a while: that is what the confirmation says.
    let info = js_info(&server, "groups").await;
    assert_eq!((info.num_ack_pending, info.ack_floor.stream_sequence), (0, 5_000));
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledgements_are_confirmed_in_groups_or_each_by_itself() {
    for (confirm, expected) in [(Confirm::Groups, 1), (Confirm::Each, 20)] {
        let server = NatsServer::start().await;
        let (broker, _folder) = connect(Options { confirm, ..options(&server) }).await;
        let place = place_on(broker.clone(), ());
        let source = place.subscribe("words", &[">"], LONG_LEASE).await;
        place.publish("a", (0..20).map(|n| n.to_string())).await;
        let mut came = Vec::new();
        while came.len() < 20 {
            came.extend(receive(&*source, 20 - came.len()).await);
        }
        // Somebody who listens to all that is said about deliveries: what asks for an answer says where to.
        let listener = server.client().await;
        let mut words = listener.subscribe("$JS.ACK.>").await.unwrap();
        listener.flush().await.unwrap();
        ack_all(&*source, &came).await;
        let mut asked = 0;
        for _ in 0..20 {
            let word = timeout(PATIENCE, words.next()).await.unwrap().unwrap();
            asked += usize::from(word.reply.is_some());
        }
        assert_eq!(asked, expected, "{confirm:?}");
        broker.close().await;
    }
}

pub(super) async fn js_info(server: &NatsServer, consumer: &str) -> async_nats::jetstream::consumer::Info {
    let js = async_nats::jetstream::new(server.client().await);
    js.get_stream("TEST").await.unwrap().consumer_info(consumer).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_on_a_pull_that_nobody_waits_for_is_handed_out() {
    // The story: a subscription was paused while its pull stood with the server. What was published then went to a host that
    // did not look, came back when its lease was over, and had cost an attempt.
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("left", &[">"], LONG_LEASE).await;
    assert_eq!(source.still_owed(), Duration::ZERO);
    assert!(timeout(Duration::from_millis(1), source.leftover()).await.is_err(), "nothing was asked for");
    place.publish("a", ["first"]).await;
    ack_all(&*source, &receive(&*source, 1).await).await;
    // Dropped while it waits; the pull stands with the server.
    let asked = async {
        while source.still_owed().is_zero() {
            tokio::task::yield_now().await
        }
    };
    tokio::select! {
        came = source.receive(demand(10)) => panic!("{came:?}"),
        () = asked => {}
    }
    place.publish("a", ["second"]).await;
    let came = timeout(PATIENCE, source.leftover()).await.unwrap();
    assert_eq!((text(&came[0].message).as_str(), came[0].progress.deliveries), ("second", 1));
    assert!(source.still_owed() > Duration::from_secs(20), "the server may still send nine");
    ack_all(&*source, &came).await;
    broker.close().await;
}
