//! Dead letters as a person meets them: counted, found, looked into, run once more.

use serde_json::{Value, json};

use crate::command_line::{Desk, until};
use crate::support::guests::guest;

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
    assert_eq!(short["difference"], "handler-rejected is now out-of-fuel");

    // The version that ran is forgotten.
    desk.expect(&["deploy", "ledger.wasm", "--handler", "behave"], "", 0);
    until("the module to be collected", || {
        desk.json(&["handlers", "show", "behave", "--json"], "", 0)["versions"].as_array().unwrap().len() == 1
    });
    let gone = desk.run(&["dlq", "replay", id], "");
    let told = String::from_utf8_lossy(&gone.stderr);
    assert_eq!(gone.status.code(), Some(3), "{told}");
    assert!(told.contains("--with MODULE") && told.contains("behave@1") && told.contains("keep_versions"), "{told}");
    let alone = desk.json(&["dlq", "replay", id, "--with", "behaviours.wasm", "--json"], "", 5);
    assert_eq!((&alone["difference"], alone.get("replayed")), (&json!(""), None), "{alone}");
    let shown = desk.expect(&["dlq", "replay", id, "--with", "behaviours.wasm"], "", 5);
    assert!(shown.contains("compared  as recorded") && shown.contains("nothing was sent"), "{shown}");
    assert_eq!(desk.json(&["dlq", "ls", "--json"], "", 0).as_array().unwrap(), &letters, "it is as it was");
}
