//! The console of a host with 500 handlers and 100,000 dead letters: each page lays out a bounded part of what there is, and
//! is there after few requests. What it took is printed; `docs/performance.md` has figures.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::chaos::Rig;
use crate::support::browser::Browser;

const HANDLERS: usize = 500;
const LETTERS: usize = 100_000;
/// What a browser lays out without a pause that a person would notice.
const MOST_NODES: u64 = 12_000;
/// A look at the host, one at its list, and what belongs to it; one more where a look comes by just then.
const MOST_REQUESTS: u64 = 8;

/// A host with as many handlers, each with a subscription, and as many dead letters of them.
fn host() -> Rig {
    let mut more = String::new();
    // The rig has one by itself.
    for number in 1..HANDLERS {
        write!(
            more,
            "[handlers.h-{number}]\nmodule = \"ledger.wasm\"\n\n[subscriptions.h-{number}]\nbroker = \"queue\"\n\
             subjects = [\"h.{number}.>\"]\nhandler = \"h-{number}\"\n\n"
        )
        .unwrap();
    }
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), &more);
    rig.start();
    let lines: Vec<String> = (0..LETTERS).map(line).collect();
    for part in lines.chunks(5000) {
        let answer = ureq::post(&rig.url("/v1/dead-letters/import?broker=queue"))
            .header("content-type", "application/x-ndjson")
            .send(part.concat());
        assert_eq!(answer.unwrap().status(), 200);
    }
    rig
}

/// A dead letter of one of the handlers, of one of 1,000 errors, of one of the last days.
fn line(number: usize) -> String {
    let handler = format!("h-{}", number % (HANDLERS - 1) + 1);
    let at = std::time::SystemTime::now() - Duration::from_secs(((LETTERS - number) * 3) as u64);
    let at = serde_json::to_value(at).unwrap();
    let error = format!("order {number} has no total, and its customer {} cannot be asked for it", number % 977);
    let line = json!({
        "record": {
            "id": format!("01KB6ZQ0V4Y8T2J5M9{number:08}"), "reason": "handler-rejected", "error": error,
            "fingerprint": format!("{:016x}", number % 1000), "subscription": handler, "broker": "queue", "stream": null,
            "subject": format!("{handler}.order.{}", number % 50), "sequence": number + 1,
            "published_at": at, "message_id": format!("m-{number}"), "attempts": 3, "deliveries": 3, "defers": 0,
            "timeouts": 0, "first_seen": at, "dead_at": at, "handler": handler, "digest": "9b".repeat(32), "version": 1,
            "host": "chaos", "fuel_used": 9000, "fuel_limit": 1_000_000_000, "memory_peak": 1_000_000, "run_ms": 2,
            "backtrace": [], "history": [], "redrives": 0,
        },
        "headers": [["Content-Type", "application/json"]],
        "body": format!("{{\"order\":{number},\"items\":[1,2,3],\"customer\":{{\"id\":{}}}}}", number % 977),
    });
    format!("{line}\n")
}

/// Opens a page, waits until `wanted` holds there, and looks on for a second. What it took: milliseconds until then (`ms`),
/// elements (`nodes`), requests and bytes of their answers, and the longest that the browser did nothing else (`longest`).
fn opened(browser: &Browser, page: &str, wanted: &str) -> Value {
    browser.run(&format!(
        "return (async () => {{
            const tasks = [], watch = new PerformanceObserver((list) => tasks.push(...list.getEntries().map((it) => it.duration)));
            watch.observe({{ entryTypes: ['longtask'] }});
            performance.clearResourceTimings();
            const begun = performance.now();
            {page};
            while (!({wanted})) await new Promise((done) => setTimeout(done, 5));
            await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
            const ms = performance.now() - begun, loads = performance.getEntriesByType('resource');
            const nodes = document.querySelectorAll('*').length;
            await new Promise((done) => setTimeout(done, 1000));
            watch.disconnect();
            const bytes = loads.reduce((sum, it) => sum + it.transferSize, 0);
            return {{ ms, nodes, requests: loads.length, bytes, longest: Math.max(0, ...tasks) }};
        }})()"
    ))
}

#[test]
fn every_page_is_there_with_500_handlers_and_100_000_dead_letters() {
    let rig = host();
    let browser = Browser::start(1300, 1000);
    browser.open(&rig.url("/"));
    browser.sees("Everything runs: 500 subscriptions");
    let rows = "document.querySelectorAll('tbody tr').length";
    let says = |text: &str| format!("document.querySelector('main').innerText.includes('{text}')");
    let go = |hash: &str| format!("location.hash = '{hash}'");
    let at = |title: &str, wanted: &str| format!("document.querySelector('h1')?.textContent === '{title}' && {wanted}");
    let find = "[...document.querySelectorAll('button')].find((it) => it.textContent === 'Show older ones')";
    let boxes = "document.querySelectorAll('tbody input').length";
    let older = format!("window.before = {boxes}; {find}.click()");
    let field = "document.querySelector('input[type=search]')";
    let search = format!("{field}.value = 'customer 17 '; {field}.dispatchEvent(new Event('input'))");
    let letter = "document.querySelector('tbody a[href*=\"dead-letters/\"]').click()".to_owned();
    let pages = [
        ("subscriptions", go("#/subscriptions"), at("Subscriptions", &format!("{rows} >= 100"))),
        ("one subscription", go("#/subscriptions/h-250"), at("h-250", &says("What it is"))),
        ("handlers", go("#/handlers"), at("Handlers", &format!("{rows} >= 100"))),
        ("one handler", go("#/handlers/h-250"), at("h-250", &says("Version 1 is active"))),
        ("overview", go("#/"), at("Overview", "document.querySelectorAll('.tile').length > 0")),
        (
            "dead letters",
            go("#/dead-letters"),
            at("Dead letters", &format!("{rows} >= 200 && {}", says("100k match in all"))),
        ),
        ("older ones", older, format!("{boxes} > window.before")),
        ("search", search, format!("{boxes} < 100")),
        ("one dead letter", letter, at("Dead letter", &says("What happened"))),
        (
            "those of an error",
            go("#/dead-letters?fingerprint=0000000000000011"),
            at("Dead letters", &says("100 match in all")),
        ),
        ("audit log", go("#/audit"), at("Audit log", &format!("{rows} > 0"))),
    ];
    for (name, page, wanted) in pages {
        let took = opened(&browser, &page, &wanted);
        eprintln!("{name}: {took}");
        assert!(took["nodes"].as_u64() <= Some(MOST_NODES), "{name} lays too much out: {took}");
        assert!(took["requests"].as_u64() <= Some(MOST_REQUESTS), "{name} asks too often before it is there: {took}");
    }
    for path in
        ["/v1/status", "/v1/handlers", "/v1/dead-letters?limit=200", "/v1/dead-letters/stats?top=20", "/v1/history"]
    {
        let begun = std::time::Instant::now();
        let size = rig.get(path).unwrap().len();
        eprintln!("{path}: {:?}, {size} bytes", begun.elapsed());
    }
    assert_eq!(browser.complaints(), [] as [String; 0]);
}
