//! The embedded queue on a disk that fills up: a small file system of its own, mounted for the test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tidegate::broker::embedded::Options;
use tidegate::broker::{PublishError, SettleError, Source, Status};
use tokio::time::timeout;

use crate::broker_contract::{
    LONG_LEASE, PATIENCE, Place, ack, dead_letter, demand, eventually, receive, receive_one, settle_one,
};

/// The size of the disk.
const DISK_MIB: u64 = 100;

/// A small disk; unmounted when it is dropped.
pub(crate) struct SmallDisk {
    directory: tempfile::TempDir,
    pub(crate) mounted: PathBuf,
}

impl SmallDisk {
    /// Mounts an ext4 in a file, or, where there are no loop devices, a limited tmpfs.
    pub(crate) fn mount() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mounted = directory.path().join("disk");
        std::fs::create_dir(&mounted).unwrap();
        let image = directory.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(DISK_MIB << 20).unwrap();
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let size = format!("size={DISK_MIB}m");
        let attempts: [&[&[&str]]; 2] = [
            &[&["mkfs.ext4", "-q", "-m", "0", &path(&image)], &["mount", "-o", "loop", &path(&image), &path(&mounted)]],
            &[&["mount", "-t", "tmpfs", "-o", &size, "none", &path(&mounted)]],
        ];
        let mut said = Vec::new();
        for commands in attempts {
            if commands.iter().all(|command| run(command, &mut said)) {
                return Self { directory, mounted };
            }
        }
        panic!("this test mounts a small file system, which needs root and `mount`: {}", said.join("; "));
    }
}

fn run(command: &[&str], said: &mut Vec<String>) -> bool {
    match Command::new(command[0]).args(&command[1..]).output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            said.push(String::from_utf8_lossy(&output.stderr).trim().to_owned());
            false
        }
        Err(error) => {
            said.push(format!("{}: {error}", command[0]));
            false
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, for a test that failed may still hold files open.
        let mounted = self.mounted.to_str().unwrap_or_default();
        if !run(&["umount", "-l", mounted], &mut Vec::new()) {
            println!("{} is still mounted at {mounted}", self.directory.path().display());
        }
    }
}

/// Publishes until the queue refuses; the sequences that were confirmed.
async fn publish_until_full(place: &Place) -> BTreeSet<u64> {
    let body = "x".repeat(10_000);
    let mut confirmed = BTreeSet::new();
    loop {
        let group = (0..50).map(|_| place.message("a", None, &body)).collect();
        for published in place.broker.publish(group).await {
            match published {
                Ok(published) => assert!(confirmed.insert(published.sequence)),
                Err(PublishError::Full(_)) => return confirmed,
                Err(other) => panic!("{other}"),
            }
        }
        assert!((confirmed.len() as u64) * 10_000 < DISK_MIB << 20, "the disk never filled up");
    }
}

/// Takes everything; what came.
async fn drain(source: &dyn Source, until_left: u64) -> BTreeSet<u64> {
    let mut seen = BTreeSet::new();
    loop {
        let backlog = source.backlog().await.unwrap();
        if backlog.ready + backlog.pending <= until_left {
            return seen;
        }
        let came = timeout(PATIENCE, source.receive(demand(100))).await.unwrap().unwrap();
        for answer in source.settle(came.iter().map(ack).collect()).await {
            answer.unwrap();
        }
        seen.extend(came.iter().map(|delivery| delivery.message.sequence));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_are_refused_before_the_disk_is_full_and_consuming_goes_on() {
    let disk = SmallDisk::mount();
    let (place, queue) = crate::embedded::open(Options::new(disk.mounted.join("queue"))).await;
    let source = place.subscribe("s", &[">"], LONG_LEASE).await;
    let mut confirmed = publish_until_full(&place).await;
    assert!(!confirmed.is_empty());
    assert_eq!(place.broker.status(), Status::Connected);
    // A tenth of it as dead letters, which take as much room as their messages.
    let dead = receive(&*source, confirmed.len() / 10).await;
    for delivery in &dead {
        settle_one(&*source, dead_letter(delivery, "s", 0)).await.unwrap();
        confirmed.remove(&delivery.message.sequence);
    }
    assert_eq!(drain(&*source, 0).await, confirmed, "what was confirmed came, and nothing else");
    assert_eq!(queue.stats().dead_letters, dead.len() as u64);
    // The file has room inside now, though the disk has no more than before.
    eventually("publishes are taken again", || async {
        place.broker.publish(vec![place.message("a", None, "room again")]).await[0].is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_others_fill_loses_nothing_that_was_confirmed() {
    let disk = SmallDisk::mount();
    let (place, queue) = crate::embedded::open(Options::new(disk.mounted.join("queue"))).await;
    let source = place.subscribe("s", &[">"], LONG_LEASE).await;
    let body = "x".repeat(10_000);
    place.publish("a", (0..100).map(|_| &body)).await;
    let held = receive_one(&*source).await;
    let letters = place.broker.dead_letters();
    letters.is_writable().await.unwrap();
    // The last byte, reserve and all.
    let filler = disk.mounted.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    let mut size = 1 << 20;
    while size > 0 {
        if std::io::Write::write_all(&mut file, &vec![b'x'; size]).is_err() {
            size /= 2;
        }
    }
    // Whatever is answered, it is true: refused and not stored, or confirmed and stored. Soon nothing fits any more.
    let mut confirmed = 99;
    let mut refused = 0;
    while refused < 3 {
        match place.broker.publish(vec![place.message("a", None, &body)]).await.remove(0) {
            Ok(_) => confirmed += 1,
            Err(PublishError::Full(_)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    match settle_one(&*source, ack(&held)).await {
        Ok(()) => {}
        Err(SettleError::Unconfirmed(_)) => confirmed += 1,
        Err(other) => panic!("{other}"),
    }
    assert_eq!(place.broker.status(), Status::Connected, "a full disk is no reason to stop for good");
    let why = letters.is_writable().await.unwrap_err().to_string();
    assert!(why.contains("the disk has"), "{why}");
    std::fs::remove_file(&filler).unwrap();
    drop(file);
    eventually("publishes are taken again", || async {
        place.broker.publish(vec![place.message("a", None, "room again")]).await[0].is_ok()
    })
    .await;
    letters.is_writable().await.unwrap();
    let backlog = source.backlog().await.unwrap();
    assert_eq!(backlog.ready + backlog.pending, confirmed + 1);
    if backlog.pending > 0 {
        settle_one(&*source, ack(&held)).await.unwrap();
    }
    let left = drain(&*source, 0).await.len() as u64;
    assert_eq!(left, confirmed + 1 - backlog.pending);
    assert_eq!(queue.check().await.unwrap(), Vec::<String>::new());
    timeout(Duration::from_secs(10), place.broker.close()).await.unwrap();
}
