//! The console in a real browser, before a real host: what a person sees, presses and is asked, what a hostile message comes
//! to, and whether a keyboard and a screen reader get through. Pictures of it are kept under `target/console`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tidegate::access::TokenHash;

mod cluster;
mod live;
mod looks;
mod many;
mod replay;
mod scale;
mod tour;

use crate::chaos::{Rig, ledger};
use crate::support::browser::{Browser, ENTER, ESCAPE};
use crate::support::until;

/// A message that tries whatever makes a page run something.
const HOSTILE: &str = "<script>window.pwned = 1</script><img src=x onerror=\"window.pwned = 2\"><svg onload=\"window.pwned = 3\">\
                       <a href=\"javascript:window.pwned = 4\">press</a></pre></main>{{constructor.constructor('window.pwned=5')()}}";

fn host() -> Rig {
    let mut more = String::new();
    for (name, role) in [("reader", "read"), ("operator", "operate"), ("deployer", "deploy")] {
        let hash = TokenHash::of(&format!("tidegate_{name}"));
        more += &format!("\n[http.tokens.{name}]\nhash = \"{hash}\"\nrole = \"{role}\"\n");
    }
    start(&more)
}

/// A host with dead letters: one of each way that a person would look at a body.
fn start(more: &str) -> Rig {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), more);
    rig.start();
    let line = |id: &str, body: serde_json::Value| {
        let mut line = json!({ "subject": "in.<b>x</b>", "id": id, "headers": { "X-Note": HOSTILE } });
        line.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        format!("{line}\n")
    };
    let lines = [
        line("m-1", json!({ "body": "fine" })),
        line("m-17", json!({ "body": HOSTILE })),
        line("m-37", json!({ "body": "{\"order\":9007199254740993,\"items\":[],\"note\":\"a \\\"quoted\\\" one\"}" })),
        line("m-57", json!({ "body_base64": STANDARD.encode([0xff, 0xfe, 0x00, b'A']) })),
    ];
    let answer = ureq::post(&rig.url("/v1/publish?broker=queue"))
        .header("content-type", "application/x-ndjson")
        .header("authorization", "Bearer tidegate_operator")
        .send(lines.concat());
    assert_eq!(answer.unwrap().status(), 200);
    until("three messages are dead letters", Duration::from_secs(60), || {
        let status = ureq::get(&rig.url("/v1/status")).header("authorization", "Bearer tidegate_reader").call();
        let mut status = status.unwrap();
        let status: serde_json::Value = status.body_mut().read_json().unwrap();
        status["brokers"][0]["dead_letters"] == 3
    });
    rig
}

fn signed_in(rig: &Rig, who: &str) -> Browser {
    let browser = Browser::start(1300, 1000);
    browser.open(&rig.url("/"));
    browser.sees("This host asks who you are");
    browser.enter("input[type=password]", &format!("tidegate_{who}"));
    browser.press("Sign in");
    browser.sees("Everything runs");
    // The first question, without a token, is answered with 401; the browser notes that.
    browser.complaints();
    browser
}

/// Goes to a page of the console by its link.
fn go(browser: &Browser, page: &str) {
    browser.press(page);
    until(&format!("the page `{page}` is open"), Duration::from_secs(60), || {
        browser.run("return document.querySelector('h1')?.textContent") == page
    });
}

#[test]
fn a_person_finds_what_failed_and_redrives_it() {
    let rig = host();
    let browser = Browser::start(1300, 1000);
    browser.open(&rig.url("/"));
    browser.sees("This host asks who you are");
    browser.enter("input[type=password]", "tidegate_stranger");
    browser.press("Sign in");
    browser.sees("the token is not known here");
    browser.run("document.querySelector('input[type=password]').value = ''");
    browser.enter("input[type=password]", "tidegate_operator");
    browser.press("Sign in");
    browser.sees("Everything runs: 1 subscription");
    assert_eq!(browser.run("return location.search + location.hash"), "", "no token is in the address");
    assert_eq!(browser.run("return document.cookie"), "");
    browser.complaints();

    go(&browser, "Dead letters");
    browser.sees("3 dead letters");
    browser.picture("dead-letters");
    browser.enter("input[type=search]", "m-37");
    browser.sees("1 dead letter");
    browser.press("handler-rejected");
    browser.sees("as-the-number-says");
    // The numbers of JSON are shown as they were written, though JavaScript has no such number.
    browser.sees("\"order\": 9007199254740993");
    browser.sees("\"items\": []");
    browser.picture("dead-letter");
    browser.press("Hex");
    browser.sees("7b 22 6f 72");
    browser.press("Redrive");
    browser.sees("Redrive the message?");
    browser.press("Cancel");
    browser.press("Redrive");
    browser.sees("starts with no attempts");
    browser.run("document.querySelector('dialog button[type=submit]').click()");
    browser.sees("The message was redriven.");
    // It fails again by its number, and is a dead letter that came back; the page says so, however quick that was.
    browser.sees("It has come to its end:");
    browser.sees("its new dead letter");
    browser.picture("sent-back");
    go(&browser, "Dead letters");
    until("it has come back", Duration::from_secs(60), || {
        browser.press("Refresh");
        browser.text().contains("came back 1×")
    });

    // What is being loaded cannot be chosen yet.
    until("all are chosen", Duration::from_secs(60), || {
        browser.run("document.querySelector('label:has(+ [role=status]) input:not(:checked)')?.click()");
        browser.text().contains("3 chosen")
    });
    browser.press("Discard\u{2026}");
    browser.sees("to confirm");
    assert_eq!(browser.run("return document.querySelector('dialog button[type=submit]').disabled"), true);
    browser.enter("dialog input", "3");
    browser.run("document.querySelector('dialog button[type=submit]').click()");
    browser.sees("There are no such dead letters.");

    go(&browser, "Audit log");
    browser.sees("dead-letter.redrive");
    browser.sees("operator (operate)");
    browser.picture("audit");
    assert_eq!(browser.complaints(), [] as [String; 0]);
}

#[test]
fn a_module_is_dragged_in_and_rolled_back() {
    let rig = host();
    let browser = signed_in(&rig, "deployer");
    go(&browser, "Handlers");
    browser.press("ledger");
    browser.sees("Version 1 is active");
    drag(&browser, &ledger(2));
    // It only fills the form: a hand that slips deploys nothing.
    browser.sees("ledger.wasm, ");
    browser.sees("is not deployed yet");
    browser.picture("dropped");
    assert_eq!(rig_active(&rig), 1);
    browser.press("Deploy");
    browser.sees("version 2 is live");
    assert!(!browser.text().contains("is not deployed yet"), "{}", browser.text());
    browser.sees("Version 2 is active");
    browser.picture("handler");
    deploy(&browser, b"no module at all");
    browser.sees(". Nothing was changed.");

    browser.press("Roll back to version 1");
    browser.sees("Go back to version 1?");
    browser.run("document.querySelector('dialog button[type=submit]').click()");
    browser.sees("Version 1 is active");
    assert_eq!(rig_active(&rig), 1);

    browser.choose("select[aria-label='How it comes live']", "canary");
    deploy(&browser, &ledger(3));
    browser.sees("is tried as a canary on 5%");
    browser.press("Abort");
    browser.run("document.querySelector('dialog button[type=submit]').click()");
    browser.sees("The canary has ended.");
    assert_eq!(rig_active(&rig), 1);

    deploy(&browser, &ledger(4));
    browser.sees("is tried as a canary on 5%");
    browser.picture("canary");
    browser.press("Promote");
    browser.sees("It gets all messages from now on.");
    browser.run("document.querySelector('dialog button[type=submit]').click()");
    browser.sees("is the active one.");
    assert_eq!(rig_active(&rig), 4);
    assert_eq!(browser.complaints(), [] as [String; 0]);
}

fn rig_active(rig: &Rig) -> u64 {
    let answer = ureq::get(&rig.url("/v1/handlers/ledger")).header("authorization", "Bearer tidegate_reader").call();
    let mut answer = answer.unwrap();
    let handler: serde_json::Value = answer.body_mut().read_json().unwrap();
    handler["active"].as_u64().unwrap()
}

/// Drops a module onto the page, and deploys it as the form says.
fn deploy(browser: &Browser, module: &[u8]) {
    drag(browser, module);
    browser.press("Deploy");
}

/// Drops a file onto the page, as a mouse would.
fn drag(browser: &Browser, module: &[u8]) {
    browser.run(&format!(
        "const bytes = Uint8Array.from(atob('{}'), (char) => char.charCodeAt(0));
         const dataTransfer = new DataTransfer();
         dataTransfer.items.add(new File([bytes], 'ledger.wasm'));
         document.querySelector('.drop').dispatchEvent(new DragEvent('drop', {{ dataTransfer, bubbles: true, cancelable: true }}));",
        STANDARD.encode(module)
    ));
}

#[test]
fn a_hostile_message_is_shown_and_not_run() {
    let rig = host();
    let browser = signed_in(&rig, "operator");
    go(&browser, "Dead letters");
    browser.sees("3 dead letters");
    browser.sees("in.<b>x</b>");
    for index in 0..3 {
        browser.run(&format!("document.querySelectorAll('tbody a')[{index}].click()"));
        browser.sees("What happened");
        browser.sees("<script>window.pwned = 1</script>");
        browser.run("history.back()");
        browser.sees("3 dead letters");
    }
    go(&browser, "Live");
    browser.sees("with payloads and logs");
    assert_eq!(browser.run("return window.pwned ?? null"), json!(null));
    assert_eq!(browser.run("return document.scripts.length"), 1, "the page's own, and no other");
    assert_eq!(browser.run("return document.querySelectorAll('main img, main svg [onload], main b').length"), 0);
    // The policy itself, and not only how the page is written: a script that gets in all the same is not run.
    browser.run(
        "const script = document.createElement('script'); try { script.textContent = 'window.pwned = 6' } catch {}
         document.body.append(script);
         try { document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.pwned = 7\">') } catch {}",
    );
    assert_eq!(browser.run("return window.pwned ?? null"), json!(null));
    assert!(!browser.complaints().is_empty(), "the browser says that it refused them");
}

#[test]
fn who_may_only_read_is_shown_no_payload_and_changes_nothing() {
    let rig = host();
    let browser = signed_in(&rig, "reader");
    go(&browser, "Dead letters");
    browser.sees("3 dead letters");
    assert_eq!(
        browser.run("return document.querySelectorAll('input[type=checkbox]').length"),
        1,
        "there is nothing to choose"
    );
    browser.sees("What they have in common");
    offers_nothing(&browser, &["Redrive all\u{2026}", "Discard all\u{2026}", "Redrive", "Discard\u{2026}"]);
    browser.run("document.querySelectorAll('tbody a')[0].click()");
    browser.sees("Body and headers need the role");
    assert!(!browser.text().contains("pwned"), "{}", browser.text());
    offers_nothing(&browser, &["Replay", "Redrive", "Edit\u{2026}", "Discard\u{2026}"]);
    browser.run("location.hash = '#/subscriptions/ledger'");
    browser.sees("What it is");
    offers_nothing(&browser, &["Pause\u{2026}", "Resume"]);
    go(&browser, "Handlers");
    browser.press("ledger");
    browser.sees("Deploying needs the role");
    go(&browser, "Audit log");
    browser.sees("The audit log needs the role");
    assert_eq!(browser.complaints(), [] as [String; 0]);
    browser.press("Sign out");
    browser.sees("This host asks who you are");
}

/// The page has buttons, and none of these.
fn offers_nothing(browser: &Browser, names: &[&str]) {
    let buttons = browser.run("return [...document.querySelectorAll('button')].filter((it) => it.offsetParent).map((it) => it.textContent.trim())");
    let buttons: Vec<&str> = buttons.as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
    assert!(!buttons.is_empty());
    assert!(names.iter().all(|name| !buttons.contains(name)), "{buttons:?}");
}

#[test]
fn everything_that_matches_is_redriven_and_discarded_by_the_host() {
    let rig = host();
    let browser = signed_in(&rig, "operator");
    go(&browser, "Dead letters");
    browser.sees("What they have in common");
    browser.sees("3 match in all:");
    browser.sees("When they died; a bar is ");
    let said = browser.run("return document.querySelector('.deaths svg').getAttribute('aria-label')");
    assert!(said.as_str().unwrap().starts_with("3 dead letters from "), "{said}");
    browser.picture("groups");
    browser.press("Redrive all\u{2026}");
    browser.sees("Redrive 3 dead letters?");
    browser.run("document.querySelector('dialog button[type=submit]').click()");
    browser.sees("3 redriven of 3");
    // They fail again by their numbers, and are counted anew.
    until("they have come back", Duration::from_secs(60), || {
        browser.press("Refresh");
        browser.text().contains("3 match in all:") && browser.text().contains("came back 1\u{d7}")
    });
    browser.press("Discard all\u{2026}");
    browser.enter("dialog input", "3");
    browser.run("document.querySelector('dialog button[type=submit]').click()");
    browser.sees("3 discarded of 3");
    browser.sees("There are no such dead letters.");
    assert_eq!(browser.complaints(), [] as [String; 0]);
}

#[test]
fn a_subscription_is_paused_and_resumed() {
    let rig = host();
    let browser = signed_in(&rig, "operator");
    go(&browser, "Subscriptions");
    until("it is listed", Duration::from_secs(60), || {
        // The handler has the same name.
        browser.run("const link = document.querySelector('tbody a'); link?.click(); return link !== null") == true
    });
    browser.press("Pause\u{2026}");
    browser.enter("dialog input", "the database <b>moves</b>");
    browser.choose("dialog select", "10m");
    browser.run("document.querySelector('dialog button[type=submit]').click()");
    browser.sees("Paused by operator");
    browser.sees("the database <b>moves</b>; until");
    browser.picture("paused");
    go(&browser, "Overview");
    browser.sees("The only subscription takes no messages.");
    browser.sees("paused by operator, since");
    browser.sees("the database <b>moves</b>; until");
    assert!(!browser.text().contains("Everything runs"), "{}", browser.text());
    assert_eq!(browser.run("return document.querySelectorAll('main .note.good').length"), 0, "nothing is green");
    browser.picture("overview-paused");
    browser.press("ledger");
    browser.press("Resume");
    until("it is not paused any more", Duration::from_secs(60), || !browser.text().contains("Paused by operator"));
    go(&browser, "Overview");
    browser.sees("Everything runs: 1 subscription");
    go(&browser, "Audit log");
    browser.sees("subscription.pause");
    assert_eq!(browser.complaints(), [] as [String; 0]);
}

/// Each page in the light and in the dark, wide and as wide as a phone.
#[test]
fn every_page_is_for_everybody() {
    let rig = host();
    let browser = signed_in(&rig, "deployer");
    let pages = [
        "#/",
        "#/subscriptions",
        "#/subscriptions/ledger",
        "#/handlers",
        "#/handlers/ledger",
        "#/dead-letters",
        "#/live",
        "#/audit",
        "#/nowhere",
    ];
    let letter = browser_letter(&rig);
    for theme in ["light", "dark"] {
        browser.run(&format!("document.documentElement.dataset.theme = '{theme}'"));
        for page in pages.into_iter().chain([letter.as_str()]) {
            browser.run(&format!("location.hash = '{page}'"));
            until(&format!("{page} is there"), Duration::from_secs(60), || {
                browser.run("return document.querySelector('main .page')?.childElementCount ?? 0").as_u64() > Some(0)
            });
            check_rules(&browser, &format!("{page} in the {theme}"));
        }
    }
    browser.resize(390, 844);
    for page in pages.into_iter().chain([letter.as_str()]) {
        browser.run(&format!("location.hash = '{page}'"));
        until(&format!("{page} is there"), Duration::from_secs(60), || {
            browser.run("return document.querySelector('main .page')?.childElementCount ?? 0").as_u64() > Some(0)
        });
        let wider = browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth");
        assert_eq!(wider, 0, "{page} does not fit a phone");
    }
    browser.picture("phone");
}

/// What is open, a question alone where there is one, keeps the rules of accessibility that a program can check.
fn check_rules(browser: &Browser, what: &str) {
    browser.run(&std::fs::read_to_string(rules()).unwrap());
    browser.run(
        "window.found = null;
         axe.run(document.querySelector('dialog[open]') ?? document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'] })
             .then(({ violations }) => { window.found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(' ')}`) })",
    );
    let mut found = json!(null);
    until("the rules were gone through", Duration::from_secs(60), || {
        found = browser.run("return window.found");
        !found.is_null()
    });
    assert_eq!(found, json!([]), "{what}");
}

fn rules() -> std::path::PathBuf {
    std::env::var_os("TIDEGATE_AXE").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/servers/axe.min.js"),
        std::path::PathBuf::from,
    )
}

fn browser_letter(rig: &Rig) -> String {
    let letters =
        ureq::get(&rig.url("/v1/dead-letters?limit=1")).header("authorization", "Bearer tidegate_operator").call();
    let letters: serde_json::Value = letters.unwrap().body_mut().read_json().unwrap();
    format!("#/dead-letters/{}?broker=queue", letters["letters"][0]["id"].as_str().unwrap())
}

#[test]
fn a_keyboard_gets_through() {
    let rig = host();
    let browser = signed_in(&rig, "operator");
    browser.tab_to("Dead letters");
    browser.key(ENTER);
    browser.sees("3 dead letters");
    browser.key("/");
    assert_eq!(browser.focus(), "Search what is shown");
    browser.tab_to("handler-rejected");
    browser.key(ENTER);
    browser.sees("What happened");
    browser.tab_to("Redrive");
    browser.key(ENTER);
    browser.sees("Redrive the message?");
    browser.key(ESCAPE);
    until("the question is gone", Duration::from_secs(60), || !browser.text().contains("Redrive the message?"));
    until("the focus is where it was", Duration::from_secs(60), || browser.focus() == "Redrive");
}
