//! What a real host answers is what its OpenAPI document says: every route, when all goes well and when it does not.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use tidegate::access::TokenHash;

use crate::chaos::{Rig, ledger};
use crate::support::openapi::{Answer, Document};
use crate::support::until;

const TOKENS: [(&str, &str, &str); 4] = [
    ("reader", "read", ""),
    ("operator", "operate", ""),
    ("deployer", "deploy", ""),
    ("narrow", "deploy", "handlers = [\"other-*\"]"),
];

const LINES: &str = "Content-Type: application/x-ndjson";

fn host() -> Rig {
    let mut more = String::new();
    for (name, role, limits) in TOKENS {
        let hash = TokenHash::of(&format!("tidegate_{name}"));
        more += &format!("\n[http.tokens.{name}]\nhash = \"{hash}\"\nrole = \"{role}\"\n{limits}\n");
    }
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), &more);
    rig.start();
    rig
}

/// Asks a host, and holds each answer against the document.
struct Asking<'a> {
    rig: &'a Rig,
    document: Document,
    /// The operations that went well.
    well: RefCell<BTreeSet<String>>,
}

impl Asking<'_> {
    /// Sends a request; status and body. `who` is the name of a token, or nobody.
    fn ask(&self, who: &str, line: &str, headers: &[&str], body: &[u8]) -> (u16, String) {
        let mut stream = self.send(who, line, headers, body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        self.checked(line, &answer)
    }

    fn get(&self, who: &str, target: &str) -> (u16, Value) {
        let (status, body) = self.ask(who, &format!("GET {target}"), &[], b"");
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    fn send(&self, who: &str, line: &str, headers: &[&str], body: &[u8]) -> TcpStream {
        let mut stream = self.rig.connect();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut head = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        if !who.is_empty() {
            head += &format!("Authorization: Bearer tidegate_{who}\r\n");
        }
        headers.iter().for_each(|header| head += &format!("{header}\r\n"));
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        // A host may refuse before it has read all.
        let _ = stream.write_all(body);
        stream
    }

    /// The status and the body of an answer, which are such as the document describes.
    fn checked(&self, line: &str, answer: &[u8]) -> (u16, String) {
        let text = String::from_utf8_lossy(answer);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{line}: no answer: {text}"));
        let header = |name: &str| {
            let mut named = head.lines().filter_map(|header| header.split_once(": "));
            named.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = if header("transfer-encoding").is_some() { unchunked(body) } else { body.to_owned() };
        let (method, target) = line.split_once(' ').unwrap();
        let content_type = header("content-type").unwrap_or_default();
        let answer = Answer { status, content_type, body: &body };
        self.document.check(method, target, &answer).unwrap_or_else(|error| panic!("{error}\n{body}"));
        if status < 300 {
            self.well.borrow_mut().extend(self.document.operation(method, target));
        }
        (status, body)
    }

    /// What a stream says until something is in it.
    fn read_until(&self, line: &str, mut stream: TcpStream, wanted: &str) -> String {
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        while !String::from_utf8_lossy(&answer).contains(wanted) {
            let read = stream.read(&mut piece).unwrap();
            assert!(read > 0, "{line}: it ended without {wanted}: {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&piece[..read]);
        }
        self.checked(line, &answer).1
    }

    fn deploy(&self, query: &str, module: &[u8]) -> Value {
        let line = format!("POST /v1/handlers/ledger/versions?{query}");
        let (status, body) = self.ask("deployer", &line, &[], module);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(body.lines().last().unwrap()).unwrap()
    }
}

/// The body of a chunked answer, as far as it came; no line that is cut off.
fn unchunked(body: &str) -> String {
    let (mut whole, mut rest) = (String::new(), body);
    while let Some((size, after)) = rest.split_once("\r\n") {
        let Some(chunk) = usize::from_str_radix(size, 16).ok().and_then(|size| after.get(..size)) else { break };
        whole += chunk;
        rest = after[chunk.len()..].strip_prefix("\r\n").unwrap_or_default();
    }
    whole.truncate(whole.rfind('\n').map_or(0, |end| end + 1));
    whole
}

fn asking(rig: &Rig) -> Asking<'_> {
    let document = serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap();
    Asking { rig, document: Document(document), well: RefCell::default() }
}

fn publish(host: &Asking<'_>, ids: &[&str]) {
    let lines: String =
        ids.iter().map(|id| format!("{{\"subject\":\"in.x\",\"id\":\"{id}\",\"body\":\"{id}\"}}\n")).collect();
    let (status, body) = host.ask("operator", "POST /v1/publish", &[LINES], lines.as_bytes());
    assert_eq!(status, 200, "{body}");
}

#[test]
fn every_route_of_a_real_host_answers_as_the_document_says() {
    let rig = host();
    let host = asking(&rig);
    assert_eq!(host.get("reader", "/v1/openapi.json").1, host.document.0, "it is the one of the repository");
    assert_eq!(host.get("", "/live").0, 200);
    until("the host is ready", Duration::from_secs(60), || host.get("", "/ready").0 == 200);
    for path in ["/metrics", "/v1/whoami", "/v1/status", "/v1/history", "/v1/history?subscription=ledger"] {
        assert_eq!(host.get("reader", path).0, 200, "{path}");
    }
    assert_eq!(host.get("reader", "/v1/history?subscription=none").0, 404);
    for path in ["/", "/console/main.js", "/console/style.css", "/console/icon.svg"] {
        assert_eq!(host.get("", path).0, 200, "{path}");
    }
    assert_eq!(host.get("", "/console/none.js").0, 404);
    messages(&host);
    dead_letters(&host);
    pauses(&host);
    tasks(&host);
    versions(&host);
    configuration(&host);
    let (status, audit) = host.get("operator", "/v1/audit?limit=2");
    assert!(status == 200 && audit["entries"].as_array().unwrap().len() == 2, "{audit}");
    assert_eq!(*host.well.borrow(), host.document.operations().collect(), "every one of them was tried");
}

fn messages(host: &Asking<'_>) {
    let watch = "GET /v1/live?payloads=true";
    let stream = host.send("operator", watch, &[], b"");
    // By their numbers two of them are rejected; one is retried once.
    publish(host, &["m-1", "m-17", "m-19", "m-37"]);
    let seen = host.read_until(watch, stream, "\"dead_letter\":");
    assert!(seen.starts_with("{\"kind\":\"watching\"}\n"), "{seen}");
    let one = "POST /v1/publish?subject=in.x";
    assert_eq!(host.ask("operator", one, &["Tidegate-Id: m-2"], b"m-2").0, 200);
    until("the rejected messages are dead letters", Duration::from_secs(60), || {
        host.get("reader", "/v1/status").1["brokers"][0]["dead_letters"] == 2
    });
    let rows: [(&str, &[&str], &[u8], u16); 5] = [
        ("POST /v1/publish", &[], b"x", 400),
        ("POST /v1/publish?subject=a..b", &[], b"x", 400),
        ("POST /v1/publish?subject=a&broker=none", &[], b"x", 400),
        ("POST /v1/publish", &[LINES], b"{\"subject\":\"in.x\"}\n{\"sub", 400),
        (one, &[], &[b'x'; (8 << 20) + 1], 413),
    ];
    for (line, headers, body, expected) in rows {
        let (status, answer) = host.ask("operator", line, headers, body);
        assert_eq!(status, expected, "{line}: {answer}");
    }
}

fn dead_letters(host: &Asking<'_>) {
    let (status, list) = host.get("operator", "/v1/dead-letters?limit=1");
    assert!(status == 200 && list["next"].is_string(), "{list}");
    let (_, list) = host.get("reader", "/v1/dead-letters");
    let (status, stats) = host.get("reader", "/v1/dead-letters/stats?by=fingerprint&top=5&since=2020-01-01");
    assert_eq!(
        (status, &stats["groups"][0]["letters"]),
        (200, &serde_json::json!(2)),
        "both have the same error: {stats}"
    );
    for wrong in ["by=colour", "digest=12", "since=yesterday", "limit=1"] {
        assert_eq!(host.get("reader", &format!("/v1/dead-letters/stats?{wrong}")).0, 400, "{wrong}");
    }
    let (status, list_of_none) = host.get("reader", "/v1/dead-letters?handler=none&include_redriven=true&limit=5");
    assert_eq!((status, &list_of_none["letters"]), (200, &serde_json::json!([])));
    let ids: Vec<&str> = list["letters"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 2);
    for who in ["reader", "operator"] {
        assert_eq!(host.get(who, &format!("/v1/dead-letters/{}", ids[0])).0, 200);
    }
    for (line, expected) in [
        (format!("POST /v1/dead-letters/{}/replay", ids[0]), 200),
        (format!("POST /v1/dead-letters/{}/replay?version=99&broker=queue", ids[0]), 404),
        (format!("POST /v1/dead-letters/{}/replay?edited=true&version=1", ids[0]), 200),
        (format!("POST /v1/dead-letters/{}/redrive", ids[0]), 200),
        (format!("POST /v1/dead-letters/{}/redrive", ids[0]), 409),
        (format!("DELETE /v1/dead-letters/{}", ids[1]), 204),
        (format!("DELETE /v1/dead-letters/{}", ids[1]), 404),
        (format!("DELETE /v1/dead-letters/{}?broker=none", ids[1]), 400),
        ("POST /v1/dead-letters/import?broker=none".to_owned(), 400),
        ("POST /v1/dead-letters/tasks?action=discard".to_owned(), 409),
        ("POST /v1/dead-letters/tasks?action=burn".to_owned(), 400),
        ("POST /v1/dead-letters/tasks?action=redrive&canary=0".to_owned(), 400),
        ("POST /v1/dead-letters/tasks?action=redrive&broker=none".to_owned(), 400),
        ("POST /v1/dead-letters/tasks/none/cancel".to_owned(), 404),
    ] {
        let (status, answer) = host.ask("operator", &line, &[], b"");
        assert_eq!(status, expected, "{line}: {answer}");
    }
}

fn pauses(host: &Asking<'_>) {
    let act = |who: &str, what: &str, expected: u16| {
        let (status, answer) = host.ask(who, &format!("POST /v1/{what}"), &[], b"");
        assert_eq!(status, expected, "{what} as {who}: {answer}");
    };
    act("operator", "subscriptions/ledger/pause?for=10m&why=a%20test", 200);
    let (_, status) = host.get("reader", "/v1/status");
    assert_eq!(status["subscriptions"][0]["pause"]["by"], "operator");
    assert_eq!(host.get("", "/ready").1["paused"][0], "ledger");
    act("operator", "subscriptions/ledger/resume", 200);
    act("operator", "handlers/ledger/pause", 200);
    act("operator", "handlers/ledger/resume", 200);
    act("operator", "handlers/ledger/pause?for=100d", 400);
    // Limited to other handlers: neither by the subscription nor by the handler.
    act("narrow", "subscriptions/ledger/pause", 403);
    assert_eq!(host.get("operator", "/v1/subscriptions/ledger/messages?since=2026-01-01").0, 200);
    assert_eq!(host.get("operator", "/v1/subscriptions/ledger/messages?since=noon").0, 400);
    assert_eq!(host.get("operator", "/v1/subscriptions/none/messages?since=2026-01-01").0, 404);
    assert_eq!(host.get("narrow", "/v1/subscriptions/ledger/messages?since=2026-01-01").0, 403);
    assert_eq!(host.get("reader", "/v1/subscriptions/ledger/messages?since=2026-01-01").0, 403);
    act("narrow", "handlers/ledger/resume", 403);
}

fn tasks(host: &Asking<'_>) {
    until("the one that was sent back is dead again", Duration::from_secs(60), || {
        host.get("reader", "/v1/dead-letters/stats").1["matched"] == 1
    });
    let (status, lines) = host.ask("operator", "GET /v1/dead-letters/export?include_redriven=false", &[], b"");
    assert!(status == 200 && lines.ends_with("{\"exported\":1}\n"), "{lines}");
    let import = "POST /v1/dead-letters/import?broker=queue";
    assert_eq!(host.ask("operator", import, &[LINES], lines.as_bytes()).1, "{\"imported\":0,\"present\":1}");
    assert_eq!(host.ask("operator", import, &[LINES], b"{}\n").0, 400);
    let line =
        "POST /v1/dead-letters/tasks?action=redrive&handler=none&rate=2.5&canary=3&abort_above=50&canary_wait=10s";
    let (status, task) = host.ask("operator", line, &[], b"");
    assert_eq!(status, 200, "{task}");
    let task: Value = serde_json::from_str(&task).unwrap();
    assert_eq!((&task["action"], &task["total"]), (&serde_json::json!("redrive"), &serde_json::json!(0)));
    let one = format!("/v1/dead-letters/tasks/{}", task["id"].as_str().unwrap());
    until("the task is done", Duration::from_secs(60), || host.get("reader", &one).1["standing"] == "done");
    assert_eq!(host.ask("operator", &format!("POST {one}/cancel"), &[], b"").0, 200, "it is done, and stays so");
    // One that waits for the time of its rate, when it has sent the oldest.
    publish(host, &["m-57", "m-77"]);
    until("two more are dead", Duration::from_secs(60), || {
        host.get("reader", "/v1/dead-letters/stats").1["matched"] == 3
    });
    let (status, slow) = host.ask("operator", "POST /v1/dead-letters/tasks?action=redrive&rate=0.001", &[], b"");
    assert_eq!(status, 200, "{slow}");
    let slow: Value = serde_json::from_str(&slow).unwrap();
    let slow = format!("/v1/dead-letters/tasks/{}", slow["id"].as_str().unwrap());
    until("it was sent and is dead again", Duration::from_secs(60), || {
        host.get("reader", "/v1/dead-letters").1["letters"][0]["redrives"] == 2
    });
    for (act, standing) in [("pause", "paused"), ("resume", "running"), ("pause", "paused"), ("cancel", "cancelled")] {
        assert_eq!(host.ask("operator", &format!("POST {slow}/{act}"), &[], b"").0, 200, "{act}");
        assert_eq!(host.get("reader", &slow).1["standing"], standing);
    }
    for act in ["pause", "resume"] {
        assert_eq!(host.ask("operator", &format!("POST {slow}/{act}"), &[], b"").0, 409, "it is over");
        assert_eq!(host.ask("reader", &format!("POST {slow}/{act}"), &[], b"").0, 403, "{act}");
    }
    // A subject leads to any handler.
    let elsewhere = "POST /v1/dead-letters/tasks?action=redrive&to=in.x";
    assert_eq!(host.ask("narrow", elsewhere, &[], b"").0, 403);
    assert_eq!(host.ask("operator", &format!("{elsewhere}.*"), &[], b"").0, 400);
    let (status, list) = host.get("reader", "/v1/dead-letters/tasks");
    assert_eq!((status, &list["tasks"][1]["standing"]), (200, &serde_json::json!("done")));
}

fn versions(host: &Asking<'_>) {
    let handler = || host.get("reader", "/v1/handlers/ledger").1;
    let act = |what: &str, expected: u16| {
        let (status, answer) = host.ask("deployer", &format!("POST /v1/handlers/ledger/{what}"), &[], b"");
        assert_eq!(status, expected, "{what}: {answer}");
    };
    assert_eq!(host.deploy("source=a%20test", &ledger(2))["done"]["version"], 2);
    let digest = handler()["versions"][0]["digest"].as_str().unwrap().to_owned();
    assert_eq!(host.get("operator", &format!("/v1/handlers/ledger/modules/{digest}")).0, 200);
    assert_eq!(host.get("operator", "/v1/handlers/ledger/modules/none").0, 400);
    assert_eq!(host.get("operator", &format!("/v1/handlers/ledger/modules/{}", "0".repeat(64))).0, 404);
    assert_eq!(host.deploy("", b"no module")["failed"]["step"], "validate");
    act("rollback", 200);
    act("rollback?to=99", 404);
    act("rollback?to=1", 409);
    act("promote", 404);
    act("abort", 404);
    assert_eq!(host.deploy("canary=50%25", &ledger(2))["done"]["rollout"]["share"], "50%");
    publish(host, &["m-61", "m-62", "m-63", "m-64"]);
    until("both versions have run", Duration::from_secs(60), || {
        let rollout = &handler()["rollout"];
        rollout["stable"]["ended"].as_u64() > Some(0) && rollout["candidate"]["ended"].as_u64() > Some(0)
    });
    let (status, handlers) = host.get("reader", "/v1/handlers");
    assert!(status == 200 && handlers["handlers"][0]["rollout"].is_object(), "{handlers}");
    act("rollback", 409);
    act("promote?version=9", 409);
    act("abort?version=9", 409);
    act("promote", 200);
    host.deploy("canary=5%25&promote_after=1h", &ledger(3));
    act("abort", 200);
    let wrong = "POST /v1/handlers/ledger/versions?digest=abc";
    assert_eq!(host.ask("deployer", wrong, &[], b"x").0, 400);
    let other = format!("POST /v1/handlers/ledger/versions?digest={}", "0".repeat(64));
    assert_eq!(host.ask("deployer", &other, &[], b"x").0, 422);
    let signed = ["tidegate-signature: AAAA"];
    assert_eq!(host.ask("deployer", "POST /v1/handlers/ledger/versions", &signed, b"x").0, 400);
    assert_eq!(handler()["active"], 3);
}

fn configuration(host: &Asking<'_>) {
    let changes = || host.get("deployer", "/v1/configuration/changes");
    let apply =
        |digest: &str| host.ask("deployer", &format!("POST /v1/configuration/apply?digest={digest}"), &[], b"").0;
    host.rig.edit(|text| text.replace("retry = {", "concurrency = 3\nretry = {"));
    let (status, shown) = changes();
    assert_eq!(status, 200, "{shown}");
    assert_eq!(apply("another"), 409);
    assert_eq!(apply(shown["digest"].as_str().unwrap()), 200);
    forgotten(host, &|| apply(changes().1["digest"].as_str().unwrap()));
    host.rig.edit(|text| text.replace("name = \"chaos\"", "name = \"order\""));
    let (_, shown) = changes();
    assert_eq!(shown["needs_restart"], serde_json::json!(["host.name"]));
    assert_eq!(apply(shown["digest"].as_str().unwrap()), 409);
    host.rig.edit(|text| format!("{text}\n[nonsense]\n"));
    assert_eq!(changes().0, 422);
}

/// A subscription that came and went.
fn forgotten(host: &Asking<'_>, apply: &dyn Fn() -> u16) {
    const BRIEF: &str = "\n[subscriptions.brief]\nbroker = \"queue\"\nsubjects = [\"brief.>\"]\nhandler = \"ledger\"\n";
    let forget = |what: &str| host.ask("operator", &format!("DELETE /v1/subscriptions/{what}"), &[], b"").0;
    host.rig.edit(|text| format!("{text}{BRIEF}"));
    assert_eq!((apply(), forget("brief"), forget("none")), (200, 409, 404));
    host.rig.edit(|text| text.replace(BRIEF, ""));
    assert_eq!(apply(), 200);
    let (status, kept) = host.get("reader", "/v1/subscriptions");
    assert_eq!(status, 200, "{kept}");
    assert_eq!(kept["subscriptions"][0]["name"], "brief");
    assert_eq!((forget("brief?broker=none"), forget("brief?messages=remove"), forget("brief")), (400, 200, 404));
}

#[test]
fn every_refusal_of_a_real_host_is_one_that_the_document_has() {
    let rig = host();
    let host = asking(&rig);
    for operation in host.document.operations() {
        let (_, role) = host.document.needs(&operation);
        let line = operation.replace("{handler}", "ledger").replace("{id}", "none").replace("{digest}", "none");
        let line = line.replace("{file}", "main.js");
        let line = line.replace("{subscription}", "ledger").replace("{task}", "none");
        let ask = |who: &str, line: &str| host.ask(who, line, &[], b"").0;
        if role == "none" {
            // A host that has just started may not be ready.
            assert!([200, 503].contains(&ask("", &line)), "{line}");
            continue;
        }
        for who in ["", "stranger"] {
            assert_eq!(ask(who, &line), 401, "{line} as `{who}`");
        }
        let lower = match role.as_str() {
            "deploy" => Some("operator"),
            "operate" => Some("reader"),
            _ => None,
        };
        if let Some(lower) = lower {
            assert_eq!(ask(lower, &line), 403, "{line} as `{lower}`");
        }
        let (scope, _) = host.document.needs(&operation);
        if scope != "any" {
            assert_eq!(ask("narrow", &line), 403, "{line} as `narrow`");
        }
        // The first parameter of a query is behind a question mark, whatever it is.
        if host.document.has_query(&operation) {
            assert_eq!(ask("deployer", &format!("{line}?nonsense=1")), 400, "{line}");
        }
        if operation.contains('{') {
            let with = |name: &str| {
                ["{handler}", "{id}", "{subscription}", "{digest}", "{task}"]
                    .iter()
                    .fold(operation.clone(), |line, part| line.replace(part, name))
            };
            let broken = with("%FF");
            assert_eq!(ask("deployer", &broken), 400, "{broken}");
            let unknown = with("unknown");
            assert_eq!(ask("deployer", &unknown), 404, "{unknown}");
        }
        let (method, path) = line.split_once(' ').unwrap();
        if method != "GET" {
            let page = ["Origin: https://elsewhere.example"];
            assert_eq!(host.ask("deployer", &line, &page, b"").0, 403, "{line}");
        }
        assert_eq!(ask("deployer", &format!("PUT {path}")), 405, "{line}");
    }
    assert_eq!(host.get("deployer", "/nothing/here").0, 404);
}
