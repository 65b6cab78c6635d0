//! The embedded queue beside SQLite alone doing the same writes, at a small and a large backlog, in paired rounds.
//!
//! `cargo bench -p tidegate --bench embedded -- [--messages N] [--rounds N] [--backlogs 10000,10000000] [--window N]
//! [--directory PATH]`
//!
//! Both take in messages of 256 B with an id each, and then hand out and remove them. The queue: from 64 tasks,
//! confirmed after the fsync, through leases. SQLite alone: one loop over prepared statements on the same tables, in
//! as many transactions as the queue made of the same messages just before. All stores are open at once and take turns, so that whatever else the machine does meets
//! all of them; the figures are medians over the rounds, and a ratio is the median of the rounds' ratios.
//!
//! Before the rounds each store has seen as many message ids as it remembers, and forgets one for each that it adds:
//! what a queue does that has run for some minutes, whatever its backlog.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, and stops where it cannot go on; its figures are not exact to 53 bits"
)]

mod bare;
mod ours;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bare::Bare;
use ours::Ours;

/// Publishers and, over all of them, messages that wait for their confirmation: 64 x 8.
const PUBLISHERS: u64 = 64;
const AT_ONCE: u64 = 8;
/// Receivers, and what each asks for at once.
const RECEIVERS: u64 = 4;
const DEMAND: usize = 128;
const BODY: [u8; 256] = [b'x'; 256];
/// Ids that are remembered for each message of a group of SQLite alone: 16 bytes of a digest, 8 of a sequence.
const ID_BYTES: usize = 24;

struct Arguments {
    messages: u64,
    rounds: usize,
    backlogs: Vec<u64>,
    /// Message ids that are remembered at most.
    window: u64,
    directory: PathBuf,
}

fn arguments() -> Arguments {
    let mut given = Arguments {
        messages: 100_000,
        rounds: 9,
        backlogs: vec![10_000, 10_000_000],
        window: 1_000_000,
        directory: std::env::temp_dir(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap();
        match argument.as_str() {
            "--messages" => given.messages = value().parse().unwrap(),
            "--rounds" => given.rounds = value().parse().unwrap(),
            "--backlogs" => given.backlogs = value().split(',').map(|number| number.parse().unwrap()).collect(),
            "--window" => given.window = value().parse().unwrap(),
            "--directory" => given.directory = PathBuf::from(value()),
            // Cargo's own.
            _ => {}
        }
    }
    given
}

/// What a message cost in one measurement, in microseconds.
#[derive(Clone, Copy, Default)]
struct Cost {
    wall: f64,
    cpu: f64,
}

fn measure(messages: u64, work: impl FnOnce()) -> Cost {
    let (began, cpu) = (Instant::now(), cpu_time());
    work();
    let each = |time: Duration| time.as_secs_f64() * 1e6 / messages as f64;
    Cost { wall: each(began.elapsed()), cpu: each(cpu_time() - cpu) }
}

/// The CPU time of this process, all threads, in steps of 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // After the name, which may have spaces: the 14th and 15th field of all, in hundredths of a second on Linux.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    Duration::from_millis(10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()))
}

/// One store's rounds.
#[derive(Default)]
struct Rounds {
    publish: Vec<Cost>,
    consume: Vec<Cost>,
    /// Messages of a transaction, in the mean of a round.
    groups: Vec<[u64; 2]>,
}

/// A queue and SQLite alone at one backlog.
struct Pair {
    backlog: u64,
    ours: Ours,
    bare: Bare,
    of_ours: Rounds,
    of_bare: Rounds,
    _directories: [tempfile::TempDir; 2],
}

impl Pair {
    fn new(runtime: &tokio::runtime::Runtime, backlog: u64, arguments: &Arguments) -> Self {
        let directories = [(); 2].map(|()| tempfile::tempdir_in(&arguments.directory).unwrap());
        let mut ours = runtime.block_on(Ours::open(directories[0].path(), arguments.window));
        let mut bare = Bare::open(directories[1].path(), arguments.window);
        let before = backlog.max(arguments.window + arguments.window / 20);
        runtime.block_on(ours.publish(before));
        runtime.block_on(ours.consume(before - backlog));
        bare.publish(before, PUBLISHERS * AT_ONCE);
        bare.consume(before - backlog, RECEIVERS * DEMAND as u64);
        Self { backlog, ours, bare, of_ours: Rounds::default(), of_bare: Rounds::default(), _directories: directories }
    }

    fn round(&mut self, runtime: &tokio::runtime::Runtime, messages: u64) {
        let group = |before: u64, after: u64| messages.div_ceil((after - before).max(1));
        let before = self.ours.commits();
        self.of_ours.publish.push(measure(messages, || runtime.block_on(self.ours.publish(messages))));
        let published = group(before, self.ours.commits());
        self.of_bare.publish.push(measure(messages, || self.bare.publish(messages, published)));
        let before = self.ours.commits();
        self.of_ours.consume.push(measure(messages, || runtime.block_on(self.ours.consume(messages))));
        let consumed = group(before, self.ours.commits());
        self.of_bare.consume.push(measure(messages, || self.bare.consume(messages, consumed)));
        for rounds in [&mut self.of_ours, &mut self.of_bare] {
            rounds.groups.push([published, consumed]);
        }
    }
}

fn main() {
    let arguments = arguments();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!(
        "{} rounds of {} messages of {} B, confirmed after fsync, with {} ids remembered; medians",
        arguments.rounds,
        arguments.messages,
        BODY.len(),
        arguments.window
    );
    let mut pairs: Vec<Pair> =
        arguments.backlogs.iter().map(|backlog| Pair::new(&runtime, *backlog, &arguments)).collect();
    for _ in 0..arguments.rounds {
        for pair in &mut pairs {
            pair.round(&runtime, arguments.messages);
        }
    }
    println!(
        "\n{:>9}  {:<24} {:>10} {:>8} {:>8} {:>6}   {:>14} {:>8} {:>8} {:>6}",
        "backlog", "", "publish/s", "us each", "us CPU", "group", "receive+ack/s", "us each", "us CPU", "group"
    );
    for pair in &pairs {
        line(pair.backlog, "the queue", &pair.of_ours);
        line(pair.backlog, "SQLite alone", &pair.of_bare);
        ratio(pair.backlog, "queue to SQLite (rate)", &pair.of_ours, &pair.of_bare);
    }
    if let [first, others @ ..] = pairs.as_slice() {
        for other in others {
            ratio(other.backlog, "the queue to the first", &other.of_ours, &first.of_ours);
            ratio(other.backlog, "SQLite to the first", &other.of_bare, &first.of_bare);
        }
    }
    for pair in pairs {
        assert_eq!(runtime.block_on(pair.ours.close()), pair.backlog);
        assert_eq!(pair.bare.left(), pair.backlog);
    }
}

fn line(backlog: u64, name: &str, rounds: &Rounds) {
    let of = |costs: &[Cost]| {
        let wall = median(costs.iter().map(|cost| cost.wall));
        (1e6 / wall, wall, median(costs.iter().map(|cost| cost.cpu)))
    };
    let group = |which: usize| median(rounds.groups.iter().map(|groups| groups[which] as f64));
    let (publish, consume) = (of(&rounds.publish), of(&rounds.consume));
    println!(
        "{backlog:>9}  {name:<24} {:>10.0} {:>8.2} {:>8.2} {:>6.0}   {:>14.0} {:>8.2} {:>8.2} {:>6.0}",
        publish.0,
        publish.1,
        publish.2,
        group(0),
        consume.0,
        consume.1,
        consume.2,
        group(1)
    );
}

/// How many times the rate of the other, round by round.
fn ratio(backlog: u64, name: &str, one: &Rounds, other: &Rounds) {
    let of = |one: &[Cost], other: &[Cost], value: fn(&Cost) -> f64| {
        median(one.iter().zip(other).map(|(one, other)| value(other) / value(one)))
    };
    let both = |one: &[Cost], other: &[Cost]| (of(one, other, |cost| cost.wall), of(one, other, |cost| cost.cpu));
    let (publish, consume) = (both(&one.publish, &other.publish), both(&one.consume, &other.consume));
    println!(
        "{backlog:>9}  {name:<24} {:>10.2} {:>8} {:>8.2} {:>6}   {:>14.2} {:>8} {:>8.2}",
        publish.0, "", publish.1, "", consume.0, "", consume.1
    );
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn message_id(n: u64) -> String {
    format!("b3f7c2d1-{n:027}")
}
