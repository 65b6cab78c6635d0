//! The one thread that writes buckets: takes all who wait, does it in one transaction, commits, and only then answers.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::change::{Change, Done, Step, entry_bytes};
use super::room::{Growth, Room};
use super::store::{self, LOG_FILE, Statements, Totals};
use super::{NotOpened, Settings};
use crate::broker::bucket::BucketError;
use crate::broker::embedded::error::Failure;
use crate::broker::embedded::log::{self, Log};
use crate::broker::embedded::private;

/// Writes that share a commit at the most, and their bytes: what a commit puts into SQLite's log stays far below the length
/// at which the log is put back.
const GROUP: usize = 256;
const GROUP_BYTES: usize = 4 << 20;

/// A write, with whoever waits for it.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) bucket: Arc<str>,
    pub(super) key: String,
    pub(super) change: Change,
    pub(super) reply: oneshot::Sender<Result<Done, BucketError>>,
    /// Its place among those that wait.
    pub(super) _place: OwnedSemaphorePermit,
}

/// What each write of a group came to.
type Answers = Vec<Result<Done, BucketError>>;

/// The life of the thread. `told`: the store is open, or why it is not and the thread ends.
pub(super) fn run(
    settings: &Settings,
    inbox: mpsc::Receiver<Write>,
    told: &watch::Sender<Option<Result<(), NotOpened>>>,
) {
    let (connection, log) = match open(settings) {
        Ok(taken) => taken,
        Err(why) => {
            tracing::error!(why, "the store of buckets cannot be opened; messages are not concerned");
            told.send_replace(Some(Err(NotOpened { why, at: Instant::now() })));
            return;
        }
    };
    let st = match Statements::prepare(&connection) {
        Ok(st) => st,
        Err(error) => {
            told.send_replace(Some(Err(NotOpened { why: error.to_string(), at: Instant::now() })));
            return;
        }
    };
    let room = Room::new(settings.directory.clone(), settings.reserve_bytes);
    let max_bytes = i64::try_from(settings.max_bytes).unwrap_or(i64::MAX);
    let mut writer = Writer { connection: &connection, st, log, room, max_bytes, totals: HashMap::new(), failed: None };
    told.send_replace(Some(Ok(())));
    while let Ok(first) = inbox.recv() {
        let mut bytes = first.change.bytes();
        let mut group = vec![first];
        while group.len() < GROUP && bytes < GROUP_BYTES {
            let Ok(next) = inbox.try_recv() else { break };
            bytes += next.change.bytes();
            group.push(next);
        }
        writer.round(group);
    }
    let Writer { st, failed, .. } = writer;
    drop(st);
    if failed.is_none()
        && let Err(failure) = log::put_away(&connection)
    {
        tracing::warn!(
            failure = why(&failure),
            "the log of buckets could not be put into its file; the next start will do it"
        );
    }
}

fn open(settings: &Settings) -> Result<(Connection, Log), String> {
    let directory = &settings.directory;
    log::write_anew(&directory.join(LOG_FILE)).map_err(|error| error.to_string())?;
    let mut connection = store::open_writer(directory, settings.durability)?;
    let log = Log::take_over(&mut connection).map_err(|error| error.to_string())?;
    log::keep_names(directory).map_err(|error| error.to_string())?;
    private::close_to_others(directory);
    Ok((connection, log))
}

struct Writer<'c> {
    connection: &'c Connection,
    st: Statements<'c>,
    log: Log,
    room: Room,
    max_bytes: i64,
    /// The buckets that were written to, as they stand in the store.
    totals: HashMap<Arc<str>, Totals>,
    /// Why nothing is written any more.
    failed: Option<Failure>,
}

impl Writer<'_> {
    /// One round: one commit, or one for each write when the disk is full.
    fn round(&mut self, group: Vec<Write>) {
        self.room.look(self.connection);
        match self.commit(&group) {
            Ok(answers) => answer(group, answers),
            // What is small, or removes, may still fit.
            Err(Failure::DiskFull) if group.len() > 1 => {
                for write in group {
                    let single = vec![write];
                    match self.commit(&single) {
                        Ok(answers) => answer(single, answers),
                        Err(failure) => refuse(single, &failure),
                    }
                }
            }
            Err(failure) => refuse(group, &failure),
        }
        if self.failed.is_none()
            && let Err(failure) = self.log.put_back(self.connection)
        {
            self.fail(failure);
        }
    }

    /// Does a group in one transaction. On an error nothing of it was stored, and nothing is remembered of it.
    fn commit(&mut self, group: &[Write]) -> Result<Answers, Failure> {
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        let done = self.transact(group);
        if let Err(failure) = &done {
            // Read anew when it is needed.
            self.totals.clear();
            // SQLite rolls back by itself on some errors; then there is nothing left to roll back.
            let rolled_back = if self.connection.is_autocommit() {
                Ok(())
            } else {
                self.connection.execute_batch("ROLLBACK").map_err(Failure::from)
            };
            if let (Failure::Fatal(_), _) | (_, Err(_)) = (failure, rolled_back) {
                self.fail(failure.clone());
            }
        }
        done
    }

    fn transact(&mut self, group: &[Write]) -> Result<Answers, Failure> {
        self.st.begin()?;
        let mut answers = Vec::with_capacity(group.len());
        let mut touched = Vec::new();
        for write in group {
            answers.push(self.apply(write, &mut touched)?);
        }
        for bucket in touched {
            if let Some(totals) = self.totals.get(&bucket) {
                self.st.save(totals)?;
            }
        }
        self.st.commit()?;
        Ok(answers)
    }

    fn apply(&mut self, write: &Write, touched: &mut Vec<Arc<str>>) -> Result<Result<Done, BucketError>, Failure> {
        let Write { bucket, key, change, .. } = write;
        let totals = match self.totals.get(bucket) {
            Some(totals) => *totals,
            None => self.st.totals(bucket)?,
        };
        let stands = self.st.stands(totals.id, key)?;
        let (step, done) = match change.decide(stands.as_ref()) {
            Ok(decided) => decided,
            Err(error) => return Ok(Err(error)),
        };
        let takes = |value: i64| entry_bytes(key, usize::try_from(value).unwrap_or(0));
        let before = stands.as_ref().map_or(0, |stands| takes(stands.bytes));
        let mut after = totals;
        match step {
            Step::Leave => return Ok(Ok(done)),
            Step::Remove => {
                self.st.remove(totals.id, key)?;
                after.entries -= 1;
                after.bytes -= before;
            }
            Step::Put(value) => {
                let takes = entry_bytes(key, value.len());
                after.bytes += takes - before;
                after.entries += i64::from(stands.is_none());
                if let Some(problem) = self.problem(totals.bytes, after.bytes) {
                    return Ok(Err(BucketError::Full(problem)));
                }
                self.st.put(totals.id, key, &value)?;
                self.room.written(takes);
            }
        }
        self.totals.insert(Arc::clone(bucket), after);
        if !touched.contains(bucket) {
            touched.push(Arc::clone(bucket));
        }
        Ok(Ok(done))
    }

    /// Why a bucket should not be written to.
    fn problem(&self, before: i64, after: i64) -> Option<String> {
        if after <= before {
            return self.room.problem(Growth::Same);
        }
        if after > self.max_bytes {
            return Some(format!("it would keep {after} bytes, and its limit is {}", self.max_bytes));
        }
        self.room.problem(Growth::More)
    }

    fn fail(&mut self, failure: Failure) {
        tracing::error!(
            failure = why(&failure),
            "nothing is written to buckets any more until the host is started again; messages are not concerned"
        );
        self.failed = Some(failure);
    }
}

fn answer(group: Vec<Write>, answers: Answers) {
    for (write, answer) in group.into_iter().zip(answers) {
        // Whoever asked may have gone; it is done all the same.
        let _gone = write.reply.send(answer);
    }
}

fn refuse(group: Vec<Write>, failure: &Failure) {
    let error = match failure {
        Failure::DiskFull => BucketError::Full(why(failure)),
        Failure::Busy | Failure::Fatal(_) | Failure::Closed => BucketError::Unavailable(why(failure)),
    };
    for write in group {
        let _gone = write.reply.send(Err(error.clone()));
    }
}

/// What struck a group, in words: those of the failure itself speak of the queue.
fn why(failure: &Failure) -> String {
    match failure {
        Failure::Fatal(detail) => format!("the store of buckets failed and takes no more: {detail}"),
        Failure::DiskFull | Failure::Busy | Failure::Closed => failure.to_string(),
    }
}
