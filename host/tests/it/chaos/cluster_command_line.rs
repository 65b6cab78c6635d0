//! A cluster by the command line: what a person at any of its hosts does, and is told.

use tidegate::cluster::report::Standing;

use super::called::{Said, call};
use super::cluster::{Ground, PATIENCE, until_all_run, until_seen};
use super::ledger;
use super::rig::Rig;
use crate::support::until;

/// Calls what has to end well, and gives back its answer and what it told.
fn well(host: &Rig, arguments: &[&str]) -> (String, String) {
    let Said { code, data, talk } = call(host, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {data}{talk}");
    (data, talk)
}

/// The versions of the handler in the table of hosts, by the heads of its columns.
fn table(host: &Rig) -> Vec<(String, String)> {
    let (data, _) = well(host, &["handlers"]);
    let (_, hosts) = data.split_once("\n\n").unwrap();
    let cells =
        |line: &str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect();
    let row = |first: &str| -> Vec<String> {
        let line = hosts.lines().find(|line| line.trim_start().starts_with(first));
        cells(line.unwrap_or_else(|| panic!("no line {first} in {data}")))
    };
    row("HANDLER").into_iter().zip(row("ledger")).skip(1).collect()
}

fn until_table(host: &Rig, wanted: &[(&str, &str)]) {
    let wanted: Vec<_> = wanted.iter().map(|(name, cell)| ((*name).to_owned(), (*cell).to_owned())).collect();
    let mut last = Vec::new();
    until(&format!("the table of hosts has {wanted:?}"), PATIENCE, || {
        last = table(host);
        last == wanted
    });
}

#[test]
fn a_person_at_any_host_deploys_looks_and_goes_back_for_all() {
    let ground = Ground::new();
    let [a, b, mut c] = ground.hosts(["a", "b", "c"]);
    for host in ["b", "c"] {
        until_seen(&a, host, Standing::Current, Some(1));
    }
    std::fs::write(a.path().join("next.wasm"), ledger(2)).unwrap();
    let (data, talk) = well(&a, &["deploy", "next.wasm", "--handler", "ledger"]);
    assert!(data.starts_with("ledger@2 sha256:") && talk.contains("all 3 hosts run it: a, b, c"), "{data}{talk}");
    until_table(&b, &[("a", "2"), ("b", "2"), ("c", "2")]);

    // A pause is of one host, and says who goes on.
    let (data, talk) = well(&a, &["pause", "ledger"]);
    assert!(data.starts_with("ledger is paused on this host"), "{data}");
    assert!(
        talk.contains("other hosts of the cluster go on with its messages: b (") && talk.contains(", c ("),
        "{talk}"
    );
    well(&a, &["resume", "ledger"]);

    // One is not there: it is named, by whoever looks and by what is waited for, and holds nobody up.
    c.drain();
    until_table(&a, &[("a", "2"), ("b", "2"), ("c (stopped)", "2")]);
    let (data, talk) = well(&b, &["rollback", "ledger"]);
    assert!(data.starts_with("ledger@1 sha256:") && data.contains(" runs instead of 2, after "), "{data}");
    let told = ["all 2 hosts run it: a, b", "not there: c; they take it when they are back"];
    assert!(told.iter().all(|told| talk.contains(told)), "{talk}");
    let (shown, _) = well(&a, &["handlers", "show", "ledger"]);
    let of_c = shown.lines().find(|line| line.trim_start().starts_with("c ")).unwrap();
    assert!(of_c.contains("stopped"), "{shown}");
    c.start();
    until_all_run(&[&a, &b, &c], 1, 1);
    until_table(&b, &[("a", "1"), ("b", "1"), ("c", "1")]);

    // A canary that is begun at one host is promoted at another; the next one is given up at a third.
    std::fs::write(b.path().join("canary.wasm"), ledger(3)).unwrap();
    let (data, talk) = well(&b, &["deploy", "canary.wasm", "--handler", "ledger", "--canary", "50%"]);
    assert!(data.starts_with("ledger@3 ") && talk.contains("all 3 hosts try it: a, b, c"), "{data}{talk}");
    let Said { code, talk, .. } = call(&a, &["rollback", "ledger"]);
    assert!(code != Some(0) && talk.contains("tidegate promote"), "a rollback meanwhile is refused: {talk}");
    let (data, talk) = well(&c, &["promote", "ledger"]);
    assert!(data.contains(" runs instead of 1") && talk.contains("all 3 hosts run it: a, b, c"), "{data}{talk}");
    until_all_run(&[&a, &b, &c], 3, 3);
    std::fs::write(c.path().join("shadow.wasm"), ledger(4)).unwrap();
    let (_, talk) = well(&c, &["deploy", "shadow.wasm", "--handler", "ledger", "--shadow", "--for", "1h"]);
    assert!(talk.contains("all 3 hosts try it: a, b, c"), "{talk}");
    let (data, _) = well(&a, &["abort", "ledger"]);
    assert!(data.contains("is not tried any more; all messages run on ledger@3"), "{data}");
    until_table(&b, &[("a", "3"), ("b", "3"), ("c", "3")]);
}

#[test]
fn a_host_that_refuses_is_named_with_why_and_one_without_a_cluster_waits_for_nobody() {
    let ground = Ground::new();
    let [a] = ground.hosts(["a"]);
    let mut strict = ground.host("strict");
    // It takes only what is signed with a key that nobody here has.
    let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    strict.edit(|text| format!("{text}\n[signatures.keys]\nrelease = \"{key}\"\n"));
    strict.start();
    until_seen(&a, "strict", Standing::Refused, None);
    std::fs::write(a.path().join("next.wasm"), ledger(2)).unwrap();
    let Said { code, data, talk } = call(&a, &["deploy", "next.wasm", "--handler", "ledger"]);
    assert_eq!(code, Some(4), "{data}{talk}");
    assert!(data.starts_with("ledger@2 ") && talk.contains("it runs on a\n"), "{data}{talk}");
    assert!(talk.contains("strict refuses it and goes on with what it ran: the module is not signed"), "{talk}");
    let (data, _) = well(&a, &["handlers"]);
    let (_, refusal) = data.split_once("strict refuses ledger@2 since 20").unwrap_or_else(|| panic!("{data}"));
    assert!(refusal.contains(": the module is not signed"), "{data}");
    // Who does not wait is told nothing of the others.
    let (_, talk) = well(&a, &["rollback", "ledger", "--wait", "0s"]);
    assert!(!talk.contains("strict"), "{talk}");
}
