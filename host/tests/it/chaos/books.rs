//! The checker: published = completed + dead-lettered + skipped + still there, by the ids, from what really stands in the
//! broker at the end.

use std::collections::{BTreeMap, BTreeSet};

/// What a number must have come to; the guest `ledger` follows the same rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Completed,
    Rejected,
    Skipped,
}

fn fate(number: u64) -> Fate {
    match number % 20 {
        17 => Fate::Rejected,
        18 => Fate::Skipped,
        _ => Fate::Completed,
    }
}

/// What stands at the end.
#[derive(Debug, Default)]
pub struct Books {
    /// Bodies of the outputs, with how often each stands there.
    pub outputs: BTreeMap<String, u32>,
    /// Which ledger made an output: what it said at its start and at its end.
    pub made_by: BTreeMap<String, (String, String)>,
    /// Message ids of the dead letters, with how often each stands there.
    pub dead: BTreeMap<String, u32>,
    /// Runs by message id, from the host's log.
    pub runs: BTreeMap<String, u32>,
    /// Messages that ran again after their end was confirmed, from the host's log.
    runs_after_the_end: Vec<String>,
}

/// What the check counted, for the reliability page.
#[derive(Debug, Default, Clone, Copy)]
#[expect(dead_code, reason = "read by its Debug form, which is what is printed")]
pub struct Balance {
    pub published: u64,
    pub completed: u64,
    pub dead: u64,
    pub skipped: u64,
    /// Runs beyond those that the messages' numbers ask for.
    pub extra_runs: u64,
}

impl Books {
    /// Reads the runs from a host's log, and what ran again though its end had been confirmed.
    pub fn read_runs(&mut self, log: &str) {
        let mut ended = BTreeSet::new();
        for line in log.lines() {
            if let Some((_, rest)) = line.split_once("ran m-") {
                let number = rest.split_whitespace().next().unwrap_or_default();
                let id = format!("m-{number}");
                if ended.contains(&id) {
                    self.runs_after_the_end.push(id.clone());
                }
                *self.runs.entry(id).or_default() += 1;
            } else if let Some((_, rest)) = line.split_once("id=\"m-")
                && let Some((number, rest)) = rest.split_once('"')
                && ["completed", "skipped", "dead-lettered"]
                    .iter()
                    .any(|end| rest.contains(&format!("settled=\"{end}\"")))
            {
                ended.insert(format!("m-{number}"));
            }
        }
        assert!(!ended.is_empty(), "the log tells of no settlement; has its form changed?");
    }

    /// What was confirmed as settled never ran again.
    pub fn check_no_run_after_its_end(&self) {
        assert!(self.runs_after_the_end.is_empty(), "ran again after their end: {:?}", self.runs_after_the_end);
    }

    /// Balances: every id has exactly the end that its number asks for, once.
    pub fn check(&self, prefix: &str, published: u64) -> Balance {
        let mut balance = Balance { published, ..Balance::default() };
        let mut wrong = Vec::new();
        for number in 0..published {
            let id = format!("{prefix}-{number}");
            let outputs = self.outputs.get(&id).copied().unwrap_or_default();
            let dead = self.dead.get(&id).copied().unwrap_or_default();
            let runs = self.runs.get(&id).copied().unwrap_or_default();
            let (expected, wanted_runs) = match fate(number) {
                Fate::Completed => {
                    balance.completed += u64::from(outputs > 0);
                    ((1, 0), if number % 20 == 19 { 2 } else { 1 })
                }
                Fate::Rejected => {
                    balance.dead += u64::from(dead > 0);
                    ((0, 1), 1)
                }
                Fate::Skipped => {
                    balance.skipped += 1;
                    ((0, 0), 1)
                }
            };
            if (outputs, dead) != expected || runs == 0 {
                wrong.push(format!("{id}: {outputs} outputs, {dead} dead letters, {runs} runs"));
            }
            balance.extra_runs += u64::from(runs.saturating_sub(wanted_runs));
        }
        assert!(
            wrong.is_empty(),
            "{} of {published} are wrong:\n{}",
            wrong.len(),
            wrong[..wrong.len().min(20)].join("\n")
        );
        let known = |id: &String| id.strip_prefix(prefix).is_some();
        assert!(self.outputs.keys().chain(self.dead.keys()).all(known), "something stands there that nobody published");
        balance
    }
}
