//! What becomes of messages, as it happens, in the console.

use serde_json::json;

use super::{HOSTILE, start};
use crate::support::browser::Browser;

#[test]
fn a_message_goes_by_with_its_time_and_its_payload_is_shown_and_not_run() {
    let rig = start("");
    let browser = Browser::start(1300, 1000);
    browser.open(&rig.url("/#/live"));
    browser.sees("Watching; nothing has come yet.");
    browser.run("document.querySelector('main input[type=checkbox]').click()");
    browser.sees("Watching; nothing has come yet.");
    let line = json!({ "subject": "in.x", "id": "live-1", "body": HOSTILE });
    let answer = ureq::post(&rig.url("/v1/publish")).header("content-type", "application/x-ndjson");
    assert_eq!(answer.send(format!("{line}\n")).unwrap().status(), 200);
    browser.sees("completed");
    browser.sees("window.pwned = 1");
    let when = browser.run("return document.querySelector('main tbody td').textContent");
    let when = when.as_str().unwrap();
    let shape: String = when.chars().map(|it| if it.is_ascii_digit() { '9' } else { it }).collect();
    assert_eq!(shape, "99:99:99.999", "the time of day: {when}");
    assert_eq!(browser.run("return window.pwned ?? null"), json!(null));
    browser.picture("live");
    assert_eq!(browser.complaints(), [] as [String; 0]);
}
