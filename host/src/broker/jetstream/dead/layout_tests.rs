#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, SystemTime};

use super::*;
use crate::settle::dead_letter::DeadLetterId;

fn letter() -> DeadLetter {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    DeadLetter {
        record: DeadLetterRecord {
            id: DeadLetterId("01HF7YAT00000000000000000A".to_owned()),
            reason: "trap:unreachable".to_owned(),
            error: "a panic\r\nin two lines: ü".to_owned(),
            fingerprint: "00000000000000ff".to_owned(),
            subscription: "billing".to_owned(),
            broker: "main".to_owned(),
            stream: Some("ORDERS.eu".to_owned()),
            subject: "orders.paid".to_owned(),
            sequence: 42,
            published_at: at,
            message_id: "m-1".to_owned(),
            attempts: 2,
            max_attempts: Some(10),
            deliveries: 3,
            defers: 1,
            timeouts: 0,
            first_seen: at,
            dead_at: at,
            handler: "charge".to_owned(),
            digest: "abc".to_owned(),
            version: Some(7),
            host: "host-1".to_owned(),
            fuel_used: 10,
            fuel_limit: 20,
            memory_peak: 30,
            run_ms: 4,
            backtrace: vec!["frame".to_owned()],
            logs: vec!["warn it was late".to_owned()],
            history: Vec::new(),
            redrives: 1,
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        },
        headers: Headers(vec![
            Header::new("Content-Type", "application/json"),
            Header::new("Dlq-Redrive-Count", "1"),
            Header::new("Nats-Msg-Id", "m-1"),
            Header::new("Nats-Rollup", "all"),
            Header::new("X", "1"),
            Header::new("X", "2"),
            // What came over the wire and cannot be written to it again.
            Header::new("Y", Bytes::from_static(b"a line\rbreak")),
            Header::new("Y", Bytes::from_static(b"\xff\xfe")),
        ]),
        body: Bytes::from_static(b"\x00body"),
    }
}

fn encode(letter: &DeadLetter) -> Result<HeaderMap, PublishError> {
    let mut map = HeaderMap::new();
    encode_record(&mut map, &letter.record)?;
    encode_headers(&mut map, &letter.headers)?;
    Ok(map)
}

fn message(map: HeaderMap, body: Bytes) -> Message {
    Message {
        subject: "dlq.x".into(),
        reply: None,
        payload: body,
        headers: Some(map),
        status: None,
        description: None,
        length: 0,
    }
}

#[test]
fn a_dead_letter_comes_back_as_it_went_in() {
    let letter = letter();
    let map = encode(&letter).unwrap();
    assert!(!map.iter().any(|(name, _)| is_reserved(name.as_ref())), "the server would execute a header");
    let decoded = decode(&message(map, letter.body.clone())).unwrap();
    assert_eq!(decoded.letter, letter);
    assert_eq!((decoded.redriven_at, decoded.elsewhere, decoded.rest), (None, None, None));
}

#[test]
fn a_copy_drops_what_the_server_added_and_keeps_values_of_one_name() {
    let mut map = encode(&letter()).unwrap();
    append(&mut map, "Nats-Sequence", b"7").unwrap();
    let (copied, body) = copy(&message(map, letter().body));
    let decoded = decode(&message(copied, body)).unwrap();
    assert_eq!(decoded.letter, letter());
}

#[test]
fn a_body_elsewhere_is_checked() {
    let mut map = HeaderMap::new();
    refer(&mut map, "dlq-body.a.b.c.1-0", b"big").unwrap();
    let message = message(map, Bytes::new());
    assert!(is_referred(&message, b"big") && !is_referred(&message, b"bag"));
}

#[test]
fn record_and_headers_come_back_from_their_parts() {
    use crate::broker::jetstream::dead::rest;
    let mut letter = letter();
    letter.record.message_id = "ü".repeat(SHORT + 1);
    let (place, parts) = rest::pack(&letter, "dlq-body.x.headers", 100).unwrap();
    assert!(parts.len() > 10 && parts.iter().all(|part| part.len() <= 100));
    let mut map = HeaderMap::new();
    let record = shortened(&letter.record);
    encode_record(&mut map, &record).unwrap();
    refer_rest(&mut map, &place).unwrap();
    let mut decoded = decode(&message(map, letter.body.clone())).unwrap();
    assert_eq!(decoded.letter.record.message_id.chars().count(), SHORT);
    assert!(is_same_death(&decoded.letter.record, &letter.record));
    assert_eq!(decoded.rest.as_ref(), Some(&place));
    assert_eq!(place.subjects().last().unwrap(), format!("{}.{}", place.subject, parts.len() - 1));
    rest::unpack(&mut decoded.letter, &place, &parts.concat()).unwrap();
    assert_eq!(decoded.letter, letter);
    let missing = rest::unpack(&mut decoded.letter, &place, b"{}").unwrap_err();
    assert!(missing.contains("not those that were stored"), "{missing}");
}

#[test]
fn the_subject_is_the_same_for_the_same_death_and_has_no_stray_tokens() {
    let record = letter().record;
    assert_eq!(tail(&record), "billing.trap:unreachable.ORDERS_eu.42-1");
    let mut again = record.clone();
    again.id = DeadLetterId("other".to_owned());
    again.dead_at += Duration::from_secs(60);
    assert_eq!(tail(&again), tail(&record));
    again.published_at += Duration::from_secs(1);
    assert_ne!(other_tail(&again), other_tail(&record));
    for (text, expected) in [("a.b", "a_b"), ("", "-"), ("a b*>", "a_b__"), ("ü", "_")] {
        assert_eq!(token(text), expected);
    }
}

#[test]
fn what_is_no_dead_letter_is_said_so() {
    let mut map = HeaderMap::new();
    assert!(decode(&message(map.clone(), Bytes::new())).is_err());
    append(&mut map, "Dlq-Record", b"{}").unwrap();
    assert!(decode(&message(map, Bytes::new())).is_err());
}
