//! Grants on a host of a cluster: its own file has the last word at each start, whatever ran there before and whether or not
//! the cluster can be asked.

use super::cluster::{Ground, PATIENCE, until_all_run};
use super::rig::Rig;
use crate::support::until;

const BUCKET: &str = "buckets.seen = { broker = \"queue\" }\n";

/// A host whose ledger is granted a bucket, and a secret from a file.
fn granted(ground: &Ground) -> Rig {
    let host = ground.host("a");
    std::fs::write(host.path().join("token.txt"), "hunter2").unwrap();
    let grants = format!("module = \"ledger.wasm\"\n{BUCKET}secrets.token = {{ file = \"token.txt\" }}\n");
    host.edit(|text| text.replace("module = \"ledger.wasm\"\n", &grants));
    host
}

fn change(host: &Rig, before: &str, after: &str) {
    host.edit(|text| {
        assert!(text.contains(before), "{text}");
        text.replace(before, after)
    });
}

/// Waits until no version runs, for a reason that says this.
fn until_down(host: &Rig, says: &str) {
    let mut last = None;
    until(&format!("nothing to run: {says}"), PATIENCE, || {
        let handler = host.handler();
        assert_eq!(handler.active, None, "its grants were withdrawn");
        last = handler.trouble;
        last.as_ref().is_some_and(|why| why.contains(says))
    });
    assert!(!last.unwrap().contains("hunter2"));
}

/// A version whose bucket or output was withdrawn ran on over a restart, and nothing looked at it again.
#[test]
fn what_its_file_grants_no_more_does_not_come_back_with_a_start() {
    let mut ground = Ground::new();
    let mut host = granted(&ground);
    host.start();
    until_all_run(&[&host], 1, 1);
    for (number, before, grant) in [
        (2, BUCKET, "(bucket seen)"),
        (3, "outputs.done = { broker = \"queue\", subject = \"out.done\" }\n", "(output done)"),
    ] {
        host.drain();
        change(&host, before, "");
        // While nobody can be asked, nothing runs; and then what the file says now.
        ground.server.kill();
        host.start();
        until_down(&host, grant);
        ground.runtime.block_on(ground.server.restart());
        until_all_run(&[&host], number, 1);
        assert_eq!(host.handler().trouble, None);
    }
}

/// Such a host did not start at all: nothing of the active version's secret was found in its file.
#[test]
fn a_secret_that_its_file_names_otherwise_keeps_no_host_from_starting() {
    let ground = Ground::new();
    let mut host = granted(&ground);
    host.start();
    until_all_run(&[&host], 1, 1);
    host.drain();
    std::fs::write(host.path().join("key.txt"), "hunter2").unwrap();
    change(&host, "token.txt", "key.txt");
    host.start();
    until_all_run(&[&host], 2, 1);

    // One that cannot be read is its handler's trouble, and is looked for again.
    host.drain();
    change(&host, "key.txt", "later.txt");
    host.start();
    until_down(&host, "later.txt");
    std::fs::write(host.path().join("later.txt"), "hunter2").unwrap();
    until_all_run(&[&host], 3, 1);

    // The same where the file says of it what it said.
    host.drain();
    std::fs::remove_file(host.path().join("later.txt")).unwrap();
    host.start();
    until_down(&host, "later.txt");
    std::fs::write(host.path().join("later.txt"), "hunter2").unwrap();
    until_all_run(&[&host], 3, 1);
}
