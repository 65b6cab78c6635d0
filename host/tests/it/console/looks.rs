//! What a person sees at a glance: that nothing is cut off, that times go on, that a figure says of what it is.

use std::time::Duration;

use serde_json::{Value, json};

use super::{check_rules, start};
use crate::support::browser::Browser;
use crate::support::until;

/// Whether all of the first element of a selector is within the window, as far as its height goes.
fn is_seen(browser: &Browser, selector: &str) -> bool {
    browser.run(&format!(
        "const place = document.querySelector(\"{selector}\").getBoundingClientRect();
         return place.height > 0 && place.top >= 0 && place.bottom <= innerHeight"
    )) == true
}

/// The title of a question stood above the upper edge: its button has the focus, and was scrolled to.
#[test]
fn a_question_in_a_low_window_shows_its_title_and_its_buttons() {
    let rig = start("");
    let browser = Browser::start(1300, 761);
    browser.open(&rig.url("/#/dead-letters"));
    browser.sees("3 match in all:");
    browser.press("Redrive all\u{2026}");
    browser.sees("Redrive 3 dead letters?");
    for selector in ["dialog h2", "dialog button[type=submit]"] {
        assert!(is_seen(&browser, selector), "{selector}");
    }
    let looks = |name: &str| {
        browser
            .run(&format!("return getComputedStyle(document.querySelector('dialog input[name={name}]')).borderStyle"))
    };
    assert_ne!(looks("above"), looks("canary"), "a field that cannot be filled in looks like it");
    browser.picture("question-low");
    check_rules(&browser, "a question in a low window");
    assert_eq!(browser.complaints(), [] as [String; 0]);
}

#[test]
fn errors_in_groups_stand_above_the_list_and_a_short_subject_on_one_line() {
    let rig = start("");
    let line = json!({ "subject": "in.new", "id": "m-97", "body": "x" });
    let answer = ureq::post(&rig.url("/v1/publish")).header("content-type", "application/x-ndjson");
    assert_eq!(answer.send(format!("{line}\n")).unwrap().status(), 200);
    let browser = Browser::start(1280, 900);
    browser.open(&rig.url("/#/dead-letters"));
    browser.sees("match in all:");
    browser.sees("What they have in common");
    assert!(is_seen(&browser, "section[aria-label='Groups'] tbody tr"), "{}", browser.text());
    // A span that is broken has a rectangle a line.
    let broken = browser.run(
        "return [...document.querySelectorAll('main span')].filter((it) => it.textContent.startsWith('in.') && it.getClientRects().length > 1)
             .map((it) => it.textContent)",
    );
    assert_eq!(broken, json!([]));
    browser.picture("groups-above");
    // A time goes on without anybody asking for the page again.
    let time = || browser.run("return document.querySelector('main time').textContent");
    let before = time();
    until("the time has gone on", Duration::from_secs(60), || time() != before);
    assert_eq!(browser.complaints(), [] as [String; 0]);
}

#[test]
fn a_figure_of_a_chart_says_of_what_it_is_and_a_single_point_is_seen() {
    let rig = start("");
    let browser = Browser::start(1280, 900);
    browser.open(&rig.url("/"));
    browser.sees("Everything runs");
    until("there are two points", Duration::from_secs(90), || {
        browser.run("return document.querySelectorAll('.chart svg').length").as_u64() > Some(0)
    });
    let legend = browser.run("return [...document.querySelector('.legend').children].map((it) => it.textContent)");
    let named = |value: &Value, name: &str| {
        value.as_str().unwrap().starts_with(&format!("{name} ")) && value.as_str().unwrap().ends_with("/s")
    };
    for (index, name) in ["completed", "skipped", "retried", "dead-lettered"].into_iter().enumerate() {
        assert!(named(&legend[index], name), "{legend}");
    }
    // The runs of the start are one point of a line between gaps.
    assert_eq!(browser.run("return document.querySelectorAll('.chart circle.dot').length > 0"), true);
    // And they are in it: what failed before the host had looked once.
    let history: Value = ureq::get(&rig.url("/v1/history")).call().unwrap().body_mut().read_json().unwrap();
    let sum = |name: &str| history[name].as_array().unwrap().iter().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!((sum("completed"), sum("dead_lettered")), (1, 3), "{history}");
    browser.picture("charts");
}

/// An open circuit is a pause that nobody ordered, and as silent.
#[test]
fn the_overview_tells_of_an_open_circuit_and_is_not_green() {
    let rig = start("");
    let browser = Browser::start(1280, 900);
    browser.open(&rig.url("/"));
    browser.sees("Everything runs");
    browser.run(
        "const real = window.fetch;
         window.fetch = async (path, options) => {
             const answer = await real(path, options);
             if (!String(path).includes('/v1/status')) return answer;
             const status = await answer.json(), [one] = status.subscriptions;
             one.counts.ready = 12;
             const open = { ...one, pause: { kind: 'circuit', by: 'host', why: '20 of 22 messages failed', since: '2026-11-29T06:00:00.000Z', until: '2026-11-29T06:00:05.000Z' } };
             return new Response(JSON.stringify({ ...status, subscriptions: [open, { ...one, name: 'other' }] }));
         }",
    );
    browser.sees("1 of 2 subscriptions takes no messages.");
    browser.sees("circuit open by host, since");
    browser.sees("20 of 22 messages failed; a message is tried at");
    browser.sees("12 wait.");
    assert!(!browser.text().contains("Everything runs"), "{}", browser.text());
    assert_eq!(browser.run("return document.querySelectorAll('main .note.good').length"), 0);
    check_rules(&browser, "an overview with an open circuit");
    browser.picture("overview-circuit");
}
