//! Brings the rows to what the stream is, by as little reading as will do.
//!
//! The stream's leader is asked what it has (one question, however many there are). What is behind the last row is read. When there are
//! as many messages then as rows, the rows are right; else it is found where they differ, and that is read anew.
//!
//! Invariants:
//! - What is told to be as the stream is was compared with what its leader has, and nothing that this host removes was under way when
//!   the leader was asked.
//! - A server that lost its newest messages gives their sequences to new ones. So where something was stored since, the newest row from
//!   before is looked at: when it is still the same message, nothing behind it was given twice.
//! - Where there are messages without a row, in front of all rows, their number is never taken for less than it is: then rows too many
//!   cannot make up for it. So it counts only when it was counted twice, and the leader had the same before and after.
//! - Nobody takes rows out for anything but a removal that was confirmed, or for what was read anew.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};

use super::Inner;
use super::groups::{Read, nanos};
use super::reconcile::{Step, decide};
use super::state::{Stands, TooVaried, is_led_by_nobody};
use super::view::View;
use crate::broker::DeadLetterError;
use crate::broker::jetstream::reader::{Reader, Start};
use crate::broker::jetstream::session::Session;
use crate::broker::jetstream::setup::stream_info;
use crate::broker::jetstream::stored;
use crate::broker::jetstream::wire::StreamInfo;

/// How often it is compared, while others remove something each time.
const TRIES: usize = 6;
/// Between two of them, when nothing was found that differs: a copy that was asked lags behind, by some milliseconds as a rule.
const PAUSE: Duration = Duration::from_millis(20);
/// Messages that are taken in at once.
const BATCH: usize = 512;
/// Rows that are looked at for one whose message is still there, before all of their segment are read anew.
const LOOKED_AT: usize = 8;
/// Counts that are asked for at once.
const AT_ONCE: usize = 4;

/// How the rows stand to the stream.
#[derive(Debug)]
pub(super) enum Met {
    /// As it is.
    Current(View),
    /// So many messages are to be read first, and that are too many here.
    Behind(u64),
    /// That cannot be told now.
    Unsure,
}

impl Inner {
    /// Brings the rows to what the stream is, if no more than so many messages have to be read at once for that. Whoever calls has the
    /// turn. Dropped in the middle, what was read by then stays.
    pub(super) async fn meet(&self, session: &Session, most: u64) -> Result<Met, DeadLetterError> {
        for _ in 0..TRIES {
            let Some(info) = self.ask_leader(session).await? else {
                self.lock().forget();
                return Ok(Met::Current(View::empty()));
            };
            if is_led_by_nobody(&info) {
                return Ok(Met::Unsure);
            }
            let stands = self.lock().stands(&info, session.number);
            match stands {
                Stands::Same => {}
                Stands::Grown if self.is_same_history(session).await? => {}
                Stands::Grown | Stands::Another => self.begin(session, &info).await?,
                Stands::Behind => return Ok(Met::Unsure),
            }
            self.lock().begins_at(info.state.first_seq);
            let to_read = self.lock().to_read(&info);
            if to_read > most {
                return Ok(Met::Behind(to_read));
            }
            if self.catch_up(session, &info).await?.is_err() {
                return Ok(self.give_up());
            }
            let is_below_to_count = self.lock().is_below_to_count(&info);
            if is_below_to_count && !self.count_below(session, &info).await? {
                continue;
            }
            if let Some(view) = self.compared(&info) {
                return Ok(Met::Current(view));
            }
            match self.reconcile(session, most).await? {
                Ok(None) => {}
                Ok(Some(to_read)) => return Ok(Met::Behind(to_read)),
                Err(TooVaried) => return Ok(self.give_up()),
            }
        }
        Ok(Met::Unsure)
    }

    /// What the leader of the stream has; `None`: there is no stream.
    async fn ask_leader(&self, session: &Session) -> Result<Option<StreamInfo>, DeadLetterError> {
        // While something is being removed, nobody could say whether it counts in the answer. That takes some milliseconds.
        let _quiet = self.deleting.write().await;
        self.lock().watch();
        Ok(stream_info(session, &self.stream).await?)
    }

    /// The rows, when they are those of all that the stream has, and no more.
    fn compared(&self, info: &StreamInfo) -> Option<View> {
        let state = self.lock();
        (info.state.messages == state.expected(info)).then(|| state.view(info))
    }

    fn give_up(&self) -> Met {
        tracing::warn!(
            stream = self.stream,
            "the dead letters are of so many handlers, versions, reasons and subscriptions that no list of them is kept in memory"
        );
        self.too_varied();
        Met::Unsure
    }

    /// Begins anew, without a row.
    async fn begin(&self, session: &Session, info: &StreamInfo) -> Result<(), DeadLetterError> {
        let floor = match info.state.messages.checked_sub(self.options.rows_at_most) {
            None | Some(0) => info.state.first_seq,
            Some(_) => self.first_of_most(session, info).await?,
        };
        self.lock().begin(info, session.number, floor);
        Ok(())
    }

    /// The first sequence from which on there are no more messages than rows.
    async fn first_of_most(&self, session: &Session, info: &StreamInfo) -> Result<u64, DeadLetterError> {
        let (mut low, mut high) = (info.state.first_seq, info.state.last_seq + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.held(session, middle).await? > self.options.rows_at_most {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(high)
    }

    /// Whether the newest row is still the message that it was made of.
    async fn is_same_history(&self, session: &Session) -> Result<bool, DeadLetterError> {
        let (mut end, mut looked_at) = (u64::MAX, 0);
        loop {
            let newest = self.lock().newest_before(end);
            let Some((sequence, stored_at)) = newest else { return Ok(true) };
            if let Some(there) = stored::at(session, &self.stream, sequence).await? {
                return Ok(nanos(there.position().stored_at) == stored_at);
            }
            self.lock().missing(sequence);
            looked_at += 1;
            if looked_at % LOOKED_AT == 0 {
                // Many were removed at once, the newest of all.
                let size = self.lock().rows.size();
                let segment = sequence / size * size..sequence;
                end = segment.start;
                if self.reread(session, segment).await?.is_err() {
                    return Ok(false);
                }
            }
        }
    }

    /// Reads what is behind the last row.
    async fn catch_up(&self, session: &Session, info: &StreamInfo) -> Result<Result<(), TooVaried>, DeadLetterError> {
        let from = self.lock().read().end;
        if from <= info.state.last_seq {
            let mut reader = Reader::open(session, &self.stream, &all(), Start::Sequence(from)).await?;
            let read = self.append_all(&mut reader).await;
            reader.close().await;
            if read?.is_err() {
                return Ok(Err(TooVaried));
            }
            self.is_nothing_left(session, info).await?;
        }
        self.lock().is_read_through(info);
        Ok(Ok(()))
    }

    /// An error, when the leader has something between what was read and the last sequence that it had. That there is nothing is not left
    /// to the copy that was read: what it did not have would be missed for good.
    async fn is_nothing_left(&self, session: &Session, info: &StreamInfo) -> Result<(), DeadLetterError> {
        let from = self.lock().read().end;
        if from > info.state.last_seq {
            return Ok(());
        }
        match stored::next(session, &self.stream, from, ">").await? {
            Some(there) if there.seq <= info.state.last_seq => Err(DeadLetterError::Store(format!(
                "a copy of stream `{}` does not have message {}, which its leader has",
                self.stream, there.seq
            ))),
            Some(_) | None => Ok(()),
        }
    }

    async fn append_all(&self, reader: &mut Reader<'_>) -> Result<Result<(), TooVaried>, DeadLetterError> {
        let most = self.options.rows_at_most;
        let mut read = Vec::with_capacity(BATCH);
        loop {
            let next = reader.next().await;
            if let Ok(Some((message, position))) = &next {
                read.push(Read::of(message, position));
            }
            if read.len() >= BATCH || !matches!(next, Ok(Some(_))) {
                // Also in front of an error: it need not be read again.
                let taken = self.lock().append(std::mem::take(&mut read), most);
                if taken.is_err() {
                    return Ok(taken);
                }
            }
            match next {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Finds where the rows differ from the stream, and reads that anew; or says how many messages that would be, when they are too many.
    async fn reconcile(&self, session: &Session, most: u64) -> Result<Result<Option<u64>, TooVaried>, DeadLetterError> {
        self.lock().doubt_below();
        let Range { start, end } = self.lock().read();
        let mut counted = self.counted(session, vec![start, end]).await?;
        loop {
            let step = decide(&self.lock().rows, &counted);
            match step {
                Step::Ask(sequences) => counted.append(&mut self.counted(session, sequences).await?),
                Step::Read(ranges) if ranges.is_empty() => {
                    tokio::time::sleep(PAUSE).await;
                    return Ok(Ok(None));
                }
                Step::Read(ranges) => {
                    let to_read: u64 = ranges.iter().map(|(_, messages)| messages).sum();
                    if to_read > most {
                        return Ok(Ok(Some(to_read)));
                    }
                    for (range, _) in ranges {
                        if self.reread(session, range).await?.is_err() {
                            return Ok(Err(TooVaried));
                        }
                    }
                    return Ok(Ok(None));
                }
            }
        }
    }

    /// What lies in front of the rows has none, and is known by its number alone. Whether it is sure now: a copy that was asked may not
    /// know yet of a removal, which the second look shows, and the leader that nothing changed between the two.
    async fn count_below(&self, session: &Session, info: &StreamInfo) -> Result<bool, DeadLetterError> {
        let Range { start, end } = self.lock().read();
        let counted = self.counted(session, vec![start, end]).await?;
        tokio::time::sleep(PAUSE).await;
        let again = self.counted(session, vec![start, end]).await?;
        let now = stream_info(session, &self.stream).await?;
        let is_same = |now: &StreamInfo| (&now.created, &now.state) == (&info.created, &info.state);
        if counted != again || !now.as_ref().is_some_and(is_same) {
            return Ok(false);
        }
        let from = |sequence: &u64| counted.get(sequence).copied().unwrap_or(0);
        let with_rows = from(&start).saturating_sub(from(&end));
        self.lock().set_below(info.state.messages.saturating_sub(with_rows));
        Ok(true)
    }

    /// Reads a range of sequences anew, in parts that are each taken in at once.
    async fn reread(&self, session: &Session, range: Range<u64>) -> Result<Result<(), TooVaried>, DeadLetterError> {
        if range.is_empty() {
            return Ok(Ok(()));
        }
        let mut reader = Reader::open(session, &self.stream, &all(), Start::Sequence(range.start)).await?;
        let (mut from, mut read) = (range.start, Vec::new());
        let result = loop {
            match reader.next().await {
                Ok(Some((message, position))) if position.sequence < range.end => {
                    if read.len() >= BATCH {
                        let part = from..position.sequence;
                        from = position.sequence;
                        let taken = self.lock().replace(part, std::mem::take(&mut read));
                        if taken.is_err() {
                            break Ok(taken);
                        }
                    }
                    read.push(Read::of(&message, &position));
                }
                Ok(Some(_) | None) => break Ok(self.lock().replace(from..range.end, read)),
                Err(error) => break Err(error.into()),
            }
        };
        reader.close().await;
        result
    }

    /// How many messages the stream has from each of some sequences on.
    async fn counted(&self, session: &Session, from: Vec<u64>) -> Result<BTreeMap<u64, u64>, DeadLetterError> {
        let counts = from.into_iter().map(async |from| Ok((from, self.held(session, from).await?)));
        futures_util::stream::iter(counts).buffered(AT_ONCE).try_collect().await
    }

    /// How many messages the stream has from a sequence on.
    async fn held(&self, session: &Session, from: u64) -> Result<u64, DeadLetterError> {
        let reader = Reader::open(session, &self.stream, &all(), Start::Sequence(from)).await?;
        let count = reader.left;
        reader.close().await;
        Ok(count)
    }
}

/// All messages of the stream, parts and those that were sent back too: so one answer of the leader says how many rows there are to be.
fn all() -> [String; 1] {
    [">".to_owned()]
}
