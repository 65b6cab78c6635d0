//! What people do by mistake, and what they are told: a word beside what happened, which names the way on.

use serde_json::json;

use crate::command_line::{Desk, until};

/// What a command says beside its data; it has to end with this code.
fn told(desk: &Desk, arguments: &[&str], input: &str, code: i32) -> String {
    let output = desk.run(arguments, input);
    let (out, talk) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\nstdout: {out}\nstderr: {talk}");
    talk.into_owned()
}

/// A handler that gets these two subjects and no others.
fn narrow() -> Desk {
    let desk = Desk::with_handler();
    let text = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    desk.write("tidegate.toml", &text.replace("[\">\"]", "[\"complete\", \"reject\"]"));
    desk
}

#[test]
fn a_subject_that_nobody_receives_and_a_host_that_does_not_run_are_told() {
    let desk = narrow();
    let nobody = "no subscription of this host receives `completes`; it has all (complete, reject)";
    let without_host = told(&desk, &["publish", "-s", "completes"], "x", 0);
    assert!(without_host.contains("no host answers at 127.0.0.1:"), "{without_host}");
    assert!(
        without_host.contains("waits in its broker until one runs") && without_host.contains(nobody),
        "{without_host}"
    );
    let redriven = told(&desk, &["dlq", "redrive", "--all"], "", 0);
    assert!(redriven.contains("no host answers at 127.0.0.1:"), "{redriven}");
    let _host = desk.host();
    assert!(told(&desk, &["publish", "-s", "completes"], "x", 0).contains(nobody));
    assert_eq!(told(&desk, &["publish", "-s", "complete"], "x", 0), "", "it is received, and a host runs");
}

#[test]
fn whole_messages_and_bodies_are_told_apart() {
    let desk = narrow();
    let _host = desk.host();
    let whole = "{\"subject\":\"complete\",\"json\":{\"id\":7}}\n";
    desk.write("messages.jsonl", &whole.repeat(3));
    let warned = told(&desk, &["publish", "--subject", "complete", "messages.jsonl"], "", 0);
    assert_eq!(warned.matches("warning: messages.jsonl:1 has a subject and a body of its own").count(), 1, "{warned}");
    assert_eq!(told(&desk, &["publish", "messages.jsonl"], "", 0), "");
    let piped = told(&desk, &["publish"], whole, 1);
    assert!(piped.contains("--subject") && piped.contains("--lines"), "{piped}");
    desk.write("broken.jsonl", &format!("{whole}{{\"subjct\":\"complete\"}}\n{whole}"));
    let broken = told(&desk, &["publish", "broken.jsonl"], "", 4);
    assert!(
        broken.contains("the 1 message before it was published, and nothing from it on: broken.jsonl:2:"),
        "{broken}"
    );
    desk.write("broken.jsonl", "{}\n");
    assert!(told(&desk, &["publish", "broken.jsonl"], "", 1).contains("nothing was published: broken.jsonl:1:"));
}

/// They succeed, as there may have been such a one; and they name what the host has.
#[test]
fn filters_by_what_is_not_there_say_so() {
    let desk = narrow();
    let host = desk.host();
    desk.expect(&["publish", "-s", "reject"], "x", 0);
    until("it is dead", || desk.json(&["dlq", "ls", "--json"], "", 0).as_array().unwrap().len() == 1);
    let none = "this host has no handler `nope` now; it has behave";
    for arguments in [
        &["dlq", "ls", "--handler", "nope"][..],
        &["dlq", "stats", "--handler", "nope"],
        &["dlq", "redrive", "--all", "--handler", "nope"],
        &["dlq", "redrive", "--all", "--handler", "nope", "--dry-run"],
        &["dlq", "export", "--handler", "nope"],
    ] {
        let said = told(&desk, arguments, "", 0);
        assert!(said.contains(none), "{arguments:?}: {said}");
    }
    let said = told(&desk, &["dlq", "ls", "--subscription", "none", "--reason", "handler-reject"], "", 0);
    assert!(said.contains("no subscription `none` now; it has all"), "{said}");
    assert!(said.contains("`handler-reject` is no reason code: did you mean `handler-rejected`?"), "{said}");
    assert_eq!(told(&desk, &["dlq", "ls", "--handler", "behave", "--reason", "timeout"], "", 0), "no dead letters\n");
    let version = told(&desk, &["dlq", "ls", "--handler", "behave", "--version", "2"], "", 2);
    assert!(version.contains("`2` is no version: say behave@2, or 12 digits or more of its digest"), "{version}");
    drop(host);
    // The handler has another name from now on: what died under the old one is found by that.
    let text = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    desk.write("tidegate.toml", &text.replace("behave]", "renamed]").replace("\"behave\"", "\"renamed\""));
    let _host = desk.host();
    assert_eq!(desk.json(&["dlq", "ls", "--json", "--handler", "behave"], "", 0).as_array().unwrap().len(), 1);
}

#[test]
fn a_second_host_an_empty_folder_and_another_address_name_a_way_on() {
    let desk = narrow();
    let _host = desk.host();
    let second = told(&desk, &["run"], "", 1);
    assert!(second.contains("a host answers at 127.0.0.1:") && second.contains("TIDEGATE_HTTP__LISTEN"), "{second}");
    let text = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    desk.write("elsewhere.toml", &text.replace(&desk.address(), "127.0.0.1:1"));
    let moved = told(&desk, &["apply", "--dry-run", "--config", "elsewhere.toml"], "", 1);
    assert!(moved.contains("as when `listen` was changed after its start, is named with --host"), "{moved}");
    let empty = tempfile::tempdir().unwrap();
    let mut run = desk.command(&["run"]);
    let nothing = run.current_dir(empty.path()).output().unwrap();
    let said = String::from_utf8_lossy(&nothing.stderr);
    assert_eq!(nothing.status.code(), Some(2), "{said}");
    assert!(said.contains("`tidegate new NAME`") && said.contains("--config FILE"), "{said}");
}

#[test]
fn a_pause_says_what_it_replaces() {
    let desk = narrow();
    let _host = desk.host();
    let first = desk.expect(&["pause", "all", "--why", "the database moves", "--for", "10m"], "", 0);
    assert!(!first.contains("in the place of"), "{first}");
    let second = desk.expect(&["pause", "all"], "", 0);
    assert!(second.contains("in the place of the pause until 20"), "{second}");
    assert!(second.contains("by local: the database moves"), "{second}");
    let third = desk.json(&["pause", "all", "--json"], "", 0);
    assert_eq!(third["subscriptions"][0]["replaced"]["until"], json!(null));
    assert_eq!(third["subscriptions"][0]["replaced"]["by"], json!("local"));
    desk.expect(&["resume", "all"], "", 0);
    assert_eq!(desk.json(&["pause", "all", "--json"], "", 0)["subscriptions"][0]["replaced"], json!(null));
}

/// What becomes of a message was over before anybody could look.
#[test]
fn a_redrive_that_is_watched_tells_the_end_of_each() {
    let desk = narrow();
    let host = desk.host();
    desk.expect(
        &["publish", "--lines"],
        "{\"subject\":\"reject\",\"id\":\"1\"}\n{\"subject\":\"reject\",\"id\":\"2\"}\n",
        0,
    );
    let letters = || desk.json(&["dlq", "ls", "--json"], "", 0);
    until("both are dead", || letters().as_array().unwrap().len() == 2);
    let ids =
        || letters().as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let before = ids();
    let seen = desk.expect(&["dlq", "redrive", "--watch", &before[0], &before[1]], "", 4);
    assert!(seen.starts_with("2 sent back\n"), "{seen}");
    let after = ids();
    for id in &before {
        let line =
            seen.lines().find(|line| line.starts_with(&format!("{id}: "))).unwrap_or_else(|| panic!("{id}: {seen}"));
        assert!(
            line.contains("dead-lettered as handler-rejected on behave@1 in ") && line.contains("card-declined"),
            "{line}"
        );
        assert!(after.iter().any(|id| line.ends_with(&format!("tidegate dlq show {id}"))), "{line}: {after:?}");
    }
    drop(host);
    assert!(told(&desk, &["dlq", "redrive", "--watch", &after[0]], "", 2).contains("no host runs here"));
    assert_eq!(ids(), after, "nothing was sent");
}
