//! Grants as an operator meets them: refused, given, changed, taken away.

use std::path::Path;

use serde_json::{Value, json};

use crate::command_line::{Desk, until};
use crate::support::guests::guest;

/// The values and secrets that `read` is granted.
const GRANTS: &str = "config.region = \"eu\"\nsecrets.token = { file = \"token.txt\" }\n";

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
