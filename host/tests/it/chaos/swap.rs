//! A handler is swapped a thousand times under full load: nothing is lost, nothing is repeated, and each message runs on
//! one whole version.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate::deploy::report::Line;

use super::books::Books;
use super::rig::Rig;
use super::{Feed, audit, on_jetstream, until_settled};
use crate::support::guests::guest;
use crate::support::nats::NatsServer;

const SWAPS: u64 = 1_000;
/// Every so many swaps are one by a deploy, with all its steps, and by turns of either module; the others go back to a
/// version of before.
const A_DEPLOY_IN: u64 = 21;

/// The ledger as another module, that says so in its outputs.
pub fn ledger(number: u32) -> Vec<u8> {
    let mut module = guest("ledger");
    let (old, new) = (*b"--------000001", format!("--------{number:06}"));
    let places: Vec<usize> =
        module.windows(old.len()).enumerate().filter(|(_, bytes)| *bytes == old).map(|(place, _)| place).collect();
    assert_eq!(places.len(), 2, "the ledger says twice which it is");
    for place in places {
        module[place..place + old.len()].copy_from_slice(new.as_bytes());
    }
    module
}

/// Swaps under load, and gives back how many messages were published meanwhile.
fn swap_under_load(rig: &Rig) -> u64 {
    let deploy = |number: u32| match rig.deploy(&ledger(number)) {
        Some(Line::Done(done)) => done.version,
        other => panic!("the deploy of ledger {number}: {other:?}"),
    };
    let feed = Feed::start(rig.publisher(), "m");
    feed.go_on_for(200);
    let mut versions = [1, deploy(2)];
    for swap in 1..SWAPS {
        let next = usize::from(swap % 2 == 0);
        if swap % A_DEPLOY_IN == 0 {
            // The same two modules again, each as another version.
            versions[next] = deploy(u32::try_from(next).unwrap() + 1);
        } else {
            assert_eq!(rig.rollback(versions[next]).to, versions[next]);
        }
    }
    feed.go_on_for(200);
    feed.finish()
}

fn check(books: &mut Books, rig: &Rig, published: u64, what: &str) {
    books.read_runs(&rig.log());
    let balance = books.check("m", published);
    books.check_the_runs();
    assert_eq!(balance.extra_runs, 0, "a swap made messages run again: {balance:?}");
    let torn: Vec<_> = books.made_by.iter().filter(|(_, (first, last))| first != last).collect();
    assert!(torn.is_empty(), "run on two versions: {torn:?}");
    let makers: BTreeSet<&str> = books.made_by.values().map(|(first, _)| first.as_str()).collect();
    assert_eq!(makers, BTreeSet::from(["000001", "000002"]), "both versions worked");
    println!("{what}, swapped {SWAPS} times: {balance:?}");
}

#[test]
fn a_thousand_swaps_under_load_lose_and_repeat_nothing() {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    rig.start();
    let published = swap_under_load(&rig);
    until_settled(&rig);
    rig.drain();
    let mut books = Books::default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(audit::read_embedded(&rig, &mut books));
    check(&mut books, &rig, published, "embedded queue");
}

#[test]
fn a_thousand_swaps_under_load_on_jetstream_lose_and_repeat_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(NatsServer::start());
    let mut rig = Rig::new(&on_jetstream(&server), Duration::from_secs(30), "create = true");
    rig.start();
    let published = swap_under_load(&rig);
    until_settled(&rig);
    rig.drain();
    let mut books = Books::default();
    runtime.block_on(audit::read_jetstream(&rig, &server, &mut books));
    check(&mut books, &rig, published, "jetstream");
}
