//! `tidegate status`: which subscriptions take messages, which do not and why, and whether the host is ready.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::exit::{Ended, Exit};
use super::host::HostArguments;
use super::{client, pause, say, subscriptions, table};
use crate::admin::wire::{BrokerView, PauseKind, PauseView, Readiness, Status, SubscriptionView};
use crate::telemetry::SubscriptionCounts;

/// Between the two looks that a rate is made of.
const BETWEEN: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    host: HostArguments,
    /// Print JSON: `ready` as of /ready, and `status` as of /v1/status
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Whole {
    ready: Readiness,
    status: Status,
}

pub(super) fn status(arguments: &Arguments) -> Ended {
    let client = client::of(&arguments.host)?;
    let whole = Whole { ready: client.readiness()?, status: client.status()? };
    if arguments.json {
        say::json(&whole)?;
        return Ok(Exit::Done);
    }
    let begun = Instant::now();
    std::thread::sleep(BETWEEN);
    let later = client.status()?;
    // Whoever is limited to some handlers does not see them.
    let kept = client.kept().map(|kept| kept.subscriptions).unwrap_or_default();
    say::data(&(shown(&whole, &later, begun.elapsed()) + &subscriptions::held_for_nobody(&kept)))?;
    Ok(Exit::Done)
}

/// What was found, and the same a moment later for the rates.
fn shown(before: &Whole, now: &Status, apart: Duration) -> String {
    let Readiness { ready, troubles, refused, cluster, paused: _, stalled: _ } = &before.ready;
    let mut text = format!("host {}: {}\n", now.host, if *ready { "ready" } else { "not ready" });
    for trouble in troubles.iter().chain(refused) {
        text += &format!("  {}: {}\n", trouble.what, table::harmless(&trouble.why));
    }
    if let Some(why) = cluster {
        text += &format!("  cluster: {}\n", table::harmless(why));
    }
    for (name, stall) in now.subscriptions.iter().filter_map(|one| Some((&one.name, one.stall.as_ref()?))) {
        text += &format!("  subscription {name} is stalled: {}\n", table::harmless(&stall.why));
    }
    for (broker, warning) in now.brokers.iter().flat_map(|one| one.warnings.iter().map(move |told| (&one.name, told))) {
        text += &format!("  broker {broker}: {}\n", table::harmless(warning));
    }
    text += &dead_letters(&now.brokers);
    if now.subscriptions.is_empty() {
        return text + "the host's configuration has no subscriptions\n";
    }
    let mut rows = table::table(&[
        "SUBSCRIPTION",
        "HANDLER",
        "STATE",
        "BY",
        "UNTIL",
        "IN FLIGHT",
        "READY",
        "PENDING",
        "DEAD-LETTERED",
        "RATE",
    ]);
    for one in &now.subscriptions {
        let earlier = before.status.subscriptions.iter().find(|earlier| earlier.name == one.name);
        let (by, until) = one.pause.as_ref().map_or_else(Default::default, |pause| {
            (pause::by_whom(pause), pause.until.clone().unwrap_or_else(|| until(pause).to_owned()))
        });
        rows.add_row(vec![
            one.name.clone(),
            one.handler.clone(),
            state(one).to_owned(),
            by,
            until,
            table::number(one.counts.in_flight),
            table::number(one.counts.ready),
            table::number(one.counts.pending),
            table::number(one.counts.dead_lettered),
            earlier.map_or_else(String::new, |earlier| rate(&earlier.counts, &one.counts, apart)),
        ]);
    }
    text + "\n" + &table::rendered(&rows)
}

/// What waits in the dead-letter queues, whenever it died; the table counts from the host's start on.
fn dead_letters(brokers: &[BrokerView]) -> String {
    let waits = |broker: &BrokerView| {
        let count = broker.dead_letters.map_or_else(|| "not known".to_owned(), table::number);
        format!("{} {count}", broker.name)
    };
    let all: Vec<String> = brokers.iter().map(waits).collect();
    if all.is_empty() {
        String::new()
    } else {
        format!(
            "dead letters waiting now, by broker: {} (DEAD-LETTERED counts since the host started)\n",
            all.join(", ")
        )
    }
}

/// What a subscription does, in a word.
fn state(one: &SubscriptionView) -> &'static str {
    match (&one.pause, &one.trouble) {
        (Some(pause), _) => match pause.kind {
            PauseKind::Operator => "paused",
            PauseKind::Circuit if pause.until.is_none() => "probes",
            PauseKind::Circuit => "circuit open",
        },
        (None, Some(_)) => "waits",
        (None, None) if one.stall.is_some() => "stalled",
        (None, None) => "runs",
    }
}

/// Until when, where no time is known.
const fn until(pause: &PauseView) -> &'static str {
    match pause.kind {
        PauseKind::Operator => "resumed",
        PauseKind::Circuit => "a probe goes well",
    }
}

/// Messages that were done with a second.
fn rate(before: &SubscriptionCounts, now: &SubscriptionCounts, apart: Duration) -> String {
    let done = |counts: &SubscriptionCounts| counts.completed + counts.skipped + counts.dead_lettered;
    let done = done(now).saturating_sub(done(before));
    // A host that was started anew in between counts from nothing.
    let rate = done as f64 / apart.as_secs_f64().max(0.001);
    if rate >= 10.0 || done == 0 { format!("{rate:.0}/s") } else { format!("{rate:.1}/s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::wire::{StallView, Trouble};
    use crate::pause::Reach;

    fn view(name: &str, done: u64) -> SubscriptionView {
        let counts = SubscriptionCounts { completed: done, in_flight: 3, ready: 1200, ..SubscriptionCounts::default() };
        SubscriptionView {
            name: name.to_owned(),
            broker: "main".to_owned(),
            handler: "invoice".to_owned(),
            subjects: Vec::new(),
            digest: None,
            trouble: None,
            pause: None,
            stall: None,
            recent_run_seconds: None,
            counts,
        }
    }

    fn status(subscriptions: Vec<SubscriptionView>) -> Status {
        Status {
            host: "web-1".to_owned(),
            version: String::new(),
            uptime_seconds: 1.0,
            draining: false,
            brokers: Vec::new(),
            subscriptions,
        }
    }

    /// After a restart the count of a subscription is 0, and what it gave up on before waits all the same.
    #[test]
    fn what_waits_in_the_dead_letter_queues_is_told_beside_what_is_counted() {
        let broker = |name: &str, dead_letters| BrokerView {
            name: name.to_owned(),
            kind: "embedded".to_owned(),
            connected: true,
            trouble: None,
            dead_letters,
            warnings: Vec::new(),
        };
        let told = dead_letters(&[broker("main", Some(1)), broker("far", None)]);
        assert_eq!(
            told,
            "dead letters waiting now, by broker: main 1, far not known (DEAD-LETTERED counts since the host started)\n"
        );
        assert_eq!(dead_letters(&[]), "");
    }

    #[test]
    fn who_paused_what_until_when_and_why_is_seen() {
        let pause = PauseView {
            kind: PauseKind::Operator,
            hosts: Reach::This,
            by: "ops".to_owned(),
            why: Some("the database moves".to_owned()),
            since: "2026-11-29T06:00:00.000Z".to_owned(),
            until: Some("2026-11-29T06:10:00.000Z".to_owned()),
        };
        let paused = SubscriptionView { pause: Some(pause.clone()), ..view("orders", 5) };
        let for_good = SubscriptionView {
            pause: Some(PauseView { until: None, hosts: Reach::All, ..pause.clone() }),
            ..view("refunds", 5)
        };
        let circuit = |until: Option<&str>| PauseView {
            kind: PauseKind::Circuit,
            by: "host".to_owned(),
            why: Some("20 of 22 messages failed".to_owned()),
            until: until.map(str::to_owned),
            ..pause.clone()
        };
        let open = SubscriptionView { pause: Some(circuit(Some("2026-11-29T06:00:05.000Z"))), ..view("rates", 5) };
        let probes = SubscriptionView { pause: Some(circuit(None)), ..view("sales", 5) };
        let away = SubscriptionView { trouble: Some("the broker is away".to_owned()), ..view("mail", 0) };
        let why = "3 messages held, as many as are handled at once, and none has come to its end for 1m".to_owned();
        let stall = StallView { since: "2026-11-29T06:00:00.000Z".to_owned(), why };
        let stalled = SubscriptionView { stall: Some(stall), ..view("stuck", 0) };
        let trouble = Trouble { what: "subscription mail".to_owned(), why: "the broker is away".to_owned() };
        let why = "version 8 cannot be taken since 2026-11-29T05:00:00.000Z: it was stopped by the clock".to_owned();
        let refused = Trouble { what: "handler invoice".to_owned(), why };
        let ready = Readiness {
            ready: false,
            troubles: vec![trouble],
            paused: vec!["orders".to_owned()],
            stalled: vec!["stuck".to_owned()],
            refused: vec![refused],
            cluster: Some("the server does not permit it".to_owned()),
        };
        let before = Whole { ready, status: status(vec![view("fast", 100), view("orders", 5), view("slow", 1)]) };
        let now = status(vec![view("fast", 350), away, paused, open, for_good, probes, view("slow", 4), stalled]);
        let text = shown(&before, &now, Duration::from_secs(2));
        expect_test::expect![[r#"
            host web-1: not ready
              subscription mail: the broker is away
              handler invoice: version 8 cannot be taken since 2026-11-29T05:00:00.000Z: it was stopped by the clock
              cluster: the server does not permit it
              subscription stuck is stalled: 3 messages held, as many as are handled at once, and none has come to its end for 1m

            SUBSCRIPTION  HANDLER  STATE         BY                                   UNTIL                     IN FLIGHT  READY  PENDING  DEAD-LETTERED  RATE
            fast          invoice  runs                                                                         3          1,200  0        0              125/s
            mail          invoice  waits                                                                        3          1,200  0        0
            orders        invoice  paused        ops: the database moves              2026-11-29T06:10:00.000Z  3          1,200  0        0              0/s
            rates         invoice  circuit open  host: 20 of 22 messages failed       2026-11-29T06:00:05.000Z  3          1,200  0        0
            refunds       invoice  paused        ops (all hosts): the database moves  resumed                   3          1,200  0        0
            sales         invoice  probes        host: 20 of 22 messages failed       a probe goes well         3          1,200  0        0
            slow          invoice  runs                                                                         3          1,200  0        0              1.5/s
            stuck         invoice  stalled                                                                      3          1,200  0        0
        "#]]
        .assert_eq(&text);
    }
}
