//! Secrets that are read anew, for versions that are on their way into memory too.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tidegate::deploy::report::Step;

use super::held::until_read;
use super::{Place, active, as_a_pipe, deploy, deploy_until, pipe, until_deployed, with_a_secret};
use crate::chaos::ledger;

/// A version that was on its way had the secret of before until it was changed once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_read_anew_while_a_version_is_tried_is_met_by_it() {
    let place = Place::new(
        "golden = \"golden.jsonl\"\nsecrets.token = { file = \"token\" }\n\
         outputs.done = { broker = \"q\", subject = \"d\" }",
    );
    let (host, config) = with_a_secret(&place).await;
    // It is not tried before there are golden messages.
    let golden = pipe(&place, "golden.jsonl");
    let lines = deploy_until(&host, &ledger(7302), Step::Init).await;
    place.write("token", "new");
    let renewed = host.renewed_secrets(&config.handlers).await;
    assert_eq!(renewed.names().collect::<Vec<_>>(), [("h", "token")], "it has the one of before");
    host.renew_secrets(&renewed).await;
    let message = "{\"subject\": \"in.x\", \"id\": \"m-1\", \"body\": \"m-1\", \"expect\": \"completed\"}\n";
    tokio::task::spawn_blocking(move || std::fs::write(golden, message).unwrap()).await.unwrap();
    until_deployed(lines).await;
    assert_eq!(active(&host).number, 1);
    assert_eq!(host.renewed_secrets(&config.handlers).await.names().count(), 0, "it has the new one");
}

/// The same while it is compiled: nobody can hand it anything then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_changes_while_a_version_is_compiled_is_met_by_it() {
    let place = Place::new("secrets.token = { file = \"token\" }");
    let (host, config) = with_a_secret(&place).await;
    let token = as_a_pipe(&place);
    let write = |text: &'static str| {
        let token = token.clone();
        std::thread::spawn(move || std::fs::write(token, text))
    };
    let old = write("old");
    let lines = deploy_until(&host, &ledger(7301), Step::Validate).await;
    old.join().unwrap().unwrap();
    let _new = write("new");
    until_deployed(lines).await;
    std::fs::remove_file(&token).unwrap();
    std::fs::write(&token, "new").unwrap();
    assert_eq!(host.renewed_secrets(&config.handlers).await.names().count(), 0, "it has the new one");
}

/// An apply looked at the secret and compiled for minutes; then it handed over what it had seen, also to what was loaded later.
#[tokio::test]
async fn what_an_apply_has_seen_takes_the_place_of_nothing_that_was_read_later() {
    let place = Place::new("secrets.token = { file = \"token\" }");
    let (host, config) = with_a_secret(&place).await;
    deploy(&host, &ledger(1)).await;
    place.write("token", "new");
    let seen = host.renewed_secrets(&config.handlers).await;
    assert_eq!(seen.names().count(), 1);
    place.write("token", "newer");
    deploy(&host, &ledger(2)).await;
    host.renew_secrets(&seen).await;
    assert_eq!(host.renewed_secrets(&config.handlers).await.names().count(), 0, "both have the newest");
    // What cannot be read just then is what was seen.
    place.write("token", "newest");
    let seen = host.renewed_secrets(&config.handlers).await;
    std::fs::remove_file(place.directory.path().join("token")).unwrap();
    host.renew_secrets(&seen).await;
    place.write("token", "newest");
    assert_eq!(host.renewed_secrets(&config.handlers).await.names().count(), 0, "both have what was seen");
}

/// A version that was just loaded had the secret of before: it had read it, and handed it to itself when an apply had handed it the
/// new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_version_has_read_takes_the_place_of_nothing_that_an_apply_read_later() {
    let place = Place::new("secrets.token = { file = \"token\" }");
    let (host, config) = with_a_secret(&place).await;
    let token = as_a_pipe(&place);
    let old = std::thread::spawn({
        let token = token.clone();
        move || std::fs::write(token, "old")
    });
    let lines = deploy_until(&host, &ledger(1), Step::Compile).await;
    old.join().unwrap().unwrap();
    // It is loaded, and reads its secret once more.
    let mut reads = until_read(&place, &token).await;
    place.write("token", "new");
    let renewed = host.renewed_secrets(&config.handlers).await;
    assert_eq!(renewed.names().count(), 1, "it is known, and has the one of before");
    let mut renewing = tokio::spawn({
        let host = Arc::clone(&host);
        async move { host.renew_secrets(&renewed).await }
    });
    // It waits for who reads it just now. Were it not to, it would be over by this.
    let early = tokio::time::timeout(Duration::from_millis(100), &mut renewing).await;
    assert!(early.is_err(), "it handed over a secret while another one was being read");
    reads.write_all(b"old").unwrap();
    drop(reads);
    renewing.await.unwrap();
    until_deployed(lines).await;
    assert_eq!(active(&host).number, 1);
    assert_eq!(host.renewed_secrets(&config.handlers).await.names().count(), 0, "it has the new one");
}
