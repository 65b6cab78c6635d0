//! The way of `docs/tour.md` in the browser, from a failure to its end: found, looked at, replayed, mended, sent back, done.

use std::time::Duration;

use serde_json::{Value, json};

use super::{deploy, go, host, signed_in};
use crate::chaos::{Rig, ledger};
use crate::support::until;

/// A ledger that panics at every message.
const TRAPS: u32 = 900_104;

fn dead(rig: &Rig, fingerprint: &str) -> Value {
    let answer = ureq::get(&rig.url(&format!("/v1/dead-letters?handler=ledger{fingerprint}")))
        .header("authorization", "Bearer tidegate_operator")
        .call();
    answer.unwrap().body_mut().read_json::<Value>().unwrap()["letters"].take()
}

#[test]
fn a_failure_is_found_understood_mended_and_sent_again() {
    let rig = host();
    let browser = signed_in(&rig, "deployer");
    go(&browser, "Handlers");
    browser.press("ledger");
    browser.sees("Version 1 is active");
    deploy(&browser, &ledger(TRAPS));
    browser.sees("Version 2 is active");
    let line = json!({ "subject": "in.x", "id": "tour-1", "body": "order 8" });
    let answer = ureq::post(&rig.url("/v1/publish?broker=queue"))
        .header("content-type", "application/x-ndjson")
        .header("authorization", "Bearer tidegate_operator")
        .send(format!("{line}\n"));
    assert_eq!(answer.unwrap().status(), 200);
    let is_it = |letter: &Value| letter["message_id"] == "tour-1";
    let mut fingerprint = String::new();
    until("it is a dead letter", Duration::from_secs(60), || {
        let letters = dead(&rig, "");
        let letter = letters.as_array().unwrap().iter().find(|letter| is_it(letter));
        letter.is_some_and(|letter| {
            fingerprint = letter["fingerprint"].as_str().unwrap().to_owned();
            true
        })
    });

    go(&browser, "Dead letters");
    browser.press(&format!("Only fingerprint {fingerprint}"));
    browser.sees("1 match in all:");
    browser.press("trap:unreachable");
    browser.sees("order 8");
    browser.sees("Where it failed");
    browser.press("Replay");
    browser.sees("trap:unreachable, as recorded. Nothing was sent");

    go(&browser, "Handlers");
    browser.press("ledger");
    deploy(&browser, &ledger(2));
    browser.sees("is live");
    go(&browser, "Dead letters");
    browser.press(&format!("Only fingerprint {fingerprint}"));
    browser.sees("1 match in all:");
    browser.press("trap:unreachable");
    browser.sees("Run it once more");
    browser.sees("Version 3 is chosen, which is active now; version 2 gave it up.");
    browser.press("Replay");
    browser.sees("would have been completed");
    browser.press("Redrive");
    browser.sees("starts with no attempts");
    browser.run("document.querySelector('dialog button[type=submit]').click()");
    browser.sees("The message was redriven.");
    browser.sees("It has come to its end:");
    browser.sees("completed on version 3");
    until("it does not come back, and is done", Duration::from_secs(60), || {
        let answer = ureq::get(&rig.url("/v1/status")).header("authorization", "Bearer tidegate_reader").call();
        let status: Value = answer.unwrap().body_mut().read_json().unwrap();
        // One was completed at first, and this one now.
        status["subscriptions"][0]["counts"]["completed"] == 2
    });
    assert_eq!(dead(&rig, &format!("&fingerprint={fingerprint}")), json!([]));
    go(&browser, "Audit log");
    for action in ["handler.deploy", "dead-letter.redrive"] {
        browser.sees(action);
    }
    assert_eq!(browser.complaints(), [] as [String; 0]);
}
