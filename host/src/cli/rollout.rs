//! `tidegate promote` and `tidegate abort`: how the trial of a version ends. And how a trial is shown.

use std::time::Duration;

use clap::Args;

use super::client::Client;
use super::cluster::WaitArgument;
use super::exit::{Ended, Exit, Failure};
use super::host::HostArguments;
use super::{client, say, table};
use crate::deploy::report::{DidView, DifferenceView, Kind, OnAllHosts, Plan, RolloutView, ShadowView, SideView};
use crate::telemetry::ShadowCounts;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The handler
    #[arg(value_name = "NAME")]
    handler: String,
    /// The version that is meant: nothing is done when another one is tried by now
    #[arg(long = "tried", value_name = "VERSION")]
    version: Option<u64>,
    #[command(flatten)]
    wait: WaitArgument,
    #[command(flatten)]
    host: HostArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// The version that is meant; where none is named, the one that is tried at the moment. `None`: none is, which the host says.
    fn looked_at(&self, client: &Client) -> Result<Option<u64>, Failure> {
        if self.version.is_some() {
            return Ok(self.version);
        }
        let view = client.handler(&self.handler)?;
        let on_all_hosts = view.to_run.and_then(|to_run| to_run.tries);
        Ok(view.rollout.map(|rollout| rollout.version).or(on_all_hosts))
    }
}

pub(super) fn promote(arguments: &Arguments) -> Ended {
    let client = client::of(&arguments.host)?;
    let promoted = client.promote(&arguments.handler, arguments.looked_at(&client)?)?;
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
    let aborted = client.abort(&arguments.handler, arguments.looked_at(&client)?)?;
    if arguments.json {
        say::json(&aborted)?;
    } else {
        let (handler, version, active) = (&aborted.handler, aborted.version, aborted.active);
        say::data(&format!("{handler}@{version} is not tried any more; all messages run on {handler}@{active}"))?;
    }
    let ended = arguments.wait.all_run(&client, &arguments.handler, aborted.active)?;
    let Some(why) = &aborted.unrecorded else { return Ok(ended) };
    let why = table::harmless(why);
    say::talk(&format!(
        "that is not recorded yet, and is tried again: a host that is killed before tries it again ({why})"
    ));
    Ok(Exit::Partly)
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

/// Both versions side by side; `asked`: the host of a cluster that says so.
pub(super) fn shown(rollout: &RolloutView, asked: Option<&str>) -> String {
    let (version, by, since) = (rollout.version, &rollout.started_by, &rollout.started_at);
    let mut text = format!("{}: version {version} {}\n", rollout.plan.kind.name(), in_words(&rollout.plan));
    text += &format!("begun by {by} at {since}; it {}\n\n", table::harmless(&rollout.note));
    if let Some(shadow) = &rollout.shadow {
        return text + &compared(rollout, shadow, asked);
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
        text += &format!("\n{}\n{}", who_tries(all), on_all_hosts(all, rollout));
    }
    text
}

/// How many of the hosts that are there try it, and which do not.
fn who_tries(all: &OnAllHosts) -> String {
    let (trying, there) = (all.trying.len(), all.trying.len() + all.not_yet.len());
    let not_yet = if all.not_yet.is_empty() { String::new() } else { format!("; not yet: {}", all.not_yet.join(", ")) };
    match there {
        1 => "the only host that is there tries it".to_owned(),
        _ => format!("{trying} of {there} hosts that are there try it{not_yet}"),
    }
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
fn compared(rollout: &RolloutView, shadow: &ShadowView, asked: Option<&str>) -> String {
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
    let mut text = table::rendered(&rows);
    match &rollout.cluster {
        Some(all) => text += &format!("\n{}\n{}", who_tries(all), copies_on_all_hosts(all)),
        None => {
            let mut sums = table::table(&FATES);
            sums.add_row(fates(&shadow.counts));
            text += &format!("\n{}", table::rendered(&sums));
        }
    }
    if let Some(ends_at) = &shadow.ends_at {
        text += &format!("it ends by itself at {ends_at}\n");
    }
    if let Some(all) = &rollout.cluster {
        text += &differences_elsewhere(all, asked);
    }
    if !shadow.differences.is_empty() {
        let withheld = if shadow.payload_withheld { "; headers and bodies need the role `operate`" } else { "" };
        let here = asked.map(|host| format!(" on {host}")).unwrap_or_default();
        text += &format!("\nthe last differences{here}, the latest first{withheld}:\n");
    }
    text + &shadow.differences.iter().map(difference).collect::<String>()
}

const FATES: [&str; 7] = ["SAME", "DIFFERENT", "BY FAULT", "BY OUTCOME", "BY OUTPUTS", "DROPPED", "UNFINISHED"];

fn fates(counts: &ShadowCounts) -> Vec<String> {
    vec![
        part(counts.same, counts.compared()),
        part(counts.different, counts.compared()),
        table::number(counts.by_fault),
        table::number(counts.by_outcome),
        table::number(counts.by_outputs),
        table::number(counts.dropped),
        table::number(counts.unfinished),
    ]
}

/// What became of the copies on each host of a cluster, and on all of them together.
fn copies_on_all_hosts(all: &OnAllHosts) -> String {
    let mut rows = table::table(&[&["HOST"][..], &FATES[..]].concat());
    let hosts = all.hosts.iter().map(|host| (host.host.as_str(), &host.shadow));
    for (host, counts) in std::iter::once(("all", &all.shadow)).chain(hosts) {
        let fates = counts.as_ref().map(fates).unwrap_or_default();
        rows.add_row(std::iter::once(host.to_owned()).chain(fates).collect::<Vec<_>>());
    }
    table::rendered(&rows)
}

/// The last differences on the other hosts of a cluster, the latest first.
fn differences_elsewhere(all: &OnAllHosts, asked: Option<&str>) -> String {
    let others = all.hosts.iter().filter(|host| Some(host.host.as_str()) != asked);
    let mut found: Vec<_> = others.flat_map(|host| host.differences.iter().map(|one| (&host.host, one))).collect();
    if found.is_empty() {
        return String::new();
    }
    found.sort_by(|(_, one), (_, other)| other.at.cmp(&one.at));
    let mut text = "\nthe last differences on other hosts, which show what the messages and outputs were:\n".to_owned();
    for (host, one) in found {
        let cut = |text: &str| table::cut(text, 120);
        let (at, id, subject, told) = (cut(&one.at), cut(&one.message_id), cut(&one.subject), cut(&one.told));
        text += &format!("{}: {at} {subject} {id}: {told}\n", cut(host));
    }
    text
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
    use crate::cluster::report::DifferenceLine;
    use crate::deploy::report::{HostSides, Tally, WouldSendView};
    use crate::registry::Digest;
    use crate::telemetry::VersionCounts;

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
        .assert_eq(&shown(&view, None));
        let tally = |messages, failures| Tally { messages, failures, ended: messages, ..Tally::default() };
        let sides = |host: &str, stable, candidate| HostSides {
            host: host.to_owned(),
            stable,
            candidate,
            shadow: None,
            differences: Vec::new(),
        };
        let view = RolloutView {
            cluster: Some(OnAllHosts {
                stable: tally(39_000, 48),
                candidate: tally(2000, 6),
                shadow: None,
                trying: vec!["a".to_owned(), "b".to_owned()],
                not_yet: vec!["c".to_owned()],
                hosts: vec![
                    sides("a", tally(19_000, 24), tally(1000, 3)),
                    sides("b", tally(20_000, 24), tally(1000, 3)),
                ],
            }),
            ..view
        };
        let text = shown(&view, Some("a"));
        let (_, hosts) = text.split_once("\n\n2 of 3").unwrap_or_default();
        expect_test::expect![[r"
             hosts that are there try it; not yet: c
            HOST  VERSION  MESSAGES  FAULTS  FAILED     ENDED   DEAD
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
        .assert_eq(&shown(&view, None));
        view.shadow.iter_mut().for_each(ShadowView::withhold_payload);
        assert!(view.shadow.as_ref().is_some_and(|shadow| shadow.differences.len() == 2));
        let json = serde_json::to_string(&view).unwrap_or_default();
        for secret in ["body!", "120 cents", "Kind", "31m", "0123456789abcdef"] {
            assert!(!json.contains(secret) && !shown(&view, None).contains(secret), "{secret}: {json}");
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
        .assert_eq(shown(&view, None).split_once("the last").map_or("", |(_, rest)| rest));
    }

    #[test]
    fn a_shadow_in_a_cluster_is_shown_with_each_host_and_what_differs_there() {
        let mut view = shadow();
        let counts =
            |same, different| ShadowCounts { same, different, by_outputs: different, ..ShadowCounts::default() };
        let line = |at: &str, id: &str| DifferenceLine {
            at: format!("2026-01-01T00:00:0{at}.000Z"),
            subscription: "orders".to_owned(),
            message_id: id.to_owned(),
            subject: "in.x".to_owned(),
            by: "outputs".to_owned(),
            told: "output 1 would have had\nanother body".to_owned(),
        };
        let host = |host: &str, counts, differences| HostSides {
            host: host.to_owned(),
            stable: Tally::default(),
            candidate: Tally::default(),
            shadow: Some(counts),
            differences,
        };
        view.cluster = Some(OnAllHosts {
            stable: Tally::default(),
            candidate: Tally::default(),
            shadow: Some(counts(1_500, 5)),
            trying: vec!["a".to_owned(), "b".to_owned(), "c".to_owned()],
            not_yet: Vec::new(),
            hosts: vec![
                host("a", counts(998, 2), vec![line("1", "m-7")]),
                host("b", counts(500, 2), vec![line("4", "m-9"), line("2", "m-8")]),
                host("c", counts(2, 1), vec![line("3", "m-3")]),
            ],
        });
        let text = shown(&view, Some("a"));
        let (_, hosts) = text.split_once("\n\n3 of 3").unwrap_or_default();
        let (hosts, _) = hosts.split_once("\n  message").unwrap_or_default();
        expect_test::expect![[r#"
             hosts that are there try it
            HOST  SAME           DIFFERENT  BY FAULT  BY OUTCOME  BY OUTPUTS  DROPPED  UNFINISHED
            all   1,500 (99.7%)  5 (0.3%)   0         0           5           0        0
            a     998 (99.8%)    2 (0.2%)   0         0           2           0        0
            b     500 (99.6%)    2 (0.4%)   0         0           2           0        0
            c     2 (66.7%)      1 (33.3%)  0         0           1           0        0
            it ends by itself at 2026-01-01T00:10:00.000Z

            the last differences on other hosts, which show what the messages and outputs were:
            b: 2026-01-01T00:00:04.000Z in.x m-9: output 1 would have had another body
            c: 2026-01-01T00:00:03.000Z in.x m-3: output 1 would have had another body
            b: 2026-01-01T00:00:02.000Z in.x m-8: output 1 would have had another body

            the last differences on a, the latest first:
            2026-01-01T00:00:01.000Z in.x m-7: output 1 would have had another body"#]]
        .assert_eq(hosts);
    }
}
