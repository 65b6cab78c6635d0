//! A host at full load for an hour, say: are its memory and its open files flat, and does every message end as it should?
//!
//! A publisher keeps a bounded backlog before the handler `work`, which completes, retries, rejects or skips a message by
//! its number. Its outputs go through a second subscription, `tally`, which sums them up, so that the disk holds the
//! backlog, the dead letters and nothing else. Every ten seconds the host's process is looked at.

mod books;
mod feed;
mod series;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::host::{self, Host};
use crate::run::{cargo, fresh_directory, step, target_dir};
use crate::{guests, process, servers};
use books::Counts;
use feed::Feed;
use series::{Sample, Series};
use server::Server;

/// Which broker a soak runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Broker {
    /// The embedded queue
    Embedded,
    /// A nats-server of its own
    Jetstream,
}

/// Messages that may wait before the handlers: some thousand groups, so that nobody runs dry, and little to hold.
const BACKLOG: u64 = 20_000;
/// How often it is looked at whether more may be published.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often the process is looked at.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// A block of the record in memory: 512 bytes, and its place in a map that has some room.
const BLOCK_BYTES: u64 = 600;
/// How long what is left may take at the end.
const END: Duration = Duration::from_secs(300);

const HANDLERS: &str = r#"
[host]
name = "soak"
log = { level = "warn" }

[handlers.work]
module = "soak.wasm"
outputs.done = { broker = "queue", subject = "out.done" }

[handlers.tally]
module = "soak.wasm"
instances = { reuse = 1000 }

[subscriptions.work]
broker = "queue"
subjects = ["in.>"]
handler = "work"
create = true

[subscriptions.tally]
broker = "queue"
subjects = ["out.>"]
handler = "tally"
create = true
"#;

/// Runs for so long, prints what was seen, and fails when it was not flat or a message did not end as it should.
pub(crate) fn run(broker: Broker, minutes: f64) -> Result<()> {
    let guests = guests::build()?;
    step("building the host", &mut cargo(&["build", "--locked", "--release", "--package", "tidegate", "--bins"]))?;
    let name = match broker {
        Broker::Embedded => "embedded",
        Broker::Jetstream => "jetstream",
    };
    let directory = target_dir().join("soak").join(name);
    fresh_directory(&directory)?;
    let server = match broker {
        Broker::Embedded => None,
        Broker::Jetstream => Some(Server::start(&servers::ensure_nats_server()?, &directory)?),
    };
    let config = configure(&directory, &guests, server.as_ref())?;
    // A copy, so that a build while this runs does not take the program away.
    let program = directory.join("tidegate");
    fs::copy(host::program("release"), &program).context("copying the host's program")?;
    let data = directory.join("data");
    fresh_directory(&data)?;
    let mut host = Host::start(&program, &config, &data)?;
    let watched = Duration::from_secs_f64(minutes * 60.0);
    eprintln!("==> {minutes} minutes at full load on {name}; the host's log is {}", host.log());

    let feed = Feed::start(host.address());
    let mut series = Series::default();
    let began = Instant::now();
    while began.elapsed() < watched {
        let counts = books::counts(&host)?;
        feed.allow(counts.done() + BACKLOG);
        if began.elapsed() >= series.last() + SAMPLE_EVERY {
            host.check_runs()?;
            let sample = sample(&host, &data, began.elapsed(), &counts)?;
            eprintln!("    {sample}");
            series.add(sample);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let published = feed.finish()?;
    let counts = settle(&host, published)?;
    println!("{}", series.table());
    println!("{}", books::check(&host, published, &counts)?);
    host.stop()?;
    drop(server);
    series.check_flat()
}

fn configure(directory: &Path, guests: &Path, server: Option<&Server>) -> Result<PathBuf> {
    fs::copy(guests.join("soak.wasm"), directory.join("soak.wasm")).context("copying the handlers")?;
    let broker = match server {
        None => "type = \"embedded\"".to_owned(),
        // What is settled stays in a stream until its limit; these are some minutes of it, and far above the backlog.
        Some(server) => format!(
            "type = \"jetstream\"\nservers = [\"{}\"]\nduplicate_window = \"2m\"\n\
             streams.IN = {{ subjects = [\"in.>\"], max_bytes = \"512MiB\" }}\n\
             streams.OUT = {{ subjects = [\"out.>\"], max_bytes = \"256MiB\" }}",
            server.url()
        ),
    };
    let config = directory.join("tidegate.toml");
    fs::write(&config, format!("[brokers.queue]\n{broker}\n{HANDLERS}")).context("writing the configuration")?;
    Ok(config)
}

fn sample(host: &Host, data: &Path, at: Duration, counts: &Counts) -> Result<Sample> {
    let memory = process::memory(host.id())?;
    Ok(Sample {
        at,
        resident: memory.resident,
        anonymous: memory.anonymous,
        files: process::open_files(host.id())?,
        record: blocks(&host.get("/metrics")?) * BLOCK_BYTES,
        disk: size(data)?,
        settled: counts.settled(),
    })
}

/// How many blocks the record of what is done has; the embedded queue has none.
fn blocks(metrics: &str) -> u64 {
    let of_blocks = |line: &&str| line.starts_with("tidegate_dedupe_records{") && line.contains("kind=\"blocks\"");
    let counts = metrics.lines().filter(of_blocks).filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    counts.sum()
}

/// The bytes of all files under a directory.
fn size(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let entry = entry?;
        // A file may go while it is looked at: a log of the store, say.
        let Ok(metadata) = entry.metadata() else { continue };
        sum += if metadata.is_dir() { size(&entry.path())? } else { metadata.len() };
    }
    Ok(sum)
}

/// Waits until everything that was published has its end.
fn settle(host: &Host, published: u64) -> Result<Counts> {
    let began = Instant::now();
    loop {
        let counts = books::counts(host)?;
        if counts.are_through(published) {
            return Ok(counts);
        }
        ensure!(began.elapsed() < END, "not everything has its end after {END:?}: {published} published, {counts:?}");
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::blocks;

    #[test]
    fn the_blocks_of_the_record_are_read_from_the_metrics() {
        let metrics = "tidegate_dedupe_records{broker=\"queue\",messaging_system=\"nats\",kind=\"notes\"} 9\n\
                       tidegate_dedupe_records{broker=\"queue\",messaging_system=\"nats\",kind=\"blocks\"} 7\n";
        assert_eq!((blocks(metrics), blocks("")), (7, 0));
    }
}
