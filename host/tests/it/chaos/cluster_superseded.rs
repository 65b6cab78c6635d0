//! A command that waits for all hosts of a cluster, and another version that is to run meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate::cluster::report::{OnHost, Standing};
use tidegate::cluster::{Member, Word};

use super::called::{Said, begun, ended};
use super::cluster::{Ground, PATIENCE, deploy, seen, until_all_run};
use super::ledger;
use crate::support::until;

/// A host that is there for good, and never comes to run another version: whoever waits for it waits for long.
fn haunt(ground: &Ground) {
    let me = Member {
        cluster: "main".to_owned(),
        host: "slow".to_owned(),
        life: "one".to_owned(),
        address: "127.0.0.1:1".to_owned(),
    };
    let on = OnHost {
        version: Some(1),
        digest: None,
        tries: None,
        standing: Standing::Taking,
        wants: Some(2),
        why: None,
        since: None,
        tries_again: None,
        trouble: None,
    };
    let word = Word::of(&me, BTreeMap::from([("ledger".to_owned(), on)]), BTreeMap::new()).to_json();
    let client = ground.runtime.block_on(ground.server.client());
    // It says so until the ground is left.
    ground.runtime.spawn(async move {
        let store = async_nats::jetstream::new(client).get_key_value("tidegate-main-hosts").await.unwrap();
        let mut words = tokio::time::interval(Duration::from_secs(1));
        loop {
            words.tick().await;
            store.put("slow", word.clone().into()).await.unwrap();
        }
    });
}

#[test]
fn a_deploy_that_another_one_supersedes_is_waited_for_no_longer() {
    let ground = Ground::new();
    let [a, b] = ground.hosts(["a", "b"]);
    haunt(&ground);
    until("the slow host is seen", PATIENCE, || seen(&a, "slow").is_some());
    std::fs::write(a.path().join("next.wasm"), ledger(2)).unwrap();
    let waiting = begun(&a, &["deploy", "next.wasm", "--handler", "ledger", "--wait", "1h"]);
    until_all_run(&[&a, &b], 2, 2);
    assert_eq!(deploy(&b, 3), 3);
    let Said { code, talk, .. } = ended(waiting);
    assert_eq!(code, Some(4), "{talk}");
    assert!(talk.contains("version 2 was superseded by version 3 (deployed by local on host b, "), "{talk}");
    assert!(talk.contains("; it is not waited for any more"), "{talk}");
    // The same for one that goes back.
    let waiting = begun(&a, &["rollback", "ledger", "--to", "1", "--wait", "1h"]);
    until_all_run(&[&a, &b], 1, 1);
    assert_eq!(b.rollback(2).to, 2);
    let Said { code, talk, .. } = ended(waiting);
    assert_eq!(code, Some(4), "{talk}");
    assert!(talk.contains("version 1 was superseded by version 2 (rolled back by local on host b, "), "{talk}");
}
