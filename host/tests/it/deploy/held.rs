//! Rollouts that go on after a load, which somebody may end while that lasts.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate::deploy::{Change, Deployments};
use tidegate::registry::Digest;
use tokio::task::JoinHandle;

use super::{Place, active, as_a_pipe, deploy, try_deploy, try_it, with_a_secret};
use crate::broker_contract::eventually;
use crate::chaos::ledger;

/// A handler whose versions are loaded when its secret can be read, and not before.
fn place() -> Place {
    Place::new("secrets.token = { file = \"token\" }")
}

/// The module of a version, which cannot be read just now.
struct Away {
    module: PathBuf,
    aside: PathBuf,
}

impl Away {
    fn take(place: &Place, number: u32) -> Self {
        let module = format!("data/registry/modules/{}.wasm", Digest::of(&ledger(number)));
        let (module, aside) = (place.directory.path().join(module), place.directory.path().join("aside.wasm"));
        std::fs::rename(&module, &aside).unwrap();
        std::fs::create_dir(&module).unwrap();
        Self { module, aside }
    }

    fn give_back(self) {
        std::fs::remove_dir(&self.module).unwrap();
        std::fs::rename(self.aside, self.module).unwrap();
    }
}

/// Waits until somebody reads the secret, who waits for what is written here; whoever reads it after that has it at once.
pub(super) async fn until_read(place: &Place, token: &Path) -> std::fs::File {
    let pipe = token.to_owned();
    // It can be opened when somebody reads it.
    let opened = tokio::task::spawn_blocking(move || std::fs::File::options().write(true).open(pipe).unwrap());
    let opened = opened.await.unwrap();
    std::fs::remove_file(token).unwrap();
    place.write("token", "old");
    opened
}

/// Applies a configuration in the background.
fn committing(host: &Arc<Deployments>, change: Change) -> JoinHandle<()> {
    let host = Arc::clone(host);
    tokio::spawn(async move { drop(host.commit(change).await.unwrap()) })
}

/// A rollout was aborted at a start at which its version could not be loaded, though it was the machine that was busy.
#[tokio::test]
async fn a_trial_that_cannot_go_on_yet_is_held_and_goes_on_by_itself_or_is_ended_by_a_person() {
    let place = Place::new("");
    let host = place.open().await;
    deploy(&host, &ledger(1)).await;
    try_it(&host, &ledger(2)).await;
    drop(host);
    let away = Away::take(&place, 2);
    let host = place.open().await;
    let slot = host.slot("h").unwrap();
    assert!(slot.trial().is_none() && slot.active().is_some());
    let shown = host.show("h").await.unwrap();
    let trouble = shown.trouble.unwrap();
    assert!(trouble.contains("the canary of version 2 cannot go on yet, and is tried again by itself"), "{trouble}");
    assert!(shown.history.iter().all(|one| one.event != "aborted"), "{:?}", shown.history);
    // While it is held nothing else is deployed, as while it is on.
    assert_eq!(try_deploy(&host, &ledger(3), None).await.unwrap_err().code(), "rollout-in-progress");
    assert_eq!(host.rollback("h", None, "me").await.unwrap_err().code(), "rollout-in-progress");
    assert_eq!(host.promote("h", None, "me").await.unwrap_err().code(), "no-rollout");
    away.give_back();
    eventually("it goes on", || async { slot.trial().is_some() }).await;
    assert_eq!(host.show("h").await.unwrap().trouble, None);
    drop((slot, host));

    let _away = Away::take(&place, 2);
    let host = place.open().await;
    assert_eq!(host.abort("h", Some(7), "ann").await.unwrap_err().code(), "other-version-tried");
    let aborted = host.abort("h", Some(2), "ann").await.unwrap();
    assert_eq!((aborted.version, aborted.active, aborted.unrecorded), (2, 1, None));
    let shown = host.show("h").await.unwrap();
    let last = &shown.history[0];
    assert_eq!((last.event.as_str(), last.version, last.who.as_str()), ("aborted", Some(2), "ann"));
    assert_eq!(shown.trouble, None);
    deploy(&host, &ledger(3)).await;
}

/// A canary that a person had aborted ran: an apply had begun to load it before, and began it when it was loaded. It was held again
/// where it could not be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_trial_that_is_aborted_while_it_is_loaded_does_not_begin() {
    for read in ["old", ""] {
        let place = place();
        let (host, config) = with_a_secret(&place).await;
        deploy(&host, &ledger(1)).await;
        try_it(&host, &ledger(2)).await;
        drop(host);
        let away = Away::take(&place, 2);
        let (host, _) = with_a_secret(&place).await;
        let slot = host.slot("h").unwrap();
        assert!(host.show("h").await.unwrap().trouble.unwrap().contains("the canary of version 2 cannot go on yet"));
        away.give_back();

        let token = as_a_pipe(&place);
        let applied = tokio::spawn({
            let host = Arc::clone(&host);
            async move {
                let change = host.prepare(&config.handlers, "bob").await.unwrap();
                host.commit(change).await.unwrap()
            }
        });
        let mut reads = until_read(&place, &token).await;
        assert_eq!(host.abort("h", Some(2), "ann").await.unwrap().version, 2);
        reads.write_all(read.as_bytes()).unwrap();
        drop(reads);
        applied.await.unwrap();
        // Nothing of it is left that is in the way of another one.
        assert_eq!(deploy(&host, &ledger(3)).await.version, 3, "{read:?}");
        assert!(slot.trial().is_none() && host.show("h").await.unwrap().trouble.is_none(), "{read:?}");
    }
}

/// An apply was over when everything was loaded that was held, which may take minutes on a machine that has too much to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_apply_waits_for_nothing_that_is_held_and_has_it_tried_again() {
    let place = place();
    let (host, config) = with_a_secret(&place).await;
    deploy(&host, &ledger(1)).await;
    try_it(&host, &ledger(2)).await;
    let gone = host.prepare(&BTreeMap::new(), "bob").await.unwrap();
    host.commit(gone).await.unwrap();
    let away = Away::take(&place, 2);
    let back = host.prepare(&config.handlers, "bob").await.unwrap();
    host.commit(back).await.unwrap();
    assert!(host.show("h").await.unwrap().trouble.unwrap().contains("the canary of version 2 cannot go on yet"));
    away.give_back();

    let token = as_a_pipe(&place);
    let same = host.prepare(&config.handlers, "bob").await.unwrap();
    let applied = committing(&host, same);
    let mut reads = until_read(&place, &token).await;
    eventually("the apply is over", || async { applied.is_finished() }).await;
    let slot = host.slot("h").unwrap();
    assert!(slot.trial().is_none(), "nobody could read its secret yet");
    reads.write_all(b"old").unwrap();
    drop(reads);
    eventually("it goes on", || async { slot.trial().is_some() }).await;
    assert_eq!(host.show("h").await.unwrap().trouble, None);
}

/// The same of one that is loaded anew because its handler is configured again: another version takes its place meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_does_not_begin_beside_a_version_that_was_deployed_while_it_was_loaded() {
    let place = place();
    let (host, config) = with_a_secret(&place).await;
    deploy(&host, &ledger(1)).await;
    try_it(&host, &ledger(2)).await;
    let gone = host.prepare(&BTreeMap::new(), "bob").await.unwrap();
    host.commit(gone).await.unwrap();
    let back = host.prepare(&config.handlers, "bob").await.unwrap();
    let token = as_a_pipe(&place);
    let applied = committing(&host, back);
    let mut reads = until_read(&place, &token).await;
    assert_eq!(deploy(&host, &ledger(3)).await.version, 3);
    reads.write_all(b"old").unwrap();
    drop(reads);
    applied.await.unwrap();
    assert_eq!(active(&host).number, 3);
    assert!(host.slot("h").unwrap().trial().is_none(), "the records know no rollout");
    try_it(&host, &ledger(4)).await;
}
