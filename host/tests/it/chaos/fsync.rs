//! An fsync of the embedded queue that fails, as Linux lets it fail: once, and the next one succeeds though what was
//! written before is not on the disk. A shim (`fsync.c`) does it to the real host, and keeps what a loss of power leaves.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tidegate::broker::embedded::{EmbeddedQueue, Options};

use super::books::Books;
use super::rig::Rig;
use super::{Feed, audit, kills, until_settled};
use crate::support::until;

const LOG: &str = "queue.db-wal";
const FILE: &str = "queue.db";

/// The faults of one host.
struct Faults {
    directory: PathBuf,
    queue: PathBuf,
}

impl Faults {
    /// Builds the shim and has the host load it.
    fn prepare(rig: &mut Rig) -> Self {
        let directory = rig.path().join("faults");
        std::fs::create_dir(&directory).unwrap();
        let shim = directory.join("fsync.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/chaos/fsync.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&shim).arg(source).arg("-ldl");
        let built = cc.output().expect("this test builds a shim and needs a C compiler, `cc`");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        rig.environment = vec![("LD_PRELOAD", shim), ("FSYNC_FAULTS", directory.clone())];
        Self { directory, queue: rig.path().join("tidegate-data/queue-queue") }
    }

    /// The next fsync of this file fails.
    fn fail_next(&self, file: &str) {
        // Renamed, so that it is read whole.
        std::fs::write(self.directory.join("next"), format!("/{file}")).unwrap();
        std::fs::rename(self.directory.join("next"), self.directory.join("fail")).unwrap();
    }

    fn journal(&self) -> String {
        std::fs::read_to_string(self.directory.join("journal")).unwrap_or_default()
    }

    fn failures(&self) -> usize {
        self.journal().lines().filter(|line| line.starts_with("failed ")).count()
    }

    /// After a failure, that process has no fsync of the queue's files any more: there is none that could be believed.
    fn check_none_was_tried_again(&self) {
        let journal = self.journal();
        let mut failed = Vec::new();
        for line in journal.lines() {
            let mut words = line.split(' ');
            let (what, process) = (words.next().unwrap(), words.next().unwrap());
            assert!(!failed.contains(&process), "an fsync after the one that failed: {line}");
            if what == "failed" {
                failed.push(process);
            }
        }
    }

    /// Leaves of the queue what is on the disk, while no host runs.
    fn lose_power(&self) {
        for file in [FILE, LOG] {
            let durable = self.queue.join(format!("{file}.durable"));
            if durable.exists() {
                std::fs::copy(durable, self.queue.join(file)).unwrap();
            }
        }
        let _no_matter = std::fs::remove_file(self.queue.join("queue.db-shm"));
        self.forget_lost();
    }

    /// What was lost is read from the disk as it is there.
    fn forget_lost(&self) {
        for file in [FILE, LOG] {
            let _none = std::fs::remove_file(self.queue.join(format!("{file}.lost")));
        }
    }
}

#[test]
fn a_failed_fsync_ends_the_host_and_nothing_that_was_confirmed_is_lost() {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    let faults = Faults::prepare(&mut rig);
    rig.start();
    let feed = Feed::start(rig.publisher(), "m");
    let rounds = kills().div_ceil(2);
    for round in 0..rounds {
        feed.go_on_for(300);
        // The log at every commit; the file once in many, when the log is put back into it.
        let file = if round % 3 == 2 { FILE } else { LOG };
        let before = faults.failures();
        faults.fail_next(file);
        until("the fsync fails", Duration::from_secs(120), || faults.failures() > before);
        let status = rig.ended();
        assert_eq!(status.code(), Some(1), "{status}");
        faults.check_none_was_tried_again();
        if round % 2 == 1 {
            faults.lose_power();
        }
        // Otherwise the next host reads what the last one wrote, on the disk or not.
        rig.start();
        feed.go_on_for(200);
        rig.kill();
        faults.lose_power();
        rig.start();
    }
    let published = feed.finish();
    until_settled(&rig);
    rig.drain();
    let log = rig.log();
    assert!(log.contains("an fsync failed, so what was written last may not be on the disk"));
    assert!(log.contains("broker `queue` failed: "), "the last word says what to do");

    let mut books = Books::default();
    books.read_runs(&log);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let queue = EmbeddedQueue::open(Options::new(&faults.queue)).await.unwrap();
        assert_eq!(queue.check().await.unwrap(), Vec::<String>::new());
        audit::read(queue.as_ref(), None, &mut books).await;
    });
    let balance = books.check("m", published);
    books.check_the_runs();
    println!("embedded queue, an fsync failed {rounds} times: {balance:?}");
}
