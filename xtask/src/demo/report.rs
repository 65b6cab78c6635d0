//! What the host says of a subscription, in words.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The part of `/v1/status` that the demo shows.
#[derive(Debug, Deserialize)]
struct Status {
    subscriptions: Vec<Subscription>,
}

#[derive(Debug, Deserialize)]
struct Subscription {
    counts: Counts,
}

/// What a subscription has done so far.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Counts {
    /// Deliveries by the broker.
    consumed: u64,
    completed: u64,
    skipped: u64,
    retried: u64,
    dead_lettered: u64,
    reasons: BTreeMap<String, u64>,
    /// Runs of the handler.
    pub(super) runs: u64,
    run_seconds: Option<Latency>,
    fuel: u64,
    memory_peak_bytes: u64,
    outputs: u64,
    in_flight: u64,
    ready: u64,
    pending: u64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Latency {
    p50: f64,
    p99: f64,
}

impl Counts {
    /// Reads the counts of the only subscription.
    pub(super) fn parse(status: &str) -> Result<Self> {
        let status: Status = serde_json::from_str(status).context("reading the host's status")?;
        status.subscriptions.into_iter().next().map(|only| only.counts).context("the host has no subscription")
    }

    /// Messages that are done, one way or another.
    pub(super) fn settled(&self) -> u64 {
        self.completed + self.skipped + self.dead_lettered
    }

    /// Messages that are not done.
    pub(super) fn waiting(&self) -> u64 {
        self.ready + self.pending.max(self.in_flight)
    }
}

/// What became of a publish, as `tidegate publish --json` says it.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Sent {
    pub(super) published: u64,
    /// Messages whose id was known.
    pub(super) duplicates: u64,
}

impl Sent {
    pub(super) fn parse(answer: &str) -> Result<Self> {
        serde_json::from_str(answer).context("reading what was published")
    }
}

/// That a feed which was sent again changed nothing; else what it changed.
pub(super) fn changes_nothing(again: &Sent, deliveries: u64, before: &Counts, after: &Counts) -> Result<()> {
    let Sent { published, duplicates } = *again;
    ensure!(published == 0, "{published} of {deliveries} deliveries were stored a second time");
    ensure!(duplicates == deliveries, "the queue knew {duplicates} of {deliveries} deliveries");
    for (what, before, after) in [
        ("messages were handed over", before.consumed, after.consumed),
        ("runs of the handler", before.runs, after.runs),
        ("messages were settled", before.settled(), after.settled()),
        ("messages went out", before.outputs, after.outputs),
    ] {
        ensure!(before == after, "{what}: {before} after the first time, {after} after the second");
    }
    Ok(())
}

/// How fast it goes since so many were settled, and what it takes, for the end of the line.
pub(super) fn pace(counts: &Counts, before: u64, took: Duration) -> String {
    let rate = counts.settled().saturating_sub(before) as f64 / took.as_secs_f64().max(0.001);
    let fuel = counts.fuel / counts.runs.max(1);
    let latency = match counts.run_seconds {
        Some(Latency { p50, p99 }) => format!("{:.0} us a run (99 of 100 within {:.0} us)", p50 * 1e6, p99 * 1e6),
        None => "no run yet".to_owned(),
    };
    format!("{rate:.0} a second, {latency}, {fuel} of fuel")
}

/// One line while it runs.
pub(super) fn progress(counts: &Counts) -> String {
    let Counts { completed, retried, skipped, dead_lettered, in_flight, .. } = counts;
    format!(
        "    {completed} completed, {retried} retried, {skipped} skipped, {dead_lettered} dead-lettered; \
         {in_flight} in flight, {} waiting",
        counts.waiting()
    )
}

/// What became of the messages, and what it took.
pub(super) fn summary(counts: &Counts, took: Duration) -> String {
    let mut text = String::new();
    let settled = counts.settled();
    let rows = [
        ("completed", counts.completed, format!("{} messages went out", counts.outputs)),
        ("skipped", counts.skipped, "nobody waits for them".to_owned()),
        ("dead-lettered", counts.dead_lettered, "kept with reason, attempts, log and body".to_owned()),
    ];
    for (name, count, note) in rows {
        // Writing to a string does not fail.
        let _ = writeln!(text, "    {count:>6} {name:<14} {note}");
    }
    let _ =
        writeln!(text, "    {settled:>6} in all; {} runs, {} of them asked for a retry", counts.runs, counts.retried);
    for (reason, count) in &counts.reasons {
        let _ = writeln!(text, "           {count:>6} {reason}");
    }
    let seconds = took.as_secs_f64();
    let rate = settled as f64 / seconds;
    let _ = writeln!(text, "    {seconds:.1} s from the first publish to the last settlement: {rate:.0} a second");
    if let Some(Latency { p50, p99 }) = counts.run_seconds {
        let (half, most) = (p50 * 1e6, p99 * 1e6);
        let _ = writeln!(text, "    a run took {half:.0} us (half of them), {most:.0} us (99 of 100)");
    }
    let fuel = counts.fuel / counts.runs.max(1);
    let peak = counts.memory_peak_bytes >> 10;
    let _ = writeln!(text, "    and {fuel} of fuel on average; the most memory that one held was {peak} KiB");
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

    use super::*;

    const STATUS: &str = r#"{"host":"h","version":"0.1.0","uptime_seconds":1.0,"draining":false,"brokers":[],
        "subscriptions":[{"name":"webhooks","broker":"main","handler":"triage","counts":{
        "consumed":191,"completed":152,"skipped":6,"retried":14,"returned":0,"dead_lettered":19,"abandoned":0,
        "reasons":{"completed":152,"handler-rejected":19},"runs":191,"run_seconds":{"p50":0.0001,"p90":0.0002,"p99":0.0005},
        "fuel":1910000,"memory_peak_bytes":1310720,"outputs":154,"duplicates":0,"in_flight":1,"in_flight_bytes":9,
        "concurrency":8,"ready":2,"pending":3,"oldest_age_seconds":0.5}}]}"#;

    #[test]
    fn the_hosts_status_is_told_in_words() {
        let counts = Counts::parse(STATUS).unwrap();
        assert_eq!((counts.settled(), counts.waiting()), (177, 5));
        assert_eq!(
            progress(&counts),
            "    152 completed, 14 retried, 6 skipped, 19 dead-lettered; 1 in flight, 5 waiting"
        );
        let expected = [
            "       152 completed      154 messages went out",
            "         6 skipped        nobody waits for them",
            "        19 dead-lettered  kept with reason, attempts, log and body",
            "       177 in all; 191 runs, 14 of them asked for a retry",
            "              152 completed",
            "               19 handler-rejected",
            "    2.0 s from the first publish to the last settlement: 88 a second",
            "    a run took 100 us (half of them), 500 us (99 of 100)",
            "    and 10000 of fuel on average; the most memory that one held was 1280 KiB",
        ];
        assert_eq!(summary(&counts, Duration::from_secs(2)).lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_live_line_ends_with_the_pace() {
        let counts = Counts::parse(STATUS).unwrap();
        assert_eq!(
            pace(&counts, 0, Duration::from_secs(2)),
            "88 a second, 100 us a run (99 of 100 within 500 us), 10000 of fuel"
        );
        let none = Counts { runs: 0, run_seconds: None, fuel: 0, ..counts };
        assert_eq!(pace(&none, 177, Duration::from_secs(1)), "0 a second, no run yet, 0 of fuel");
    }

    #[test]
    fn a_second_time_that_changes_anything_is_an_error() {
        let counts = Counts::parse(STATUS).unwrap();
        let sent = Sent::parse(r#"{"published":0,"duplicates":177,"failed":0,"failures":[]}"#).unwrap();
        changes_nothing(&sent, 177, &counts, &counts).unwrap();
        let told = |sent: Sent, after: &Counts| changes_nothing(&sent, 177, &counts, after).unwrap_err().to_string();
        assert!(told(Sent { published: 1, duplicates: 176 }, &counts).contains("stored a second time"));
        assert!(told(Sent { duplicates: 0, ..sent }, &counts).contains("knew 0 of 177"));
        let ran = Counts { runs: 192, ..counts.clone() };
        assert!(told(sent, &ran).contains("191 after the first time, 192 after the second"));
        let went = Counts { outputs: 155, ..counts.clone() };
        assert!(told(sent, &went).contains("messages went out"));
    }

    #[test]
    fn a_host_without_a_subscription_is_an_error() {
        assert!(Counts::parse(r#"{"subscriptions":[]}"#).is_err());
    }
}
