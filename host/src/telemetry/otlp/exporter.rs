//! The thread that exports: gathers, sends, tries again within bounds, and counts what it has to drop.
//!
//! Metrics are tried once: what is counted stands in the next request as well.

use std::sync::{Arc, OnceLock};
use std::thread::{Builder, Thread};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::client::{Answer, Client};
use super::measured::Measured;
use super::signal::Signal;
use super::{Resource, traces};
use crate::telemetry::trace::{Queue, Record, Sink};

/// How long the first record of a request waits for others: soon enough for whoever looks on, and few requests.
const LINGER: Duration = Duration::from_secs(1);
/// A request has no more records than this.
const RECORDS: usize = 1024;
/// Nor more than these bytes of them; as spans they take some three times as much.
const BYTES: usize = 1 << 20;
/// How often a request is tried. With the waits in between, a collector may be away for some seconds.
const TRIES: u32 = 4;
/// Before the second try; doubled before each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// A collector that wants to be left alone for longer is asked after this: what waits for it is bounded anyhow.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// With nothing to do, it looks up that often.
const IDLE: Duration = Duration::from_secs(60);

/// The thread, as others have it.
#[derive(Debug)]
pub(super) struct Exporter {
    closing: Arc<Closing>,
    thread: Thread,
    sink: Sink,
    done: oneshot::Receiver<()>,
}

/// Until when the last is to be exported, once that is known.
#[derive(Debug, Default)]
struct Closing(OnceLock<Instant>);

impl Exporter {
    /// `traces` is how what comes out of `queue` is exported; `measured`, what is exported beside it.
    pub(super) fn start(
        client: Client,
        resource: Resource,
        (sink, queue): (Sink, Queue),
        traces: Signal,
        measured: Option<Measured>,
    ) -> std::io::Result<Self> {
        let closing = Arc::new(Closing::default());
        let (tell, done) = oneshot::channel();
        let work = Work { client, resource, queue, closing: Arc::clone(&closing), traces, measured };
        let thread = Builder::new().name("otlp".to_owned()).spawn(move || {
            work.run();
            // Whoever waited may have gone.
            let _ = tell.send(());
        })?;
        Ok(Self { closing, thread: thread.thread().clone(), sink, done })
    }

    /// Lets the thread export what waits, for so long at the most. A request that hangs beyond that ends with the process.
    pub(super) async fn close(self, within: Duration) {
        // It is set once: nobody else closes it.
        let _ = self.closing.0.set(Instant::now() + within);
        self.sink.wake();
        self.thread.unpark();
        if tokio::time::timeout(within, self.done).await.is_err() {
            tracing::warn!("the last telemetry could not be exported in {within:?}; the host ends without them");
        }
    }
}

struct Work {
    client: Client,
    resource: Resource,
    queue: Queue,
    closing: Arc<Closing>,
    traces: Signal,
    /// `None`: metrics are not exported.
    measured: Option<Measured>,
}

impl Work {
    fn run(mut self) {
        loop {
            // Looked at before the records are: with an end in sight, none that comes is waited for.
            let is_ending = self.left().is_some();
            let records = self.gather();
            if !records.is_empty() {
                self.export(&records);
            } else if is_ending {
                // What was counted to the last.
                return self.export_metrics();
            }
            if self.measured.as_mut().is_some_and(|measured| measured.is_due(Instant::now())) {
                self.export_metrics();
            }
        }
    }

    /// What there is, as far as one request takes it.
    fn gather(&self) -> Vec<Record> {
        let mut records = Vec::new();
        let mut bytes = 0;
        let now = Instant::now();
        let mut until = self.measured.as_ref().map_or(now + IDLE, Measured::next).min(now + IDLE);
        while records.len() < RECORDS && bytes < BYTES {
            // In the end what is there is taken, and nothing is waited for.
            let until_now = if self.left().is_some() { Instant::now() } else { until };
            let Some(record) = self.queue.next(until_now) else { break };
            if records.is_empty() {
                until = Instant::now() + LINGER;
            }
            bytes += record.size();
            records.push(record);
        }
        records
    }

    /// How much time is left; `None`: there is no end in sight.
    fn left(&self) -> Option<Duration> {
        self.closing.0.get().map(|end| end.saturating_duration_since(Instant::now()))
    }

    fn export(&mut self, records: &[Record]) {
        let spans: u64 = records.iter().map(Record::spans).sum();
        let body = traces::request(&self.resource, records);
        let mut wait = FIRST_WAIT;
        for tries in 1..=TRIES {
            let Some(patience) = self.patience() else { break };
            match self.client.post(self.traces.path, &body, patience) {
                Answer::Taken { rejected } => return self.traces.taken(spans, rejected, self.client.base()),
                Answer::Refused(why) => {
                    self.traces.fails(&why, self.client.base());
                    break;
                }
                Answer::Again { after, why } => {
                    self.traces.fails(&why, self.client.base());
                    // In the end there is one try.
                    if tries == TRIES || self.left().is_some() {
                        break;
                    }
                    self.pause(after.unwrap_or(wait).min(LONGEST_WAIT));
                    wait *= 2;
                }
            }
        }
        self.traces.dropped(spans);
    }

    fn export_metrics(&mut self) {
        let requests = self.measured.as_ref().map(|measured| measured.requests(&self.resource)).unwrap_or_default();
        let mut is_taking = true;
        for request in requests {
            let patience = self.patience().filter(|_| is_taking);
            let Some(Measured { signal, .. }) = &mut self.measured else { return };
            // Who did not take the first of them is not asked to take the others.
            let Some(patience) = patience else {
                signal.dropped(request.points);
                continue;
            };
            match self.client.post(signal.path, &request.body, patience) {
                Answer::Taken { rejected } => signal.taken(request.points, rejected, self.client.base()),
                Answer::Refused(why) | Answer::Again { why, .. } => {
                    signal.fails(&why, self.client.base());
                    signal.dropped(request.points);
                    is_taking = false;
                }
            }
        }
    }

    /// How long a request may take that begins now; `None`: there is no time for one.
    fn patience(&self) -> Option<Duration> {
        let patience = self.left().unwrap_or(Duration::MAX).min(self.client.timeout);
        (!patience.is_zero()).then_some(patience)
    }

    /// Waits so long, or until it is to end.
    fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        while self.left().is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::park_timeout(left);
        }
    }
}
