//! Whether the server has lost outputs or dead letters whose storing it had confirmed.
//!
//! A NATS server writes behind: with the power it may lose an output, or a dead letter, and the acknowledgement of the message that
//! it came of, and still have the message. That comes back then, and to acknowledge it as done would leave nothing of it. A stream
//! loses its end, so it shows in how far the stream is, as long as others have not filled it up again; or in that it takes something
//! in at a place where it had taken something before.
//!
//! Invariants:
//! - On a new connection nothing is handed out and nothing is stored before this was looked at, as far as the server tells it.
//! - A message that is done and comes back is the sign that a server may have lost something. It is acknowledged only when all streams
//!   were told of since it came; else it is left to come again.
//! - What was handed out or stored before a loss was found is not acknowledged by what was stored before that.
//! - A stream that nobody tells of holds up messages that are done, and nothing else for longer than a look.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Subject;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::session::Session;
use super::wire::{ApiAnswer, PubAck, StreamInfo, code};
use crate::broker::done::DoneRecord;

/// How long a stream is waited for. One that has a leader answers in milliseconds, one across the world in some hundred.
const WITHIN: Duration = Duration::from_secs(2);
/// A server that has just begun to lead a stream may tell of it before it has worked off all that it has.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How soon streams are asked for anew that were not told of: they have no leader.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Streams that are asked for at once.
const AT_ONCE: usize = 64;
/// How often the acknowledgements of a stream may show within a time that it fell back: more often than that, there are two of one
/// name, in two accounts, and what is known of the one says nothing of the other.
const MOST_BY_ACKS: u32 = 3;
const BY_ACKS_WITHIN: Duration = Duration::from_secs(600);

/// What a broker's streams of outputs and dead letters have lost.
#[derive(Debug)]
pub(super) struct Losses {
    record: Arc<DoneRecord>,
    looked: Mutex<Looked>,
    /// By stream, how often its acknowledgements showed a loss, and since when that is counted.
    by_acks: Mutex<HashMap<String, (u32, Instant)>>,
    /// Streams that were found to be gone, until they are there.
    gone: Mutex<HashSet<String>>,
    turn: tokio::sync::Mutex<()>,
}

/// What was looked at last, and what came of it.
#[derive(Debug, Default)]
struct Looked {
    /// The session on which that was; 0: it was not.
    session: u64,
    /// When it began, and when it ended.
    span: Option<(Instant, Instant)>,
    /// Streams that were not told of.
    untold: Vec<String>,
    /// Streams that this login may not ask for.
    denied: HashSet<String>,
}

/// What a stream that has outputs is now.
#[derive(Debug)]
enum Found {
    /// As far as it was, or further.
    Whole(String),
    /// It is not there, and that is no news.
    Absent,
    /// It may not be asked for, and so there is nothing to wait for.
    Denied(String),
    /// Not as far as it was.
    FellBack(FellBack),
    /// Nobody tells of it who would know.
    Untold(String),
}

/// A stream that is not as far as it was, or is not there.
#[derive(Debug)]
struct FellBack {
    stream: String,
    furthest: u64,
    last: u64,
    is_gone: bool,
    /// Whether it is for sure. A leader of copies may not have worked off all that it has, and a server that has just started may not
    /// know of all streams yet.
    is_sure: bool,
}

/// How far streams are, and how many losses were known.
#[derive(Debug)]
pub(super) struct Before {
    furthest: Vec<(Arc<str>, u64)>,
    found: u64,
}

impl Looked {
    /// Whether all streams were told of, by a look on a session that began at a time or later; `None`: it is time to look.
    fn told(&self, session: u64, since: Option<Instant>, now: Instant) -> Option<bool> {
        let (began_at, ended_at) = self.span.filter(|_| self.session >= session)?;
        let is_told = self.untold.is_empty();
        let Some(since) = since else { return Some(is_told) };
        if !is_told {
            // Whenever it was asked for: somebody may tell by now.
            return (now < ended_at + ASK_AGAIN_AFTER).then_some(false);
        }
        (since <= began_at).then_some(true)
    }
}

impl Losses {
    pub(super) fn new(record: Arc<DoneRecord>) -> Self {
        Self {
            record,
            looked: Mutex::default(),
            by_acks: Mutex::default(),
            gone: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// How many losses were found so far.
    pub(super) fn found(&self) -> u64 {
        self.record.forgotten()
    }

    /// What a person should know: which streams nobody tells of.
    pub(super) fn warnings(&self) -> Vec<String> {
        let text = |stream: &String| {
            format!(
                "nobody tells of stream {stream}, which has outputs or dead letters: messages that are done and come back wait until \
                 it has a leader again; if it is gone for good, remove it with `nats stream rm {stream}`"
            )
        };
        self.looked().untold.iter().map(text).collect()
    }

    /// Looks at the streams that outputs and dead letters went to, and forgets what is done when one of them fell back; unless that
    /// was done on this session, at a time or later. Gives back whether all of them were told of.
    ///
    /// Dropped in the middle, it is done by whoever comes next.
    pub(super) async fn look(&self, session: &Session, since: Option<Instant>) -> bool {
        let told = || self.looked().told(session.number, since, Instant::now());
        if let Some(is_told) = told() {
            return is_told;
        }
        let _turn = self.turn.lock().await;
        if let Some(is_told) = told() {
            return is_told;
        }
        if !session.is_live() {
            return false;
        }
        let (began_at, known) = (Instant::now(), self.found());
        let mut denied =
            if self.looked().session == session.number { self.looked().denied.clone() } else { HashSet::new() };
        let mut streams = self.record.furthest();
        streams.retain(|(stream, _)| !denied.contains(&**stream));
        let mut found = self.without_old_news(look_at(session, streams).await);
        let doubtful: Vec<_> = found.iter().filter_map(Found::to_look_again).collect();
        if !doubtful.is_empty() {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            found.retain(|found| found.to_look_again().is_none());
            found.extend(look_at(session, doubtful).await);
        }
        let (mut untold, mut fell_back) = (Vec::new(), Vec::new());
        for found in found {
            match found {
                Found::Absent => {}
                Found::Whole(stream) => {
                    self.gone().remove(&stream);
                }
                Found::Denied(stream) => {
                    denied.insert(stream);
                }
                Found::FellBack(found) => fell_back.push(found),
                Found::Untold(stream) => untold.push(stream),
            }
        }
        let is_found = self.forget(&fell_back, known);
        if is_found {
            self.write().await;
        }
        if !session.is_live() || self.found() > known + u64::from(is_found) {
            // What was asked over a connection that ended says nothing, and what somebody found meanwhile is looked at anew.
            return false;
        }
        let is_told = untold.is_empty();
        {
            let mut looked = self.looked();
            for stream in untold.iter().filter(|stream| !looked.untold.contains(stream)) {
                tracing::warn!(
                    stream,
                    "nobody tells of a stream of outputs or dead letters; what is done and comes back waits"
                );
            }
            *looked = Looked { session: session.number, span: Some((began_at, Instant::now())), untold, denied };
        }
        is_told
    }

    /// How far the streams are, before something is stored: for [`Losses::stored`].
    pub(super) fn before(&self) -> Before {
        Before { found: self.found(), furthest: self.record.furthest() }
    }

    /// Looks at the acknowledgement of what was stored after `before`: a stream that took it in no further than it had been has lost
    /// what was there.
    pub(super) async fn stored(&self, before: &Before, ack: &PubAck) {
        let furthest =
            before.furthest.iter().find(|(stream, _)| **stream == *ack.stream).map(|(_, furthest)| *furthest);
        let Some(furthest) = furthest.filter(|furthest| !ack.duplicate && ack.seq <= *furthest) else { return };
        let found = FellBack {
            stream: ack.stream.clone(),
            furthest,
            last: ack.seq.saturating_sub(1),
            is_gone: false,
            is_sure: true,
        };
        if self.forget_by_ack(found, before.found) {
            self.write().await;
        }
    }

    /// Forgets what an acknowledgement shows to be lost, unless that was shown too often of its stream.
    fn forget_by_ack(&self, found: FellBack, known: u64) -> bool {
        let mut by_acks = self.by_acks.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, since) = by_acks.entry(found.stream.clone()).or_insert_with(|| (0, Instant::now()));
        if since.elapsed() >= BY_ACKS_WITHIN {
            (*count, *since) = (0, Instant::now());
        }
        let is_new = *count < MOST_BY_ACKS && self.forget(&[found], known);
        *count += u32::from(is_new);
        is_new
    }

    /// What was found, without streams that were gone before: one of another account or domain is never there.
    fn without_old_news(&self, found: Vec<Found>) -> Vec<Found> {
        let gone = self.gone();
        let is_old = |found: &FellBack| found.is_gone && (found.furthest == 0 || gone.contains(&found.stream));
        let map = |found| match found {
            Found::FellBack(found) if is_old(&found) => Found::Absent,
            other => other,
        };
        found.into_iter().map(map).collect()
    }

    /// In memory at once, without an await: a look that is dropped has found it or has not. In the file with the next write.
    fn forget(&self, fell_back: &[FellBack], known: u64) -> bool {
        let streams: Vec<(&str, u64)> = fell_back.iter().map(|found| (found.stream.as_str(), found.last)).collect();
        let is_new = self.record.forget_done(&streams, known);
        self.gone().extend(fell_back.iter().filter(|found| is_new && found.is_gone).map(|found| found.stream.clone()));
        for FellBack { stream, furthest, last, .. } in fell_back.iter().filter(|_| is_new) {
            tracing::warn!(
                stream,
                confirmed = furthest,
                last,
                "a stream lost outputs or dead letters whose storing it had confirmed; what comes back of the messages that are done \
                 runs again"
            );
        }
        is_new
    }

    async fn write(&self) {
        if let Err(error) = self.record.write().await {
            tracing::warn!(%error, "what is done is forgotten until the host is started anew, and not in the file");
        }
    }

    fn gone(&self) -> MutexGuard<'_, HashSet<String>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looked(&self) -> MutexGuard<'_, Looked> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Found {
    /// What of it is looked at once more before it is believed.
    fn to_look_again(&self) -> Option<(Arc<str>, u64)> {
        match self {
            Self::FellBack(found) if !found.is_sure => Some((found.stream.as_str().into(), found.furthest)),
            Self::Whole(_) | Self::Absent | Self::Denied(_) | Self::Untold(_) | Self::FellBack(_) => None,
        }
    }
}

/// Looks at some streams, each with how far it was.
async fn look_at(session: &Session, streams: Vec<(Arc<str>, u64)>) -> Vec<Found> {
    let looks = futures_util::stream::iter(streams).map(|(stream, furthest)| async move {
        let subject = session.api_subject(&format!("STREAM.INFO.{stream}"));
        let asking = session.request(Subject::from(subject.as_str()), None, Bytes::from_static(b"{}"), WITHIN);
        let stream = stream.to_string();
        tokio::select! {
            biased;
            answer = asking => match answer {
                Ok(answer) => found(stream, furthest, &answer.payload),
                Err(_) => Found::Untold(stream),
            },
            () = session.refused(&subject) => Found::Denied(stream),
        }
    });
    looks.buffer_unordered(AT_ONCE).collect().await
}

/// What an answer says of a stream that was so far.
fn found(stream: String, furthest: u64, answer: &[u8]) -> Found {
    match serde_json::from_slice::<ApiAnswer<StreamInfo>>(answer) {
        // A copy without a leader tells of itself, which may have more or less than the leader that comes.
        Ok(ApiAnswer::Given(info)) if info.cluster.as_ref().is_some_and(|cluster| cluster.leader.is_empty()) => {
            Found::Untold(stream)
        }
        Ok(ApiAnswer::Given(info)) if info.state.last_seq < furthest => {
            let is_sure = info.cluster.is_none_or(|cluster| cluster.raft_group.is_empty());
            Found::FellBack(FellBack { stream, furthest, last: info.state.last_seq, is_gone: false, is_sure })
        }
        Ok(ApiAnswer::Given(_)) => Found::Whole(stream),
        // Removed by somebody, or lost as a whole.
        Ok(ApiAnswer::Refused { error }) if error.err_code == code::STREAM_NOT_FOUND => {
            Found::FellBack(FellBack { stream, furthest, last: 0, is_gone: true, is_sure: false })
        }
        Ok(ApiAnswer::Refused { .. }) | Err(_) => Found::Untold(stream),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::broker::done::Options;

    #[test]
    fn it_is_looked_once_a_session_since_what_came_and_not_at_once_where_nobody_tells() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(Looked::default().told(1, None, now), None);
        let span = Some((now, now + second));
        let looked = Looked { session: 1, span, ..Looked::default() };
        assert_eq!((looked.told(1, None, now), looked.told(2, None, now)), (Some(true), None));
        assert_eq!(looked.told(1, Some(now), now + second), Some(true));
        assert_eq!(looked.told(1, Some(now + second), now + second), None, "that came after the look began");
        let untold = Looked { session: 1, span, untold: vec!["OUT".to_owned()], ..Looked::default() };
        assert_eq!(untold.told(1, None, now), Some(false));
        assert_eq!(untold.told(1, Some(now + second), now + second), Some(false), "it was asked just now");
        assert_eq!(untold.told(1, Some(now + second), now + second * 6), None);
        assert_eq!(untold.told(1, Some(now), now + second * 6), None, "somebody may tell by now");
    }

    #[test]
    fn only_a_leader_tells_of_a_stream() {
        let found = |answer: &str| format!("{:?}", found("OUT".to_owned(), 7, answer.as_bytes()));
        let info = |last: u64, cluster: &str| {
            found(&format!(r#"{{"config":{{}},"created":"x","state":{{"first_seq":1,"last_seq":{last}}}{cluster}}}"#))
        };
        assert_eq!(info(7, ""), "Whole(\"OUT\")");
        assert_eq!(info(7, r#","cluster":{"name":"c","leader":"a"}"#), "Whole(\"OUT\")");
        assert!(
            info(6, r#","cluster":{"name":"c","leader":"a"}"#).ends_with("last: 6, is_gone: false, is_sure: true })")
        );
        let copies = r#","cluster":{"name":"c","leader":"a","raft_group":"S-R3F-x"}"#;
        assert!(info(6, copies).ends_with("last: 6, is_gone: false, is_sure: false })"));
        for last in [6, 7] {
            assert_eq!(info(last, r#","cluster":{"name":"c"}"#), "Untold(\"OUT\")");
        }
        let refused = |code: u32| found(&format!(r#"{{"error":{{"code":404,"err_code":{code},"description":""}}}}"#));
        assert!(refused(10059).contains("last: 0, is_gone: true, is_sure: false"));
        assert_eq!(refused(10118), "Untold(\"OUT\")");
        assert_eq!(found("?"), "Untold(\"OUT\")");
    }

    #[tokio::test]
    async fn a_stream_that_is_gone_is_news_once_until_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let record = DoneRecord::open(&Options::at(folder.path().join("done.sqlite"))).unwrap();
        let losses = Losses::new(Arc::clone(&record));
        let gone = |furthest| {
            let found = FellBack { stream: "OUT".to_owned(), furthest, last: 0, is_gone: true, is_sure: false };
            losses.without_old_news(vec![Found::FellBack(found)]).pop().unwrap()
        };
        record.reached("OUT", 7, 0);
        assert!(matches!(gone(0), Found::Absent), "nothing is known of it");
        let found = match gone(7) {
            Found::FellBack(found) => Some(found),
            _ => None,
        };
        assert!(losses.forget(&[found.unwrap()], 0));
        record.reached("OUT", 9, 1);
        assert!(matches!(gone(9), Found::Absent), "it is another account's");
        losses.gone().remove("OUT");
        assert!(matches!(gone(9), Found::FellBack(_)));
        record.close().await;
    }

    #[tokio::test]
    async fn a_stream_that_takes_something_in_where_it_had_taken_something_before_has_lost_that() {
        let folder = tempfile::tempdir().unwrap();
        let record = DoneRecord::open(&Options::at(folder.path().join("done.sqlite"))).unwrap();
        let losses = Losses::new(Arc::clone(&record));
        let ack = |seq, duplicate| PubAck { stream: "OUT".to_owned(), seq, duplicate };
        record.reached("OUT", 7, 0);
        let before = losses.before();
        losses.stored(&before, &ack(8, false)).await;
        losses.stored(&before, &ack(3, true)).await;
        assert_eq!(losses.found(), 0);
        // Two were under way: it is found once.
        losses.stored(&before, &ack(5, false)).await;
        losses.stored(&before, &ack(6, false)).await;
        assert_eq!((losses.found(), record.furthest()), (1, vec![("OUT".into(), 4)]));
        // Two streams of one name take turns: that has an end.
        for _ in 0..10 {
            record.reached("OUT", 1000, losses.found());
            losses.stored(&losses.before(), &ack(7, false)).await;
        }
        assert_eq!(losses.found(), u64::from(MOST_BY_ACKS));
        record.close().await;
    }
}
