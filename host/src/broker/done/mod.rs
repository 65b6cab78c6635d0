//! The durable record of what is done, for brokers that may hand a settled message out again.
//!
//! A NATS server that is killed forgets acknowledgements that it had confirmed and gives the messages back. This
//! record is how the host knows them: such a delivery is acknowledged without running its handler again. Beside it
//! stand the notes: what is to be remembered of a message between deliveries and no field of the broker can hold.
//!
//! Invariants:
//! - What is marked is in the file (handed to the operating system) when [`DoneRecord::mark`] returns `Ok`: it survives
//!   the end of the process by any signal. A power cut may take the last marks away, and a run of the handler is then
//!   repeated; no message is lost by it.
//! - It is bounded: at most so many blocks of 128 sequences and so many notes; what is evicted is counted.
//! - What is done is as good as its outputs and dead letters: when a stream is found to have lost some of them, all that is done is
//!   forgotten, and what comes back runs again.
//! - A lost mark costs a second run, a lost note an over-counted attempt. Neither loses a message.
//! - A sequence counts only within its source: a stream and a consumer with the times of their creation, so that a
//!   stream or consumer that is deleted and made anew starts empty.
//! - What is known of a message counts for no other one at the same sequence. A server that lost its newest messages with
//!   the power, or was put back to an earlier copy, gives their sequences to new ones; when a message was stored tells
//!   them apart.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot};

use crate::broker::disk;
use crate::settle::progress::Progress;

mod blocks;
mod file;
mod notes;
mod outputs;
mod writer;

use blocks::{Blocks, SEQUENCES, Tags, is_in};
use file::File;
use notes::{Note, Notes};
use outputs::Outputs;

/// How many writers may wait for the file at once. A writer is a group of settlements; each waits for its answer, so
/// this bounds what is under way: 1,024 groups of a few hundred messages.
const WAITING: usize = 1024;

/// Where the record is kept, and how large it may grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The file. Its folder must exist.
    pub path: PathBuf,
    /// Blocks of 128 sequences that are kept, over all sources.
    pub max_blocks: usize,
    /// Notes that are kept, over all sources.
    pub max_notes: usize,
}

impl Options {
    /// The defaults, for a file.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            // 65,536 blocks of 512 bytes are 32 MiB and remember 8 million messages where all of a stream are one
            // subscription's: at 10,000 a second fourteen minutes, seven times what a NATS server writes behind (it syncs every
            // two). Of a subscription that takes some of a stream, and of each of several on one, a block has fewer.
            max_blocks: 65_536,
            // Notes stand only for messages that wait for a retry: as many as 16 consumers with 1,000 unsettled each.
            // At about 1 KiB each (ten failures) 16 MiB at the most.
            max_notes: 16_384,
        }
    }
}

/// What a sequence belongs to. Times of creation are the broker's own text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceIdentity {
    /// The stream's name.
    pub stream: String,
    /// When the stream was created.
    pub stream_created: String,
    /// The consumer's name.
    pub consumer: String,
    /// When the consumer was created.
    pub consumer_created: String,
}

/// A message of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageIdentity {
    /// Its position in the stream.
    pub sequence: u64,
    /// When the stream took it in, by the server's clock. The record keeps the millisecond: no server stores a message,
    /// loses it and gives its sequence to another one within the same.
    pub stored_at: SystemTime,
}

/// A source in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(i64);

impl MessageIdentity {
    /// What the record keeps of the time: its milliseconds, which come round every 49 days, and never 0.
    fn tag(&self) -> u32 {
        let since = self.stored_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let [.., a, b, c, d] = since.as_millis().to_be_bytes();
        u32::from_be_bytes([a, b, c, d]).max(1)
    }
}

/// Why the record could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum DoneError {
    /// Another process has it open.
    #[error("the record of what is done, `{0}`, is in use by another process")]
    Locked(PathBuf),
    /// The file could not be opened, read or written.
    #[error("could not use the record of what is done, `{path}`")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the storage said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The write that was waited for failed, or the record was closed.
    #[error("the record of what is done was not written: {0}")]
    NotWritten(String),
}

/// What the record counts, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Blocks that had to make room.
    pub evicted_blocks: u64,
    /// Notes that had to make room.
    pub evicted_notes: u64,
    /// Writes to the file that failed.
    pub failed_writes: u64,
    /// Blocks in memory now.
    pub blocks: u64,
    /// Notes in memory now.
    pub notes: u64,
}

/// The record of what is done. Questions are answered from memory; marks are in the file when they return.
#[derive(Debug)]
pub struct DoneRecord {
    path: PathBuf,
    shared: Arc<Shared>,
    flush: Mutex<Option<mpsc::Sender<Flush>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// Somebody who waits until all that is in memory now is in the file.
type Flush = oneshot::Sender<Result<(), String>>;

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    evicted_blocks: AtomicU64,
    evicted_notes: AtomicU64,
    failed_writes: AtomicU64,
    /// Set while writes fail, so that the trouble is logged once and not a thousand times a second.
    failing: AtomicBool,
}

#[derive(Debug)]
struct State {
    sources: HashMap<SourceIdentity, SourceId>,
    /// Sources that are not in the file yet.
    new_sources: Vec<(SourceId, SourceIdentity)>,
    next_source: i64,
    blocks: Blocks,
    notes: Notes,
    outputs: Outputs,
    /// How often what is done was forgotten.
    forgotten: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it was held leaves counts and bits that are each valid by themselves.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DoneRecord {
    /// Opens the record, or makes a new one, and reads it into memory. Blocks; call it before the runtime is busy or on
    /// a blocking thread. A file that is damaged is put aside (`.damaged`) and a new one begun, with a warning: the
    /// record saves second runs, and to refuse to start over it would cost more than it.
    ///
    /// # Errors
    /// When the file cannot be opened, read or created, or another process uses it.
    pub fn open(options: &Options) -> Result<Arc<Self>, DoneError> {
        let (file, content) = File::open(&options.path)?;
        let next_source = content.sources.values().map(|id| id.0).max().unwrap_or(0) + 1;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                sources: content.sources,
                new_sources: Vec::new(),
                next_source,
                blocks: Blocks::new(options.max_blocks, content.blocks),
                notes: Notes::new(options.max_notes, content.notes),
                outputs: Outputs::new(content.outputs),
                forgotten: 0,
            }),
            evicted_blocks: AtomicU64::new(0),
            evicted_notes: AtomicU64::new(0),
            failed_writes: AtomicU64::new(0),
            failing: AtomicBool::new(false),
        });
        let (flush, waiting) = mpsc::channel(WAITING);
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("done-record".to_owned())
            .spawn(move || writer::run(&for_thread, file, waiting))
            .map_err(|error| DoneError::File { path: options.path.clone(), source: Box::new(error) })?;
        let (path, flush, thread) = (options.path.clone(), Mutex::new(Some(flush)), Mutex::new(Some(thread)));
        Ok(Arc::new(Self { path, shared, flush, thread }))
    }

    /// The source of this identity; made when there is none.
    #[must_use]
    pub fn source(&self, identity: &SourceIdentity) -> SourceId {
        let mut state = self.shared.lock();
        if let Some(id) = state.sources.get(identity) {
            return *id;
        }
        let id = SourceId(state.next_source);
        state.next_source += 1;
        state.sources.insert(identity.clone(), id);
        state.new_sources.push((id, identity.clone()));
        id
    }

    /// What is known of several messages, in their order: whether each is done, and the note on it.
    #[must_use]
    pub fn look_up(
        &self,
        source: SourceId,
        messages: impl Iterator<Item = MessageIdentity>,
    ) -> Vec<(bool, Option<Progress>)> {
        let state = self.shared.lock();
        // Neighbours mostly: the block of the one before is kept.
        let mut last: Option<(u64, Option<&Tags>)> = None;
        messages
            .map(|message| {
                let number = message.sequence / SEQUENCES;
                let tags = match last {
                    Some((same, tags)) if same == number => tags,
                    Some(_) | None => state.blocks.block(source, number),
                };
                last = Some((number, tags));
                (tags.is_some_and(|tags| is_in(tags, &message)), state.notes.get(source, &message).cloned())
            })
            .collect()
    }

    /// Marks messages as done, drops the notes on them, and waits until that is in the file. Where what is done was forgotten more
    /// often than is given, what they came to may be lost with the rest, and nothing is marked.
    ///
    /// # Errors
    /// When the file was not written. The marks then stand in memory and are tried again with the next write.
    pub async fn mark(&self, source: SourceId, messages: &[MessageIdentity], forgotten: u64) -> Result<(), DoneError> {
        {
            let mut state = self.shared.lock();
            if state.forgotten <= forgotten {
                state.blocks.insert_all(source, messages);
                for message in messages {
                    state.notes.remove(source, message);
                }
            }
            self.shared.evicted_blocks.fetch_add(state.blocks.evict(), Ordering::Relaxed);
        }
        self.flush().await
    }

    /// Notes what is to be remembered of messages that come back, and waits until that is in the file.
    ///
    /// # Errors
    /// When the file was not written. The notes then stand in memory and are tried again with the next write.
    pub async fn note(&self, source: SourceId, notes: Vec<(MessageIdentity, Progress)>) -> Result<(), DoneError> {
        {
            let mut state = self.shared.lock();
            for (message, progress) in notes {
                state.notes.insert(source, message.sequence, Note { tag: message.tag(), progress });
            }
            self.shared.evicted_notes.fetch_add(state.notes.evict(), Ordering::Relaxed);
        }
        self.flush().await
    }

    /// Notes that a stream took an output or a dead letter in, at a sequence. It is in the file with the next mark, and so not
    /// after the message is done. Where what is done was forgotten more often than is given, that may have been before the loss, and
    /// nothing is noted.
    pub fn reached(&self, stream: &str, sequence: u64, forgotten: u64) {
        let mut state = self.shared.lock();
        if state.forgotten <= forgotten {
            state.outputs.reached(stream, sequence);
        }
    }

    /// By stream the furthest sequence of an output or a dead letter.
    #[must_use]
    pub fn furthest(&self) -> Vec<(Arc<str>, u64)> {
        self.shared.lock().outputs.all()
    }

    /// How often what is done was forgotten since the record was opened.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.shared.lock().forgotten
    }

    /// Forgets all that is done, of all sources: streams, each with how far it is, are no further than that, and have lost outputs or
    /// dead letters of some of it. In memory at once; in the file with the next write, see [`DoneRecord::write`].
    ///
    /// False: it was forgotten more often than is given, by somebody who found the same, or it is no news; nothing has changed.
    #[must_use]
    pub fn forget_done(&self, streams: &[(&str, u64)], forgotten: u64) -> bool {
        let mut state = self.shared.lock();
        if state.forgotten > forgotten {
            return false;
        }
        let mut is_new = false;
        for (stream, last) in streams {
            is_new |= state.outputs.fell_back(stream, *last);
        }
        if is_new {
            state.blocks.clear();
            state.forgotten += 1;
        }
        is_new
    }

    /// Waits until all that is known now is in the file.
    ///
    /// # Errors
    /// When the file was not written. It is tried again with the next write.
    pub async fn write(&self) -> Result<(), DoneError> {
        self.flush().await
    }

    /// The bytes that are free on the disk of its file; `None`: the disk does not say.
    #[must_use]
    pub fn disk_free(&self) -> Option<u64> {
        disk::free(self.path.parent()?).ok()
    }

    /// What was counted since it was opened.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let state = self.shared.lock();
        Counters {
            evicted_blocks: self.shared.evicted_blocks.load(Ordering::Relaxed),
            evicted_notes: self.shared.evicted_notes.load(Ordering::Relaxed),
            failed_writes: self.shared.failed_writes.load(Ordering::Relaxed),
            blocks: state.blocks.len() as u64,
            notes: state.notes.len() as u64,
        }
    }

    /// Writes what is left and closes the file. Marks after this are refused.
    pub async fn close(&self) {
        if self.flush().await.is_err() {
            tracing::warn!("the record of what is done could not be written in full before it was closed");
        }
        self.flush.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // The thread ends as soon as its last sender is gone, which is now.
            let ended = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(ended, Ok(Ok(()))) {
                tracing::error!("the thread that writes the record of what is done ended badly");
            }
        }
    }

    /// Waits until what is in memory now is in the file. Dropping the future changes nothing of what is written.
    async fn flush(&self) -> Result<(), DoneError> {
        let sender = self.flush.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(sender) = sender else {
            return Err(DoneError::NotWritten("it is closed".to_owned()));
        };
        let (done, wait) = oneshot::channel();
        if sender.send(done).await.is_err() {
            return Err(DoneError::NotWritten("its thread has ended".to_owned()));
        }
        drop(sender);
        match wait.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(text)) => Err(DoneError::NotWritten(text)),
            Err(_) => Err(DoneError::NotWritten("its thread has ended".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests;
