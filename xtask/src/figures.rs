//! What a host costs that has nothing to do, and how soon it does something: measured on the program that is shipped.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::host::{self, Host};
use crate::process::{self, Memory};
use crate::run::{cargo, fresh_directory, output, step, target_dir};
use crate::{guests, http};

/// How many handlers the larger host has beyond the first.
const FURTHER: u32 = 200;
/// How often a start is timed.
const STARTS: usize = 15;
/// How long a host is left alone before its memory is read: two of its looks at the backlogs, and some.
const IDLE: Duration = Duration::from_secs(5);

/// Builds the host as it is shipped, and prints its figures beside the goals.
pub(crate) fn run() -> Result<()> {
    let guests = guests::build()?;
    step("building the host", &mut cargo(&["build", "--locked", "--release", "--package", "tidegate", "--bins"]))?;
    let directory = target_dir().join("figures");
    fresh_directory(&directory)?;
    let module = fs::read(guests.join("ledger.wasm")).context("reading the handler")?;
    for number in 0..=FURTHER {
        // The same code in each, and yet another module to the host: compiled, kept and linked by itself.
        let path = directory.join(format!("handler-{number}.wasm"));
        fs::write(&path, with_note(&module, number)).with_context(|| format!("writing {}", path.display()))?;
    }
    let one = configure(&directory, 1)?;
    let many = configure(&directory, 1 + FURTHER)?;

    eprintln!("==> an idle host with one handler, and with {}", 1 + FURTHER);
    let small = idle(&one, &directory.join("one"))?;
    let large = idle(&many, &directory.join("many"))?;
    let each = |value: fn(&Memory) -> u64| value(&large).saturating_sub(value(&small)) as f64 / f64::from(FURTHER);
    println!("| what | resident MiB | of it anonymous | goal |\n|---|---|---|---|");
    println!("| idle, one handler | {:.1} | {:.1} | under 60 |", mib(small.resident), mib(small.anonymous));
    println!(
        "| each of {FURTHER} further handlers, with its subscription | {:.2} | {:.2} | under 1 |",
        each(|memory| memory.resident) / MIB,
        each(|memory| memory.anonymous) / MIB
    );
    eprintln!("==> {STARTS} starts, each to its first message");
    let mut starts = starts(&one, &directory.join("one"))?;
    let mut bare = Vec::new();
    for _ in 0..STARTS {
        let began = Instant::now();
        output(std::process::Command::new(host::program("release")).arg("--version"))?;
        bare.push(began.elapsed());
    }
    starts.sort_unstable();
    bare.sort_unstable();
    println!("\n| what | median ms | best | worst | goal |\n|---|---|---|---|---|");
    for (what, times, goal) in [
        ("from the start of the process to the first message that is settled", &starts, "under 100"),
        ("for comparison: `tidegate --version`", &bare, ""),
    ] {
        let at = |index: usize| times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3);
        println!("| {what} | {:.1} | {:.1} | {:.1} | {goal} |", at(times.len() / 2), at(0), at(times.len() - 1));
    }
    Ok(())
}

const MIB: f64 = (1 << 20) as f64;

fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB
}

/// A module with a custom section behind it that nothing reads.
fn with_note(module: &[u8], number: u32) -> Vec<u8> {
    let note = number.to_le_bytes();
    // Section 0; its size; the length of its name, the name, the content.
    let mut bytes = module.to_vec();
    bytes.extend_from_slice(&[0, 9, 4]);
    bytes.extend_from_slice(b"note");
    bytes.extend_from_slice(&note);
    bytes
}

/// A configuration of so many handlers, each with a subscription of its own on one embedded queue.
fn configure(directory: &Path, handlers: u32) -> Result<PathBuf> {
    let mut text =
        String::from("[host]\nname = \"figures\"\nlog = { level = \"debug\" }\n[brokers.queue]\ntype = \"embedded\"\n");
    for number in 0..handlers {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "[handlers.handler-{number}]\nmodule = \"handler-{number}.wasm\"\n\
             outputs.done = {{ broker = \"queue\", subject = \"done\" }}\n\
             [subscriptions.handler-{number}]\nbroker = \"queue\"\nsubjects = [\"in.{number}\"]\n\
             handler = \"handler-{number}\"\n"
        );
    }
    let path = directory.join(format!("{handlers}.toml"));
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// The memory of a host that has started with everything compiled before, and has had nothing to do since.
fn idle(config: &Path, data: &Path) -> Result<Memory> {
    fresh_directory(data)?;
    let program = host::program("release");
    // What it compiles now lies in its cache at the start that counts.
    Host::start(&program, config, data)?.stop()?;
    let host = Host::start(&program, config, data)?;
    std::thread::sleep(IDLE);
    let memory = process::memory(host.id())?;
    host.stop()?;
    Ok(memory)
}

/// From starting the process to its word that a message is settled, which waited in the queue; several times. How each
/// is settled depends on its number, and does not matter here.
fn starts(config: &Path, data: &Path) -> Result<Vec<Duration>> {
    let program = host::program("release");
    let message = data.join("message.txt");
    fs::write(&message, "a message").context("writing a message")?;
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let mut publish =
            host::tidegate(&program, &["publish", "--subject", "in.0"], config, http::Address::free()?, data);
        output(publish.arg(&message))?;
        let began = Instant::now();
        let mut host = Host::spawn(&program, config, data, Stdio::piped())?;
        let log = host.take_log().context("the host has no standard error")?;
        let mut lines = BufReader::new(log).lines();
        loop {
            let Some(line) = lines.next() else { bail!("the host ended before it had settled a message") };
            if line.context("reading the host's log")?.contains(" settled=\"") {
                times.push(began.elapsed());
                break;
            }
        }
        // What it says while it ends has to go somewhere.
        let rest = std::thread::spawn(move || lines.count());
        host.stop()?;
        ensure!(rest.join().is_ok(), "the rest of the host's log could not be read");
    }
    Ok(times)
}
