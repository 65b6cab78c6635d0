#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::openapi::checker::{Answer, Document};
use super::*;
use crate::access::{HandlerPattern, Role, Scope, TokenHash};
use crate::broker::{
    Broker, DeadLetterError, DeadLetterFilter, DeadLetterPage, DeadLetterQuery, DeadLetters, Directory, NamedBroker,
    PublishError, Published, SendBack, Source, Status, SubscribeError, SubscriptionSpec, Tally, Traits,
};
use crate::config::TokenConfig;
use crate::message::{Headers, Publish};
use crate::settle::dead_letter::{DeadLetter, DeadLetterId, DeadLetterRecord, StoredDeadLetter};
use crate::telemetry::{Metrics, SubscriptionCounts, names};

mod tls;

/// A broker in memory that takes so many messages and no more.
struct Shelf {
    taken: Mutex<Vec<Publish>>,
    room: usize,
    away: Mutex<bool>,
    letters: Arc<Letters>,
}

/// Dead letters, and whether there is room for more.
struct Letters(Mutex<Vec<StoredDeadLetter>>, AtomicBool);

#[async_trait]
impl Broker for Shelf {
    async fn check(&self, _: &SubscriptionSpec) -> Result<(), SubscribeError> {
        Ok(())
    }

    async fn subscribe(&self, _: &SubscriptionSpec) -> Result<Arc<dyn Source>, SubscribeError> {
        Err(SubscribeError::Away { subscription: String::new(), detail: String::new() })
    }

    async fn publish(&self, messages: Vec<Publish>) -> Vec<Result<Published, PublishError>> {
        let mut taken = self.taken.lock().unwrap();
        let mut take = |message: Publish| {
            let known = message.id.as_ref().and_then(|id| taken.iter().position(|old| old.id.as_ref() == Some(id)));
            if let Some(index) = known {
                return Ok(Published { sequence: index as u64 + 1, duplicate: true });
            }
            if taken.len() >= self.room {
                return Err(PublishError::Full("its shelf has no room".to_owned()));
            }
            taken.push(message);
            Ok(Published { sequence: taken.len() as u64, duplicate: false })
        };
        messages.into_iter().map(&mut take).collect()
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        Arc::clone(&self.letters) as _
    }

    fn status(&self) -> Status {
        if *self.away.lock().unwrap() { Status::Away("it went to lunch".to_owned()) } else { Status::Connected }
    }

    fn tallies(&self) -> Vec<(names::Name, u64)> {
        vec![(names::HELD_BACK, 3)]
    }

    async fn close(&self) {}
}

#[async_trait]
impl DeadLetters for Letters {
    async fn list(&self, query: &DeadLetterQuery) -> Result<DeadLetterPage, DeadLetterError> {
        let all = self.0.lock().unwrap();
        let behind = all.iter().rev().filter(|letter| {
            let record = &letter.letter.record;
            query.after.as_ref().is_none_or(|after| record.id < *after) && query.filter.matches(record, false)
        });
        let mut letters: Vec<StoredDeadLetter> = behind.cloned().collect();
        let more = letters.len() > query.limit;
        letters.truncate(query.limit);
        let next = letters.last().filter(|_| more).map(|letter| letter.letter.record.id.clone());
        Ok(DeadLetterPage { letters, next })
    }

    async fn tally(&self, filter: &DeadLetterFilter, mut tally: Tally) -> Result<Tally, DeadLetterError> {
        for letter in self.0.lock().unwrap().iter().map(|stored| &stored.letter.record) {
            if filter.matches(letter, false) { tally.count(&Traits::of(letter)) } else { tally.pass() }
        }
        Ok(tally)
    }

    async fn get(&self, id: &DeadLetterId) -> Result<StoredDeadLetter, DeadLetterError> {
        let all = self.0.lock().unwrap();
        let found = all.iter().find(|letter| letter.letter.record.id == *id).cloned();
        found.ok_or_else(|| DeadLetterError::NotFound(id.0.clone()))
    }

    async fn send_back(&self, id: &DeadLetterId, how: &SendBack) -> Result<Published, DeadLetterError> {
        let letter = self.get(id).await?;
        match (letter.redriven_at, letter.letter.record.redrives, how.force) {
            (Some(_), _, _) => Err(DeadLetterError::AlreadyRedriven(id.0.clone())),
            (None, 3.., false) => Err(DeadLetterError::Loop { id: id.0.clone(), count: 3 }),
            (None, _, _) => {
                let mut all = self.0.lock().unwrap();
                let letter = all.iter_mut().find(|letter| letter.letter.record.id == *id).unwrap();
                letter.redriven_at = Some(SystemTime::UNIX_EPOCH);
                Ok(Published { sequence: 77, duplicate: false })
            }
        }
    }

    async fn discard(&self, id: &DeadLetterId) -> Result<(), DeadLetterError> {
        self.get(id).await?;
        self.0.lock().unwrap().retain(|letter| letter.letter.record.id != *id);
        Ok(())
    }

    async fn restore(&self, letter: DeadLetter) -> Result<bool, DeadLetterError> {
        let mut all = self.0.lock().unwrap();
        let is_there = all.iter().any(|stored| stored.handle == letter.record.id);
        if !is_there {
            let (body_size, handle) = (letter.body.len() as u64, letter.record.id.clone());
            all.push(StoredDeadLetter { letter, body_size, redriven_at: None, handle });
        }
        Ok(!is_there)
    }

    async fn is_writable(&self) -> Result<(), DeadLetterError> {
        if self.1.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(DeadLetterError::Store("the stream is full".to_owned()))
        }
    }

    async fn forget_redriven(&self, _before: SystemTime, _at_most: usize) -> Result<usize, DeadLetterError> {
        Ok(0)
    }

    async fn depth(&self) -> Result<u64, DeadLetterError> {
        Ok(self.0.lock().unwrap().iter().filter(|letter| letter.redriven_at.is_none()).count() as u64)
    }

    async fn oldest(&self) -> Result<Option<SystemTime>, DeadLetterError> {
        Ok(self.0.lock().unwrap().iter().map(|letter| letter.letter.record.dead_at).min())
    }
}

fn letter(id: &str, reason: &str, redrives: u32) -> StoredDeadLetter {
    let at = SystemTime::UNIX_EPOCH;
    // One of the second broker died between those of the first.
    let died = if id == "01" {
        0
    } else if id == "11" {
        1
    } else {
        2
    };
    let record = DeadLetterRecord {
        id: DeadLetterId(id.to_owned()),
        reason: reason.to_owned(),
        error: "it said no".to_owned(),
        fingerprint: "00".repeat(8),
        subscription: "webhooks".to_owned(),
        broker: "local".to_owned(),
        stream: None,
        subject: "github.push".to_owned(),
        sequence: 5,
        published_at: at,
        message_id: format!("message-{id}"),
        attempts: 2,
        max_attempts: Some(10),
        deliveries: 3,
        defers: 0,
        timeouts: 0,
        first_seen: at,
        dead_at: at + Duration::from_secs(died),
        handler: "triage".to_owned(),
        digest: "ab".repeat(32),
        version: Some(7),
        host: "h".to_owned(),
        fuel_used: 10,
        fuel_limit: 100,
        memory_peak: 1 << 20,
        run_ms: 3,
        backtrace: vec![],
        logs: vec!["warn it was late".to_owned()],
        history: vec![],
        redrives,
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
    };
    let mut headers = Headers::default();
    headers.push("A", "b");
    let handle = record.id.clone();
    let letter = DeadLetter { record, headers, body: "body".into() };
    StoredDeadLetter { letter, body_size: 4, redriven_at: None, handle }
}

#[derive(Default)]
struct Subscribed(Mutex<(bool, Option<String>)>);

impl Subscriptions for Subscribed {
    fn list(&self) -> Vec<SubscriptionStatus> {
        vec![SubscriptionStatus {
            name: "webhooks".to_owned(),
            broker: "local".to_owned(),
            handler: "triage".to_owned(),
            subjects: Vec::new(),
            digest: Some("ab".repeat(32)),
            trouble: self.0.lock().unwrap().1.clone(),
            pause: None,
            circuit: None,
            stall: None,
            counts: SubscriptionCounts { completed: 9, ..SubscriptionCounts::default() },
        }]
    }

    fn is_draining(&self) -> bool {
        self.0.lock().unwrap().0
    }
}

/// A listener over brokers in memory.
struct Site {
    address: SocketAddr,
    local: Arc<Shelf>,
    subscribed: Arc<Subscribed>,
    data: tempfile::TempDir,
    _serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

fn shelf(room: usize, letters: Vec<StoredDeadLetter>) -> Arc<Shelf> {
    let letters = Arc::new(Letters(Mutex::new(letters), AtomicBool::new(true)));
    Arc::new(Shelf { taken: Mutex::default(), room, away: Mutex::default(), letters })
}

async fn site(room: usize) -> Site {
    guarded(room, Door::new(&BTreeMap::new())).await
}

async fn guarded(room: usize, door: Door) -> Site {
    served(room, listen("127.0.0.1:0".parse().unwrap(), door).await.unwrap())
}

fn served(room: usize, listening: Listening) -> Site {
    let local = shelf(room, vec![letter("01", "timeout", 0), letter("02", "denied", 3)]);
    let nats = shelf(room, vec![letter("11", "timeout", 0)]);
    let subscribed = Arc::new(Subscribed::default());
    let brokers = BTreeMap::from([
        ("local".to_owned(), NamedBroker { kind: "embedded", broker: Arc::clone(&local) as _ }),
        ("nats".to_owned(), NamedBroker { kind: "jetstream", broker: nats as _ }),
    ]);
    let metrics = Arc::new(Metrics::new());
    let data = tempfile::tempdir().unwrap();
    let audit = Arc::new(Audit::new(data.path().to_owned()));
    let state =
        HostState::new("host-1".into(), Directory::new(brokers), Arc::clone(&subscribed) as _, metrics, 1000, audit);
    let address = listening.address();
    let serving = tokio::spawn(listening.serve(Arc::new(state), std::future::pending()));
    Site { address, local, subscribed, data, _serving: serving }
}

impl Site {
    /// Sends a request and gives back status and body, which are such as the document describes.
    async fn send(&self, line: &str, headers: &[&str], body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let host = if headers.iter().any(|header| header.starts_with("Host:")) { "" } else { "Host: localhost\r\n" };
        let extra: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let length = body.len();
        let head = format!("{line} HTTP/1.1\r\n{host}{extra}Content-Length: {length}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // The listener may answer and close before it has read all of a body that is too large.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if is_chunked { unchunked(body) } else { body.to_owned() };
        is_described(line, status, head, &body);
        (status, body)
    }

    async fn get(&self, path: &str) -> (u16, serde_json::Value) {
        let (status, body) = self.send(&format!("GET {path}"), &[], b"").await;
        (status, serde_json::from_str(&body).unwrap_or(serde_json::Value::String(body)))
    }

    async fn lines(&self, body: &str) -> (u16, wire::PublishSummary) {
        let kind = "Content-Type: application/x-ndjson";
        let (status, body) = self.send("POST /v1/publish", &[kind], body.as_bytes()).await;
        (status, serde_json::from_str(&body).unwrap())
    }

    fn subjects(&self) -> Vec<String> {
        self.local.taken.lock().unwrap().iter().map(|message| message.subject.clone()).collect()
    }
}

/// The body of an answer that came in chunks.
fn unchunked(mut rest: &str) -> String {
    let mut whole = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole += &after[..size];
        rest = after[size..].strip_prefix("\r\n").unwrap_or_default();
    }
    whole
}

/// Fails when the document does not describe an answer.
fn is_described(line: &str, status: u16, head: &str, body: &str) {
    let (method, target) = line.split_once(' ').unwrap();
    // A request may name its host in the line too.
    let target = target.strip_prefix("http://").map_or(target, |rest| &rest[rest.find('/').unwrap()..]);
    let named = head.lines().filter_map(|header| header.split_once(": "));
    let mut kinds = named.filter(|(name, _)| name.eq_ignore_ascii_case("content-type")).map(|(_, value)| value);
    let answer = Answer { status, content_type: kinds.next().unwrap_or_default(), body };
    let document = Document(serde_json::from_str(openapi::text()).unwrap());
    document.check(method, target, &answer).unwrap_or_else(|error| panic!("{error}\n{body}"));
}

#[tokio::test]
async fn health_says_what_is_not_ready() {
    let site = site(10).await;
    assert_eq!(site.get("/live").await.0, 200);
    assert_eq!(site.get("/ready").await, (200, serde_json::json!({ "ready": true })));
    site.local.letters.1.store(false, Ordering::Relaxed);
    let (status, readiness) = site.get("/ready").await;
    let why = "could not use the dead-letter store: the stream is full";
    let troubles = serde_json::json!([{ "what": "dead letters of broker local", "why": why }]);
    assert_eq!((status, &readiness["troubles"]), (503, &troubles));
    *site.local.away.lock().unwrap() = true;
    *site.subscribed.0.lock().unwrap() = (true, Some("the stream is missing".to_owned()));
    let (status, readiness) = site.get("/ready").await;
    assert_eq!(status, 503);
    let troubles = serde_json::json!([
        { "what": "host", "why": "it is draining" },
        { "what": "broker local", "why": "it went to lunch" },
        { "what": "subscription webhooks", "why": "the stream is missing" },
    ]);
    assert_eq!(readiness["troubles"], troubles);
    assert_eq!(site.get("/live").await.0, 200, "a host that is not ready is still alive");
}

#[tokio::test]
async fn metrics_know_the_brokers() {
    let site = site(10).await;
    let (status, text) = site.send("GET /metrics", &[], b"").await;
    assert_eq!(status, 200);
    assert!(text.contains("tidegate_dlq_depth{broker=\"local\",messaging_system=\"embedded\"} 2"), "{text}");
    let tally = "tidegate_broker_deliveries_held_back_total{broker=\"local\",messaging_system=\"embedded\"} 3";
    assert!(text.contains(tally), "{text}");
    assert!(text.contains("tidegate_broker_connected{broker=\"nats\",messaging_system=\"jetstream\"} 1"), "{text}");
}

#[tokio::test]
async fn one_message_is_published_as_it_is() {
    let site = site(10).await;
    let headers = ["Content-Type: image/png", "Tidegate-Header-Kind: x", "Tidegate-Id: i1", "traceparent: 00-a-b-01"];
    let (status, body) = site.send("POST /v1/publish?subject=a.b", &headers, &[0, 159, 146, 150]).await;
    assert_eq!((status, body.as_str()), (200, r#"{"sequence":1,"duplicate":false}"#));
    let (_, body) = site.send("POST /v1/publish?id=i1", &["Tidegate-Subject: a.b"], b"again").await;
    assert_eq!(body, r#"{"sequence":1,"duplicate":true}"#);
    let taken = site.local.taken.lock().unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!((taken[0].subject.as_str(), taken[0].body.as_ref()), ("a.b", [0u8, 159, 146, 150].as_slice()));
    let names: BTreeSet<&str> = taken[0].headers.iter().map(|header| header.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["Content-Type", "kind", "traceparent"]));
}

#[tokio::test]
async fn what_cannot_be_published_is_refused_with_its_reason() {
    let site = site(0).await;
    let rows: [(&str, &[u8], u16, &str); 7] = [
        ("POST /v1/publish", b"x", 400, "no-subject"),
        ("POST /v1/publish?subject=a..b", b"x", 400, "invalid-message"),
        ("POST /v1/publish?subject=a.*", b"x", 400, "invalid-message"),
        ("POST /v1/publish?subject=a&nonsense=1", b"x", 400, "invalid-query"),
        ("POST /v1/publish?subject=a&broker=x", b"x", 400, "no-such-broker"),
        ("POST /v1/publish?subject=a", &[b'x'; 1001], 413, "too-large"),
        ("POST /v1/publish?subject=a", b"x", 507, "queue-full"),
    ];
    for (line, body, status, code) in rows {
        let (got, answer) = site.send(line, &[], body).await;
        let answer: wire::ErrorAnswer = serde_json::from_str(&answer).unwrap();
        assert_eq!((got, answer.error.code.as_str()), (status, code), "{line}: {}", answer.error.message);
    }
    assert!(site.subjects().is_empty());
}

#[tokio::test]
async fn a_stream_is_stored_line_by_line() {
    let site = site(10_000).await;
    let mut body = String::from("\n");
    for number in 0..600 {
        body +=
            &format!("{{\"subject\":\"s.{number}\",\"id\":\"i{}\",\"json\":{{\"n\": {number}.10}}}}\n", number % 500);
    }
    body += r#"{"subject":"last","body_base64":"AAE=","headers":{"A":"b"}}"#;
    let (status, summary) = site.lines(&body).await;
    assert_eq!(status, 200, "{summary:?}");
    assert_eq!((summary.published, summary.duplicates, summary.failed), (501, 100, 0));
    let taken = site.local.taken.lock().unwrap();
    assert_eq!(taken[1].body.as_ref(), br#"{"n": 1.10}"#, "JSON goes through as it was written");
    assert_eq!(taken[500].body.as_ref(), [0, 1]);
    assert_eq!(taken[500].headers.text("a"), Some("b"));
}

#[tokio::test]
async fn a_stream_ends_at_the_first_line_that_is_wrong() {
    let site = site(10).await;
    let good = r#"{"subject":"a"}"#;
    let rows = [
        ("{\"subject\":\"a\",\"bdy\":1}".to_owned(), 400, "invalid-line"),
        ("{\"subject\":\"a\"".to_owned(), 400, "invalid-line"),
        ("{\"subject\":\"\"}".to_owned(), 400, "invalid-line"),
        ("{\"subject\":\"a\",\"body\":\"x\",\"json\":1}".to_owned(), 400, "invalid-line"),
        (format!("{{\"subject\":\"a\",\"body\":\"{}\"}}", "x".repeat(1001)), 413, "too-large"),
        ("x".repeat(200_000), 413, "too-large"),
    ];
    for (index, (bad, status, code)) in rows.into_iter().enumerate() {
        let (got, summary) = site.lines(&format!("{good}\n{bad}\n{good}\n")).await;
        let error = summary.error.unwrap();
        assert_eq!((got, error.code.as_str()), (status, code), "{}", error.message);
        assert!(error.message.starts_with("line 2: "), "{}", error.message);
        assert_eq!((summary.published, site.subjects().len()), (1, index + 1), "what stood before it is stored");
    }
}

#[tokio::test]
async fn a_full_queue_says_how_far_the_stream_went() {
    let site = site(2).await;
    let (status, summary) = site.lines(&"{\"subject\":\"a\"}\n".repeat(1000)).await;
    assert_eq!(status, 507);
    assert_eq!((summary.published, summary.failed), (2, 254), "it ends behind the group that met the end");
    assert_eq!(summary.failures[0].line, 3);
    assert_eq!(summary.failures.len(), 100);
    assert_eq!(summary.error.unwrap().code, "queue-full");
}

#[tokio::test]
async fn web_pages_are_kept_out() {
    let site = site(10).await;
    assert_eq!(site.send("GET /live", &["Host: evil.example"], b"").await.0, 421);
    assert_eq!(site.send("GET http://evil.example/live", &[], b"").await.0, 421);
    assert_eq!(site.send("GET /live", &["Host: [::1]:7171"], b"").await.0, 200);
    assert_eq!(site.send("GET /live", &["Origin: http://evil.example"], b"").await.0, 200, "reading is harmless");
    for line in ["POST /v1/publish?subject=a", "DELETE /v1/dead-letters/01", "POST /v1/dead-letters/01/redrive"] {
        let (status, body) = site.send(line, &["Origin: null"], b"x").await;
        assert_eq!(status, 403, "{line}: {body}");
    }
    assert!(site.subjects().is_empty());
    assert_eq!(site.get("/v1/dead-letters/01").await.0, 200);
}

#[tokio::test]
async fn without_tokens_only_loopback_is_listened_on() {
    let open = || Door::new(&BTreeMap::new());
    let elsewhere = "0.0.0.0:0".parse().unwrap();
    assert!(matches!(listen(elsewhere, open()).await, Err(ListenError::NotLoopback(_))));
    listen(elsewhere, Door::only("tidegate_x")).await.unwrap();
    let first = listen("127.0.0.1:0".parse().unwrap(), open()).await.unwrap();
    assert!(matches!(listen(first.address(), open()).await, Err(ListenError::Bind { .. })), "the port is taken");
}

fn token(role: Role, handlers: &[&str]) -> TokenConfig {
    let patterns: Vec<_> = handlers.iter().map(|text| HandlerPattern::new(text).unwrap()).collect();
    let handlers = if patterns.is_empty() { Scope::All } else { Scope::Only(patterns.into()) };
    let hash = TokenHash::of(&format!("tidegate_{role}"));
    TokenConfig { hash, role, handlers, expires: None }
}

fn door(tokens: Vec<TokenConfig>) -> Door {
    Door::new(&tokens.into_iter().map(|token| (format!("t-{}", token.role), token)).collect())
}

/// Every route of the list, asked without a token, with a wrong one, and with each role.
#[tokio::test]
async fn every_route_asks_for_its_role() {
    let site = guarded(10, door(Role::ALL.into_iter().map(|role| token(role, &[])).collect())).await;
    for endpoint in Endpoint::ALL {
        let (verb, path) = endpoint.route();
        let line = format!("{verb} {}", path.replace("{id}", "none").replace("{file}", "main.js"));
        let with = async |token: &str| {
            let authorization = format!("Authorization: Bearer {token}");
            site.send(&line, &[&authorization], b"").await
        };
        let bare = site.send(&line, &[], b"").await.0;
        let wrong = with("tidegate_wrong").await.0;
        let Some(needed) = endpoint.needs().role() else {
            assert_eq!((bare, wrong), (200, 200), "{line} is open");
            continue;
        };
        assert_eq!((bare, wrong), (401, 401), "{line}");
        for role in Role::ALL {
            let (status, body) = with(&format!("tidegate_{role}")).await;
            if role >= needed {
                assert!(![401, 403].contains(&status), "{line} as {role}: {status} {body}");
            } else {
                assert_eq!(status, 403, "{line} as {role}: {body}");
                assert!(body.contains(&format!("`{needed}`")), "{line}: {body}");
            }
        }
    }
}

#[tokio::test]
async fn a_door_that_asks_answers_to_any_name_and_says_how_to_come_in() {
    let site = guarded(10, door(vec![token(Role::Read, &[])])).await;
    let authorization = "Authorization: Bearer tidegate_read";
    let (status, body) = site.send("GET /v1/whoami", &["Host: tidegate.example", authorization], b"").await;
    assert_eq!((status, body.as_str()), (200, r#"{"name":"t-read","role":"read"}"#));
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.to_ascii_lowercase().contains("www-authenticate: bearer"), "{answer}");
}

#[tokio::test]
async fn payload_is_for_those_who_operate_and_handlers_for_those_who_have_them() {
    let reader = guarded(10, door(vec![token(Role::Read, &[])])).await;
    let as_reader = "Authorization: Bearer tidegate_read";
    for path in ["/v1/dead-letters/01", "/v1/dead-letters"] {
        let (status, body) = reader.send(&format!("GET {path}"), &[as_reader], b"").await;
        assert_eq!(status, 200, "{body}");
        assert!(body.contains("\"payload_withheld\":true") && !body.contains("\"body\":"), "{body}");
        assert!(!body.contains("\"headers\":") && body.contains("it said no"), "{body}");
    }
    let (status, body) = reader.send("GET /v1/live?payloads=true", &[as_reader], b"").await;
    assert!(status == 403 && body.contains("payload-withheld"), "{status} {body}");
    let as_operator = "Authorization: Bearer tidegate_operate";
    let other = guarded(10, door(vec![token(Role::Operate, &["billing-*"])])).await;
    let rows = [
        ("GET /v1/dead-letters/01", 404),
        ("DELETE /v1/dead-letters/01", 404),
        ("POST /v1/dead-letters/01/redrive", 404),
        ("POST /v1/publish?subject=a", 403),
        ("GET /v1/status", 200),
    ];
    for (line, status) in rows {
        let (got, body) = other.send(line, &[as_operator], b"x").await;
        assert_eq!(got, status, "{line}: {body}");
    }
    let (_, list) = other.send("GET /v1/dead-letters", &[as_operator], b"").await;
    assert_eq!(list, r#"{"letters":[]}"#);
    let theirs = guarded(10, door(vec![token(Role::Operate, &["tri*"])])).await;
    let (status, body) = theirs.send("GET /v1/dead-letters/01", &[as_operator], b"").await;
    assert!(status == 200 && body.contains("\"body\":\"body\""), "{body}");
    assert_eq!(theirs.send("DELETE /v1/dead-letters/01", &[as_operator], b"").await.0, 204);
}

/// A limited token saw the subscriptions of others in the status, the history and the metrics; whoever had none was told reasons.
#[tokio::test]
async fn what_is_of_other_handlers_is_not_shown_and_reasons_are_for_readers() {
    let as_reader = "Authorization: Bearer tidegate_read";
    let asked = async |handlers: &[&str], line: &str| {
        let site = guarded(10, door(vec![token(Role::Read, handlers)])).await;
        site.subscribed.0.lock().unwrap().1 = Some("the stream `secret` is not there".to_owned());
        let bare = site.send(line, &[], b"").await;
        (bare, site.send(line, &[as_reader], b"").await)
    };
    let (_, (status, body)) = asked(&["billing-*"], "GET /v1/status").await;
    assert!(status == 200 && !body.contains("webhooks") && !body.contains("secret"), "{body}");
    assert!(body.contains("\"local\"") && !body.contains("dead_letters\":2"), "{body}");
    let (_, (_, body)) = asked(&["tri*"], "GET /v1/status").await;
    assert!(body.contains("webhooks") && body.contains("secret"), "{body}");
    let rows = [
        (&["billing-*"][..], "GET /v1/history?subscription=webhooks", 404),
        (&["billing-*"], "GET /v1/history", 200),
        (&["tri*"], "GET /v1/history?subscription=webhooks", 200),
        (&["billing-*"], "GET /metrics", 403),
        (&["tri*"], "GET /metrics", 403),
        (&[], "GET /metrics", 200),
    ];
    for (handlers, line, expected) in rows {
        let (_, (status, body)) = asked(handlers, line).await;
        assert_eq!(status, expected, "{handlers:?} {line}: {body}");
    }
    for (handlers, is_told) in [(&[][..], true), (&["tri*"], true), (&["billing-*"], false)] {
        let ((bare, stranger), (status, reader)) = asked(handlers, "GET /ready").await;
        assert_eq!((bare, status), (503, 503), "a probe is answered the same");
        assert!(stranger.contains("subscription webhooks") && !stranger.contains("secret"), "{stranger}");
        assert_eq!(reader.contains("secret"), is_told, "{handlers:?}: {reader}");
    }
}

#[tokio::test]
async fn whoever_asks_for_nothing_special_on_loopback_is_local() {
    let site = site(10).await;
    assert_eq!(site.get("/v1/whoami").await, (200, serde_json::json!({ "name": "local", "role": "deploy" })));
}

#[tokio::test]
async fn status_shows_what_is_done() {
    let site = site(10).await;
    let (status, answer) = site.get("/v1/status").await;
    assert_eq!(status, 200);
    let status: wire::Status = serde_json::from_value(answer).unwrap();
    assert_eq!((status.host.as_str(), status.brokers[0].dead_letters), ("host-1", Some(2)));
    assert_eq!(status.subscriptions[0].counts.completed, 9);
}

#[tokio::test]
async fn dead_letters_are_walked_over_all_brokers() {
    let site = site(10).await;
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let (status, page) = site.get(&format!("/v1/dead-letters?limit=1{after}")).await;
        assert_eq!(status, 200, "{page}");
        let page: wire::DeadLetterList = serde_json::from_value(page).unwrap();
        seen.extend(page.letters.iter().map(|letter| letter.id.clone()));
        let Some(next) = page.next else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, ["02", "11", "01"], "the newest first, whichever broker has it");
    let (_, page) = site.get("/v1/dead-letters?reason=timeout&broker=local").await;
    let page: wire::DeadLetterList = serde_json::from_value(page).unwrap();
    assert_eq!(page.letters.len(), 1);
    assert_eq!(page.letters[0].body, None, "lists leave bodies out");
    assert_eq!(site.get("/v1/dead-letters?broker=x").await.0, 400);
    assert_eq!(site.get("/v1/dead-letters?after=x").await.0, 400);
}

#[tokio::test]
async fn a_dead_letter_is_shown_redriven_and_discarded() {
    let site = site(10).await;
    let (_, shown) = site.get("/v1/dead-letters/11").await;
    assert_eq!((&shown["broker"], &shown["body"]), (&"nats".into(), &"body".into()));
    assert_eq!(site.get("/v1/dead-letters/none").await.0, 404);
    let redrive = |path: &'static str| site.send(path, &[], b"");
    assert_eq!(redrive("POST /v1/dead-letters/01/redrive").await.0, 200);
    assert_eq!(redrive("POST /v1/dead-letters/01/redrive").await.0, 409, "once is enough");
    assert_eq!(redrive("POST /v1/dead-letters/02/redrive").await.0, 409, "it came back three times");
    assert_eq!(redrive("POST /v1/dead-letters/02/redrive?force=true").await.0, 200);
    assert_eq!(redrive("DELETE /v1/dead-letters/11?broker=local").await.0, 404, "another broker keeps it");
    assert_eq!(redrive("DELETE /v1/dead-letters/11").await.0, 204);
    assert_eq!(redrive("DELETE /v1/dead-letters/11").await.0, 404);
    assert_eq!(redrive("PUT /v1/dead-letters/11").await.0, 405);
    assert_eq!(redrive("GET /nothing").await.0, 404);
}

#[tokio::test]
async fn dead_letters_are_counted_over_all_brokers_and_for_those_alone_who_may_see_them() {
    let site = site(10).await;
    let (status, stats) = site.get("/v1/dead-letters/stats?by=reason").await;
    assert_eq!(status, 200, "{stats}");
    let groups: Vec<_> = stats["groups"].as_array().unwrap().iter().map(|one| (&one["key"], &one["letters"])).collect();
    let (timeout, denied) = (serde_json::json!("timeout"), serde_json::json!("denied"));
    assert_eq!(groups, [(&timeout, &serde_json::json!(2)), (&denied, &serde_json::json!(1))]);
    assert_eq!(stats["groups"][0]["newest"]["error"], "it said no");
    let (_, stats) = site.get("/v1/dead-letters/stats?by=reason&top=1&broker=local").await;
    assert_eq!((&stats["matched"], &stats["others"]), (&serde_json::json!(2), &serde_json::json!(1)));
    assert_eq!(site.get("/v1/dead-letters/stats?broker=none").await.0, 400);
    assert_eq!(site.get("/v1/dead-letters?fingerprint=0000000000000000&handler=triage&limit=1").await.0, 200);

    let as_reader = "Authorization: Bearer tidegate_read";
    let other = guarded(10, door(vec![token(Role::Read, &["billing-*"])])).await;
    let (status, body) = other.send("GET /v1/dead-letters/stats", &[as_reader], b"").await;
    assert!(status == 200 && body.contains("\"matched\":0") && !body.contains("it said no"), "{status} {body}");
}

#[tokio::test]
async fn what_is_changed_stands_in_the_audit_log_with_its_result() {
    let site = guarded(10, door(vec![token(Role::Operate, &[])])).await;
    let authorization = "Authorization: Bearer tidegate_operate";
    for line in ["DELETE /v1/dead-letters/01", "DELETE /v1/dead-letters/01", "POST /v1/publish?subject=a"] {
        site.send(line, &[authorization], b"payload").await;
    }
    let (status, body) = site.send("GET /v1/audit", &[authorization], b"").await;
    assert_eq!(status, 200, "{body}");
    let list: wire::AuditList = serde_json::from_str(&body).unwrap();
    let seen = list.entries.iter().map(|entry| {
        let result = entry.result.as_ref().unwrap();
        (
            entry.who.as_str(),
            entry.action.as_str(),
            entry.target.as_str(),
            result.status.unwrap(),
            result.code.as_deref(),
        )
    });
    let target = "/v1/dead-letters/01";
    let expected = [
        ("t-operate", "dead-letter.discard", target, 404, Some("no-such-dead-letter")),
        ("t-operate", "dead-letter.discard", target, 204, None),
    ];
    assert_eq!(seen.collect::<Vec<_>>(), expected, "publishing is traffic");
    assert!(list.entries[0].from.starts_with("127.0.0.1:"));
    let text = std::fs::read_to_string(site.data.path().join("audit.jsonl")).unwrap();
    assert!(!text.contains("payload") && !text.contains("tidegate_"), "{text}");
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_done() {
    let site = site(10).await;
    // A directory stands where the file would be: nothing can be written, whoever the host runs as.
    std::fs::create_dir(site.data.path().join("audit.jsonl")).unwrap();
    for line in ["DELETE /v1/dead-letters/01", "POST /v1/dead-letters/01/redrive"] {
        let (status, body) = site.send(line, &[], b"").await;
        assert_eq!(status, 503, "{line}: {body}");
        assert!(body.contains("audit-unavailable"), "{body}");
    }
    let (status, letter) = site.get("/v1/dead-letters/01").await;
    assert_eq!((status, letter.get("redriven_at")), (200, None), "it is there, and was not sent back");
}
