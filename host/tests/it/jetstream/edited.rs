//! Somebody changes the consumer while the host runs.

use std::time::Duration;

use tidegate::broker::{
    Broker as _, DeadLetterQuery, ReceiveError, Settlement, Standing, SubscribeError, SubscriptionSpec,
};

use super::trouble::js_info;
use super::{ack_all, connect, options, place_on};
use crate::broker_contract::{LONG_LEASE, dead, demand, give_back, receive_one, settle, settle_one, text};
use crate::support::nats::NatsServer;

/// Changes a consumer as somebody with the server's own tool does.
async fn edit(server: &NatsServer, consumer: &str, setting: &str, value: serde_json::Value) {
    let client = server.client().await;
    let ask = async |verb: &str, question: serde_json::Value| -> serde_json::Value {
        let answer =
            client.request(format!("$JS.API.{verb}.TEST.{consumer}"), question.to_string().into()).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    };
    let mut config = ask("CONSUMER.INFO", serde_json::json!({})).await["config"].take();
    config[setting] = value;
    let question = serde_json::json!({ "stream_name": "TEST", "config": config, "action": "update" });
    let answer = ask("CONSUMER.CREATE", question).await;
    assert!(answer["error"].is_null(), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_made_to_lose_messages_is_not_received_from_until_it_is_right() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let spec = place.spec("edited", &[">"], LONG_LEASE);
    let source = broker.subscribe(&spec).await.unwrap();
    // Another lease: hosts that get a new configuration one after the other differ so for a while.
    edit(&server, "edited", "ack_wait", 45_000_000_000_u64.into()).await;
    source.backlog().await.unwrap();
    edit(&server, "edited", "max_deliver", 2.into()).await;
    place.publish("a", ["1"]).await;
    for _ in 0..2 {
        let told = source.backlog().await.unwrap_err();
        assert!(
            matches!(&told, ReceiveError::Gone(why) if why.contains("max_deliver is 2 and must be -1")),
            "{told:?}"
        );
        let told = source.receive(demand(1)).await.unwrap_err();
        assert!(matches!(&told, ReceiveError::Gone(why) if why.contains("nats consumer edit TEST edited")), "{told:?}");
    }
    // Whoever made it puts it right when it is set up anew, which is what follows that answer.
    let anew = broker.subscribe(&spec).await.unwrap();
    assert_eq!(js_info(&server, "edited").await.config.max_deliver, -1);
    ack_all(&*anew, &[receive_one(&*anew).await]).await;
    // What is not to be made is refused, and received from again when a person has put it right.
    edit(&server, "edited", "max_deliver", 3.into()).await;
    let told = anew.backlog().await.unwrap_err();
    assert!(matches!(told, ReceiveError::Gone(_)), "{told:?}");
    let told = broker.subscribe(&SubscriptionSpec { create: false, ..spec }).await.map(drop).unwrap_err();
    assert!(matches!(told, SubscribeError::Refused { .. }), "{told:?}");
    edit(&server, "edited", "max_deliver", (-1).into()).await;
    place.publish("a", ["2"]).await;
    ack_all(&*anew, &[receive_one(&*anew).await]).await;
    anew.backlog().await.unwrap();
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_gave_up_before_it_was_noticed_is_a_dead_letter() {
    // The story: `nats consumer edit --max-deliver=1` while a message was to be tried again. The server let go of it, and
    // nobody had it any more.
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let spec = place.spec("edited", &[">"], LONG_LEASE);
    let source = broker.subscribe(&spec).await.unwrap();
    // Another host of the same subscription.
    let (beside, _folder_beside) = connect(options(&server)).await;
    let other = beside.subscribe(&spec).await.unwrap();
    // It listens, and asks for nothing.
    assert!(other.receive(demand(0)).await.unwrap().is_empty());
    let mut poison = place.message("a", None, "poison");
    poison.headers.push("X-Kept", "as it was");
    broker.publish(vec![poison]).await.remove(0).unwrap();
    let first = receive_one(&*source).await;
    edit(&server, "edited", "max_deliver", 1.into()).await;
    settle_one(&*source, give_back(&first, Duration::ZERO, first.progress.clone())).await.unwrap();

    for (source, subscribed) in [(&source, &broker), (&other, &beside)] {
        let given_up = receive_one(&**source).await;
        assert_eq!(given_up.standing, Standing::Exhausted);
        assert_eq!((text(&given_up.message), given_up.message.sequence), ("poison".to_owned(), 1));
        assert_eq!(given_up.message.headers.text("X-Kept"), Some("as it was"));
        assert_eq!((&given_up.message.id, &given_up.message.subject), (&first.message.id, &first.message.subject));
        let letter = settle(&given_up, Settlement::DeadLetter(Box::new(dead(&given_up, "edited", 0))));
        settle_one(&**source, letter).await.unwrap();
        let page = subscribed.dead_letters().list(&DeadLetterQuery::default()).await.unwrap();
        assert_eq!(page.letters.len(), 1, "both hosts give it up, and it is one death");
    }
    for broker in [&broker, &beside] {
        let told = broker.advisories();
        assert!(told.contains(&("max_deliveries", 1)) && told.contains(&("quorum_lost", 0)), "{told:?}");
    }
    // And that was all.
    edit(&server, "edited", "max_deliver", (-1).into()).await;
    place.publish("a", ["next"]).await;
    let next = receive_one(&*source).await;
    assert_eq!((text(&next.message), &next.standing), ("next".to_owned(), &Standing::Due));
    ack_all(&*source, &[next]).await;
    assert!(other.receive(demand(1)).await.unwrap().is_empty());
    broker.close().await;
    beside.close().await;
}
