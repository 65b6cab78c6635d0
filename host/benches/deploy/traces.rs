//! What traces cost: how many messages a second a subscription settles with traces off, at one in a hundred and at all of
//! them, in rounds that take turns.
//!
//! Each measurement has a queue of its own, full before the subscription starts, and ends when the last message is
//! acknowledged: publishing is not in it. What is recorded goes to a collector that takes everything, in this process, so
//! what it and the encoding of spans take of the two cores is in the figures.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate::broker::embedded::{Durability, EmbeddedQueue, Options};
use tidegate::broker::{Broker, Directory, NamedBroker};
use tidegate::dispatch::{Deployed, Links, Slot, Subscription, Turns};
use tidegate::message::{Headers, Publish};
use tidegate::sandbox::limits::Limits;
use tidegate::sandbox::{Sandbox, SandboxOptions, Version};
use tidegate::settle::outputs::Grants;
use tidegate::telemetry::otlp::Otlp;
use tidegate::telemetry::{Metrics, VersionFigures};

use super::handlers::cpu_time;
use super::traffic::setup;
use super::{config, row_of};
use crate::guests::guest;
use crate::order;

const MESSAGES: u64 = 10_000;
const ROUNDS: usize = 61;
/// Messages that are published together.
const BATCH: u64 = 500;
/// Bytes of JSON in each.
const SIZE: usize = 222;
/// How long the last spans may take to be exported, when all is measured.
const LAST: Duration = Duration::from_secs(10);
const NAME: &str = "traced";

/// One setting of traces, and what was measured with it.
struct Candidate {
    name: &'static str,
    metrics: Arc<Metrics>,
    /// `None`: traces are off.
    otlp: Option<Otlp>,
    costs: Vec<Cost>,
}

/// What a message took, in microseconds.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

pub async fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::new(SandboxOptions::default()).unwrap();
    println!(
        "\n{ROUNDS} rounds of {MESSAGES} messages of {SIZE} B, from a full queue to the last acknowledgement; medians"
    );
    for (what, reuse) in [("a fresh instance a message", 1), ("instances reused", 1_000_000)] {
        let limits = Limits { reuse: NonZeroU32::new(reuse).unwrap(), ..Limits::default() };
        let version = sandbox.load(guest("order"), NAME, &limits).await.unwrap();
        let url = collector();
        let mut candidates = [("traces off", None), ("1 %", Some(0.01)), ("100 %", Some(1.0))]
            .map(|(name, ratio)| Candidate::new(name, ratio, &url, folder.path()));
        // Whatever runs for the first time is done with.
        candidates[0].round(&version, folder.path()).await;
        candidates[0].costs.clear();
        for round in 0..ROUNDS {
            for turn in 0..candidates.len() {
                let index = (round + turn) % candidates.len();
                candidates[index].round(&version, folder.path()).await;
            }
        }
        print(what, &candidates);
        for candidate in candidates {
            candidate.close().await;
        }
    }
}

fn print(what: &str, candidates: &[Candidate]) {
    let names: Vec<String> = candidates.iter().map(|candidate| candidate.name.to_owned()).collect();
    let of = |shown: &dyn Fn(&Candidate) -> String| -> Vec<String> { candidates.iter().map(shown).collect() };
    let first = &candidates[0].costs;
    // Round by round: what else the machine did meets all of a round alike.
    let ratio = |costs: &[Cost], value: fn(&Cost, &Cost) -> f64| {
        median(costs.iter().zip(first).map(|(cost, off)| value(cost, off)))
    };
    let within = |value: fn(&Cost, &Cost) -> f64| {
        of(&|one| {
            let (least, most) = median_within(one.costs.iter().zip(first).map(|(cost, off)| value(cost, off)));
            format!("{least:.3}x to {most:.3}x")
        })
    };
    println!();
    row_of(what, &names, "goal");
    row_of("messages a second", &of(&|one| format!("{:.0}", 1e6 / one.median(|cost| cost.wall))), "");
    let rates = of(&|one| format!("{:.3}x", ratio(&one.costs, |cost, off| off.wall / cost.wall)));
    row_of("  to traces off", &rates, "over 0.95x at 1 %");
    row_of("  sure to 95 %", &within(|cost, off| off.wall / cost.wall), "");
    row_of("CPU a message, us", &of(&|one| format!("{:.2}", one.median(|cost| cost.cpu))), "");
    let cpu = of(&|one| format!("{:.3}x", ratio(&one.costs, |cost, off| cost.cpu / off.cpu)));
    row_of("  to traces off", &cpu, "");
    row_of("  sure to 95 %", &within(|cost, off| cost.cpu / off.cpu), "");
    row_of("spans the collector took", &of(&|one| one.counted("exported_total{signal=\"traces\"}")), "");
    let full = "dropped_total{signal=\"traces\",reason=\"queue-full\"}";
    row_of("spans there was no room for", &of(&|one| one.counted(full)), "");
}

impl Candidate {
    fn new(name: &'static str, ratio: Option<f64>, url: &str, folder: &std::path::Path) -> Self {
        let metrics = Arc::new(Metrics::new());
        let otlp = ratio.map(|ratio| {
            let text = format!("[telemetry]\nendpoint = \"{url}\"\ntraces.ratio = {ratio}\n");
            Otlp::start(&config(folder, &text).telemetry.unwrap(), "bench", &metrics).unwrap()
        });
        Self { name, metrics, otlp, costs: Vec::new() }
    }

    /// Fills a queue, and takes the time until it is empty.
    async fn round(&mut self, version: &Arc<Version>, folder: &std::path::Path) {
        let directory = tempfile::tempdir_in(folder).unwrap();
        let mut options = Options::new(directory.path());
        // The disk's own jitter would hide what is looked for.
        options.durability = Durability::Relaxed;
        let broker: Arc<dyn Broker> = EmbeddedQueue::open(options).await.unwrap();
        // It keeps what it has a subscription for.
        let setup = || setup(NAME, "orders");
        drop(broker.subscribe(&setup().spec).await.unwrap());
        fill(broker.as_ref()).await;

        let named = NamedBroker { kind: "embedded", broker: Arc::clone(&broker) as _ };
        let counts = self.metrics.subscription(NAME, "embedded");
        let traces = self.otlp.as_ref().and_then(Otlp::traces);
        let identity = setup().identity;
        let tracer = traces.map(|traces| traces.tracer(&identity, &setup().spec, "embedded", &self.metrics));
        let links = Links {
            broker: Arc::clone(&broker),
            brokers: Directory::new([("q".into(), named)].into()),
            slot: Slot::holding(Arc::new(Deployed {
                number: 1,
                handler: Arc::clone(version) as _,
                grants: Grants::new(),
                max_run: Duration::from_secs(900),
                measurements: self.metrics.handler(NAME, 64),
                figures: VersionFigures::default(),
            })),
            metrics: Arc::clone(&counts),
            live: Arc::default(),
            tracer: tracer.map(Arc::new),
            hold: Arc::default(),
            told: None,
        };
        let end = counts.counts().completed + MESSAGES;
        let (began, cpu) = (Instant::now(), cpu_time());
        let subscription = Subscription::start(setup(), links, &Turns::new(2)).await.unwrap();
        while counts.counts().completed < end {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let each = |time: Duration| time.as_secs_f64() * 1e6 / MESSAGES as f64;
        self.costs.push(Cost { wall: each(began.elapsed()), cpu: each(cpu_time() - cpu) });
        subscription.drain(tokio::time::Instant::now() + Duration::from_secs(5)).await;
        broker.close().await;
    }

    fn median(&self, value: fn(&Cost) -> f64) -> f64 {
        median(self.costs.iter().map(value))
    }

    /// What the host counts of its telemetry.
    fn counted(&self, name: &str) -> String {
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix("tidegate_telemetry_")?.strip_prefix(name));
        line.map_or("-", str::trim).to_owned()
    }

    async fn close(self) {
        if let Some(otlp) = self.otlp {
            otlp.close(LAST).await;
        }
    }
}

async fn fill(broker: &dyn Broker) {
    for _ in 0..MESSAGES / BATCH {
        let message = || Publish {
            subject: "orders".into(),
            id: None,
            headers: Headers::default(),
            body: order::body(SIZE).into(),
        };
        for published in broker.publish((0..BATCH).map(|_| message()).collect()).await {
            published.unwrap();
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let values = sorted(values);
    values[values.len() / 2]
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Between which of the values the median of all that could be measured lies, to 95 %: by their ranks, whatever their
/// distribution is.
fn median_within(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let values = sorted(values);
    let (middle, reach) = (values.len() as f64 / 2.0, 0.98 * (values.len() as f64).sqrt());
    (values[(middle - reach).floor() as usize], values[((middle + reach).ceil() as usize).min(values.len() - 1)])
}

/// A collector that takes everything; its address.
fn collector() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // They end with the process: nobody connects any more.
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || take(connection));
        }
    });
    url
}

fn take(connection: TcpStream) {
    let mut answers = connection.try_clone().unwrap();
    let mut requests = BufReader::new(connection);
    let mut length = 0;
    let mut line = String::new();
    while requests.read_line(&mut line).is_ok_and(|read| read > 0) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            std::io::copy(&mut requests.by_ref().take(length), &mut std::io::sink()).unwrap();
            answers.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
        line.clear();
    }
}
