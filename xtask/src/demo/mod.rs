//! Shows the whole thing: a host on the embedded queue, a feed of webhooks, and what became of each.
//!
//! Invariants: it starts with an empty queue and leaves nothing running, however it ends; what it prints of the messages
//! is what the host says over its status, so a number that does not fit is an error and not a blemish.

mod report;

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::guests;
use crate::host::{self, Host};
use crate::run::{cargo, fresh_directory, output, root, step, target_dir};
use report::{Counts, Sent};

const CONFIG: &str = "examples/github-webhooks/tidegate.toml";
const FEED: &str = "examples/github-webhooks/deliveries.jsonl";
/// The feed is done in two seconds or so, most of them the backoff of what is retried; a slow machine gets this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Builds what it takes, unless it is `built`; runs the feed twice, and says what became of it. That the second time changes
/// nothing is not only shown: it fails otherwise.
pub(crate) fn demo(built: bool) -> Result<()> {
    if !built {
        guests::build_examples()?;
        step("building the host", &mut cargo(&["build", "--package", "tidegate"]))?;
    }
    let deliveries = u64::try_from(std::fs::read_to_string(root().join(FEED))?.lines().count())?;

    let data = target_dir().join("demo");
    fresh_directory(&data)?;
    eprintln!("==> starting a host on {CONFIG}");
    let began = Instant::now();
    let mut host = Host::start(&host::program("debug"), &root().join(CONFIG), &data)?;
    eprintln!("    ready after {:.0?} on http://{}", began.elapsed(), host.address().0);
    let began = Instant::now();
    let sent = publish(&host, "publishing the feed")?;
    let first = watch(&mut host, (began, 0), |counts| counts.settled() >= deliveries)?;
    println!("\n{}", report::summary(&first, began.elapsed()));
    ensure!(first.settled() == deliveries, "{} messages were settled, and {deliveries} were sent", first.settled());
    ensure!(sent.published == deliveries, "{} of {deliveries} messages were published", sent.published);

    let again = publish(&host, "publishing the same feed again: every delivery's id is known")?;
    let second = watch(&mut host, (Instant::now(), first.settled()), |counts| counts.waiting() == 0)?;
    report::changes_nothing(&again, deliveries, &first, &second)?;
    println!("\nThe second time the handler did not run: it was called {} times before and after.\n", second.runs);

    step("the dead letters", host.tidegate(&["dlq", "ls"]).args(["--limit", "5"]))?;
    host.stop()
}

fn publish(host: &Host, what: &str) -> Result<Sent> {
    let fields = ["--id-field", "delivery", "--subject-field", "event", "--subject-prefix", "github."];
    eprintln!("==> {what}");
    let sent = output(host.tidegate(&["publish", "--json"]).args(fields).args(["--body-field", "payload", FEED]))?;
    let sent = Sent::parse(&sent)?;
    eprintln!("    {} published, {} there already", sent.published, sent.duplicates);
    Ok(sent)
}

/// Shows the counts as they change until they are as wanted. `began`: since when, and how many were settled by then.
fn watch(host: &mut Host, (began, before): (Instant, u64), done: impl Fn(&Counts) -> bool) -> Result<Counts> {
    let terminal = std::io::stderr().is_terminal();
    let mut shown = String::new();
    loop {
        host.check_runs()?;
        let counts = Counts::parse(&host.get("/v1/status")?)?;
        let line = report::progress(&counts);
        // A rate changes with time alone: where lines stay, each is of something that happened.
        if line != shown || terminal {
            let mut out = std::io::stderr();
            let end = if terminal { "\x1b[K\r" } else { "\n" };
            let pace = report::pace(&counts, before, began.elapsed());
            write!(out, "{line}; {pace}{end}").and_then(|()| out.flush())?;
            shown = line;
        }
        if done(&counts) {
            if terminal {
                eprintln!();
            }
            return Ok(counts);
        }
        ensure!(began.elapsed() < PATIENCE, "not done after {PATIENCE:?}: {shown}; the host's log is {}", host.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}
