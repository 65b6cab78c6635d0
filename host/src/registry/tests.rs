#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;

use super::*;

struct Place {
    directory: tempfile::TempDir,
    registry: Registry,
}

async fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::open(directory.path().to_owned()).await.unwrap();
    Place { directory, registry }
}

impl Place {
    async fn put(&self, bytes: &[u8]) -> Kept {
        let mut incoming = self.registry.receive(1000).await.unwrap();
        for piece in bytes.chunks(3) {
            incoming.write(piece).await.unwrap();
        }
        incoming.keep(None).await.unwrap()
    }

    async fn deploy(&self, handler: &str, bytes: &[u8]) -> VersionRecord {
        let kept = self.put(bytes).await;
        self.registry.deploy(version(handler, kept.digest()), None).await.unwrap()
    }

    fn files(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path().join(folder)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Ends this life of the registry and begins another.
    async fn again(self) -> Self {
        let Self { directory, registry } = self;
        drop(registry);
        let registry = Registry::open(directory.path().to_owned()).await.unwrap();
        Self { directory, registry }
    }
}

fn version(handler: &str, digest: &Digest) -> NewVersion {
    NewVersion {
        handler: handler.to_owned(),
        digest: digest.clone(),
        settings: Settings::default(),
        size: 5,
        contract: "tidegate:events/handler@0.1.0".to_owned(),
        source: "a test".to_owned(),
        deployed_by: "me".to_owned(),
    }
}

fn file(digest: &Digest) -> String {
    format!("{digest}.wasm")
}

#[tokio::test]
async fn a_module_comes_back_as_it_went_in_and_twice_the_same_is_one() {
    let place = place().await;
    let (first, second) = (place.put(b"hello").await, place.put(b"hello").await);
    assert_eq!((first.digest(), first.size()), (&Digest::of(b"hello"), 5));
    assert_eq!(first.digest(), second.digest());
    assert_eq!(place.files("modules"), [file(first.digest())]);
    assert!(place.files("incoming").is_empty());
    assert_eq!(place.registry.read(first.digest()).await.unwrap(), b"hello");
    let missing = place.registry.read(&Digest::of(b"other")).await.unwrap_err();
    assert!(matches!(missing, RegistryError::NoModule { .. }), "{missing:?}");
}

#[tokio::test]
async fn an_upload_that_does_not_end_leaves_nothing_behind() {
    let place = place().await;
    let mut incoming = place.registry.receive(8).await.unwrap();
    incoming.write(b"half").await.unwrap();
    assert_eq!(place.files("incoming").len(), 1);
    let error = incoming.write(b"more than eight").await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { limit: 8 }), "{error:?}");
    drop(incoming);
    assert_eq!((place.files("incoming").len(), place.files("modules").len()), (0, 0));
    let mut incoming = place.registry.receive(8).await.unwrap();
    incoming.write(b"half").await.unwrap();
    let error = incoming.keep(Some(&Digest::of(b"whole"))).await.unwrap_err();
    assert!(matches!(error, RegistryError::WrongDigest { .. }), "{error:?}");
    assert_eq!((place.files("incoming").len(), place.files("modules").len()), (0, 0));
    // One that a crash cut off is removed at the next start.
    fs::write(place.directory.path().join("incoming/x.part"), "half").unwrap();
    let place = place.again().await;
    assert_eq!(place.files("incoming").len(), 0);
}

#[tokio::test]
async fn damaged_bytes_are_never_handed_out_and_the_same_upload_mends_them() {
    let place = place().await;
    let digest = place.put(b"hello").await.digest().clone();
    let path = place.directory.path().join("modules").join(file(&digest));
    for damaged in [b"hallo".as_slice(), b"hell", b""] {
        fs::write(&path, damaged).unwrap();
        let error = place.registry.read(&digest).await.unwrap_err();
        let RegistryError::Damaged { aside, .. } = &error else { panic!("{error:?}") };
        assert_eq!(fs::read(aside).unwrap(), damaged);
        assert!(error.to_string().contains(&aside.display().to_string()), "{error}");
        assert!(matches!(place.registry.read(&digest).await, Err(RegistryError::NoModule { .. })));
        drop(place.put(b"hello").await);
        assert_eq!(place.registry.read(&digest).await.unwrap(), b"hello");
    }
    fs::write(&path, b"hallo").unwrap();
    drop(place.put(b"hello").await);
    assert_eq!(place.registry.read(&digest).await.unwrap(), b"hello", "not found by a read, found by an upload");
}

#[tokio::test]
async fn versions_are_numbered_by_handler_and_survive() {
    let place = place().await;
    assert_eq!(place.registry.handler("a").await.unwrap().active, None);
    assert_eq!(place.deploy("a", b"one").await.number, 1);
    assert_eq!(place.deploy("b", b"one").await.number, 1);
    let second = place.deploy("a", b"two").await;
    assert_eq!((second.number, second.deployed_by.as_str()), (2, "me"));
    let before = place.registry.handlers().await.unwrap();
    let place = place.again().await;
    assert_eq!(place.registry.handlers().await.unwrap(), before);
    let record = place.registry.handler("a").await.unwrap();
    assert_eq!((record.active, record.versions.len()), (Some(2), 2));
    assert_eq!(record.active_version().unwrap().digest, Digest::of(b"two"));
    assert_eq!(record.previous().unwrap().number, 1);

    place.registry.activate("a", 1, "you", Event::RolledBack).await.unwrap();
    let record = place.registry.handler("a").await.unwrap();
    assert_eq!((record.active, record.previous()), (Some(1), None), "the next one goes further back, and not forth");
    let missing = place.registry.activate("a", 9, "you", Event::RolledBack).await.unwrap_err();
    assert!(matches!(missing, RegistryError::NoVersion { number: 9, .. }), "{missing:?}");
    let history = place.registry.history("a", 10).await.unwrap();
    let told: Vec<_> = history.iter().map(|one| (one.event.as_str(), one.number, one.who.as_str())).collect();
    assert_eq!(told, [("rolled-back", Some(1), "you"), ("deployed", Some(2), "me"), ("deployed", Some(1), "me")]);
}

#[tokio::test]
async fn what_no_kept_version_names_is_collected_and_numbers_are_not_used_twice() {
    let place = place().await;
    for number in 1..=5 {
        place.deploy("a", &[number]).await;
    }
    place.registry.activate("a", 1, "me", Event::RolledBack).await.unwrap();
    place.deploy("b", &[2]).await;
    let held = place.put(b"not deployed yet").await;
    assert_eq!(place.registry.collect(2).await.unwrap().removed.len(), 1);
    let kept: Vec<u64> =
        place.registry.handler("a").await.unwrap().versions.iter().map(|version| version.number).collect();
    assert_eq!(kept, [5, 4, 1], "the active one and the newest two");
    let mut expected: Vec<String> = [1u8, 2, 4, 5].iter().map(|number| file(&Digest::of(&[*number]))).collect();
    expected.push(file(held.digest()));
    expected.sort();
    assert_eq!(place.files("modules"), expected, "`b` still has the module of a@2; what is being deployed stays");
    drop(held);
    assert_eq!(place.registry.collect(2).await.unwrap().removed.len(), 1);
    assert_eq!(place.deploy("a", b"six").await.number, 6);
}

/// The story: production ran version 2 after a rollback and 5 was the newest; the next deploy forgot 2, which ran a moment ago,
/// and so did a few canaries that were aborted.
#[tokio::test]
async fn what_a_rollback_goes_to_is_never_forgotten() {
    let place = place().await;
    for number in 1..=5 {
        place.deploy("a", &[number]).await;
    }
    place.registry.activate("a", 2, "me", Event::RolledBack).await.unwrap();
    place.deploy("a", b"six").await;
    for number in 7..=10 {
        let kept = place.put(&[number]).await;
        place.registry.begin_rollout(version("a", kept.digest()), canary("5%")).await.unwrap();
        place.registry.abort("a", number.into(), "me", "").await.unwrap();
    }
    place.registry.collect(2).await.unwrap();
    let record = place.registry.handler("a").await.unwrap();
    let kept: Vec<u64> = record.versions.iter().map(|version| version.number).collect();
    assert_eq!((kept, record.previous().unwrap().number), (vec![10, 9, 6, 5, 2], 2));
    assert_eq!(place.registry.read(&Digest::of(&[2])).await.unwrap(), [2]);
}

/// The story: version 2 was bad and rolled back, version 3 was bad too, and `rollback` ran 2.
#[tokio::test]
async fn what_was_active_before_is_recorded_by_whatever_makes_a_version_active() {
    let place = place().await;
    let previous = |record: HandlerRecord| record.previous().map(|version| version.number);
    place.deploy("a", b"good").await;
    place.deploy("a", b"bad").await;
    place.registry.activate("a", 1, "me", Event::RolledBack).await.unwrap();
    place.deploy("a", b"bad too").await;
    let place = place.again().await;
    let record = place.registry.handler("a").await.unwrap();
    assert_eq!((record.active, previous(record)), (Some(3), Some(1)));
    // A version that was tried takes the place of what runs when it is promoted, not when it is recorded.
    let kept = place.put(b"tried").await;
    place.registry.begin_rollout(version("a", kept.digest()), canary("5%")).await.unwrap();
    drop(kept);
    place.registry.activate("a", 1, "me", Event::RolledBack).await.unwrap();
    let kept = place.put(b"tried again").await;
    place.registry.begin_rollout(version("a", kept.digest()), canary("5%")).await.unwrap();
    place.registry.promote("a", 5, "me", "").await.unwrap();
    let record = place.registry.handler("a").await.unwrap();
    assert_eq!((record.active, previous(record)), (Some(5), Some(1)));
    // What a cluster has is taken over with it.
    let mut versions = place.registry.handler("a").await.unwrap().versions;
    versions.iter_mut().filter(|version| version.number == 5).for_each(|version| version.replaced = Some(3));
    let followed = Followed {
        name: "a".to_owned(),
        active: 5,
        next: 6,
        versions,
        rollout: None,
        tries: false,
        event: Event::Followed,
        by: "cluster".to_owned(),
        detail: String::new(),
        ended: None,
        ended_as: Event::Aborted,
        why_ended: String::new(),
        configured: None,
    };
    place.registry.follow(followed).await.unwrap();
    assert_eq!(previous(place.registry.handler("a").await.unwrap()), Some(3));
}

fn canary(text: &str) -> RolloutPlan {
    RolloutPlan::Canary { share: text.parse().unwrap(), promote_after: Some(std::time::Duration::from_millis(600_500)) }
}

#[tokio::test]
async fn a_rollout_survives_and_ends_with_what_comes_after_it() {
    let place = place().await;
    place.deploy("a", b"one").await;
    let kept = place.put(b"two").await;
    let (tried, rollout) = place.registry.begin_rollout(version("a", kept.digest()), canary("5%")).await.unwrap();
    drop(kept);
    assert_eq!((tried.number, tried.activated_at), (2, None));
    assert_eq!((rollout.number, rollout.plan, rollout.started_by.as_str()), (2, canary("5%"), "me"));
    let again = place.registry.begin_rollout(version("a", &Digest::of(b"one")), canary("5%")).await;
    assert!(again.is_err(), "one at a time");
    let place = place.again().await;
    let record = place.registry.handler("a").await.unwrap();
    assert_eq!((record.active, record.rollout.as_ref()), (Some(1), Some(&rollout)));
    assert_eq!(record.versions.len(), 2, "what was refused left nothing behind");
    assert!(place.registry.collect(0).await.unwrap().removed.is_empty(), "what is tried is kept");

    let stale = place.registry.promote("a", 1, "host", "").await.unwrap_err();
    assert!(matches!(stale, RegistryError::NoVersion { number: 1, .. }), "{stale:?}");
    place.registry.abort("a", 2, "host", "too many faults").await.unwrap();
    assert!(place.registry.abort("a", 2, "host", "").await.is_err(), "once");
    let record = place.registry.handler("a").await.unwrap();
    assert_eq!((record.active, record.rollout, record.versions.len()), (Some(1), None, 2));

    let kept = place.put(b"three").await;
    place.registry.begin_rollout(version("a", kept.digest()), canary("50%")).await.unwrap();
    place.registry.promote("a", 3, "you", "by hand").await.unwrap();
    let record = place.registry.handler("a").await.unwrap();
    assert_eq!((record.active, record.rollout.is_none()), (Some(3), true));
    assert_eq!(record.previous().unwrap().number, 1, "the one that was aborted never was active");
    let kept = place.put(b"four").await;
    let shadow =
        RolloutPlan::Shadow { share: "1%".parse().unwrap(), ends_after: Some(std::time::Duration::from_secs(7)) };
    let four = kept.digest().clone();
    place.registry.begin_rollout(version("a", &four), shadow).await.unwrap();
    drop(kept);
    let place = place.again().await;
    let rollout = place.registry.handler("a").await.unwrap().rollout.unwrap();
    assert_eq!((rollout.number, rollout.plan), (4, shadow));
    place.registry.end("a", 4, "host", "it had its time").await.unwrap();
    let forever = RolloutPlan::Shadow { share: crate::dispatch::Share::ALL, ends_after: None };
    let (_, rollout) = place.registry.begin_rollout(version("a", &four), forever).await.unwrap();
    assert_eq!((rollout.number, rollout.plan), (5, forever));
    place.deploy("a", b"five").await;
    let record = place.registry.handler("a").await.unwrap();
    assert_eq!((record.active, record.rollout.is_none()), (Some(6), true));
    let history = place.registry.history("a", 20).await.unwrap();
    let told: Vec<_> = history.iter().rev().map(|one| (one.event.as_str(), one.number, one.detail.as_str())).collect();
    let expected = [
        ("deployed", Some(1), "a test"),
        ("canary-started", Some(2), "5% of the messages; a test"),
        ("aborted", Some(2), "too many faults"),
        ("canary-started", Some(3), "50% of the messages; a test"),
        ("promoted", Some(3), "by hand"),
        ("shadow-started", Some(4), "1% of the messages; a test"),
        ("ended", Some(4), "it had its time"),
        ("shadow-started", Some(5), "100% of the messages; a test"),
        ("deployed", Some(6), "a test"),
        ("aborted", Some(5), "version 6 was made the active one"),
    ];
    assert_eq!(told, expected);
}

/// The story: a host of before rollouts has records of layout 1, and a later one of layout 2; this one finds their versions in
/// them unchanged. What a version took the place of is not in them: then it is the newest one below that was active.
#[tokio::test]
async fn records_of_an_earlier_layout_are_taken_over() {
    for (layout, dropped) in [(1, "DROP TABLE rollout;"), (2, "")] {
        taken_over(layout, dropped).await;
    }
}

async fn taken_over(layout: u32, dropped: &str) {
    let place = place().await;
    place.deploy("a", b"one").await;
    place.deploy("a", b"two").await;
    place.registry.activate("a", 1, "you", Event::RolledBack).await.unwrap();
    place.deploy("a", b"two once more").await;
    // What each took the place of is read from the history.
    let before = place.registry.handlers().await.unwrap();
    let Place { directory, registry } = place;
    drop(registry);
    let connection = rusqlite::Connection::open(directory.path().join("registry.sqlite")).unwrap();
    let earlier = format!("{dropped} ALTER TABLE version DROP COLUMN replaced; PRAGMA user_version = {layout};");
    connection.execute_batch(&earlier).unwrap();
    let tables: u32 =
        connection.query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table'", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 2 + layout, "as the layout had them");
    drop(connection);
    let registry = Registry::open(directory.path().to_owned()).await.unwrap();
    assert_eq!(registry.handlers().await.unwrap(), before);
    assert_eq!(registry.handler("a").await.unwrap().previous().unwrap().number, 1);
    let place = Place { directory, registry };
    let kept = place.put(b"three").await;
    place.registry.begin_rollout(version("a", kept.digest()), canary("5%")).await.unwrap();
    let place = place.again().await;
    assert_eq!(place.registry.handler("a").await.unwrap().rollout.unwrap().number, 4);
}

#[tokio::test]
async fn a_second_host_is_refused_and_so_is_a_later_layout() {
    let place = place().await;
    let error = Registry::open(place.directory.path().to_owned()).await.unwrap_err();
    assert!(matches!(error, RegistryError::InUse { .. }), "{error:?}");
    let Place { directory, registry } = place;
    drop(registry);
    let path = directory.path().join("registry.sqlite");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = Registry::open(directory.path().to_owned()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Layout { found: 99, .. }), "{error:?}");
    fs::write(&path, "this is no database, and not short either").unwrap();
    let error = Registry::open(directory.path().to_owned()).await.unwrap_err();
    assert!(error.to_string().contains("move the file away"), "{error}");
}
