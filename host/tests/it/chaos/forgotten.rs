//! A subscription that was renamed: what it holds is seen, and goes when somebody says that it is gone for good.

use std::time::Duration;

use super::called::{Said, call};
use super::rig::Rig;
use crate::support::until;

const PATIENCE: Duration = Duration::from_secs(60);

fn settled(host: &Rig, subscription: &str) -> u64 {
    let status = host.status().unwrap();
    let one = status.subscriptions.iter().find(|one| one.name == subscription);
    one.map_or(0, |one| one.counts.completed + one.counts.skipped + one.counts.dead_lettered)
}

#[test]
fn what_a_renamed_subscription_holds_is_told_and_goes_when_it_is_forgotten() {
    let mut host = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    host.start();
    host.edit(|text| text.replace("[subscriptions.ledger]", "[subscriptions.fresh]"));
    host.apply().unwrap();
    let ids: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    host.publisher().publish(&ids);
    until("the new one is done with all", PATIENCE, || settled(&host, "fresh") == 20);

    let told = call(&host, &["status"]).data;
    assert!(
        told.contains("20 messages are held for the subscription ledger, which the configuration does not"),
        "{told}"
    );
    let listed = call(&host, &["subscriptions"]).data;
    let in_use =
        |name: &str| listed.lines().find(|line| line.contains(name)).map(|line| line.trim_end().ends_with("yes"));
    assert_eq!((in_use("fresh "), in_use("ledger ")), (Some(true), Some(false)), "{listed}");

    let refused = |arguments: &[&str], why: &str| {
        let Said { code, talk, .. } = call(&host, arguments);
        assert!(code != Some(0) && talk.contains(why), "{arguments:?}: {talk}");
    };
    refused(&["subscriptions", "forget", "fresh", "--yes"], "in use; take it out of the configuration first");
    refused(&["subscriptions", "forget", "leger", "--yes"], "did you mean `ledger`?");
    refused(&["subscriptions", "forget", "ledger"], "confirm with --yes");
    refused(&["subscriptions", "forget", "ledger", "--yes", "--broker", "other"], "there is no broker `other`");
    let Said { code, data, talk } = call(&host, &["subscriptions", "forget", "ledger", "--yes"]);
    assert_eq!(code, Some(0), "{talk}");
    assert!(data.starts_with("ledger is forgotten; of the 20 messages that it held"), "{data}");
    assert!(!call(&host, &["subscriptions"]).data.contains("ledger "));
    assert!(!call(&host, &["status"]).data.contains("held for"));
    let audit = call(&host, &["audit"]).data;
    assert!(audit.contains("subscription.forget"), "{audit}");
}
