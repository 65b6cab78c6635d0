//! Dead letters as a person meets them: counted, found, looked into, run once more.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::command_line::{Desk, until};
use crate::support;
use crate::support::guests::guest;
use crate::support::modules::handler_from;

/// Publishes, and waits until so many dead letters are there; the newest first.
fn dead(desk: &Desk, lines: &str, count: usize) -> Vec<Value> {
    desk.expect(&["publish", "--lines"], lines, 0);
    let mut letters = json!([]);
    until("the messages to be dead", || {
        letters = desk.json(&["dlq", "ls", "--json"], "", 0);
        letters.as_array().unwrap().len() == count
    });
    letters.as_array().unwrap().clone()
}

fn by_message<'a>(letters: &'a [Value], id: &str) -> &'a str {
    letters.iter().find(|letter| letter["message_id"] == id).unwrap()["id"].as_str().unwrap()
}

/// The versions that are kept, the newest first.
fn versions(desk: &Desk) -> Vec<u64> {
    let shown = desk.json(&["handlers", "show", "behave", "--json"], "", 0);
    shown["versions"].as_array().unwrap().iter().map(|version| version["number"].as_u64().unwrap()).collect()
}

#[test]
fn the_same_error_is_one_group_and_is_found_by_all_that_it_has() {
    let desk = Desk::with_handler();
    let _host = desk.host();
    let lines = "{\"subject\":\"reject\",\"id\":\"1\"}\n{\"subject\":\"reject\",\"id\":\"2\",\"json\":{\"n\":1.10}}\n\
                 {\"subject\":\"probe.log\",\"id\":\"3\"}\n{\"subject\":\"probe.message\",\"id\":\"4\",\"body_base64\":\"AP8=\"}\n";
    let letters = dead(&desk, lines, 4);
    let stats = desk.json(&["dlq", "stats", "--json"], "", 0);
    let largest = &stats["groups"][0];
    assert_eq!((&largest["letters"], &largest["newest"]["error"]), (&json!(2), &json!("card-declined")), "{stats}");
    assert_eq!((&largest["newest"]["version"], &stats["matched"]), (&json!(1), &json!(4)));
    let fingerprint = largest["key"].as_str().unwrap();
    let rows: [(&[&str], usize); 8] = [
        (&["--fingerprint", fingerprint], 2),
        (&["--version", "behave@1", "--since", "1h"], 4),
        (&["--handler", "other"], 0),
        (&["--text", "CARD-"], 2),
        (&["--until", "1h"], 0),
        (&["--reason", "handler-rejected", "--subscription", "all", "--limit", "3"], 3),
        (&["--version", largest["newest"]["digest"].as_str().unwrap(), "--text", "told"], 2),
        (&["--reason", "timeout"], 0),
    ];
    for (filter, count) in rows {
        let found = desk.json(&[&["dlq", "ls", "--json"], filter].concat(), "", 0);
        assert_eq!(found.as_array().unwrap().len(), count, "{filter:?}: {found}");
    }
    desk.expect(&["dlq", "ls", "--version", "behave@9"], "", 3);
    desk.expect(&["dlq", "ls", "--version", "behave@1", "--handler", "other"], "", 2);
    let versions = desk.expect(&["dlq", "stats", "--by", "version"], "", 0);
    assert!(versions.contains("behave@1"), "{versions}");
    assert!(versions.contains('█') && versions.contains("a step is"), "when they died: {versions}");
    let deaths: u64 = stats["deaths"]["letters"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(deaths, 4, "{stats}");

    let logged = desk.json(&["dlq", "show", by_message(&letters, "3"), "--json"], "", 0);
    let lines = ["warn structured key=value", "info to stdout", "warn to stderr", "info without an end"];
    assert!(lines.iter().all(|line| logged["logs"].as_array().unwrap().contains(&json!(line))), "{}", logged["logs"]);
    let shown = desk.expect(&["dlq", "show", by_message(&letters, "2")], "", 0);
    assert!(shown.contains("{\n  \"n\": 1.10\n}"), "the body is set out: {shown}");
    let shown = desk.expect(&["dlq", "show", by_message(&letters, "4")], "", 0);
    assert!(shown.contains("00000000  00 ff"), "{shown}");
    assert_eq!(desk.json(&["dlq", "ls", "--json"], "", 0).as_array().unwrap(), &letters, "looking changes nothing");
}

#[test]
fn what_was_sent_back_is_kept_for_as_long_as_the_configuration_says() {
    let desk = Desk::with_handler();
    let host = desk.host();
    let letters = dead(&desk, "{\"subject\":\"reject\",\"id\":\"1\"}\n{\"subject\":\"reject\",\"id\":\"2\"}\n", 2);
    let sent_back = by_message(&letters, "1");
    desk.expect(&["dlq", "redrive", sent_back], "", 0);
    drop(host);
    // Kept for a month when nothing is said.
    let host = desk.host();
    desk.expect(&["dlq", "show", sent_back], "", 0);
    drop(host);
    let toml = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    desk.write("tidegate.toml", &(toml + "[dead_letters]\nkeep_redriven = \"1s\"\n"));
    until("it to be forgotten", || {
        // A host looks when it starts, and every ten minutes.
        let _host = desk.host();
        desk.run(&["dlq", "show", sent_back], "").status.code() == Some(3)
    });
    let _host = desk.host();
    desk.expect(&["dlq", "show", by_message(&letters, "2")], "", 0);
}

#[test]
fn a_message_is_run_once_more_as_it_was_and_beside_another_module() {
    let desk = Desk::with_handler();
    std::fs::write(desk.path().join("ledger.wasm"), guest("ledger")).unwrap();
    let toml = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    desk.write("tidegate.toml", &(toml + "[registry]\nkeep_versions = 1\n"));
    let _host = desk.host();
    let line = "{\"subject\":\"probe.message\",\"id\":\"2\",\"headers\":{\"A\":\"b\"},\"body\":\"x\"}\n";
    let letters = dead(&desk, line, 1);
    let (id, error) = (letters[0]["id"].as_str().unwrap(), &letters[0]["error"]);

    let same = desk.json(&["dlq", "replay", id, "--json"], "", 5);
    assert_eq!((&same["recorded"]["outcome"], &same["difference"]), (&json!("handler-rejected"), &json!("")), "{same}");
    assert_eq!(&same["replayed"]["outcome"]["detail"], error, "it was given what it was given the first time");
    assert_eq!(same["replayed"]["usage"]["fuel"], letters[0]["fuel_used"], "the same work costs the same");
    let both = desk.json(&["dlq", "replay", id, "--with", "ledger.wasm", "--json"], "", 5);
    assert_eq!(both["with"]["outcome"]["code"], "denied", "its outputs are not granted to this handler: {both}");
    assert_eq!(both["difference"], "handler-rejected (told) would have been denied");
    let short = desk.json(&["dlq", "replay", id, "--fuel", "10", "--json"], "", 5);
    assert_eq!(short["difference"], "handler-rejected would have been out-of-fuel");

    // The version that ran is forgotten, once it is not the one that a rollback goes to.
    std::fs::write(desk.path().join("order.wasm"), guest("order")).unwrap();
    for module in ["ledger.wasm", "order.wasm"] {
        desk.expect(&["deploy", module, "--handler", "behave"], "", 0);
    }
    until("the module to be collected", || versions(&desk) == [3, 2]);
    let gone = desk.run(&["dlq", "replay", id], "");
    let told = String::from_utf8_lossy(&gone.stderr);
    assert_eq!(gone.status.code(), Some(3), "{told}");
    assert!(told.contains("--with MODULE") && told.contains("behave@1") && told.contains("keep_versions"), "{told}");
    let alone = desk.json(&["dlq", "replay", id, "--with", "behaviours.wasm", "--json"], "", 5);
    assert_eq!((&alone["difference"], alone.get("replayed")), (&json!(""), None), "{alone}");
    let shown = desk.expect(&["dlq", "replay", id, "--with", "behaviours.wasm"], "", 5);
    assert!(shown.contains("compared  as recorded") && shown.contains("nothing was sent"), "{shown}");
    let told = desk.run(&["dlq", "replay", id, "--with", "behaviours.wasm"], "");
    let told = String::from_utf8_lossy(&told.stderr);
    assert!(
        told.contains("fuel as the dead letter tells") && told.contains("those of behave@3, which is active"),
        "{told}"
    );
    let mut now = desk.json(&["dlq", "ls", "--json"], "", 0);
    // Another version runs by now.
    assert_eq!(now[0].get("same_version"), None);
    now[0]["same_version"] = letters[0]["same_version"].clone();
    assert_eq!(now.as_array().unwrap(), &letters, "it is as it was");
}

/// The active version has fuel enough by now: by its limits the message would look mended.
#[test]
fn a_message_that_ran_out_of_fuel_does_so_again_when_its_version_is_forgotten() {
    let desk = Desk::with_handler();
    let toml = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    let keeps_one = "[registry]\nkeep_versions = 1\n";
    let once = "retry = { max_attempts = 1 }\n";
    desk.write("tidegate.toml", &format!("{toml}{once}{keeps_one}[handlers.behave.limits]\nfuel = 100\n"));
    let _host = desk.host();
    let letters = dead(&desk, "{\"subject\":\"probe.message\",\"id\":\"2\",\"body\":\"x\"}\n", 1);
    let id = letters[0]["id"].as_str().unwrap();
    // Two of them: the one that a rollback goes to is kept.
    for limits in ["[handlers.behave.limits]\nfuel = 100000000\n", ""] {
        desk.write("tidegate.toml", &format!("{toml}{once}{keeps_one}{limits}"));
        desk.expect(&["apply", "--yes"], "", 0);
    }
    until("the versions with enough fuel to be the only ones", || versions(&desk) == [3, 2]);
    // It has the same module, and is taken for the one that ran.
    let again = desk.json(&["dlq", "replay", id, "--with", "behaviours.wasm", "--json"], "", 5);
    for one in ["replayed", "with"] {
        assert_eq!(again[one]["outcome"]["code"], "out-of-fuel", "{one}: {again}");
    }
    let more = desk.json(&["dlq", "replay", id, "--with", "behaviours.wasm", "--fuel", "1000000000", "--json"], "", 5);
    assert_ne!(more["with"]["outcome"]["code"], "out-of-fuel", "what the command line says goes before: {more}");

    // Nor is its module kept.
    for module in ["ledger", "order"] {
        std::fs::write(desk.path().join(module), guest(module)).unwrap();
        desk.expect(&["deploy", module, "--handler", "behave"], "", 0);
    }
    until("the module to be collected", || versions(&desk) == [5, 4]);
    let alone = desk.json(&["dlq", "replay", id, "--with", "behaviours.wasm", "--json"], "", 5);
    assert_eq!(alone["with"]["outcome"]["code"], "out-of-fuel", "{alone}");
}

#[test]
fn all_are_sent_back_when_the_first_ones_do_well() {
    let desk = Desk::with_handler();
    std::fs::write(desk.path().join("ledger.wasm"), guest("ledger")).unwrap();
    let _host = desk.host();
    // One module rejects them by their subject, the other skips them by their number.
    let line = |number: u64| format!("{{\"subject\":\"reject\",\"id\":\"{}\"}}\n", number * 20 + 18);
    let letters = dead(&desk, &(0..5).map(line).collect::<String>(), 5);
    let dry = desk.expect(&["dlq", "redrive", "--all", "--dry-run"], "", 0);
    assert!(dry.contains("5 would be sent back") && dry.contains("card-declined"), "{dry}");
    assert_eq!(desk.json(&["dlq", "ls", "--json"], "", 0).as_array().unwrap(), &letters);

    let redrive = ["dlq", "redrive", "--all", "--canary", "2", "--json"];
    let aborted = desk.json(&redrive, "", 4);
    assert_eq!((&aborted["standing"], &aborted["done"]), (&json!("aborted"), &json!(2)), "{aborted}");
    assert!(aborted["why"].as_str().unwrap().contains("of the 2 that went first failed again"), "{aborted}");
    until("they to be dead again", || desk.json(&["dlq", "stats", "--json"], "", 0)["matched"] == 5);

    desk.expect(&["deploy", "ledger.wasm", "--handler", "behave"], "", 0);
    let done = desk.json(&redrive, "", 0);
    assert_eq!(
        (&done["standing"], &done["done"], &done["canary"]["well"]),
        (&json!("done"), &json!(5), &json!(2)),
        "{done}"
    );
    assert_eq!(desk.json(&["dlq", "ls", "--json"], "", 0), json!([]));
    let tasks = desk.json(&["dlq", "tasks", "--json"], "", 0);
    assert_eq!((tasks.as_array().unwrap().len(), &tasks[1]["id"]), (2, &aborted["id"]));
    assert!(desk.expect(&["dlq", "tasks", aborted["id"].as_str().unwrap()], "", 0).contains("standing  aborted"));
    desk.expect(&["dlq", "cancel", "none"], "", 3);
}

#[test]
fn what_is_removed_for_good_is_counted_before() {
    let desk = Desk::with_handler();
    let _host = desk.host();
    dead(&desk, &"{\"subject\":\"reject\"}\n".repeat(3), 3);
    desk.expect(&["dlq", "discard", "--all"], "", 2);
    desk.expect(&["dlq", "discard", "--all", "--yes"], "", 2);
    let refused = desk.run(&["dlq", "discard", "--all", "--count", "4"], "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("3 dead letters match now, and 4 were confirmed"));
    desk.expect(&["dlq", "discard", "--all", "--handler", "other", "--count", "3"], "", 1);
    assert_eq!(
        desk.expect(&["dlq", "discard", "--all", "--dry-run"], "", 0).lines().last(),
        Some("3 would be removed")
    );
    assert_eq!(desk.expect(&["dlq", "discard", "--all", "--count", "3"], "", 0), "3 removed\n");
    let audit = desk.json(&["audit", "--json", "--action", "dead-letter"], "", 0);
    let targets: Vec<&str> = audit.as_array().unwrap().iter().map(|entry| entry["target"].as_str().unwrap()).collect();
    // The newest first: how the host ended it, and who began it.
    assert!(targets[0].ends_with(" by local: 3 removed; done"), "{targets:?}");
    assert_eq!(targets[1], "/v1/dead-letters/tasks?action=discard&count=3");
}

#[test]
fn what_is_exported_comes_back_as_it_was() {
    let desk = Desk::with_handler();
    let _host = desk.host();
    let lines = "{\"subject\":\"reject\",\"id\":\"1\",\"headers\":{\"A\":\"b\"},\"body\":\"text\"}\n\
                 {\"subject\":\"reject\",\"id\":\"2\",\"body_base64\":\"AP8=\"}\n";
    let letters = dead(&desk, lines, 2);
    let shown = |id: &str| desk.json(&["dlq", "show", by_message(&letters, id), "--json"], "", 0);
    let before = [shown("1"), shown("2")];
    let told = desk.run(&["dlq", "export", "--output", "dead.jsonl"], "");
    assert!(String::from_utf8_lossy(&told.stderr).contains("2 written to dead.jsonl"), "{told:?}");
    desk.expect(&["dlq", "export", "--output", "dead.jsonl"], "", 1);
    let told = desk.expect(&["dlq", "import", "dead.jsonl", "--broker", "local"], "", 0);
    assert_eq!(told, "0 brought in, 2 were there and are as they were\n");

    desk.expect(&["dlq", "discard", "--all", "--count", "2"], "", 0);
    let file = std::fs::read_to_string(desk.path().join("dead.jsonl")).unwrap();
    let told = desk.json(&["dlq", "import", "-", "--broker", "local", "--json"], &file, 0);
    assert_eq!(told, json!({ "imported": 2, "present": 0 }));
    assert_eq!([shown("1"), shown("2")], before);
    assert_eq!(desk.json(&["dlq", "stats", "--json"], "", 0)["matched"], 2);
    desk.expect(&["dlq", "redrive", by_message(&letters, "2")], "", 0);
    desk.expect(&["dlq", "import", "-", "--broker", "local"], "{\"record\":{}}\n", 1);
    // There is one broker, and it need not be named.
    assert!(desk.expect(&["dlq", "import", "dead.jsonl"], "", 0).starts_with("0 brought in, 2 were there"));
}

#[test]
fn what_died_by_a_clock_that_is_ahead_is_told_of_and_not_counted() {
    let desk = Desk::with_handler();
    let _host = desk.host();
    dead(&desk, "{\"subject\":\"reject\",\"id\":\"1\"}\n{\"subject\":\"reject\",\"id\":\"2\"}\n", 2);
    desk.run(&["dlq", "export", "--output", "dead.jsonl"], "");
    desk.expect(&["dlq", "discard", "--all", "--count", "2"], "", 0);
    let file = std::fs::read_to_string(desk.path().join("dead.jsonl")).unwrap();
    let mut lines = file.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let (mut ahead, present) = (lines.next().unwrap(), lines.next().unwrap());
    let in_an_hour = std::time::SystemTime::now() + Duration::from_secs(3600);
    assert!(file.contains("secs_since_epoch"), "a time is not spelled any more as this test spells it: {file}");
    ahead["record"]["dead_at"] = serde_json::to_value(in_an_hour).unwrap();
    // Its id is of the same clock.
    let millis = in_an_hour.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    ahead["record"]["id"] = json!(ulid::Ulid::from_parts(millis, 1).to_string());
    desk.expect(&["dlq", "import", "-"], &format!("{ahead}\n{present}\n"), 0);

    let listed = desk.json(&["dlq", "ls", "--json"], "", 0);
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let stats = desk.json(&["dlq", "stats", "--json"], "", 0);
    assert_eq!((&stats["matched"], &stats["ahead"]), (&json!(1), &json!(1)), "{stats}");
    let told = desk.run(&["dlq", "stats"], "");
    assert!(String::from_utf8_lossy(&told.stderr).contains("1 more is not counted"), "{told:?}");
    let asked = desk.json(&["dlq", "stats", "--json", "--handler", "other"], "", 0);
    assert_eq!(
        (&asked["matched"], &asked["ahead"]),
        (&json!(0), &json!(null)),
        "of another handler there are none: {asked}"
    );
    // A count ends now at the latest, whatever is asked.
    let until = humantime::format_rfc3339_millis(in_an_hour + Duration::from_secs(1)).to_string();
    let all = desk.json(&["dlq", "stats", "--json", "--until", &until], "", 0);
    assert_eq!((&all["matched"], &all["ahead"]), (&json!(1), &json!(1)), "{all}");
    let until = humantime::format_rfc3339_millis(in_an_hour - Duration::from_secs(1)).to_string();
    let fewer = desk.json(&["dlq", "stats", "--json", "--until", &until], "", 0);
    assert_eq!((&fewer["matched"], &fewer["ahead"]), (&json!(1), &json!(null)), "{fewer}");
}

#[test]
fn a_message_is_sent_back_with_another_body_and_the_dead_letter_keeps_its_own() {
    let desk = Desk::with_handler();
    let _host = desk.host();
    let letters = dead(&desk, "{\"subject\":\"reject\",\"id\":\"1\",\"body\":\"typo\"}\n", 1);
    let id = letters[0]["id"].as_str().unwrap();
    let edit = |editor: &str| {
        let mut command = desk.command(&["dlq", "redrive", id, "--edit"]);
        command.env("EDITOR", editor).env_remove("VISUAL").output().unwrap()
    };
    let left = edit("true");
    assert_eq!(left.status.code(), Some(1), "{left:?}");
    assert!(String::from_utf8_lossy(&left.stderr).contains("left as it was"), "{left:?}");
    assert_eq!(edit("false").status.code(), Some(1));
    let sent = edit("sed -i s/typo/right/");
    assert_eq!(String::from_utf8_lossy(&sent.stdout), "1 sent back with another body\n", "{sent:?}");
    until("it to be dead again", || desk.json(&["dlq", "ls", "--json"], "", 0)[0]["redrives"] == 1);
    let again = desk.json(&["dlq", "ls", "--json"], "", 0)[0]["id"].as_str().unwrap().to_owned();
    let shown = desk.json(&["dlq", "show", &again, "--json"], "", 0);
    assert_eq!(shown["body"], "right");
    assert!(shown["headers"].as_array().unwrap().contains(&json!(["Dlq-Redrive-Of", id])), "{}", shown["headers"]);
    assert_eq!(desk.expect(&["dlq", "show", id, "--body"], "", 0), "typo");
    desk.write("body.txt", "from a file");
    desk.expect(&["dlq", "redrive", &again, "--body", "body.txt"], "", 0);
    desk.expect(&["dlq", "redrive", id, &again, "--body", "body.txt"], "", 2);
}

/// The way of `docs/tour.md`: found, understood, tried on the mended module, deployed, sent again, done.
#[test]
fn a_failure_is_found_understood_mended_and_sent_again() {
    let desk = Desk::with_handler();
    std::fs::write(desk.path().join("mended.wasm"), guest("ledger")).unwrap();
    let _host = desk.host();
    // One module rejects them by their subject, the other skips them by their number.
    dead(&desk, "{\"subject\":\"reject\",\"id\":\"18\"}\n{\"subject\":\"reject\",\"id\":\"38\"}\n", 2);
    let stats = desk.json(&["dlq", "stats", "--json"], "", 0);
    let group = &stats["groups"][0];
    let (fingerprint, id) = (group["key"].as_str().unwrap(), group["newest"]["id"].as_str().unwrap());
    assert_eq!(group["letters"], 2, "{stats}");
    assert!(desk.expect(&["dlq", "show", id], "", 0).contains("card-declined"));
    assert!(desk.expect(&["dlq", "replay", id], "", 5).contains("compared  as recorded"));
    let cases = ["dlq", "export", "--as-fixture", "cases", "--fingerprint", fingerprint];
    desk.expect(&cases, "", 0);
    assert_eq!(std::fs::read_dir(desk.path().join("cases")).unwrap().count(), 2);
    let tried = desk.expect(&["dlq", "replay", id, "--with", "mended.wasm"], "", 0);
    assert!(tried.contains("compared  handler-rejected"), "{tried}");
    desk.expect(&["deploy", "mended.wasm", "--handler", "behave"], "", 0);
    let all = ["dlq", "redrive", "--all", "--fingerprint", fingerprint, "--canary", "1"];
    assert_eq!(desk.expect(&all, "", 0), "2 sent back\n");
    assert_eq!(desk.json(&["dlq", "ls", "--json"], "", 0), json!([]));
    until("both to be done", || {
        let status: Value = serde_json::from_str(&desk.get("/v1/status").1).unwrap();
        status["subscriptions"][0]["counts"]["skipped"] == 2
    });
}

#[test]
fn what_failed_in_a_version_that_still_runs_is_warned_of_and_can_be_passed_over() {
    let desk = Desk::with_handler();
    let _host = desk.host();
    let letters = dead(&desk, "{\"subject\":\"reject\",\"id\":\"1\"}\n{\"subject\":\"reject\",\"id\":\"2\"}\n", 2);
    let (one, all) = (by_message(&letters, "1"), ["dlq", "redrive", "--all", "--only-if-version-changed"]);
    assert!(desk.expect(&["dlq", "show", one], "", 0).contains("this version still runs"));
    assert_eq!(desk.json(&["dlq", "stats", "--json"], "", 0)["same_version"], json!(2));
    let told = |arguments: &[&str]| {
        let output = desk.run(arguments, "");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(
        told(&["dlq", "redrive", "--all", "--dry-run"]).1.contains("2 of them failed in a version that still runs")
    );
    let passed = "passed over: they failed in a version that still runs\n";
    assert_eq!(desk.expect(&all, "", 0), format!("0 sent back, 2 {passed}"));
    assert_eq!(
        desk.expect(&["dlq", "redrive", one, "--only-if-version-changed"], "", 0),
        format!("0 sent back, 1 {passed}")
    );
    assert_eq!(desk.json(&["dlq", "ls", "--json"], "", 0).as_array().unwrap(), &letters, "nothing was sent");

    // Sent all the same, they are dead again, and failed in the same version.
    let (done, warned) = told(&["dlq", "redrive", one]);
    assert!(done == "1 sent back\n" && warned.contains("failed in a version that still runs"), "{warned}");
    let (done, warned) = told(&["dlq", "redrive", "--all", "--until", "0s", "--text", "card-declined"]);
    assert!(done.ends_with("sent back\n") && warned.contains("--only-if-version-changed passes such over"), "{warned}");
    until("both to be dead again", || {
        let letters = desk.json(&["dlq", "ls", "--json"], "", 0);
        letters.as_array().unwrap().iter().filter(|letter| letter["redrives"] != json!(0)).count() == 2
    });

    std::fs::write(desk.path().join("ledger.wasm"), guest("ledger")).unwrap();
    desk.expect(&["deploy", "ledger.wasm", "--handler", "behave"], "", 0);
    assert_eq!(desk.json(&["dlq", "stats", "--json"], "", 0)["same_version"], json!(0));
    assert_eq!(desk.expect(&all, "", 0), "2 sent back\n");
}

#[test]
fn a_redrive_that_is_paused_stays_so_over_a_restart_and_goes_on_when_it_is_told_to() {
    let desk = Desk::with_handler();
    let host = desk.host();
    dead(&desk, "{\"subject\":\"reject\",\"id\":\"1\"}\n{\"subject\":\"reject\",\"id\":\"2\"}\n", 2);
    let slow = ["dlq", "redrive", "--all", "--rate", "0.001", "--detach"];
    let task = desk.expect(&slow, "", 0).trim().to_owned();
    let standing = || desk.json(&["dlq", "tasks", &task, "--json"], "", 0);
    let sent = || {
        let letters = desk.json(&["dlq", "ls", "--json"], "", 0);
        letters.as_array().unwrap().iter().filter(|letter| letter["redrives"] == json!(1)).count()
    };
    until("the first one to be dead again", || sent() == 1);
    assert!(desk.expect(&["dlq", "pause", &task], "", 0).contains("standing  paused"));
    drop(host);
    let host = desk.host();
    // As done, or where the kill came before that was written down as unknown, once the host has looked at what is left.
    let mut paused = json!({});
    until("what was sent to be counted", || {
        paused = standing();
        ["done", "unknown"].iter().map(|key| paused[key].as_u64().unwrap_or(0)).sum::<u64>() == 1
    });
    assert_eq!((&paused["standing"], &paused["total"]), (&json!("paused"), &json!(2)), "{paused}");
    assert_eq!(sent(), 1, "{paused}");
    assert!(desk.expect(&["dlq", "tasks"], "", 0).contains("paused by"));
    let resumed = desk.json(&["dlq", "resume", &task, "--json"], "", 0);
    assert_eq!(resumed["standing"], "running");
    until("the other one to be dead again", || sent() == 2);
    let audit = desk.expect(&["audit"], "", 0);
    assert!(audit.contains("dead-letter.task.pause") && audit.contains("dead-letter.task.resume"), "{audit}");
    desk.expect(&["dlq", "cancel", &task], "", 0);
    desk.expect(&["dlq", "resume", &task], "", 1);
    desk.expect(&["dlq", "pause", "none"], "", 3);
    drop(host);
}

#[test]
fn what_dies_after_it_was_counted_is_neither_removed_nor_sent() {
    let desk = Desk::with_handler();
    let _host = desk.host();
    dead(&desk, "{\"subject\":\"reject\",\"id\":\"1\"}\n{\"subject\":\"reject\",\"id\":\"2\"}\n", 2);
    let counted = desk.json(&["dlq", "stats", "--json"], "", 0)["until"].as_str().unwrap().to_owned();
    let told = desk.run(&["dlq", "redrive", "--all", "--dry-run"], "");
    assert!(String::from_utf8_lossy(&told.stderr).contains("--until 20"), "{told:?}");
    dead(&desk, "{\"subject\":\"reject\",\"id\":\"3\"}\n", 3);
    desk.expect(&["dlq", "discard", "--all", "--count", "2"], "", 1);
    let by_then = |count: &str| desk.expect(&["dlq", "discard", "--all", "--until", &counted, "--count", count], "", 0);
    assert_eq!(by_then("2"), "2 removed\n");
    assert_eq!(desk.expect(&["dlq", "redrive", "--all", "--until", &counted], "", 0), "0 sent back\n");
    let left = desk.json(&["dlq", "ls", "--json"], "", 0);
    assert_eq!((left.as_array().unwrap().len(), &left[0]["message_id"]), (1, &json!("3")), "{left}");
}

#[test]
fn a_dead_letter_is_sent_to_another_subject_when_somebody_receives_it() {
    let desk = Desk::with_handler();
    let _host = desk.host();
    let letters = dead(&desk, "{\"subject\":\"reject\",\"id\":\"1\"}\n{\"subject\":\"reject\",\"id\":\"2\"}\n", 2);
    let one = by_message(&letters, "1");
    desk.expect(&["dlq", "redrive", one, "--to", "a.*"], "", 1);
    desk.expect(&["dlq", "redrive", "--all", "--to", "complete", "--canary", "1"], "", 2);
    assert_eq!(desk.json(&["dlq", "ls", "--json"], "", 0).as_array().unwrap(), &letters, "nothing was sent");
    assert_eq!(desk.expect(&["dlq", "redrive", one, "--to", "complete"], "", 0), "1 sent back\n");
    let all = desk.run(&["dlq", "redrive", "--all", "--to", "complete", "--json"], "");
    let task: Value = serde_json::from_slice(&all.stdout).unwrap();
    assert_eq!(
        (&task["done"], &task["to"], &task["standing"]),
        (&json!(1), &json!("complete"), &json!("done")),
        "{task}"
    );
    let counted = || {
        let status = desk.json(&["status", "--json"], "", 0);
        status["status"]["subscriptions"][0]["counts"]["completed"].as_u64().unwrap_or(0)
    };
    until("both to be done", || counted() == 2);
    assert_eq!(desk.json(&["dlq", "ls", "--json"], "", 0), json!([]));
}

/// Rejects each message, and its id is the reason.
const ANOTHER_EACH_TIME: &str = r#"(module
    (memory (export "memory") 2)
    (global $next (mut i32) (i32.const 65536))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
        (global.set $next (i32.add (local.get $at) (local.get 3)))
        (local.get $at))
    (func (export "tidegate:events/handler@0.1.0#handle") (param i32) (result i32)
        (i32.store8 (i32.const 1024) (i32.const 1))
        (i32.store8 (i32.const 1028) (i32.const 1))
        (i32.store (i32.const 1032) (i32.load (local.get 0)))
        (i32.store (i32.const 1036) (i32.load offset=4 (local.get 0)))
        (i32.const 1024)))"#;

/// A word for a number, without a digit: what has one in it is taken for an id, and tells no errors apart.
fn word(number: u32) -> String {
    let letter = |place: u32| char::from(b'a' + u8::try_from(number / 26_u32.pow(place) % 26).unwrap());
    format!("unknown-{}", (0..4).map(letter).collect::<String>())
}

/// The series of `/metrics`, by name and labels.
fn series(desk: &Desk) -> BTreeSet<String> {
    let (_, metrics) = desk.get("/metrics");
    let samples = metrics.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.rsplit_once(' ')).map(|(series, _value)| series.to_owned()).collect()
}

/// A handler that puts something of each message into its error fills neither the counts nor the metrics with it.
#[test]
fn ten_thousand_different_errors_are_counted_in_bounded_room() {
    // A few more than are counted apart.
    const ERRORS: u32 = 10_500;
    let desk = Desk::with_handler();
    std::fs::write(desk.path().join("behaviours.wasm"), handler_from(ANOTHER_EACH_TIME)).unwrap();
    // A line a dead letter is more than a pipe takes that nobody reads.
    let _host = desk.host_with_log();
    let publish = |numbers: std::ops::Range<u32>| {
        let mut lines = String::new();
        for number in numbers {
            writeln!(lines, "{{\"subject\":\"a\",\"id\":\"{}\"}}", word(number)).unwrap();
        }
        desk.expect(&["publish", "--lines"], &lines, 0);
    };
    let dead = |count: u32| {
        support::until("the messages to be dead", Duration::from_secs(60), || {
            desk.metric("tidegate_messages_settled_total", &["reason=\"handler-rejected\""]) == u64::from(count)
        });
    };
    publish(0..100);
    dead(100);
    let before = series(&desk);
    publish(100..ERRORS);
    dead(ERRORS);
    let stats = |query: &str| -> Value {
        let (status, body) = desk.get(&format!("/v1/dead-letters/stats?{query}"));
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    };
    for (query, shown) in [("", 20), ("top=200", 200), ("top=100000", 200)] {
        let stats = stats(query);
        let groups = stats["groups"].as_array().unwrap();
        let [others, other_groups] = [&stats["others"], &stats["other_groups"]].map(|number| number.as_u64().unwrap());
        assert_eq!((groups.len(), &stats["matched"]), (shown, &json!(ERRORS)), "{query}");
        let errors: BTreeSet<&str> = groups.iter().map(|group| group["newest"]["error"].as_str().unwrap()).collect();
        assert!(errors.len() == shown && errors.iter().all(|error| error.starts_with("unknown-")), "{errors:?}");
        assert_eq!(others + shown as u64, u64::from(ERRORS), "each is counted once");
        assert_eq!(other_groups + shown as u64, 10_001, "there are at least so many");
    }
    let by_reason = stats("by=reason");
    assert_eq!((&by_reason["groups"][0]["letters"], &by_reason["others"]), (&json!(ERRORS), &json!(0)), "{by_reason}");
    let shown = desk.expect(&["dlq", "stats"], "", 0);
    assert_eq!(shown.lines().count(), 23, "a heading, twenty groups, the others, and when they died: {shown}");
    assert!(shown.contains("\n10,480 more in at least 9,981 other groups; --top shows more\n"), "{shown}");

    let after = series(&desk);
    let new: Vec<&String> = after.difference(&before).collect();
    assert!(new.len() < 20, "ten thousand errors make no series: {new:?}");
    assert!(!after.iter().any(|series| series.contains("unknown-")), "{after:?}");
}
