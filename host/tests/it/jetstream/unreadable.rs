//! What any client may write to the server and ours cannot read.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate::broker::{Broker as _, DeadLetterError, DeadLetterQuery, PublishError, Settlement, Standing};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{connect, options, place_on};
use crate::broker_contract::{PATIENCE, ack, dead, demand, eventually, settle, settle_one, text};
use crate::support::nats::NatsServer;

/// Publishes bytes as they are, as any client may: each with headers, and waits until the server has taken all.
pub(crate) async fn publish_raw(server: &NatsServer, rows: &[(&[u8], &[u8], &[u8])]) {
    let address = server.url();
    let mut stream = TcpStream::connect(address.trim_start_matches("nats://")).await.unwrap();
    let mut said: Vec<u8> = b"CONNECT {\"verbose\":false,\"headers\":true}\r\n".to_vec();
    for (subject, headers, body) in rows {
        said.extend_from_slice(b"HPUB ");
        said.extend_from_slice(subject);
        said.extend_from_slice(format!(" {} {}\r\n", headers.len(), headers.len() + body.len()).as_bytes());
        for part in [headers, body, &b"\r\n"[..]] {
            said.extend_from_slice(part);
        }
    }
    said.extend_from_slice(b"PING\r\n");
    stream.write_all(&said).await.unwrap();
    let mut heard = Vec::new();
    let listening = async {
        while !heard.windows(6).any(|bytes| bytes == b"PONG\r\n") {
            assert!(stream.read_buf(&mut heard).await.unwrap() > 0, "the server hung up");
        }
    };
    tokio::time::timeout(PATIENCE, listening).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_dead_lettered_and_its_neighbours_complete() {
    // The story: a client wrote headers that ours does not read. The connection ended over them, the server handed the
    // message out again when its lease ended, and so on for ever, with all that stood behind it.
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("sturdy", &[">"], Duration::from_secs(2)).await;
    let bad: [(&[u8], &[u8], &str); 7] = [
        (b"test.a", b"NATS/1.0\r\nA: \xff\xfe\r\n\r\n", "headers are not UTF-8"),
        (b"test.b", b"NATS/1.0\r\nno colon\r\n\r\n", "no colon"),
        (b"test.c", b"NATS/1.0\r\nA: x\ry\r\n\r\n", "line break"),
        (b"test.d", b"NATS/1.0\r\nA B: x\r\n\r\n", "no name"),
        (b"test.e", b"HELLO", "do not begin"),
        ("test.f\u{a0}".as_bytes(), b"NATS/1.0\r\nA: x\r\n\r\n", "white space"),
        (b"test.g\xff", b"NATS/1.0\r\nA: x\r\n\r\n", "subject is not UTF-8"),
    ];
    for (number, (subject, headers, _)) in bad.iter().enumerate() {
        place.publish("good", [format!("before {number}")]).await;
        publish_raw(&server, &[(subject, headers, b"a body \x00\xff")]).await;
        // A status is no trouble of the connection: it is a message like any other.
        publish_raw(
            &server,
            &[(b"test.status", b"NATS/1.0 503\r\nA: x\r\n\r\n", format!("after {number}").as_bytes())],
        )
        .await;
    }

    let mut good = BTreeSet::new();
    let mut given_up = BTreeSet::new();
    let until = Instant::now() + PATIENCE * 2;
    while good.len() < 2 * bad.len() || given_up.len() < bad.len() {
        assert!(Instant::now() < until, "completed {good:?}, given up {given_up:?}");
        let Ok(came) = source.receive(demand(100)).await else {
            // Connecting again.
            tokio::task::yield_now().await;
            continue;
        };
        for delivery in came {
            let settlement = match &delivery.standing {
                Standing::Due | Standing::Done => ack(&delivery),
                Standing::Unreadable(problem) => {
                    let mut letter = dead(&delivery, "sturdy", 0);
                    letter.record.reason = "invalid-message".to_owned();
                    letter.record.error.clone_from(problem);
                    settle(&delivery, Settlement::DeadLetter(Box::new(letter)))
                }
                Standing::ForAnother | Standing::Exhausted => panic!("{delivery:?}"),
            };
            // The connection may end over the next one in the middle of it; it comes again then.
            if settle_one(&*source, settlement).await.is_err() {
                continue;
            }
            match &delivery.standing {
                Standing::Unreadable(_) => {
                    given_up.insert(delivery.message.sequence);
                }
                Standing::Due | Standing::Done | Standing::ForAnother | Standing::Exhausted => {
                    good.insert(text(&delivery.message));
                }
            }
        }
    }
    eventually("the server holds nothing any more", || async {
        source.backlog().await.is_ok_and(|backlog| (backlog.ready, backlog.pending) == (0, 0))
    })
    .await;
    assert_eq!(broker.counts().unreadable, bad.len() as u64);

    let letters = broker.dead_letters();
    let page = letters.list(&DeadLetterQuery::default()).await.unwrap();
    assert_eq!(page.letters.len(), bad.len());
    for stored in page.letters {
        let whole = letters.get(&stored.letter.record.id).await.unwrap().letter;
        let row = bad.iter().find(|(_, _, expected)| whole.record.error.contains(expected));
        let (_, headers, _) = row.unwrap_or_else(|| panic!("{}", whole.record.error));
        assert_eq!(whole.headers.get("Dlq-Unreadable-Headers").unwrap(), *headers, "its headers are not as they were");
        assert_eq!(&whole.body[..], b"a body \x00\xff");
        let refused = letters.redrive(&whole.record.id, false).await;
        let is_refused = matches!(&refused, Err(DeadLetterError::Publish { source: PublishError::Invalid(_), .. }));
        assert!(is_refused, "it was published without its headers: {refused:?}");
    }
    broker.close().await;
}
