//! A dead letter in the console: run once more, edited, sent back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::{HOSTILE, check_rules, start};
use crate::chaos::{Rig, ledger};
use crate::support::browser::{Browser, ENTER};
use crate::support::until;

/// A ledger that panics at every message, and one that loops.
const TRAPS: u32 = 900_104;
const LOOPS: u32 = 900_103;

/// The page of the newest dead letter of a message; this host asks nobody who they are.
fn page_of(rig: &Rig, message: &str) -> Browser {
    let browser = Browser::start(1300, 1400);
    open(&browser, rig, message);
    browser
}

fn open(browser: &Browser, rig: &Rig, message: &str) {
    let id = letter(rig, message)["id"].as_str().unwrap().to_owned();
    browser.open(&rig.url(&format!("/#/dead-letters/{id}?broker=queue")));
    browser.sees("Run it once more");
    until("the versions are offered", Duration::from_secs(60), || {
        browser.run("return document.querySelectorAll('[aria-label=Replay] option').length").as_u64() > Some(0)
    });
}

fn letter(rig: &Rig, message: &str) -> Value {
    let letters = letters(rig);
    letters.iter().find(|letter| letter["message_id"] == message).unwrap().clone()
}

fn got(rig: &Rig, path: &str) -> Value {
    serde_json::from_str(&rig.get(path).unwrap()).unwrap()
}

/// All dead letters with the bodies of their messages, the newest first.
fn letters(rig: &Rig) -> Vec<Value> {
    let list = got(rig, "/v1/dead-letters?include_redriven=true");
    let ids = list["letters"].as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap().to_owned());
    ids.map(|id| got(rig, &format!("/v1/dead-letters/{id}"))).collect()
}

/// What a replay must not change: what was counted of the subscription, and what waits anywhere.
fn counted(rig: &Rig) -> Value {
    let status = got(rig, "/v1/status");
    let counts = &status["subscriptions"][0]["counts"];
    let of = ["runs", "completed", "dead_lettered", "outputs", "fuel", "retried"].map(|name| counts[name].clone());
    json!([of, status["brokers"][0]["dead_letters"], got(rig, "/v1/handlers/ledger")["versions"]])
}

fn choose_version(browser: &Browser, value: &str) {
    browser.choose("select[aria-label='Version to run it on']", value);
}

fn publish(rig: &Rig, line: &Value) {
    let answer = ureq::post(&rig.url("/v1/publish")).header("content-type", "application/x-ndjson");
    assert_eq!(answer.send(format!("{line}\n")).unwrap().status(), 200);
}

#[test]
fn a_message_is_run_once_more_on_the_version_that_failed_and_on_another() {
    let rig = start("");
    rig.deploy(&ledger(TRAPS)).unwrap();
    // The completed run has an output and a log line that are as hostile as the message.
    let id = "<img src=x onerror=\"window.pwned=8\">-1";
    publish(&rig, &json!({ "subject": "in.x", "id": id, "headers": { "X-Note": HOSTILE }, "body": HOSTILE }));
    until("it is a dead letter", Duration::from_secs(60), || letters(&rig).len() == 4);
    let before = (counted(&rig), letters(&rig));
    let browser = page_of(&rig, id);
    browser.sees("version 2, gave it up, active");
    browser.press("Replay");
    browser.sees("Version 2: trap:unreachable, as recorded. Nothing was sent");
    browser.sees("Where it failed");
    choose_version(&browser, "1");
    browser.press("Replay");
    browser.sees("Version 1: trap:unreachable would have been completed.");
    browser.sees("1 output");
    browser.sees("Output 1: out.done (queue)");
    browser.sees(&format!("ran {id} attempt"));
    browser.picture("replay");
    let columns = browser
        .run("return [...document.querySelectorAll('[aria-label=Replay] thead th')].map((it) => it.textContent)");
    assert_eq!(columns, json!(["The dead letter says", "Version 1", "Version 2"]));
    assert_eq!(browser.run("return window.pwned ?? null"), json!(null));
    assert_eq!(browser.run("return document.querySelectorAll('main img').length"), 0);
    for theme in ["dark", "light"] {
        browser.run(&format!("document.documentElement.dataset.theme = '{theme}'"));
        check_rules(&browser, &format!("a replay in the {theme}"));
    }
    browser.resize(390, 844);
    let wider = browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth");
    assert_eq!(wider, 0, "it does not fit a phone");
    browser.picture("replay-phone");
    assert_eq!((counted(&rig), letters(&rig)), before, "a replay changes nothing");
    assert_eq!(browser.complaints(), [] as [String; 0]);
}

#[test]
fn a_version_that_was_forgotten_is_told_of_and_the_active_one_is_offered() {
    let rig = start("\n[registry]\nkeep_versions = 2\n");
    rig.deploy(&ledger(2)).unwrap();
    rig.deploy(&ledger(3)).unwrap();
    until("the first version is collected", Duration::from_secs(60), || rig.handler().versions.len() == 2);
    let browser = page_of(&rig, "m-37");
    browser.sees("Version 1, which gave it up, was forgotten");
    browser.sees("Version 3, the active one, can be tried instead.");
    browser.press("Replay");
    browser.sees("Version 3: handler-rejected, as recorded.");
    browser.picture("replay-forgotten");
    let id = letter(&rig, "m-37")["id"].as_str().unwrap().to_owned();
    let replay = |query: &str| {
        let (status, answer) = rig.ask(&format!("/v1/dead-letters/{id}/replay{query}")).unwrap();
        (status, answer["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(replay(""), (409, "version-forgotten".to_owned()));
    assert_eq!(replay("?version=1"), (404, "no-such-version".to_owned()));
    assert_eq!(replay("?version=2"), (200, String::new()));
    assert_eq!(browser.complaints(), [] as [String; 0]);
}

#[test]
fn a_body_is_edited_tried_and_sent_back_and_the_dead_letter_keeps_its_own() {
    let rig = start("");
    let first = letter(&rig, "m-37");
    let browser = page_of(&rig, "m-37");
    browser.press("Edit\u{2026}");
    browser.sees("Nothing is changed yet. This is JSON.");
    assert_eq!(browser.run("return document.activeElement.tagName"), "TEXTAREA");
    browser.press("Redrive with this body");
    browser.sees("Nothing is changed: the body is as it was.");
    write(&browser, "{\"order\": 9007199254740993,");
    browser.sees("This is no JSON:");
    browser.press("Redrive with this body");
    browser.sees("was not sent:");
    browser.press("Replay with this body");
    check_rules(&browser, "an edited body that is no JSON");
    browser.picture("edit-broken");
    write(&browser, "{\"order\": 9007199254740993, \"note\": \"<b>mended</b>\"}");
    browser.press("Lay out");
    until("it is laid out", Duration::from_secs(60), || {
        let text = browser.run("return document.querySelector('textarea').value");
        text == "{\n  \"order\": 9007199254740993,\n  \"note\": \"<b>mended</b>\"\n}"
    });
    browser.press("Replay with this body");
    browser.sees("Version 1 with the edited body: handler-rejected, as recorded.");
    browser.picture("edit");
    browser.press("Redrive with this body");
    browser.sees("It has the edited body; the dead letter keeps its own.");
    browser.run("document.querySelector('dialog button[type=submit]').click()");
    browser.sees("The message was redriven with the edited body.");
    // By its number it is rejected again, with the body that it went back with.
    until("it is dead again", Duration::from_secs(60), || letters(&rig).len() == 4);
    let again = letter(&rig, "m-37");
    assert_eq!(again["body"], "{\n  \"order\": 9007199254740993,\n  \"note\": \"<b>mended</b>\"\n}");
    assert!(again["headers"].as_array().unwrap().contains(&json!(["Dlq-Redrive-Of", first["id"]])), "{again}");
    let kept = got(&rig, &format!("/v1/dead-letters/{}", first["id"].as_str().unwrap()));
    assert_eq!(kept["body"], first["body"]);

    // What was to be no JSON any more, and what never was.
    open(&browser, &rig, "m-37");
    browser.press("Edit\u{2026}");
    write(&browser, "plain");
    browser.run("document.querySelector('section[aria-label=\"Edit the body\"] input[type=checkbox]').click()");
    browser.press("Replay with this body");
    browser.sees("Version 1 with the edited body:");
    open(&browser, &rig, "m-57");
    browser.press("Edit\u{2026}");
    browser.sees("The body is no text, and cannot be edited here.");
    assert_eq!(browser.run("return document.querySelectorAll('textarea').length"), 0);
    assert_eq!(browser.complaints(), [] as [String; 0]);
}

/// A field of a browser has line feeds alone; what came from elsewhere has not.
#[test]
fn an_edited_body_keeps_its_line_ends() {
    let rig = start("");
    publish(&rig, &json!({ "subject": "in.x", "id": "m-77", "body": "a\r\nb\r\n" }));
    until("it is a dead letter", Duration::from_secs(60), || letters(&rig).len() == 4);
    let browser = page_of(&rig, "m-77");
    browser.press("Edit\u{2026}");
    write(&browser, "a\nc\n");
    browser.press("Redrive with this body");
    browser.run("document.querySelector('dialog button[type=submit]').click()");
    browser.sees("The message was redriven with the edited body.");
    until("it is dead again", Duration::from_secs(60), || letters(&rig).len() == 5);
    assert_eq!(letter(&rig, "m-77")["body"], "a\r\nc\r\n");
}

/// Puts a text into the field, as typing does.
fn write(browser: &Browser, text: &str) {
    let text = serde_json::to_string(text).unwrap();
    browser.run(&format!(
        "const area = document.querySelector('textarea'); area.value = {text}; area.dispatchEvent(new Event('input', {{ bubbles: true }}))"
    ));
}

#[test]
fn a_keyboard_replays_and_edits() {
    let rig = start("");
    let browser = page_of(&rig, "m-37");
    browser.tab_to("Edit\u{2026}");
    browser.key(ENTER);
    until("the field has the focus", Duration::from_secs(60), || browser.focus() == "The body, to be edited");
    browser.tab_to("Cancel");
    browser.key(ENTER);
    until("the focus is where it was", Duration::from_secs(60), || browser.focus() == "Edit\u{2026}");
    browser.tab_to("Replay");
    browser.key(ENTER);
    browser.sees("handler-rejected, as recorded");
    assert_eq!(browser.focus(), "Replay", "the result is told, and the focus stays");
}

/// Replays stand behind the messages, two at a time, and one more is told so.
#[test]
fn replays_are_few_and_messages_go_first() {
    let rig = start("");
    let id = letter(&rig, "m-37")["id"].as_str().unwrap().to_owned();
    rig.deploy(&ledger(LOOPS)).unwrap();
    rig.rollback(1);
    let (enough, refused) = (AtomicBool::new(false), AtomicBool::new(false));
    let looping = rig.url(&format!("/v1/dead-letters/{id}/replay?version=2"));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
                    let mut answer = agent.post(&looping).send_empty().unwrap();
                    let said: Value = answer.body_mut().read_json().unwrap();
                    match answer.status().as_u16() {
                        200 => assert_eq!(said["difference"], "handler-rejected would have been out-of-fuel", "{said}"),
                        503 => {
                            assert_eq!(said["error"]["code"], "too-many-replays", "{said}");
                            refused.store(true, Ordering::Relaxed);
                        }
                        other => panic!("{other}: {said}"),
                    }
                }
            });
        }
        until("one is refused", Duration::from_secs(60), || refused.load(Ordering::Relaxed));
        let ids: Vec<String> = (0..200).map(|number| format!("w-{}", number * 20 + 1)).collect();
        let completed = |rig: &Rig| got(rig, "/v1/status")["subscriptions"][0]["counts"]["completed"].as_u64();
        let before = completed(&rig).unwrap();
        rig.publisher().publish(&ids);
        until("messages go on", Duration::from_secs(60), || completed(&rig) >= Some(before + 200));
        enough.store(true, Ordering::Relaxed);
    });
}
