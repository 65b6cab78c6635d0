//! `tidegate promote` and `tidegate abort`: how the trial of a version ends. And how a trial is shown.

use std::time::Duration;

use clap::Args;

use super::exit::{Ended, Exit};
use super::host::HostArguments;
use super::{client, say, table};
use crate::deploy::report::{Plan, RolloutView, SideView};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The handler
    #[arg(value_name = "NAME")]
    handler: String,
    #[command(flatten)]
    host: HostArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn promote(arguments: &Arguments) -> Ended {
    let promoted = client::of(&arguments.host)?.promote(&arguments.handler)?;
    if arguments.json {
        say::json(&promoted)?;
    } else {
        let (handler, to, digest, from) = (&promoted.handler, promoted.to, &promoted.digest, promoted.from);
        say::data(&format!("{handler}@{to} sha256:{digest} runs instead of {from}"))?;
    }
    Ok(Exit::Done)
}

pub(super) fn abort(arguments: &Arguments) -> Ended {
    let aborted = client::of(&arguments.host)?.abort(&arguments.handler)?;
    if arguments.json {
        say::json(&aborted)?;
    } else {
        let (handler, version, active) = (&aborted.handler, aborted.version, aborted.active);
        say::data(&format!("{handler}@{version} is not tried any more; all messages run on {handler}@{active}"))?;
    }
    Ok(Exit::Done)
}

/// How a version is tried, in a few words: `5% canary`.
pub(super) fn in_short(plan: &Plan) -> String {
    format!("{} {}", plan.share, plan.kind)
}

/// How a version is tried, in a sentence's end: `gets 5% of the messages as a canary`.
pub(super) fn in_words(plan: &Plan) -> String {
    let after = plan.promote_after_seconds.map(|seconds| {
        let after = humantime::format_duration(Duration::from_secs_f64(seconds.max(0.0)));
        format!("; promoted by itself after {after} when nothing speaks against it")
    });
    format!("gets {} of the messages as a {}{}", plan.share, plan.kind, after.unwrap_or_default())
}

/// Both versions side by side.
pub(super) fn shown(rollout: &RolloutView) -> String {
    let (version, by, since) = (rollout.version, &rollout.started_by, &rollout.started_at);
    let mut text = format!("{}: version {version} {}\n", rollout.plan.kind, in_words(&rollout.plan));
    text += &format!("begun by {by} at {since}; it {}\n\n", table::harmless(&rollout.note));
    let mut rows = table::table(&[
        "SINCE THEN",
        "VERSION",
        "MESSAGES",
        "FAULTS",
        "FAILED",
        "ENDED",
        "DEAD",
        "RUNS",
        "MEAN",
        "P99",
        "FUEL",
    ]);
    for (name, side) in [("stable", &rollout.stable), ("candidate", &rollout.candidate)] {
        rows.add_row(row(name, side));
    }
    text + &table::rendered(&rows)
}

fn row(name: &str, side: &SideView) -> Vec<String> {
    let [runs, mean, p99, fuel] = super::handlers::figures(Some(&side.figures));
    vec![
        name.to_owned(),
        side.version.to_string(),
        table::number(side.messages),
        part(side.faults, side.messages),
        part(side.failures, side.messages),
        table::number(side.ended),
        part(side.dead_letters, side.ended),
        runs,
        mean,
        p99,
        fuel,
    ]
}

/// A count and how many of a hundred that is: `12 (0.4%)`.
fn part(count: u64, of: u64) -> String {
    if count == 0 || of == 0 {
        return table::number(count);
    }
    #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
    let percent = count as f64 * 100.0 / of as f64;
    format!("{} ({percent:.1}%)", table::number(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Digest;
    use crate::telemetry::VersionCounts;

    #[test]
    fn both_versions_stand_side_by_side() {
        let side = |version, messages, failures| SideView {
            version,
            messages,
            faults: 0,
            failures,
            ended: messages,
            dead_letters: failures / 2,
            figures: VersionCounts {
                runs: messages + 1,
                mean_seconds: Some(0.000_04),
                p99_seconds: Some(0.002),
                mean_fuel: Some(8123),
                ..VersionCounts::default()
            },
        };
        let share = crate::dispatch::Share::from_hundredths(500).unwrap_or(crate::dispatch::Share::ALL);
        let view = RolloutView {
            plan: Plan { kind: "canary".to_owned(), share, promote_after_seconds: Some(600.0) },
            version: 8,
            digest: Digest::of(b""),
            started_at: "2026-01-01T00:00:00.000Z".to_owned(),
            started_by: "ann".to_owned(),
            note: "has had 37 of the 100 messages that it is judged by".to_owned(),
            stable: side(7, 19_000, 24),
            candidate: side(8, 1000, 3),
        };
        expect_test::expect![[r"
            canary: version 8 gets 5% of the messages as a canary; promoted by itself after 10m when nothing speaks against it
            begun by ann at 2026-01-01T00:00:00.000Z; it has had 37 of the 100 messages that it is judged by

            SINCE THEN  VERSION  MESSAGES  FAULTS  FAILED     ENDED   DEAD       RUNS    MEAN     P99      FUEL
            stable      7        19,000    0       24 (0.1%)  19,000  12 (0.1%)  19,001  40.0 us  2.00 ms  8,123
            candidate   8        1,000     0       3 (0.3%)   1,000   1 (0.1%)   1,001   40.0 us  2.00 ms  8,123
        "]]
        .assert_eq(&shown(&view));
    }
}
