//! Grants as an operator meets them: refused, given, changed, taken away.

use std::path::Path;

use serde_json::{Value, json};

use crate::command_line::{Desk, until};
use crate::support::guests::guest;

/// The values and secrets that `read` is granted.
const GRANTS: &str = "config.region = \"eu\"\nsecrets.token = { file = \"token.txt\" }\n";
/// A bucket beside them.
const BUCKET: &str = "buckets.seen = { broker = \"local\" }\n";

/// A handler that reads values, and one that is granted none and waits for a module.
fn desk() -> Desk {
    let desk = Desk::new();
    std::fs::write(desk.path().join("values.wasm"), guest("values")).unwrap();
    desk.write("token.txt", "hunter2\n");
    let mut text = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    text += "[host]\ndata_dir = \"data\"\n[handlers.bare]\n";
    text += "[subscriptions.all]\nbroker = \"local\"\nsubjects = [\">\"]\nhandler = \"read\"\n";
    text += &format!("[handlers.read]\nmodule = \"values.wasm\"\n{GRANTS}");
    desk.write("tidegate.toml", &text);
    desk
}

fn edit(desk: &Desk, before: &str, after: &str) {
    let text = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    assert!(text.contains(before), "{text}");
    desk.write("tidegate.toml", &text.replace(before, after));
}

/// What the handler says that it read.
fn read(desk: &Desk, name: &str) -> String {
    desk.expect(&["publish", "--subject", "get"], name, 0);
    let mut letters = json!([]);
    until("what was read", || {
        letters = desk.json(&["dlq", "ls", "--json"], "", 0);
        !letters.as_array().unwrap().is_empty()
    });
    desk.expect(&["dlq", "discard", "--all", "--count", "1"], "", 0);
    what_it_read(&letters[0]["error"])
}

/// The detail of the reason that it rejects with.
fn what_it_read(reason: &Value) -> String {
    reason.as_str().unwrap().strip_prefix("read: ").unwrap().to_owned()
}

/// Whether a text stands in any file of a folder.
fn stands_in(folder: &Path, text: &str) -> bool {
    let has =
        |path: &Path| std::fs::read(path).is_ok_and(|bytes| bytes.windows(text.len()).any(|at| at == text.as_bytes()));
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() { stands_in(&path, text) } else { has(&path) }
    })
}

#[test]
fn a_handler_reaches_what_its_configuration_grants_and_another_value_is_another_version() {
    let desk = desk();
    let _host = desk.host();
    let refused = desk.run(&["deploy", "values.wasm", "--handler", "bare"], "");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
    assert!(!refused.status.success() && told.contains("it needs `config.NAME"), "{told}");

    assert_eq!(read(&desk, "region"), "eu");
    let shown = desk.expect(&["handlers", "show", "read"], "", 0);
    assert!(shown.contains("value region = eu") && shown.contains("secret token from file:token.txt"), "{shown}");
    let all = desk.expect(&["handlers", "show", "read", "--json"], "", 0);
    let dumped = desk.expect(&["check", "--dump"], "", 0);
    assert!(!all.contains("hunter2") && !dumped.contains("hunter2"));
    assert!(!stands_in(&desk.path().join("data"), "hunter2"), "a secret is written down nowhere");
    assert_eq!(read(&desk, "token"), "hunter2");

    // A secret that is changed where it is kept is taken up without another version.
    desk.write("token.txt", "correct horse\n");
    let applied = desk.run(&["apply", "--yes"], "");
    let told = String::from_utf8_lossy(&applied.stderr).into_owned() + &String::from_utf8_lossy(&applied.stdout);
    assert!(applied.status.success() && told.contains("handlers.read.secrets.token"), "{told}");
    assert!(!told.contains("horse") && !told.contains("hunter2"), "{told}");
    assert_eq!(read(&desk, "token"), "correct horse");
    assert_eq!(desk.json(&["handlers", "show", "read", "--json"], "", 0)["active"], json!(1));

    edit(&desk, "region = \"eu\"", "region = \"us\"");
    let applied = desk.run(&["apply", "--yes"], "");
    let told = String::from_utf8_lossy(&applied.stderr).into_owned() + &String::from_utf8_lossy(&applied.stdout);
    assert!(applied.status.success() && told.contains("handlers.read.config.region"), "{told}");
    assert_eq!(read(&desk, "region"), "us");
    // A value goes with the version, as a limit does; a secret is the configuration's to grant.
    desk.expect(&["rollback", "read"], "", 0);
    assert_eq!(read(&desk, "region"), "eu");
    desk.write("key.txt", "another\n");
    edit(&desk, "token.txt", "key.txt");
    desk.expect(&["apply", "--yes"], "", 0);
    assert_eq!(read(&desk, "token"), "another");
    let back = desk.run(&["rollback", "read"], "");
    let told = String::from_utf8_lossy(&back.stderr).into_owned();
    assert!(!back.status.success() && told.contains("(secret token)"), "{told}");

    std::fs::remove_file(desk.path().join("key.txt")).unwrap();
    let missing = desk.run(&["check"], "");
    let told = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(!missing.status.success() && told.contains("could not read the secret from"), "{told}");
}

#[test]
fn beside_a_host_a_secret_that_is_not_here_is_told_to_the_module_alone() {
    let desk = desk();
    let shown = desk.json(&["invoke", "--handler", "read", "--subject", "get", "--json"], "region", 5);
    assert_eq!(what_it_read(&shown["outcome"]["detail"]), "eu", "{shown}");
    std::fs::remove_file(desk.path().join("token.txt")).unwrap();
    let shown = desk.json(&["invoke", "--handler", "read", "--subject", "get", "--json"], "token", 5);
    let detail = what_it_read(&shown["outcome"]["detail"]);
    assert!(detail.contains("the secret `token` could not be read"), "{detail}");
    // A module alone is granted whatever it imports, with nothing behind it.
    let shown = desk.json(&["invoke", "values.wasm", "--subject", "get", "--json"], "region", 5);
    assert_eq!(what_it_read(&shown["outcome"]["detail"]), "nothing", "{shown}");
    let refused = desk.run(&["invoke", "--handler", "bare", "--subject", "get"], "region");
    assert!(!refused.status.success());
}

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

/// Waits until the handler says why it does not run.
fn until_down(desk: &Desk) {
    until("the handler to say why it does not run", || {
        let shown = desk.json(&["handlers", "show", "read", "--json"], "", 0);
        assert_eq!(shown["active"], json!(null), "{shown}");
        shown["trouble"].as_str().unwrap().contains("the secret `token` could not be read")
    });
}

#[test]
fn a_secret_that_cannot_be_read_stops_its_own_handler_alone_until_it_can() {
    let desk = desk();
    std::fs::write(desk.path().join("behaviours.wasm"), guest("behaviours")).unwrap();
    let neighbour = "[handlers.behave]\nmodule = \"behaviours.wasm\"\n\
                     [subscriptions.behave]\nbroker = \"local\"\nsubjects = [\"complete\"]\nhandler = \"behave\"\n";
    edit(&desk, "[handlers.bare]\n", &format!("[handlers.bare]\n{neighbour}"));
    // At its first start, which makes the first version, and at a later one.
    for secret in ["hunter2", "correct horse"] {
        std::fs::remove_file(desk.path().join("token.txt")).unwrap();
        let host = desk.host();
        until_down(&desk);
        desk.expect(&["publish", "--subject", "complete"], "x", 0);
        until("the neighbour to go on", || {
            let url = format!("http://{}/v1/status", desk.address());
            let status: Value = agent().get(url).call().unwrap().body_mut().read_json().unwrap();
            let all = status["subscriptions"].as_array().unwrap();
            let own = all.iter().find(|one| one["name"] == "behave").unwrap();
            own["counts"]["completed"] == json!(1)
        });
        for refuses in [&["check"][..], &["apply", "--yes"]] {
            let told = desk.run(refuses, "");
            assert!(
                !told.status.success() && said(&told).contains("could not read the secret from"),
                "{}",
                said(&told)
            );
        }
        desk.write("token.txt", secret);
        let applied = desk.run(&["apply", "--yes"], "");
        assert!(applied.status.success() && said(&applied).contains("handlers.read"), "{}", said(&applied));
        assert_eq!(read(&desk, "token"), secret);
        let shown = desk.json(&["handlers", "show", "read", "--json"], "", 0);
        assert_eq!((&shown["active"], &shown["trouble"]), (&json!(1), &json!(null)), "{shown}");
        drop(host);
    }
}

/// Status, and what was read or the words of the error.
fn replayed(desk: &Desk, id: &str, query: &str) -> (u16, String) {
    let url = format!("http://{}/v1/dead-letters/{id}/replay{query}", desk.address());
    let mut answer = agent().post(url).send_empty().unwrap();
    let (status, body) = (answer.status().as_u16(), answer.body_mut().read_json::<Value>().unwrap());
    match status {
        200 => (status, what_it_read(&body["replayed"]["detail"])),
        _ => (status, format!("{}: {}", body["error"]["code"], body["error"]["message"])),
    }
}

/// A replay had a secret that was withdrawn, from a version that was still in memory, and buckets.
#[test]
fn a_replay_reads_what_the_configuration_grants_now_whatever_its_version_was_granted() {
    const OUTPUT: &str = "outputs.more = { broker = \"local\", subject = \"more\" }\n";
    let desk = desk();
    edit(&desk, GRANTS, &format!("{GRANTS}{OUTPUT}{BUCKET}"));
    let _host = desk.host();
    desk.expect(&["publish", "--subject", "get"], "token", 0);
    let mut letters = json!([]);
    until("what was read", || {
        letters = desk.json(&["dlq", "ls", "--json"], "", 0);
        !letters.as_array().unwrap().is_empty()
    });
    let id = letters[0]["id"].as_str().unwrap();
    let read = (200, "hunter2".to_owned());
    assert_eq!(replayed(&desk, id, ""), read);
    let withdraw = |before: &str, after: &str| {
        edit(&desk, before, after);
        desk.expect(&["apply", "--yes"], "", 0);
    };
    withdraw(OUTPUT, "");
    assert_eq!(replayed(&desk, id, ""), read, "nothing is sent anyway");
    withdraw(BUCKET, "");
    let (status, why) = replayed(&desk, id, "");
    assert!(status == 409 && why.contains("not-granted") && why.contains("(bucket seen)"), "{status} {why}");
    assert_eq!(replayed(&desk, id, "?version=3"), read);
    desk.write("key.txt", "correct horse");
    withdraw("token.txt", "key.txt");
    // It is in memory still, with what it was given.
    let (status, why) = replayed(&desk, id, "?version=3");
    assert!(status == 409 && why.contains("(secret token)"), "{status} {why}");
    assert_eq!(replayed(&desk, id, "?version=4"), (200, "correct horse".to_owned()));
}

/// A second version has a bucket beside, the first one is active again, and a third with the bucket is a canary.
fn try_with_a_bucket(desk: &Desk) {
    assert_eq!(read(desk, "region"), "eu");
    edit(desk, GRANTS, &format!("{GRANTS}{BUCKET}"));
    desk.expect(&["apply", "--yes"], "", 0);
    desk.expect(&["rollback", "read"], "", 0);
    desk.expect(&["deploy", "values.wasm", "--handler", "read", "--canary", "50%"], "", 0);
}

/// The canary has ended for its bucket, and the first version goes on.
fn check_aborted(desk: &Desk) {
    let shown = desk.json(&["handlers", "show", "read", "--json"], "", 0);
    assert_eq!((&shown["active"], shown.get("rollout")), (&json!(1), None), "{shown}");
    let ended = &shown["history"][0];
    assert!(ended["event"] == "aborted" && ended["detail"].as_str().unwrap().contains("(bucket seen)"), "{shown}");
}

#[test]
fn a_version_that_is_tried_does_not_outlive_its_grants_over_a_start() {
    let desk = desk();
    let host = desk.host();
    try_with_a_bucket(&desk);
    drop(host);
    // The active version has what the file grants now, and so stays; what is tried beside it has more.
    edit(&desk, BUCKET, "");
    let _host = desk.host();
    check_aborted(&desk);
}

/// It went on until the next start with what was withdrawn, and could be promoted with it.
#[test]
fn a_version_that_is_tried_ends_with_the_apply_that_withdraws_its_grant() {
    let desk = desk();
    let _host = desk.host();
    try_with_a_bucket(&desk);
    edit(&desk, BUCKET, "");
    let applied = said(&desk.run(&["apply", "--yes"], ""));
    assert!(applied.contains("canary of version 3 of handler read"), "{applied}");
    check_aborted(&desk);
}

#[test]
fn an_apply_that_leaves_a_handler_without_a_version_says_so() {
    let desk = desk();
    let host = desk.host();
    assert_eq!(read(&desk, "region"), "eu");
    drop(host);
    std::fs::remove_file(desk.path().join("values.wasm")).unwrap();
    std::fs::remove_dir_all(desk.path().join("data/registry/modules")).unwrap();
    let _host = desk.host();
    let applied = desk.run(&["apply", "--yes"], "");
    let told = said(&applied);
    assert_eq!(applied.status.code(), Some(4), "{told}");
    assert!(told.contains("handler `read`: "), "{told}");
}
