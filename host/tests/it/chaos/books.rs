//! The checker: published = completed + dead-lettered + skipped + still there, by the ids, from what really stands in the
//! broker at the end.

use std::collections::{BTreeMap, BTreeSet};

use super::rig::{HELD_AT_ONCE, START_OF_A_LIFE};

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
    /// The ids that outputs stand there under.
    pub output_ids: BTreeMap<String, BTreeSet<String>>,
    /// Deliveries of messages that were done, acknowledged without a run.
    pub already_done: u64,
    /// Deliveries that a host gave over to the broker, as their lease was over before they were settled.
    pub given_over: u64,
    /// The same by the metric of its last life.
    pub leases_lost: u64,
    /// How many messages each life of a host but the last had run and told no end of: what it held when it was killed.
    pub cut_off: Vec<u64>,
    /// Messages that ran again after their end was confirmed, from the host's log.
    runs_after_the_end: Vec<String>,
    /// Messages that ran again in the same life of a host, and nothing was told of what became of the run before.
    runs_without_a_reason: Vec<String>,
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

/// What a line of a host's log tells of a message.
enum Told {
    Ran(String),
    /// Its end was confirmed.
    Ended(String),
    /// It had ended before, and was not run.
    AlreadyDone(String),
    /// It was confirmed that it comes again.
    ComesAgain(String),
    /// Nothing was settled; the broker hands it over again.
    GivenOver(String),
}

fn told(line: &str) -> Option<Told> {
    if let Some((_, rest)) = line.split_once("ran m-") {
        return Some(Told::Ran(format!("m-{}", rest.split_whitespace().next()?)));
    }
    let (before, rest) = line.split_once("id=\"m-")?;
    let (number, rest) = rest.split_once('"')?;
    let id = format!("m-{number}");
    if before.contains("nothing was settled") {
        return Some(Told::GivenOver(id));
    }
    let (_, settled) = rest.split_once("settled=\"")?;
    match settled.split_once('"')?.0 {
        "completed" | "skipped" | "dead-lettered" => Some(Told::Ended(id)),
        "already-done" => Some(Told::AlreadyDone(id)),
        "retried" | "returned" => Some(Told::ComesAgain(id)),
        other => panic!("what is it to be settled as {other}? {line}"),
    }
}

impl Books {
    /// Reads the log of a host over all its lives: the runs, and which of them should not have been.
    pub fn read_runs(&mut self, log: &str) {
        let mut ended = BTreeSet::new();
        let mut without_a_word = BTreeSet::new();
        let mut settled = 0_u64;
        for line in log.lines() {
            if line == START_OF_A_LIFE {
                self.cut_off.push(without_a_word.len() as u64);
                without_a_word.clear();
                continue;
            }
            match told(line) {
                Some(Told::Ran(id)) => {
                    if ended.contains(&id) {
                        self.runs_after_the_end.push(id.clone());
                    }
                    if !without_a_word.insert(id.clone()) {
                        self.runs_without_a_reason.push(id.clone());
                    }
                    *self.runs.entry(id).or_default() += 1;
                }
                Some(Told::Ended(id)) => {
                    settled += 1;
                    without_a_word.remove(&id);
                    ended.insert(id);
                }
                Some(Told::AlreadyDone(id)) => {
                    settled += 1;
                    self.already_done += 1;
                    ended.insert(id);
                }
                Some(Told::ComesAgain(id)) => {
                    settled += 1;
                    without_a_word.remove(&id);
                }
                Some(Told::GivenOver(id)) => {
                    self.given_over += 1;
                    without_a_word.remove(&id);
                }
                None => {}
            }
        }
        assert!(settled > 0, "the log tells of no settlement; has its form changed?");
    }

    /// What was confirmed as settled never ran again; and what ran again was to come again, or what came of its run before was
    /// not on record: that host was killed, or it said that it gave the message over to the broker.
    pub fn check_the_runs(&self) {
        assert!(self.runs_after_the_end.is_empty(), "ran again after their end: {:?}", self.runs_after_the_end);
        assert!(self.runs_without_a_reason.is_empty(), "ran again for no reason: {:?}", self.runs_without_a_reason);
    }

    /// The extra runs are of messages whose outcome was not on record, and no more than a host holds at once for each time
    /// that it was killed.
    pub fn check_extra_runs_after_kills(&self, balance: &Balance, kills: u32) {
        // The first life has none before it, and is told of as one with nothing.
        let killed = self.cut_off.iter().skip(1);
        assert_eq!(killed.clone().count(), kills as usize, "a kill is missing from the log");
        let most = killed.clone().max().copied().unwrap_or_default();
        assert!(most <= HELD_AT_ONCE, "{most} messages had run and were not settled when a host was killed");
        let not_on_record = killed.sum::<u64>() + self.given_over;
        assert!(balance.extra_runs <= not_on_record, "{balance:?}, and {not_on_record} outcomes were not on record");
        assert!(balance.extra_runs <= HELD_AT_ONCE * u64::from(kills), "{balance:?} with {kills} kills");
    }

    /// The extra runs of a host that lived all the time are of deliveries whose lease was over, and the host told of each: where
    /// it lost none, there are none.
    pub fn check_extra_runs_of_one_life(&self, balance: &Balance) {
        assert_eq!(self.cut_off, [0], "the host was killed");
        assert_eq!(self.leases_lost, self.given_over, "the metric and the log differ");
        assert!(balance.extra_runs <= self.given_over, "{balance:?}, and {} leases were lost", self.given_over);
    }

    /// An output was published under one id, whichever run it is of; gives back how many were published more than once.
    pub fn check_published_ids(&self, published: &BTreeMap<String, Vec<String>>) -> usize {
        for (body, ids) in published {
            let distinct: BTreeSet<String> = ids.iter().cloned().collect();
            assert_eq!(Some(&distinct), self.output_ids.get(body), "{body} was published under several ids");
        }
        published.values().filter(|ids| ids.len() > 1).count()
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
