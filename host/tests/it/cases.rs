//! `tidegate test` and `dlq export --as-fixture`, as people and scripts use them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::command_line::{Desk, until};
use crate::support::guests::{example, guest};
use crate::support::modules::{answer, handler};

fn said(desk: &Desk, arguments: &[&str], code: i32) -> (String, String) {
    let output = desk.run(arguments, "");
    let (out, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\nstdout: {out}\nstderr: {error}");
    (out, error)
}

/// A desk with a handler whose messages' subjects say what it does, and these cases.
fn desk(cases: &str) -> Desk {
    let desk = Desk::with_handler();
    std::fs::create_dir(desk.path().join("cases")).unwrap();
    desk.write("cases/all.jsonl", cases);
    desk
}

#[test]
fn the_cases_of_an_example_run_by_its_configuration() {
    let example_folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/github-webhooks");
    let desk = Desk::new();
    let text = std::fs::read_to_string(example_folder.join("tidegate.toml")).unwrap();
    desk.write("tidegate.toml", &text.replace("../../target/guests/github_webhooks.wasm", "triage.wasm"));
    std::fs::write(desk.path().join("triage.wasm"), example("github-webhooks")).unwrap();
    let cases = example_folder.join("cases");
    let report = desk.json(&["test", cases.to_str().unwrap(), "--json"], "", 0);
    assert_eq!((&report["passed"], &report["failed"]), (&json!(10), &json!(0)), "{report}");
    let again = desk.json(&["test", cases.to_str().unwrap(), "--json"], "", 0);
    assert_eq!(report["cases"], again["cases"], "the same each time, fuel and all");
    let places: Vec<&str> =
        report["cases"].as_array().unwrap().iter().map(|one| one["place"].as_str().unwrap()).collect();
    let mut sorted = places.clone();
    sorted.sort_unstable();
    assert_eq!(places, sorted);
    let one = desk.json(&["test", cases.to_str().unwrap(), "--json", "--filter", "STAR"], "", 0);
    assert_eq!(one["cases"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_not_as_expected_is_shown_and_then_expected() {
    let desk = desk(concat!(
        "{\"name\": \"it echoes\", \"subject\": \"echo\", \"body\": \"a\\nb\", \"expect\": {\"outcome\": \"completed\"}}\n",
        "{\"subject\": \"reject\", \"expect\": \"completed\"}\n",
        "{\"subject\": \"skip\"}\n",
    ));
    // The configuration grants no output.
    let (out, _) = said(&desk, &["test"], 5);
    assert!(
        out.starts_with(
            "FAILED  all.jsonl:1 it echoes\n        outcome: expected `completed`, and it ended `denied` ("
        ),
        "{out}"
    );
    assert!(out.contains(
        "FAILED  all.jsonl:2\n        outcome: expected `completed`, and it ended `handler-rejected` (card-declined)\n"
    ));
    assert!(out.contains("open    all.jsonl:3: skipped ("), "{out}");
    assert!(out.contains("3 cases: 0 as expected, 2 not, 1 of which nothing is expected; "), "{out}");
    let (out, _) = said(&desk, &["test", "--module", "behaviours.wasm", "cases", "--quiet"], 5);
    assert!(!out.contains("all.jsonl:1") && !out.contains("all.jsonl:3") && out.contains("all.jsonl:2"), "{out}");

    let report = desk.json(&["test", "--module", "behaviours.wasm", "cases", "--update", "--json"], "", 0);
    assert_eq!((&report["updated"], &report["passed"]), (&json!(2), &json!(1)));
    let (out, _) = said(&desk, &["test", "--module", "behaviours.wasm", "cases"], 0);
    assert!(out.contains("3 cases: 3 as expected; "), "{out}");
    let text = std::fs::read_to_string(desk.path().join("cases/all.jsonl")).unwrap();
    let last = "{\"subject\": \"skip\", \"expect\": {\"outcome\":\"skipped\",\"reason\":\"stale\"}}\n";
    assert!(
        text.ends_with(&format!("{{\"subject\": \"reject\", \"expect\": \"handler-rejected\"}}\n{last}")),
        "{text}"
    );
}

#[test]
fn a_case_lowers_limits_and_says_how_the_message_is_handed_over() {
    let desk = desk(concat!(
        "{\"subject\": \"hostile.spin\", \"limits\": {\"fuel\": 100000}, \"expect\": \"out-of-fuel\"}\n",
        "{\"subject\": \"probe.sleep\", \"body\": \"60000\", \"limits\": {\"timeout\": \"50ms\"}, \"expect\": \"timeout\"}\n",
        "{\"subject\": \"complete\", \"limits\": {\"memory\": \"128KiB\"}, \"expect\": \"memory-limit\"}\n",
        "{\"subject\": \"probe.previous-failure\", \"attempt\": 2, \"previous_failure\": \"timeout: it took long\",",
        " \"expect\": {\"outcome\": \"handler-rejected\", \"text\": \"timeout: it took long\"}}\n",
        "{\"subject\": \"probe.message\", \"id\": \"m-7\", \"sequence\": 9, \"attempt\": 2, \"max_attempts\": 3,",
        " \"headers\": {\"Kind\": \"a\"}, \"published_at\": \"2026-11-29T00:00:00Z\", \"subscription\": \"orders\",",
        " \"expect\": {\"outcome\": \"handler-rejected\", \"text\": \"attempt: 2, max-attempts: Some(3), sequence: Some(9)\"}}\n",
        "{\"subject\": \"complete\", \"limits\": {\"fuel\": 2000000000}, \"expect\": \"completed\"}\n",
    ));
    let report = desk.json(&["test", "--json"], "", 5);
    let results: Vec<&Value> = report["cases"].as_array().unwrap().iter().map(|one| &one["result"]).collect();
    assert_eq!(results, ["ok", "ok", "ok", "ok", "ok", "failed"], "{report:#}");
    let told = report["cases"][5]["differences"][0].as_object().unwrap();
    assert_eq!(told["what"], "limits.fuel");
    assert!(told["text"].as_str().unwrap().ends_with("a case can lower a limit only"), "{told:?}");
}

#[test]
fn a_case_is_run_under_faults_when_asked() {
    let desk = Desk::new();
    // It counts its runs in its memory: with reuse, a duplicate is another message to it.
    let counts = handler(
        "(global $runs (mut i32) (i32.const 0))",
        &answer(
            "(if (global.get $runs) (then unreachable))
             (global.set $runs (i32.const 1))",
        ),
    );
    std::fs::write(desk.path().join("counts.wasm"), counts).unwrap();
    std::fs::write(desk.path().join("ledger.wasm"), guest("ledger")).unwrap();
    std::fs::write(desk.path().join("behaviours.wasm"), guest("behaviours")).unwrap();
    let mut text = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    text += "[handlers.counts]\nmodule = \"counts.wasm\"\ngolden = \"counts\"\ninstances = { reuse = 10 }\n";
    text += "[handlers.fresh]\nmodule = \"counts.wasm\"\ngolden = \"counts\"\n";
    text += "[handlers.ledger]\nmodule = \"ledger.wasm\"\ngolden = \"ledger\"\n";
    text += "[handlers.sleeps]\nmodule = \"behaviours.wasm\"\ngolden = \"sleeps\"\n";
    desk.write("tidegate.toml", &text);
    for (folder, case) in [
        ("counts", r#"{"subject": "a", "faults": ["duplicate"], "expect": "completed"}"#),
        ("ledger", r#"{"subject": "a", "id": "x-19", "expect": "handler-retry"}"#),
        ("sleeps", r#"{"subject": "probe.sleep", "body": "1100", "expect": "handler-rejected"}"#),
    ] {
        std::fs::create_dir(desk.path().join(folder)).unwrap();
        desk.write(&format!("{folder}/a.json"), case);
    }
    let failed = |arguments: &[&str], code: i32| {
        let report = desk.json(&[&["test", "--json"], arguments].concat(), "", code);
        let failed = report["cases"].as_array().unwrap().iter().filter(|one| one["result"] == "failed");
        let told = failed.map(|one| {
            format!("{}: {}: {}", one["handler"], one["differences"][0]["what"], one["differences"][0]["text"])
        });
        told.collect::<Vec<_>>()
    };
    let reused = "\"counts\": \"duplicate: outcome\": \"expected `completed`, and it ended `trap:unreachable`";
    let all = failed(&[], 5);
    assert!(all.len() == 1 && all[0].starts_with(reused), "{all:?}");
    assert_eq!(
        failed(&["--handler", "ledger", "--fault", "redelivery"], 5).len(),
        1,
        "the second attempt is another one"
    );
    assert_eq!(failed(&["--handler", "ledger", "--fault", "duplicate"], 0).len(), 0);
    let slow = failed(&["--handler", "sleeps", "--fault", "slow"], 5);
    assert!(slow[0].contains("slow: outcome") && slow[0].contains("it ended `timeout`"), "{slow:?}");
    let (out, _) = said(&desk, &["test"], 5);
    let order: Vec<usize> = ["counts", "fresh", "ledger", "sleeps"]
        .map(|name| out.find(&format!("handler {name} (")).unwrap_or_else(|| panic!("{out}")))
        .to_vec();
    assert!(order.is_sorted(), "{out}");
}

#[test]
fn a_case_is_stopped_with_less_than_it_took() {
    // Whatever a run comes to, with a little less of what it took it is stopped, and its message is not done.
    let desk = desk(concat!(
        "{\"subject\": \"echo\", \"body\": \"a\", \"faults\": [\"limits\"], \"expect\": \"completed\"}\n",
        "{\"subject\": \"reject\", \"attempt\": 3, \"max_attempts\": 3, \"expect\": \"handler-rejected\"}\n",
        "{\"subject\": \"hostile.unreachable\", \"expect\": \"trap:unreachable\"}\n",
        "{\"subject\": \"hostile.spin\", \"limits\": {\"fuel\": 100000}, \"expect\": \"out-of-fuel\"}\n",
    ));
    let run = |more: &[&str]| {
        let arguments = [&["test", "cases", "--module", "behaviours.wasm", "--json"], more].concat();
        desk.json(&arguments, "", 0)["cases"].as_array().unwrap().clone()
    };
    let without = run(&["--filter", ":2"]);
    assert_eq!(without[0].get("stopped"), None, "nobody asked for it: {without:?}");
    let all = run(&["--fault", "limits"]);
    assert_eq!(all.len(), 4);
    for (one, verdict) in all.iter().zip(["retry", "dead-letter", "retry", "retry"]) {
        let [fuel, memory] = one["stopped"].as_array().unwrap().as_slice() else { panic!("{one:#}") };
        let (took, at) = (one["fuel"].as_u64().unwrap(), fuel["at"].as_u64().unwrap());
        assert!(fuel["limit"] == "fuel" && at < took && at >= took / 2 - 1, "as near to its end as can be: {one:#}");
        assert!([&json!("out-of-fuel"), &one["outcome"]].contains(&&fuel["outcome"]), "{one:#}");
        assert_eq!((&memory["limit"], &memory["outcome"]), (&json!("memory"), &json!("memory-limit")), "{one:#}");
        assert!([fuel, memory].iter().all(|stopped| stopped["verdict"] == verdict), "{one:#}");
    }
    let (out, _) = said(&desk, &["test", "cases", "--module", "behaviours.wasm", "--fault", "limits"], 0);
    assert!(out.contains("4 cases: 4 as expected; "), "{out}");
    // No fuel is counted, and memory is all that can be less.
    let unmetered = run(&["--filter", ":1", "--fuel", "unmetered"]);
    assert_eq!(unmetered[0]["stopped"].as_array().unwrap().len(), 1, "{unmetered:?}");
}

#[test]
fn what_cannot_be_run_says_why_and_what_to_do() {
    let desk = desk("{\"subject\": \"complete\", \"expct\": \"completed\"}\n");
    let rows: [(&[&str], i32, &str); 9] = [
        (&["test"], 2, "cases cannot be used: all.jsonl:1: unknown key `expct`: did you mean `expect`?"),
        (&["test", "none"], 2, "the cases in none cannot be used: could not read none: No such file"),
        (&["test", "--handler", "other"], 3, "tidegate.toml has no handler `other`; there is: behave"),
        (&["test", "cases", "--module", "none.wasm"], 2, "unknown key"),
        (&["test", "--module", "behaviours.wasm"], 2, "say which cases are to be run on it"),
        (&["test", "empty"], 3, "there are no cases in empty"),
        (&["test", "good", "--module", "none.wasm"], 1, "reading the module none.wasm (`tidegate build` makes it)"),
        (&["test", "good", "--filter", "x"], 3, "there is no case in whose file or name `x` stands"),
        (&["test", "good", "--fault", "fast"], 2, "there is: duplicate, redelivery, slow, limits"),
    ];
    for folder in ["empty", "good"] {
        std::fs::create_dir(desk.path().join(folder)).unwrap();
    }
    desk.write("good/a.json", "{\"subject\": \"complete\", \"expect\": \"completed\"}");
    for (arguments, code, expected) in rows {
        let (_, error) = said(&desk, arguments, code);
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    std::fs::remove_dir_all(desk.path().join("cases")).unwrap();
    let (_, error) = said(&desk, &["test"], 2);
    assert!(error.contains("[handlers.behave]\ngolden = \"golden\""), "{error}");
}

#[test]
fn a_dead_letter_becomes_a_case_that_runs_as_it_is() {
    let desk = Desk::with_handler();
    let host = desk.host();
    let lines = concat!(
        "{\"subject\":\"reject\",\"id\":\"1\",\"json\":{\"n\": 1.10},\"headers\":{\"Kind\":\"a\"}}\n",
        "{\"subject\":\"hostile.unreachable\",\"id\":\"2\",\"body_base64\":\"/wA=\"}\n",
    );
    desk.expect(&["publish", "--lines"], lines, 0);
    let letters = || desk.json(&["dlq", "ls", "--json"], "", 0);
    until("both to be dead", || letters().as_array().unwrap().len() == 2);
    let export =
        |more: &[&str]| desk.json(&[&["dlq", "export", "--as-fixture", "dead", "--json"], more].concat(), "", 0);
    assert_eq!(export(&["--reason", "handler-rejected"]), json!({"written": 1, "present": 0}), "the filters hold");
    assert_eq!(export(&[]), json!({"written": 1, "present": 1}));
    drop(host);
    let report = desk.json(&["test", "dead", "--json"], "", 0);
    assert_eq!((&report["passed"], &report["failed"]), (&json!(2), &json!(0)), "{report:#}");
    for letter in letters().as_array().unwrap() {
        let file = desk.path().join(format!("dead/{}.json", letter["id"].as_str().unwrap()));
        let case: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!((&case["subject"], &case["id"]), (&letter["subject"], &letter["message_id"]));
        assert_eq!((&case["attempt"], &case["subscription"]), (&letter["attempts"], &json!("all")));
    }
    // Once it does something else, that is told.
    std::fs::write(desk.path().join("behaviours.wasm"), guest("ledger")).unwrap();
    assert_eq!(desk.json(&["test", "dead", "--json"], "", 5)["failed"], json!(2));
}
