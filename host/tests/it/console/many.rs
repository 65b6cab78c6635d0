//! What the console offers to do with many dead letters: with which of them, how, and what it says of their number.

use std::time::Duration;

use serde_json::{Value, json};

use super::{check_rules, go, host, signed_in, start};
use crate::chaos::Rig;
use crate::support::browser::{Browser, TAB};
use crate::support::until;

/// The console of a host that asks nobody, at its dead letters; with these brought in beside the three that are there.
fn at_letters(more: &[Value]) -> (Rig, Browser) {
    let rig = start("");
    let lines: String = more.iter().map(|line| format!("{line}\n")).collect();
    let answer = ureq::post(&rig.url("/v1/dead-letters/import?broker=queue"))
        .header("content-type", "application/x-ndjson")
        .send(lines);
    assert_eq!(answer.unwrap().status(), 200);
    let browser = Browser::start(1300, 1000);
    browser.open(&rig.url("/#/dead-letters"));
    browser.sees(&format!("{} match in all:", 3 + more.len()));
    (rig, browser)
}

/// One that was brought in, as by an older host: what its record says besides.
fn line(number: u64, more: Value) -> Value {
    let at = serde_json::to_value(std::time::SystemTime::now()).unwrap();
    let mut record = json!({
        "id": format!("01KB6ZQ0V4Y8T2J5M9{number:08}"), "reason": "handler-rejected", "error": "brought in",
        "fingerprint": "00000000000000ff", "subscription": "ledger", "broker": "queue", "stream": null, "subject": "in.x",
        "sequence": 1, "published_at": at, "message_id": "m-17", "attempts": 3, "deliveries": 3, "defers": 0,
        "timeouts": 0, "first_seen": at, "dead_at": at, "handler": "ledger", "digest": "9b".repeat(32), "version": 1,
        "host": "chaos", "fuel_used": 9000, "fuel_limit": 1_000_000_000, "memory_peak": 1_000_000, "run_ms": 2,
        "backtrace": [], "history": [], "redrives": 0,
    });
    record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "record": record, "headers": [], "body": "x" })
}

/// Whether there is a button of this name.
fn offers(browser: &Browser, name: &str) -> bool {
    browser.run(&format!(
        "return [...document.querySelectorAll('button')].some((it) => it.textContent.trim() === '{name}' || it.ariaLabel === '{name}')"
    )) == true
}

fn agree(browser: &Browser) {
    browser.run("document.querySelector('dialog button[type=submit]').click()");
}

/// A filter by nothing is left out of the request: all dead letters were meant, and the page showed a filter.
#[test]
fn a_group_of_which_nothing_is_known_is_no_filter() {
    let (_rig, browser) = at_letters(&[line(1, json!({ "digest": "", "version": null, "handler": "" }))]);
    for (by, said) in [("version", "no version ran"), ("handler", "no handler is known")] {
        browser.choose("select[aria-label='Group by']", by);
        browser.sees(&format!("{said}: there is no filter for these alone"));
        assert!(!offers(&browser, &format!("Only {by} ")), "by {by}");
    }
    browser.press("Only handler ledger");
    browser.sees("handler: ledger");
    browser.sees("3 match in all:");
    assert_eq!(browser.complaints(), [] as [String; 0]);
}

#[test]
fn all_is_offered_for_what_is_shown_and_never_for_more() {
    let (_rig, browser) = at_letters(&[]);
    assert!(offers(&browser, "Redrive all\u{2026}") && offers(&browser, "Discard all\u{2026}"));
    browser.enter("input[type=search]", "m-37");
    browser.sees("press Enter, and what is done with all that match is offered");
    assert!(
        !offers(&browser, "Redrive all\u{2026}") && !offers(&browser, "Discard all\u{2026}"),
        "one of three is shown"
    );
    // The host looks at so many and no more, as it does on JetStream.
    browser.run(
        "const real = window.fetch;
         window.fetch = async (path, options) => {
             const answer = await real(path, options);
             if (!String(path).includes('/dead-letters/stats')) return answer;
             return new Response(JSON.stringify({ ...await answer.json(), more: true, left_out: 800 }));
         };
         const field = document.querySelector('input[type=search]');
         field.value = ''; field.dispatchEvent(new Event('input'))",
    );
    browser.press("Refresh");
    browser.sees("at least 3 match in all:");
    assert!(!offers(&browser, "Discard all\u{2026}"), "the host refuses it");
    browser.press("Redrive all\u{2026}");
    browser.sees("Redrive at least 3 dead letters?");
    browser.sees("all that match are meant, however many they are");
    assert_eq!(browser.complaints(), [] as [String; 0]);
}

#[test]
fn a_redrive_of_all_is_ordered_with_all_that_the_command_line_has() {
    let rig = host();
    let browser = signed_in(&rig, "operator");
    go(&browser, "Dead letters");
    browser.sees("3 match in all:");
    browser.press("Redrive all\u{2026}");
    browser.sees("Redrive 3 dead letters?");
    check_rules(&browser, "the question before a redrive of all");
    browser.press("Dry run");
    browser.sees("3 would be sent back now.");
    browser.run("document.querySelector('dialog input[name=rate]').focus()");
    // How a canary is judged is said of one alone.
    let mut passed = Vec::new();
    for _ in 0..3 {
        passed.push(browser.run("return document.activeElement.name"));
        browser.key(TAB);
    }
    assert_eq!(passed, ["rate", "canary", "changed"]);
    browser.enter("dialog input[name=canary]", "2");
    browser.enter("dialog input[name=above]", "100");
    browser.enter("dialog input[name=wait]", "30s");
    browser.run("document.querySelector('dialog input[name=force]').click()");
    browser.picture("redrive-all");
    agree(&browser);
    // Two went first and failed again, as all of them may; the third followed.
    browser.sees("3 redriven of 3, 2 went first: 0 did well, 2 failed again");
    go(&browser, "Audit log");
    browser.sees("dead-letter.task");
    let text = browser.text();
    assert!(text.contains("canary=2&abort_above=100&canary_wait=30s&force=true"), "{text}");
    assert_eq!(browser.complaints(), [] as [String; 0]);
}

#[test]
fn a_dead_letter_says_whether_it_can_be_sent_back_again() {
    let (rig, browser) = at_letters(&[line(1, json!({ "redrives": 3 }))]);
    let open = |number: u64| {
        browser.open(&rig.url(&format!("/#/dead-letters/01KB6ZQ0V4Y8T2J5M9{number:08}?broker=queue")));
        browser.sees("What happened");
    };
    open(1);
    browser.press("Redrive");
    browser.sees("Redrive the message?");
    agree(&browser);
    browser.sees("Redrive it all the same?");
    agree(&browser);
    browser.sees("The message was redriven.");
    until("it is marked as redriven", Duration::from_secs(60), || {
        open(1);
        browser.text().contains("and is not sent a second time")
    });
    assert!(!offers(&browser, "Redrive") && !offers(&browser, "Edit\u{2026}"), "{}", browser.text());
    assert!(offers(&browser, "Discard\u{2026}"));
}

#[test]
fn a_task_is_paused_and_told_to_go_on() {
    let (_rig, browser) = at_letters(&[]);
    browser.press("Redrive all\u{2026}");
    browser.sees("Redrive 3 dead letters?");
    browser.enter("dialog input[name=rate]", "0.001");
    agree(&browser);
    browser.sees("redrive by");
    browser.press("Pause");
    browser.sees("It was paused by local");
    assert!(!offers(&browser, "Pause"));
    browser.press("Resume");
    browser.sees("The task goes on.");
    assert!(offers(&browser, "Pause"));
    browser.press("Cancel");
    browser.sees("The task was cancelled");
    assert_eq!(browser.complaints(), [] as [String; 0]);
}

/// What died while somebody read the question was sent back with those that it told of.
#[test]
fn all_are_those_that_were_counted() {
    let (rig, browser) = at_letters(&[line(1, json!({}))]);
    let later = std::time::SystemTime::now() + Duration::from_millis(1);
    let later = line(2, json!({ "dead_at": serde_json::to_value(later).unwrap(), "fingerprint": "00000000000000fe" }));
    let answer = ureq::post(&rig.url("/v1/dead-letters/import?broker=queue"))
        .header("content-type", "application/x-ndjson")
        .send(format!("{later}\n"));
    assert_eq!(answer.unwrap().status(), 200);
    browser.press("Discard all\u{2026}");
    browser.sees("Discard 4 dead letters for good?");
    browser.enter("dialog input", "4");
    agree(&browser);
    browser.sees("4 discarded of 4");
    browser.sees("1 match in all:");
}
