//! What must have become of the messages, and what the host says became of them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::host::Host;

/// What the host counts of both subscriptions.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) work: Subscription,
    pub(super) tally: Subscription,
}

/// What it counts of one.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Subscription {
    completed: u64,
    skipped: u64,
    dead_lettered: u64,
    /// Deliveries whose lease was over before their settlement was known. The broker gives such a message back, and it
    /// is settled then, or found done and acknowledged without a run: what it ended as may stand in no count.
    abandoned: u64,
    runs: u64,
    pub(super) outputs: u64,
    /// What the broker still has, and what the host holds.
    ready: u64,
    pending: u64,
    in_flight: u64,
}

impl Subscription {
    /// Messages that have their end.
    pub(super) fn settled(&self) -> u64 {
        self.completed + self.skipped + self.dead_lettered
    }

    /// So many messages came, and none of them waits or is held any more.
    fn is_through(&self, came: u64) -> bool {
        self.settled() + self.abandoned >= came && self.ready + self.pending + self.in_flight == 0
    }

    /// Compares what became of the messages with what should have. What was abandoned may be missing in the counts.
    fn check_ends(&self, expected: &Expected) -> Result<()> {
        let ends = [self.completed, self.skipped, self.dead_lettered];
        let wanted = [expected.completed, expected.skipped, expected.dead];
        let missing: u64 = ends.iter().zip(&wanted).map(|(end, wanted)| wanted.saturating_sub(*end)).sum();
        let too_many = ends.iter().zip(&wanted).any(|(end, wanted)| end > wanted);
        ensure!(
            !too_many && missing <= self.abandoned,
            "completed, skipped and dead-lettered are {ends:?}, and should be {wanted:?}; {} were abandoned",
            self.abandoned
        );
        Ok(())
    }
}

impl Counts {
    /// Messages that have their end, over both.
    pub(super) fn settled(&self) -> u64 {
        self.work.settled() + self.tally.settled()
    }

    /// So many were published, and all of them and of their outputs are through.
    pub(super) fn are_through(&self, published: u64) -> bool {
        self.work.is_through(published) && self.tally.is_through(self.work.outputs)
    }

    /// Published messages that need no room any more: neither they nor their outputs wait.
    pub(super) fn done(&self) -> u64 {
        self.work.settled().saturating_sub(self.work.outputs.saturating_sub(self.tally.settled()))
    }
}

#[derive(Deserialize)]
struct Status {
    subscriptions: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    counts: Subscription,
}

/// Asks the host.
pub(super) fn counts(host: &Host) -> Result<Counts> {
    let status: Status = serde_json::from_str(&host.get("/v1/status")?).context("reading the host's status")?;
    let named = |wanted: &str| {
        let found = status.subscriptions.iter().find(|one| one.name == wanted);
        found.map(|one| one.counts).with_context(|| format!("the host has no subscription `{wanted}`"))
    };
    Ok(Counts { work: named("work")?, tally: named("tally")? })
}

/// What the numbers below a bound ask for; the guest `soak` follows the same rule.
#[derive(Debug, Default, PartialEq, Eq)]
struct Expected {
    completed: u64,
    skipped: u64,
    dead: u64,
    retried: u64,
    /// Over the outputs: their numbers, and 32 mixed bits of each.
    sum: u64,
    mix: u64,
}

fn expected(published: u64) -> Expected {
    let mut expected = Expected::default();
    for number in 0..published {
        if is_rejected(number) {
            expected.dead += 1;
            continue;
        }
        if number % 20 == 18 {
            expected.skipped += 1;
            continue;
        }
        expected.retried += u64::from(number % 20 == 19);
        expected.completed += 1;
        expected.sum += number;
        expected.mix += number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    }
    expected
}

fn is_rejected(number: u64) -> bool {
    number % 1000 == 17
}

/// Compares, and says what was found.
pub(super) fn check(host: &Host, published: u64, counts: &Counts) -> Result<String> {
    let expected = expected(published);
    let Counts { work, tally } = counts;
    work.check_ends(&expected)?;
    let metrics = host.get("/metrics")?;
    let tallied = |name: &str| {
        let line = format!("handler_{name}_total{{handler=\"tally\"}} ");
        let value = metrics.lines().find_map(|text| text.strip_prefix(&line)?.parse::<u64>().ok());
        value.with_context(|| format!("the host has no metric {line}"))
    };
    let outputs = (tallied("outputs")?, tallied("sum")?, tallied("mix")?);
    let wanted = (expected.completed, expected.sum, expected.mix);
    // A run whose settlement was not known may come twice; then the sums say only that nothing is missing.
    let twice_at_most = work.abandoned + tally.abandoned;
    ensure!(
        outputs == wanted || (twice_at_most > 0 && outputs.0 >= wanted.0 && outputs.0 - wanted.0 <= twice_at_most),
        "count, sum and mixed sum of the outputs are {outputs:?}, and should be {wanted:?}; {twice_at_most} deliveries \
         were abandoned"
    );
    check_dead_letters(host, published)?;
    let extra = (work.runs + tally.runs).saturating_sub(published + expected.retried + expected.completed);
    Ok(format!(
        "{published} published = {} completed ({} of them after a retry) + {} skipped + {} dead-lettered; {}; {extra} \
         extra runs, {twice_at_most} deliveries abandoned",
        expected.completed,
        expected.retried,
        expected.skipped,
        expected.dead,
        if outputs == wanted { "every output once" } else { "no output missing, some twice" }
    ))
}

#[derive(Deserialize)]
struct Page {
    letters: Vec<DeadLetter>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct DeadLetter {
    message_id: String,
}

/// Every message that was rejected stands among the dead letters, once, and no other does.
fn check_dead_letters(host: &Host, published: u64) -> Result<()> {
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    let mut after = String::new();
    loop {
        let text = host.get(&format!("/v1/dead-letters?limit=1000{after}"))?;
        let page: Page = serde_json::from_str(&text).context("reading dead letters")?;
        for letter in page.letters {
            *found.entry(letter.message_id).or_default() += 1;
        }
        let Some(next) = page.next else { break };
        after = format!("&after={next}");
    }
    let twice: Vec<&String> = found.iter().filter(|(_, count)| **count > 1).map(|(id, _)| id).collect();
    ensure!(twice.is_empty(), "dead letters stand there more than once: {twice:?}");
    let wanted: BTreeSet<String> = (0..published).filter(|number| is_rejected(*number)).map(super::feed::id).collect();
    let found: BTreeSet<String> = found.into_keys().collect();
    let wrong: Vec<&String> = wanted.symmetric_difference(&found).take(10).collect();
    ensure!(wrong.is_empty(), "dead letters are missing or should not be there: {wrong:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_one_end() {
        let expected = expected(2000);
        assert_eq!((expected.completed, expected.skipped, expected.dead), (1898, 100, 2));
        assert_eq!(expected.retried, 100);
        let left_out: u64 = (0..2000).filter(|number| number % 20 == 18 || number % 1000 == 17).sum();
        assert_eq!(expected.sum, (0..2000).sum::<u64>() - left_out);
    }

    #[test]
    fn what_was_abandoned_may_be_missing_in_the_counts_and_nothing_else() {
        let expected = expected(2000);
        let exact = Subscription { completed: 1898, skipped: 100, dead_lettered: 2, ..Subscription::default() };
        assert!(exact.is_through(2000) && exact.check_ends(&expected).is_ok());
        let short = Subscription { completed: 1895, ..exact };
        assert!(!short.is_through(2000) && short.check_ends(&expected).is_err());
        let abandoned = Subscription { abandoned: 3, ..short };
        assert!(abandoned.is_through(2000) && abandoned.check_ends(&expected).is_ok());
        let too_many = Subscription { completed: 1899, abandoned: 3, ..exact };
        assert!(too_many.check_ends(&expected).is_err());
        assert!(!Subscription { pending: 1, ..abandoned }.is_through(2000), "one is still with the broker");
    }

    #[test]
    fn outputs_that_wait_take_room() {
        let work = Subscription { completed: 100, skipped: 5, outputs: 100, ..Subscription::default() };
        let tally = Subscription { completed: 40, ..Subscription::default() };
        assert_eq!(Counts { work, tally }.done(), 45);
    }
}
