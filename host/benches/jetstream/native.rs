//! The baseline: a consumer as one would write it with the client, with the same parse.

use async_nats::jetstream::consumer::{AckPolicy, Consumer, pull};
use async_nats::jetstream::{self, stream};
use futures_util::StreamExt as _;

use tidegate::message::{Headers, Message};

use crate::bare_wasmtime::Bare;
use crate::nats::NatsServer;
use crate::order::parse;
use crate::{Round, Stopwatch};

/// Messages that may be delivered and not acknowledged: the same for every candidate.
pub const IN_FLIGHT: usize = 4_000;
/// Single confirmations under way at once: what the host allows itself.
pub const CONFIRMATIONS: usize = 256;

/// A stream with so many messages, and nothing else.
pub async fn fill(server: &NatsServer, body: &str, messages: usize) {
    let context = jetstream::new(server.client().await);
    let _ = context.delete_stream("BENCH").await;
    let config = stream::Config { name: "BENCH".into(), subjects: vec!["bench.>".into()], ..Default::default() };
    context.create_stream(config).await.unwrap();
    let body = bytes::Bytes::copy_from_slice(body.as_bytes());
    let mut waiting = futures_util::stream::FuturesUnordered::new();
    for _ in 0..messages {
        let ack = context.publish("bench.orders", body.clone()).await.unwrap();
        waiting.push(async move { ack.await.unwrap() });
        if waiting.len() >= 500 {
            waiting.next().await;
        }
    }
    while waiting.next().await.is_some() {}
}

async fn consumer(server: &NatsServer, name: &str) -> Consumer<pull::Config> {
    let context = jetstream::new(server.client().await);
    let stream = context.get_stream("BENCH").await.unwrap();
    let _ = stream.delete_consumer(name).await;
    let config = pull::Config {
        durable_name: Some(name.into()),
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: IN_FLIGHT as i64,
        ..Default::default()
    };
    stream.create_consumer(config).await.unwrap()
}

/// Plain acknowledgements: sent, and not waited for.
pub async fn plain(server: &NatsServer, messages: usize) -> Round {
    let consumer = consumer(server, "plain").await;
    let mut stream = consumer.stream().max_messages_per_batch(500).messages().await.unwrap();
    let watch = Stopwatch::start(server);
    for _ in 0..messages {
        let message = stream.next().await.unwrap().unwrap();
        assert!(parse(&message.payload));
        message.ack().await.unwrap();
    }
    watch.stop(messages)
}

/// Each acknowledgement confirmed, many under way at once.
pub async fn confirmed(server: &NatsServer, messages: usize) -> Round {
    let consumer = consumer(server, "confirmed").await;
    let stream = consumer.stream().max_messages_per_batch(500).messages().await.unwrap();
    let watch = Stopwatch::start(server);
    stream
        .take(messages)
        .map(|message| async move {
            let message = message.unwrap();
            assert!(parse(&message.payload));
            message.double_ack().await.unwrap();
        })
        .buffer_unordered(CONFIRMATIONS)
        .for_each(|()| async {})
        .await;
    watch.stop(messages)
}

/// Plain acknowledgements, and the parse done by the handler in bare wasmtime: what the sandbox costs such a consumer. With
/// one instance for all messages, or a fresh one for each.
pub async fn sandboxed(server: &NatsServer, messages: usize, bare: &Bare, reuse: bool) -> Round {
    let consumer = consumer(server, "sandboxed").await;
    let mut stream = consumer.stream().max_messages_per_batch(500).messages().await.unwrap();
    let mut started = bare.start().await;
    let watch = Stopwatch::start(server);
    for _ in 0..messages {
        let message = stream.next().await.unwrap().unwrap();
        let info = message.info().unwrap();
        let sent = Message {
            id: format!("BENCH:{}", info.stream_sequence),
            subject: message.subject.to_string(),
            headers: Headers::default(),
            body: message.payload.clone(),
            sequence: info.stream_sequence,
            published_at: info.published.into(),
        };
        if reuse {
            bare.reused(&mut started, &sent).await
        } else {
            bare.fresh(&sent).await
        }
        message.ack().await.unwrap();
    }
    watch.stop(messages)
}
