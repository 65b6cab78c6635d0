//! `tidegate promote` and `tidegate abort`: how the trial of a version ends. And how a trial is shown.

use std::time::Duration;

use clap::Args;

use super::cluster::WaitArgument;
use super::exit::Ended;
use super::host::HostArguments;
use super::{client, say, table};
use crate::deploy::report::{DidView, DifferenceView, Kind, OnAllHosts, Plan, RolloutView, ShadowView, SideView};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The handler
    #[arg(value_name = "NAME")]
    handler: String,
    #[command(flatten)]
    wait: WaitArgument,
    #[command(flatten)]
    host: HostArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn promote(arguments: &Arguments) -> Ended {
    let client = client::of(&arguments.host)?;
    let promoted = client.promote(&arguments.handler)?;
    if arguments.json {
        say::json(&promoted)?;
    } else {
        let (handler, to, digest, from) = (&promoted.handler, promoted.to, &promoted.digest, promoted.from);
        say::data(&format!("{handler}@{to} sha256:{digest} runs instead of {from}"))?;
    }
    arguments.wait.all_run(&client, &arguments.handler, promoted.to)
}

pub(super) fn abort(arguments: &Arguments) -> Ended {
    let client = client::of(&arguments.host)?;
    let aborted = client.abort(&arguments.handler)?;
    if arguments.json {
        say::json(&aborted)?;
    } else {
        let (handler, version, active) = (&aborted.handler, aborted.version, aborted.active);
        say::data(&format!("{handler}@{version} is not tried any more; all messages run on {handler}@{active}"))?;
    }
    arguments.wait.all_run(&client, &arguments.handler, aborted.active)
}

/// How a version is tried, in a few words: `5% canary`.
pub(super) fn in_short(plan: &Plan) -> String {
    format!("{} {}", plan.share, plan.kind.name())
}

/// How a version is tried, in a sentence's end: `gets 5% of the messages as a canary`.
pub(super) fn in_words(plan: &Plan) -> String {
    let (share, kind) = (plan.share, plan.kind.name());
    let time = |seconds: f64| humantime::format_duration(Duration::from_secs_f64(seconds.max(0.0)));
    match plan.kind {
        Kind::Canary => {
            let after = plan.promote_after_seconds.map(time);
            let after = after.map(|after| format!("; promoted by itself after {after} when nothing speaks against it"));
            format!("gets {share} of the messages as a {kind}{}", after.unwrap_or_default())
        }
        Kind::Shadow => {
            let after = plan.ends_after_seconds.map(time).map(|after| format!("; ends by itself after {after}"));
            format!("sees copies of {share} of the messages as a {kind}, with no effect{}", after.unwrap_or_default())
        }
    }
}

/// Both versions side by side.
pub(super) fn shown(rollout: &RolloutView) -> String {
    let (version, by, since) = (rollout.version, &rollout.started_by, &rollout.started_at);
    let mut text = format!("{}: version {version} {}\n", rollout.plan.kind.name(), in_words(&rollout.plan));
    text += &format!("begun by {by} at {since}; it {}\n\n", table::harmless(&rollout.note));
    if let Some(shadow) = &rollout.shadow {
        return text + &compared(rollout, shadow);
    }
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
    text += &table::rendered(&rows);
    if let Some(all) = &rollout.cluster {
        text += &format!("\n{}", on_all_hosts(all, rollout));
    }
    text
}

/// What both versions came to on each host of a cluster, and on all of them together.
fn on_all_hosts(all: &OnAllHosts, rollout: &RolloutView) -> String {
    let mut rows = table::table(&["HOST", "VERSION", "MESSAGES", "FAULTS", "FAILED", "ENDED", "DEAD"]);
    let versions = [rollout.stable.version, rollout.candidate.version];
    let hosts = all.hosts.iter().map(|host| (host.host.as_str(), [&host.stable, &host.candidate]));
    for (host, sides) in std::iter::once(("all", [&all.stable, &all.candidate])).chain(hosts) {
        for (version, tally) in versions.iter().zip(sides) {
            rows.add_row(vec![
                host.to_owned(),
                version.to_string(),
                table::number(tally.messages),
                part(tally.faults, tally.messages),
                part(tally.failures, tally.messages),
                table::number(tally.ended),
                part(tally.dead_letters, tally.ended),
            ]);
        }
    }
    table::rendered(&rows)
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

/// What a shadow did beside the active version.
fn compared(rollout: &RolloutView, shadow: &ShadowView) -> String {
    let mut rows = table::table(&["COMPARED", "VERSION", "MESSAGES", "FAULTS", "FAILED", "MEAN", "P99", "FUEL"]);
    for (name, side) in [("stable", &rollout.stable), ("shadow", &rollout.candidate)] {
        let [_, mean, p99, fuel] = super::handlers::figures(Some(&side.figures));
        rows.add_row(vec![
            name.to_owned(),
            side.version.to_string(),
            table::number(side.messages),
            part(side.faults, side.messages),
            part(side.failures, side.messages),
            mean,
            p99,
            fuel,
        ]);
    }
    let counts = &shadow.counts;
    let mut sums =
        table::table(&["SAME", "DIFFERENT", "BY FAULT", "BY OUTCOME", "BY OUTPUTS", "DROPPED", "UNFINISHED"]);
    sums.add_row(vec![
        part(counts.same, shadow.compared),
        part(counts.different, shadow.compared),
        table::number(counts.by_fault),
        table::number(counts.by_outcome),
        table::number(counts.by_outputs),
        table::number(counts.dropped),
        table::number(counts.unfinished),
    ]);
    let mut text = format!("{}\n{}", table::rendered(&rows), table::rendered(&sums));
    if let Some(ends_at) = &shadow.ends_at {
        text += &format!("it ends by itself at {ends_at}\n");
    }
    if !shadow.differences.is_empty() {
        let withheld = if shadow.payload_withheld { "; headers and bodies need the role `operate`" } else { "" };
        text += &format!("\nthe last differences, the latest first{withheld}:\n");
    }
    text + &shadow.differences.iter().map(difference).collect::<String>()
}

fn difference(one: &DifferenceView) -> String {
    let cut = |text: &str| table::cut(text, 120);
    let (at, id, subject, told) = (&one.at, cut(&one.message_id), cut(&one.subject), cut(&one.told));
    let mut text = format!("{at} {subject} {id}: {told}\n");
    if let Some(body) = &one.body_start {
        text += &format!("  message, {}: {}\n", table::size(one.body_size), cut(body));
    }
    text + &did("stable", &one.stable) + &did("shadow", &one.candidate)
}

fn did(name: &str, did: &DidView) -> String {
    let detail = did.detail.as_ref().map(|detail| format!(": {}", table::cut(detail, 120))).unwrap_or_default();
    let took = table::duration(Duration::from_micros(did.run_us));
    let mut text = format!("  {name}: {} in {took}, {} fuel{detail}\n", did.outcome, table::number(did.fuel_used));
    for output in &did.outputs {
        let (subject, size) = (table::cut(&output.subject, 120), table::size(output.size));
        let digest = output.digest.get(..12).map(|digest| format!(", sha256:{digest}")).unwrap_or_default();
        text += &format!("    -> {subject} on {}, {size}{digest}", output.broker);
        for (name, value) in &output.headers {
            text += &format!(" {}={}", table::cut(name, 40), table::cut(value, 40));
        }
        let body = output.start.as_ref().map(|start| format!(": {}", table::cut(start, 120)));
        text += &body.unwrap_or_default();
        text.push('\n');
    }
    let more = did.outputs_count.saturating_sub(did.outputs.len() as u64);
    if more > 0 {
        text += &format!("    and {} more\n", table::number(more));
    }
    text
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
    use crate::deploy::report::{HostSides, Tally, WouldSendView};
    use crate::registry::Digest;
    use crate::telemetry::{ShadowCounts, VersionCounts};

    fn side(version: u64, messages: u64, failures: u64) -> SideView {
        SideView {
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
        }
    }

    #[test]
    fn both_versions_stand_side_by_side() {
        let share = crate::dispatch::Share::from_hundredths(500).unwrap_or(crate::dispatch::Share::ALL);
        let view = RolloutView {
            plan: Plan { kind: Kind::Canary, share, promote_after_seconds: Some(600.0), ends_after_seconds: None },
            version: 8,
            digest: Digest::of(b""),
            started_at: "2026-01-01T00:00:00.000Z".to_owned(),
            started_by: "ann".to_owned(),
            note: "has had 37 of the 100 messages that it is judged by".to_owned(),
            stable: side(7, 19_000, 24),
            candidate: side(8, 1000, 3),
            shadow: None,
            cluster: None,
        };
        expect_test::expect![[r"
            canary: version 8 gets 5% of the messages as a canary; promoted by itself after 10m when nothing speaks against it
            begun by ann at 2026-01-01T00:00:00.000Z; it has had 37 of the 100 messages that it is judged by

            SINCE THEN  VERSION  MESSAGES  FAULTS  FAILED     ENDED   DEAD       RUNS    MEAN     P99      FUEL
            stable      7        19,000    0       24 (0.1%)  19,000  12 (0.1%)  19,001  40.0 us  2.00 ms  8,123
            candidate   8        1,000     0       3 (0.3%)   1,000   1 (0.1%)   1,001   40.0 us  2.00 ms  8,123
        "]]
        .assert_eq(&shown(&view));
        let tally = |messages, failures| Tally { messages, failures, ended: messages, ..Tally::default() };
        let sides = |host: &str, stable, candidate| HostSides { host: host.to_owned(), stable, candidate };
        let view = RolloutView {
            cluster: Some(OnAllHosts {
                stable: tally(39_000, 48),
                candidate: tally(2000, 6),
                hosts: vec![
                    sides("a", tally(19_000, 24), tally(1000, 3)),
                    sides("b", tally(20_000, 24), tally(1000, 3)),
                ],
            }),
            ..view
        };
        let text = shown(&view);
        let (_, hosts) = text.split_once("HOST").unwrap_or_default();
        expect_test::expect![[r"
              VERSION  MESSAGES  FAULTS  FAILED     ENDED   DEAD
            all   7        39,000    0       48 (0.1%)  39,000  0
            all   8        2,000     0       6 (0.3%)   2,000   0
            a     7        19,000    0       24 (0.1%)  19,000  0
            a     8        1,000     0       3 (0.3%)   1,000   0
            b     7        20,000    0       24 (0.1%)  20,000  0
            b     8        1,000     0       3 (0.3%)   1,000   0
        "]]
        .assert_eq(hosts);
    }

    fn shadow() -> RolloutView {
        let output = |digest: &str, body: &str| WouldSendView {
            broker: "queue".to_owned(),
            subject: "out.done".to_owned(),
            size: body.len() as u64,
            digest: digest.to_owned(),
            headers: vec![("Kind".to_owned(), "a\u{1b}[31m".to_owned())],
            start: Some(body.to_owned()),
        };
        let did = |outcome: &str, detail: Option<&str>, outputs: Vec<WouldSendView>| DidView {
            outcome: outcome.to_owned(),
            detail: detail.map(str::to_owned),
            fuel_used: 8123,
            run_us: 40,
            outputs_count: outputs.len() as u64 * 2,
            outputs,
        };
        let difference = |told: &str, stable, candidate| DifferenceView {
            at: "2026-01-01T00:00:01.000Z".to_owned(),
            subscription: "orders".to_owned(),
            message_id: "m-7".to_owned(),
            subject: "in.x".to_owned(),
            by: "outputs".to_owned(),
            told: told.to_owned(),
            stable,
            candidate,
            body_size: 9,
            body_start: Some("the\nbody!".to_owned()),
        };
        let (one, other) = (output("0123456789abcdef", "120 cents"), output("fedcba9876543210", "121 cents"));
        let sent = |output| did("completed", None, vec![output]);
        let counts =
            ShadowCounts { same: 998, different: 2, by_outcome: 1, by_outputs: 1, dropped: 7, ..Default::default() };
        RolloutView {
            plan: Plan {
                kind: Kind::Shadow,
                share: crate::dispatch::Share::ALL,
                promote_after_seconds: None,
                ends_after_seconds: Some(600.0),
            },
            version: 8,
            digest: Digest::of(b""),
            started_at: "2026-01-01T00:00:00.000Z".to_owned(),
            started_by: "ann".to_owned(),
            note: "compared 1000 messages, 2 differ; ends in 8m".to_owned(),
            stable: side(7, 1000, 24),
            candidate: side(8, 1000, 25),
            shadow: Some(ShadowView {
                ends_at: Some("2026-01-01T00:10:00.000Z".to_owned()),
                compared: counts.compared(),
                counts,
                payload_withheld: false,
                differences: vec![
                    difference("output 1 would have had another body", sent(one.clone()), sent(other)),
                    difference("otherwise", sent(one), did("handler-rejected", Some("no: too late"), Vec::new())),
                ],
            }),
            cluster: None,
        }
    }

    #[test]
    fn a_shadow_is_shown_with_what_it_would_have_done_and_payloads_only_to_those_who_may() {
        let mut view = shadow();
        expect_test::expect![[r#"
            shadow: version 8 sees copies of 100% of the messages as a shadow, with no effect; ends by itself after 10m
            begun by ann at 2026-01-01T00:00:00.000Z; it compared 1000 messages, 2 differ; ends in 8m

            COMPARED  VERSION  MESSAGES  FAULTS  FAILED     MEAN     P99      FUEL
            stable    7        1,000     0       24 (2.4%)  40.0 us  2.00 ms  8,123
            shadow    8        1,000     0       25 (2.5%)  40.0 us  2.00 ms  8,123

            SAME         DIFFERENT  BY FAULT  BY OUTCOME  BY OUTPUTS  DROPPED  UNFINISHED
            998 (99.8%)  2 (0.2%)   0         1           1           7        0
            it ends by itself at 2026-01-01T00:10:00.000Z

            the last differences, the latest first:
            2026-01-01T00:00:01.000Z in.x m-7: output 1 would have had another body
              message, 9 B: the body!
              stable: completed in 40.0 us, 8,123 fuel
                -> out.done on queue, 9 B, sha256:0123456789ab Kind=a [31m: 120 cents
                and 1 more
              shadow: completed in 40.0 us, 8,123 fuel
                -> out.done on queue, 9 B, sha256:fedcba987654 Kind=a [31m: 121 cents
                and 1 more
            2026-01-01T00:00:01.000Z in.x m-7: otherwise
              message, 9 B: the body!
              stable: completed in 40.0 us, 8,123 fuel
                -> out.done on queue, 9 B, sha256:0123456789ab Kind=a [31m: 120 cents
                and 1 more
              shadow: handler-rejected in 40.0 us, 8,123 fuel: no: too late
        "#]]
        .assert_eq(&shown(&view));
        view.shadow.iter_mut().for_each(ShadowView::withhold_payload);
        assert!(view.shadow.as_ref().is_some_and(|shadow| shadow.differences.len() == 2));
        let json = serde_json::to_string(&view).unwrap_or_default();
        for secret in ["body!", "120 cents", "Kind", "31m", "0123456789abcdef"] {
            assert!(!json.contains(secret) && !shown(&view).contains(secret), "{secret}: {json}");
        }
        expect_test::expect![[r#"
             differences, the latest first; headers and bodies need the role `operate`:
            2026-01-01T00:00:01.000Z in.x m-7: output 1 would have had another body
              stable: completed in 40.0 us, 8,123 fuel
                -> out.done on queue, 9 B
                and 1 more
              shadow: completed in 40.0 us, 8,123 fuel
                -> out.done on queue, 9 B
                and 1 more
            2026-01-01T00:00:01.000Z in.x m-7: otherwise
              stable: completed in 40.0 us, 8,123 fuel
                -> out.done on queue, 9 B
                and 1 more
              shadow: handler-rejected in 40.0 us, 8,123 fuel: no: too late
        "#]]
        .assert_eq(shown(&view).split_once("the last").map_or("", |(_, rest)| rest));
    }
}
