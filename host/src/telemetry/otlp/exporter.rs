//! The thread that exports: gathers, sends, tries again within bounds, and counts what it has to drop.

use std::sync::{Arc, OnceLock};
use std::thread::{Builder, Thread};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::oneshot;

use super::client::{Answer, Client};
use super::{Resource, traces};
use crate::telemetry::Metrics;
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
    pub(super) fn start(
        client: Client,
        resource: Resource,
        queue: Queue,
        sink: Sink,
        metrics: &Metrics,
    ) -> std::io::Result<Self> {
        let closing = Arc::new(Closing::default());
        let (tell, done) = oneshot::channel();
        let work = Work {
            client,
            resource,
            queue,
            closing: Arc::clone(&closing),
            exported: metrics.telemetry_exported("traces"),
            dropped: metrics.telemetry_dropped("traces", "collector"),
            is_failing: false,
        };
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
            tracing::warn!("the last spans could not be exported in {within:?}; the host ends without them");
        }
    }
}

struct Work {
    client: Client,
    resource: Resource,
    queue: Queue,
    closing: Arc<Closing>,
    exported: Counter,
    dropped: Counter,
    /// Whether the log says that the collector does not take what it is given.
    is_failing: bool,
}

impl Work {
    fn run(mut self) {
        loop {
            let records = self.gather();
            let left = self.left();
            match records.is_empty() {
                true if left.is_some() => return,
                true => {}
                false => self.export(&records),
            }
        }
    }

    /// What there is, as far as one request takes it.
    fn gather(&self) -> Vec<Record> {
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut until = Instant::now() + IDLE;
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
            let left = self.left();
            let patience = left.unwrap_or(Duration::MAX).min(self.client.timeout);
            if patience.is_zero() {
                break;
            }
            match self.client.post("/v1/traces", &body, patience) {
                Answer::Taken { rejected } => {
                    self.exported.inc_by(spans.saturating_sub(rejected));
                    self.dropped.inc_by(rejected);
                    return self.is_well();
                }
                Answer::Refused(why) => {
                    self.fails(&why);
                    break;
                }
                Answer::Again { after, why } => {
                    self.fails(&why);
                    // In the end there is one try.
                    if tries == TRIES || self.left().is_some() {
                        break;
                    }
                    self.pause(after.unwrap_or(wait).min(LONGEST_WAIT));
                    wait *= 2;
                }
            }
        }
        self.dropped.inc_by(spans);
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

    fn fails(&mut self, why: &str) {
        if !self.is_failing {
            let collector = self.client.base();
            tracing::warn!(collector, why, "telemetry is not taken; what there is no room for is dropped and counted");
        }
        self.is_failing = true;
    }

    fn is_well(&mut self) {
        if self.is_failing {
            tracing::info!(collector = self.client.base(), "telemetry is taken again");
        }
        self.is_failing = false;
    }
}
