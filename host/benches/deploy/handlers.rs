//! What handlers cost that share a host: memory and start of a host with each, and the time of a message beside them.
//!
//! Each count is measured in a process of its own: what the allocator and the pool of instances keep of a larger host is
//! not counted with a smaller one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use tidegate::app::Host;
use tidegate::broker::embedded::{Durability, EmbeddedQueue, Options};
use tidegate::broker::{Broker, Directory, NamedBroker};
use tidegate::config::Config;
use tidegate::dispatch::{Deployed, Links, Slot, Subscription, Turns};
use tidegate::message::{Headers, Publish};
use tidegate::sandbox::limits::Limits;
use tidegate::sandbox::{Sandbox, SandboxOptions};
use tidegate::settle::outputs::Grants;
use tidegate::telemetry::{Metrics, VersionFigures};
use tokio::runtime::Runtime;

use super::traffic::{SIZE, Timed, setup};
use super::{another, config, row_of};
use crate::guests::guest;
use crate::order;

const COUNTS: [usize; 3] = [1, 100, 1000];
/// Where a process of its own finds how many handlers it is to have, and the folder.
const ASKED: &str = "TIDEGATE_BENCH_HANDLERS";
/// How long a host is left alone before its memory is read: two of its looks at the backlogs, and some.
const IDLE: Duration = Duration::from_secs(5);
/// Messages of one measurement at full rate, and one at a time.
const MANY: usize = 40_000;
const SINGLE: usize = 2000;
/// Messages that are published together.
const BATCH: usize = 100;

/// What one process found.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    start_ms: f64,
    resident: u64,
    anonymous: u64,
    /// CPU of an idle host, in thousandths of a core.
    idle_cpu: f64,
    /// CPU of a message at full rate: all to one handler, and to all in turn.
    one_us: f64,
    all_us: f64,
    /// From publish to the end of the run with nothing else: to one handler, and to all in turn.
    one_alone_us: (f64, f64),
    all_alone_us: (f64, f64),
}

pub fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let order = guest("order");
    let most = COUNTS[COUNTS.len() - 1];
    for number in 0..most {
        std::fs::write(folder.path().join(format!("h{number}.wasm")), another(&order, number)).unwrap();
    }
    // The largest one first: all that it compiles is in the cache for the others.
    let begun = Instant::now();
    ask(most, folder.path());
    println!("\n{most} modules compiled and deployed in {:.1} s", begun.elapsed().as_secs_f64());
    let found: Vec<(usize, Found)> = COUNTS
        .iter()
        .map(|count| {
            // The first start deploys them; the second one is an ordinary one.
            ask(*count, folder.path());
            (*count, ask(*count, folder.path()))
        })
        .collect();
    let heads: Vec<String> = found.iter().map(|(count, _)| count.to_string()).collect();
    row_of("handlers on one host", &heads, "goal");
    let of = |value: &dyn Fn(usize, &Found) -> String| -> Vec<String> {
        found.iter().map(|(count, found)| value(*count, found)).collect()
    };
    let (first, mib) = (&found[0].1, |bytes: f64| format!("{:.2} MiB", bytes / f64::from(1 << 20)));
    let more = |bytes: fn(&Found) -> u64, count: usize, found: &Found| match count {
        1 => "-".to_owned(),
        count => mib(bytes(found).saturating_sub(bytes(first)) as f64 / (count - 1) as f64),
    };
    let us = |value: f64, first: f64| format!("{value:.1} us ({:.2}x)", value / first);
    let pair = |value: (f64, f64)| format!("{:.0} / {:.0} us", value.0, value.1);
    row_of("memory of the host", &of(&|_, found| mib(found.resident as f64)), "");
    row_of("  of it anonymous", &of(&|_, found| mib(found.anonymous as f64)), "");
    row_of("each further handler", &of(&|count, found| more(|found| found.resident, count, found)), "under 1 MiB");
    row_of("  of it anonymous", &of(&|count, found| more(|found| found.anonymous, count, found)), "");
    row_of("start with a warm cache", &of(&|_, found| format!("{:.0} ms", found.start_ms)), "");
    row_of("idle, of a core", &of(&|_, found| format!("{:.1} %", found.idle_cpu / 10.0)), "");
    row_of("CPU a message, all to one", &of(&|_, found| us(found.one_us, first.one_us)), "flat");
    row_of("CPU a message, to all in turn", &of(&|_, found| us(found.all_us, first.all_us)), "flat");
    row_of("alone, to one: median / p99", &of(&|_, found| pair(found.one_alone_us)), "flat");
    row_of("alone, to all in turn: median / p99", &of(&|_, found| pair(found.all_alone_us)), "flat");
}

/// Measures so many in a process of its own.
fn ask(count: usize, folder: &Path) -> Found {
    let asked = Command::new(std::env::current_exe().unwrap())
        .env(ASKED, format!("{count} {}", folder.display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&asked.stdout);
    assert!(asked.status.success(), "{said}{}", String::from_utf8_lossy(&asked.stderr));
    serde_json::from_str(said.lines().last().unwrap()).unwrap()
}

/// Whether this process was asked for one measurement, which it has printed then.
pub fn is_asked() -> bool {
    let Some(asked) = std::env::var_os(ASKED) else { return false };
    let asked = asked.into_string().unwrap();
    let (count, folder) = asked.split_once(' ').unwrap();
    let (count, folder) = (count.parse().unwrap(), PathBuf::from(folder));
    let runtime = Runtime::new().unwrap();
    let data = folder.join(format!("data-{count}"));
    let is_first = !data.exists();
    let idle = runtime.block_on(idle(&hosting(count, &folder, &data), is_first));
    let found = if is_first { idle } else { runtime.block_on(messages(count, &folder, idle)) };
    println!("{}", serde_json::to_string(&found).unwrap());
    true
}

fn hosting(count: usize, folder: &Path, data: &Path) -> Config {
    let mut entries =
        format!("[host]\ndata_dir = \"{}\"\ncache_dir = \"{}\"\n", data.display(), folder.join("code").display());
    for number in 0..count {
        writeln!(entries, "[handlers.h{number}]\nmodule = \"h{number}.wasm\"").unwrap();
        writeln!(entries, "[subscriptions.s{number}]\nbroker = \"q\"\nsubjects = [\"in.{number}\"]").unwrap();
        writeln!(entries, "handler = \"h{number}\"").unwrap();
    }
    config(folder, &entries)
}

/// Starts a host and leaves it alone.
async fn idle(config: &Config, is_first: bool) -> Found {
    let begun = Instant::now();
    let host = Host::start(config, super::compile_in()).await.unwrap();
    let start_ms = begun.elapsed().as_secs_f64() * 1e3;
    let (mut resident, mut anonymous, mut idle_cpu) = (0, 0, 0.0);
    if !is_first {
        let cpu = cpu_time();
        tokio::time::sleep(IDLE).await;
        idle_cpu = (cpu_time() - cpu).as_secs_f64() / IDLE.as_secs_f64() * 1e3;
        let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let bytes = |name: &str| {
            let line = rollup.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
        };
        (resident, anonymous) = (bytes("Rss:"), bytes("Anonymous:"));
    }
    host.drain(Duration::from_secs(5)).await;
    let none = (0.0, 0.0);
    Found { start_ms, resident, anonymous, idle_cpu, one_us: 0.0, all_us: 0.0, one_alone_us: none, all_alone_us: none }
}

/// The stations of a host that messages pass, with as many subscriptions, each with a version of its own.
struct Rig {
    broker: Arc<dyn Broker>,
    subscriptions: Vec<Subscription>,
    samples: Arc<Mutex<Vec<(Instant, Duration)>>>,
}

impl Rig {
    async fn start(count: usize, folder: &Path) -> Self {
        let queue = tempfile::tempdir_in(folder).unwrap().keep();
        let mut options = Options::new(queue);
        // The disk's own jitter would hide what is looked for.
        options.durability = Durability::Relaxed;
        let broker: Arc<dyn Broker> = EmbeddedQueue::open(options).await.unwrap();
        let cache_dir = Some(folder.join("code"));
        let sandbox = Sandbox::new(SandboxOptions { cache_dir, ..SandboxOptions::default() }).unwrap();
        let (metrics, turns, samples) = (Metrics::new(), Turns::new(2), Arc::default());
        let named = NamedBroker { kind: "embedded", broker: Arc::clone(&broker) as _ };
        let brokers = Directory::new([("q".into(), named)].into());
        let order = guest("order");
        let starts = (0..count).map(|number| {
            let (name, module) = (format!("s{number}"), another(&order, number));
            let (sandbox, metrics, turns, broker) = (&sandbox, &metrics, &turns, Arc::clone(&broker));
            let (brokers, samples) = (Arc::clone(&brokers), Arc::clone(&samples));
            async move {
                let inner = sandbox.load(module, &name, &Limits::default()).await.unwrap();
                let slot = Slot::holding(Arc::new(Deployed {
                    number: 1,
                    handler: Arc::new(Timed { inner, samples }) as _,
                    grants: Grants::new(),
                    max_run: Duration::from_secs(900),
                    measurements: metrics.handler(&name, 64),
                    figures: VersionFigures::default(),
                }));
                let metrics = metrics.subscription(&name, "embedded");
                let links = Links {
                    broker,
                    brokers,
                    slot,
                    metrics,
                    live: Arc::default(),
                    tracer: None,
                    hold: Arc::default(),
                    told: None,
                };
                Subscription::start(setup(&name, &format!("in.{number}")), links, turns).await.unwrap()
            }
        });
        let subscriptions = futures_util::stream::iter(starts).buffer_unordered(16).collect().await;
        Self { broker, subscriptions, samples }
    }

    /// Publishes so many messages, so many together, to the first handlers in turn, and waits until all have run.
    async fn feed(&self, messages: usize, together: usize, handlers: usize) -> Vec<f64> {
        let body: bytes::Bytes = order::body(SIZE).into();
        let mut next = 0;
        while next < messages {
            let batch = (next..next + together).map(|number| Publish {
                subject: format!("in.{}", number % handlers),
                id: None,
                headers: Headers::default(),
                body: body.clone(),
            });
            for published in self.broker.publish(batch.collect()).await {
                published.unwrap();
            }
            next += together;
            while self.samples.lock().unwrap().len() + 4 * BATCH < next || (together == 1 && !self.all_ran(next)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        while !self.all_ran(messages) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let took = std::mem::take(&mut *self.samples.lock().unwrap());
        let mut took: Vec<f64> = took.into_iter().map(|(_, took)| took.as_secs_f64() * 1e6).collect();
        took.sort_by(f64::total_cmp);
        took
    }

    fn all_ran(&self, messages: usize) -> bool {
        self.samples.lock().unwrap().len() >= messages
    }
}

async fn messages(count: usize, folder: &Path, idle: Found) -> Found {
    let rig = Rig::start(count, folder).await;
    // Whatever runs for the first time is done with.
    rig.feed(2000.max(2 * count), BATCH, count).await;
    let mut rates = Vec::new();
    let mut alone = Vec::new();
    for handlers in [1, count] {
        let cpu = cpu_time();
        rig.feed(MANY, BATCH, handlers).await;
        rates.push((cpu_time() - cpu).as_secs_f64() * 1e6 / MANY as f64);
        let took = rig.feed(SINGLE, 1, handlers).await;
        alone.push((took[took.len() / 2], took[took.len() * 99 / 100]));
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    futures_util::future::join_all(rig.subscriptions.iter().map(|subscription| subscription.drain(deadline))).await;
    rig.broker.close().await;
    Found { one_us: rates[0], all_us: rates[1], one_alone_us: alone[0], all_alone_us: alone[1], ..idle }
}

/// The CPU time of this process, all threads, in steps of 10 ms.
pub(super) fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // After the name, which may have spaces: the 14th and 15th field of all, in hundredths of a second on Linux.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    Duration::from_millis(10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()))
}
