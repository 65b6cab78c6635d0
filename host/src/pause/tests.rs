#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn record(until: Option<SystemTime>) -> PauseRecord {
    let since = SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_123);
    PauseRecord { by: "ops".to_owned(), why: Some("the database moves".to_owned()), since, until }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn ended(pauses: Vec<(String, Pause)>) -> Vec<String> {
    pauses.into_iter().map(|(name, pause)| format!("{name} {}", pause.hosts.name())).collect()
}

fn of_all(pauses: &[(&str, PauseRecord)]) -> OfAllHosts {
    let subscriptions = pauses.iter().map(|(name, record)| ((*name).to_owned(), record.clone())).collect();
    OfAllHosts { cluster: "main".to_owned(), bucket: "one".to_owned(), subscriptions }
}

fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3600)
}

#[tokio::test]
async fn what_is_paused_stays_paused_over_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let open = || Pauses::open(&data, SystemTime::now(), Some("main")).unwrap();
    let pauses = open();
    let held = pauses.hold("one");
    pauses.pause(&names(&["one", "two"]), &record(None)).await.unwrap();
    assert!(held.is_closed() && pauses.hold("two").is_closed() && !pauses.hold("three").is_closed());

    let again = open();
    assert!(again.hold("one").is_closed() && again.hold("two").is_closed() && !again.hold("three").is_closed());
    assert_eq!(again.get("one"), Some(Pause { hosts: Reach::This, record: record(None) }));
    assert_eq!(again.resume(&names(&["one", "three"])).await.unwrap().into_keys().collect::<Vec<_>>(), ["one"]);
    assert!(!again.hold("one").is_closed() && again.hold("two").is_closed());
    assert_eq!((open().get("one"), open().get("two").is_some()), (None, true));
    let mode = std::fs::metadata(data.join(file::NAME)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode, std::fs::read_dir(&data).unwrap().count()), (0o600, 1), "nothing is left beside it");
}

#[tokio::test]
async fn a_pause_whose_time_was_over_before_the_start_holds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let open = |now| Pauses::open(folder.path(), now, None).unwrap();
    let until = later();
    open(SystemTime::now()).pause(&names(&["one"]), &record(Some(until))).await.unwrap();
    assert!(open(until - Duration::from_secs(1)).hold("one").is_closed());
    assert!(!open(until).hold("one").is_closed());
}

#[tokio::test]
async fn a_pause_ends_by_itself_and_the_file_forgets_it() {
    let folder = tempfile::tempdir().unwrap();
    let pauses = Pauses::open(folder.path(), SystemTime::now(), Some("main")).unwrap();
    let mut over = std::pin::pin!(pauses.next_over());
    assert!(futures_util::poll!(over.as_mut()).is_pending());
    pauses.pause(&names(&["stays"]), &record(Some(later()))).await.unwrap();
    pauses.pause(&names(&["goes"]), &record(Some(SystemTime::now()))).await.unwrap();
    assert_eq!(ended(over.await), ["goes this"]);
    assert!(!pauses.hold("goes").is_closed() && pauses.hold("stays").is_closed());
    let file = std::fs::read_to_string(folder.path().join(file::NAME)).unwrap();
    assert!(file.contains("stays") && !file.contains("goes"), "{file}");
}

#[tokio::test]
async fn what_cannot_be_written_down_changes_nothing_but_a_time_that_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let pauses = Pauses::open(folder.path(), SystemTime::now(), Some("main")).unwrap();
    pauses.pause(&names(&["one"]), &record(Some(SystemTime::now()))).await.unwrap();
    pauses.pause(&names(&["two"]), &record(None)).await.unwrap();
    // A directory in the place of the file that is written first.
    std::fs::create_dir(folder.path().join("pauses.part")).unwrap();
    let error = pauses.pause(&names(&["three"]), &record(None)).await.unwrap_err();
    assert!(
        error.chain().contains("nothing was changed") && error.chain().contains("pauses.json"),
        "{}",
        error.chain()
    );
    assert!(!pauses.hold("three").is_closed() && pauses.get("three").is_none());
    pauses.resume(&names(&["two"])).await.unwrap_err();
    assert!(pauses.hold("two").is_closed());
    assert_eq!(ended(pauses.next_over().await), ["one this"]);
    assert!(!pauses.hold("one").is_closed());
}

#[tokio::test]
async fn what_is_paused_on_all_hosts_holds_beside_what_this_one_paused_and_over_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Pauses::open(folder.path(), SystemTime::now(), Some("main")).unwrap();
    let (pauses, now) = (open(), SystemTime::now());
    pauses.pause(&names(&["both"]), &record(None)).await.unwrap();
    let all = of_all(&[("both", record(None)), ("one", record(Some(later()))), ("over", record(Some(now)))]);
    let followed = pauses.follow(all.clone(), now).await;
    assert_eq!(followed.begun.keys().map(String::as_str).collect::<Vec<_>>(), ["both", "one"], "one is over");
    assert_eq!(pauses.follow(all, now).await, Followed::default(), "seen twice, it begins once");
    for pauses in [&pauses, &open()] {
        let held = ["both", "one", "over"]
            .map(|name| (pauses.hold(name).is_closed(), pauses.get(name).map(|pause| pause.hosts)));
        assert_eq!(held, [(true, Some(Reach::All)), (true, Some(Reach::All)), (false, None)]);
    }
    // Resumed on all, the one that this host paused by itself is still held; and the other way round.
    assert!(pauses.resume(&names(&["one"])).await.unwrap().is_empty());
    let followed = pauses.follow(of_all(&[]), now).await;
    assert_eq!((followed.begun.len(), followed.ended.len()), (0, 2));
    assert_eq!((pauses.get("both").unwrap().hosts, pauses.get("one")), (Reach::This, None));
    assert!(pauses.hold("both").is_closed() && !pauses.hold("one").is_closed());
    pauses.follow(of_all(&[("both", record(None))]), now).await;
    pauses.resume(&names(&["both"])).await.unwrap();
    assert!(pauses.hold("both").is_closed(), "on all hosts it still is");
    // It ends by its time as others do.
    pauses.follow(of_all(&[("one", record(Some(SystemTime::now() + Duration::from_millis(50))))]), now).await;
    assert_eq!(ended(pauses.next_over().await), ["one all"]);
    assert!(!pauses.hold("one").is_closed() && open().get("one").is_none());
}

#[tokio::test]
async fn what_is_paused_on_all_hosts_holds_though_it_cannot_be_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let pauses = Pauses::open(folder.path(), SystemTime::now(), Some("main")).unwrap();
    std::fs::create_dir(folder.path().join("pauses.part")).unwrap();
    pauses.follow(of_all(&[("one", record(None))]), SystemTime::now()).await;
    assert!(pauses.hold("one").is_closed());
    // The disk has room again.
    std::fs::remove_dir(folder.path().join("pauses.part")).unwrap();
    let over = tokio::spawn(async move { pauses.next_over().await });
    let is_written = || Pauses::open(folder.path(), SystemTime::now(), Some("main")).unwrap().get("one").is_some();
    let (until, mut looks) =
        (Instant::now() + Duration::from_secs(60), tokio::time::interval(Duration::from_millis(20)));
    while !is_written() {
        assert!(Instant::now() < until, "it is not written again");
        looks.tick().await;
    }
    over.abort();
}

#[tokio::test]
async fn what_was_paused_on_all_hosts_of_another_cluster_does_not_hold() {
    let folder = tempfile::tempdir().unwrap();
    let open = |cluster| Pauses::open(folder.path(), SystemTime::now(), cluster).unwrap();
    let pauses = open(Some("main"));
    pauses.follow(of_all(&[("one", record(None))]), SystemTime::now()).await;
    pauses.pause(&names(&["mine"]), &record(None)).await.unwrap();
    for (cluster, holds) in [(Some("main"), true), (Some("other"), false), (None, false)] {
        let pauses = open(cluster);
        assert_eq!((pauses.get("one").is_some(), pauses.hold("one").is_closed()), (holds, holds), "{cluster:?}");
        assert!(pauses.hold("mine").is_closed());
    }
}

#[tokio::test]
async fn until_the_cluster_was_asked_only_its_own_subscriptions_wait() {
    let folder = tempfile::tempdir().unwrap();
    let pauses = Pauses::open(folder.path(), SystemTime::now(), Some("main")).unwrap();
    let (there, elsewhere) = (pauses.hold_of_started("there", true), pauses.hold("elsewhere"));
    there.until_asks(true).await;
    elsewhere.until_asks(false).await;
    pauses.ask_first(false);
    there.until_asks(false).await;
    pauses.ask_first(true);
    there.until_asks(true).await;
    elsewhere.until_asks(false).await;
    // A changed configuration has it receive from another broker, while the cluster is away; and back.
    assert!(Arc::ptr_eq(&there, &pauses.hold_of_started("there", false)));
    there.until_asks(false).await;
    pauses.ask_first(true);
    there.until_asks(false).await;
    pauses.hold_of_started("there", true).until_asks(true).await;
}

#[test]
fn a_file_that_is_none_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let open = |text: &str| {
        std::fs::write(folder.path().join(file::NAME), text).unwrap();
        Pauses::open(folder.path(), SystemTime::now(), None)
    };
    let good = r#"{"layout":"1","subscriptions":{"one":{"by":"ops","since":"2026-11-29T06:00:00Z"}}}"#;
    assert_eq!(open(good).unwrap().get("one").unwrap().record.until, None);
    for bad in ["", "{}", &good.replace("\"1\"", "\"2\""), &good.replace("2026", "x"), &good.replace("\"by\"", "\"b\"")]
    {
        let error = open(bad).unwrap_err().chain();
        assert!(error.contains("does not hold pauses: mend it, or remove it"), "{bad}: {error}");
    }
}
