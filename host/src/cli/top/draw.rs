//! What is seen of a host, line by line. Pure.

use std::time::Duration;

use super::figures::{By, Figures, Look, Row, State};
use crate::admin::wire::{BrokerView, Readiness};
use crate::cli::table::{self, harmless, number};

/// Lines about troubles at the most: the figures are to be seen too.
const TROUBLES: usize = 6;

/// What there is to be seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    /// The look before; rates need two.
    pub(super) before: Option<&'a Look>,
    pub(super) now: Option<&'a Look>,
    /// Why the host could not be looked at last.
    pub(super) trouble: Option<&'a str>,
    pub(super) by: By,
}

/// A line, and how it is marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) mark: Mark,
}

/// How a line is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Plain,
    Head,
    Warn,
    Bad,
    Faint,
}

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// All lines; those that fit, where a size is given.
pub(super) fn frame(seen: &Seen<'_>, size: Option<Size>) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(trouble) = seen.trouble {
        lines.push(line(Mark::Bad, format!("it could not be looked at: {}", one_line(trouble))));
    }
    let Some(now) = seen.now else {
        if lines.is_empty() {
            lines.push(line(Mark::Faint, "looking…".to_owned()));
        }
        return fitting(lines, Vec::new(), size);
    };
    let figures = Figures::between(seen.before, now, seen.by);
    lines.extend(head(now, &figures.total));
    lines.push(line(Mark::Plain, String::new()));
    let rows = rows(&figures, seen.by);
    fitting(lines, rows, size)
}

fn line(mark: Mark, text: String) -> Line {
    Line { text, mark }
}

fn one_line(text: &str) -> String {
    harmless(text).replace(['\n', '\t'], " ")
}

/// The host, all of it together, its brokers, and what is wrong.
fn head(now: &Look, total: &Row) -> Vec<Line> {
    let Readiness { ready, troubles, refused, cluster, paused: _, stalled: _ } = &now.ready;
    let status = &now.status;
    let up = Duration::from_secs(Duration::try_from_secs_f64(status.uptime_seconds).unwrap_or_default().as_secs());
    let word = match (status.draining, ready) {
        (true, _) => "draining",
        (false, true) => "ready",
        (false, false) => "not ready",
    };
    let mark = if *ready { Mark::Plain } else { Mark::Bad };
    let first =
        format!("host {}  {word}  up {}  version {}", status.host, humantime::format_duration(up), status.version);
    let together = format!(
        "done {}  retried {}  dead {}  waiting {}{}  in flight {} of {}  fuel {}",
        rate(total.done_a_second),
        rate(total.retried_a_second),
        rate(total.dead_lettered_a_second),
        number(total.ready),
        if total.ready > 0 { format!(", the oldest {}", age(total.oldest_age_seconds)) } else { String::new() },
        number(total.in_flight),
        number(total.concurrency),
        total.fuel_a_second.map_or("-".to_owned(), |fuel| format!("{}/s", short(fuel))),
    );
    let mut lines = vec![line(mark, first), line(Mark::Plain, together)];
    lines.extend(status.brokers.iter().map(broker));
    let stalls = status.subscriptions.iter().filter_map(|one| Some((&one.name, one.stall.as_ref()?)));
    let stalls = stalls.map(|(name, stall)| format!("subscription {name} is stalled: {}", one_line(&stall.why)));
    let troubles =
        troubles.iter().chain(refused).map(|trouble| format!("{}: {}", trouble.what, one_line(&trouble.why)));
    let cluster = cluster.iter().map(|why| format!("cluster: {}", one_line(why)));
    let all: Vec<String> = stalls.chain(troubles).chain(cluster).collect();
    let more = all.len().saturating_sub(TROUBLES);
    lines.extend(all.into_iter().take(TROUBLES).map(|text| line(Mark::Bad, text)));
    if more > 0 {
        lines.push(line(Mark::Bad, format!("and {more} more: tidegate status")));
    }
    lines
}

fn broker(broker: &BrokerView) -> Line {
    let BrokerView { name, kind, connected, trouble, dead_letters, warnings: _ } = broker;
    let standing = match trouble {
        Some(why) => format!("away: {}", one_line(why)),
        None => "connected".to_owned(),
    };
    let dead = match dead_letters {
        None => "an unknown number of dead letters".to_owned(),
        Some(1) => "1 dead letter".to_owned(),
        Some(count) => format!("{} dead letters", number(*count)),
    };
    let mark = if *connected { Mark::Plain } else { Mark::Bad };
    line(mark, format!("broker {name} ({kind})  {standing}  {dead}"))
}

/// The table: its head, then a line for each.
fn rows(figures: &Figures, by: By) -> Vec<Line> {
    let names: &[&str] = match by {
        By::Subscription => &["SUBSCRIPTION", "HANDLER"],
        By::Handler => &["HANDLER"],
    };
    const FIGURES: [&str; 11] =
        ["STATE", "DONE", "RETRIED", "DEAD", "WAITING", "OLDEST", "IN FLIGHT", "P50", "P99", "FUEL/RUN", "FUEL/S"];
    let mut table = table::table(&[names, FIGURES.as_slice()].concat());
    for row in &figures.rows {
        let mut cells = vec![row.name.clone()];
        cells.extend(row.handler.clone());
        cells.extend([
            row.state.name().to_owned(),
            rate(row.done_a_second),
            rate(row.retried_a_second),
            rate(row.dead_lettered_a_second),
            number(row.ready),
            if row.ready > 0 || row.in_flight > 0 { age(row.oldest_age_seconds) } else { "-".to_owned() },
            format!("{} of {}", number(row.in_flight), number(row.concurrency)),
            time(row.p50_seconds),
            time(row.p99_seconds),
            row.fuel_a_run.map_or("-".to_owned(), short),
            row.fuel_a_second.map_or("-".to_owned(), short),
        ]);
        table.add_row(cells);
    }
    let text = table::rendered(&table);
    let marks = std::iter::once(Mark::Head).chain(figures.rows.iter().map(|row| mark(row.state)));
    text.lines().zip(marks).map(|(text, mark)| line(mark, text.to_owned())).collect()
}

const fn mark(state: State) -> Mark {
    match state {
        State::Stalled | State::Waits => Mark::Bad,
        State::CircuitOpen | State::Probes | State::Paused => Mark::Warn,
        State::Runs => Mark::Plain,
    }
}

/// As much as fits, with a last line that says what does not, and which keys there are.
fn fitting(mut lines: Vec<Line>, rows: Vec<Line>, size: Option<Size>) -> Vec<Line> {
    let Some(Size { rows: height, columns }) = size else {
        lines.extend(rows);
        return lines;
    };
    let room = height.saturating_sub(1);
    lines.truncate(room);
    let free = room - lines.len();
    let hidden = rows.len().saturating_sub(free);
    lines.extend(rows.into_iter().take(free));
    let below = if hidden > 0 { format!("  {hidden} more below") } else { String::new() };
    lines.push(line(Mark::Faint, format!("q ends  h turns to handlers and back{below}")));
    for line in &mut lines {
        line.text = line.text.chars().take(columns).collect();
    }
    lines
}

fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate == 0.0 || rate >= 10.0 => format!("{}/s", number(whole(rate))),
        Some(rate) => format!("{rate:.1}/s"),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is rounded, and never below zero")]
fn whole(rate: f64) -> u64 {
    rate.round() as u64
}

/// Three digits and a letter.
fn short(value: f64) -> String {
    for (unit, letter) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value >= unit {
            let digits = value / unit;
            return if digits >= 100.0 { format!("{digits:.0}{letter}") } else { format!("{digits:.1}{letter}") };
        }
    }
    format!("{value:.0}")
}

fn time(seconds: Option<f64>) -> String {
    seconds.map_or("-".to_owned(), |seconds| table::duration(Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}

/// An age, to the second.
fn age(seconds: f64) -> String {
    let age = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    humantime::format_duration(Duration::from_secs(age.as_secs())).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::time::Instant;

    use serde_json::{Value, json};

    use super::*;

    /// A look; of each subscription: name, handler, what is special of it, and how many runs there were.
    fn look(at: Instant, subscriptions: &[(&str, &str, Value, u64)]) -> Look {
        let all = subscriptions.iter().map(|(name, handler, more, runs)| {
            let counts = json!({
                "consumed": runs, "completed": runs, "skipped": 0, "retried": runs / 100, "returned": 0, "dead_lettered": runs / 1000,
                "abandoned": 0, "reasons": {}, "runs": runs, "run_seconds": null, "fuel": runs * 9_000,
                "memory_peak_bytes": 0, "outputs": 0, "duplicates": 0, "in_flight": 3, "in_flight_bytes": 100,
                "concurrency": 16, "ready": runs * 10, "pending": 3, "oldest_age_seconds": 75.4,
            });
            let mut one = json!({ "name": name, "broker": "main", "handler": handler, "counts": counts });
            one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            one
        });
        let status = json!({
            "host": "web-1", "version": "0.1.0", "uptime_seconds": 3725.9, "draining": false,
            "brokers": [{ "name": "main", "type": "embedded", "connected": true, "dead_letters": 12 }],
            "subscriptions": all.collect::<Vec<_>>(),
        });
        let ready = Readiness { ready: true, ..Readiness::default() };
        Look { at, ready, status: serde_json::from_value(status).unwrap() }
    }

    fn looks() -> (Look, Look) {
        let start = Instant::now();
        let fast = json!({ "recent_run_seconds": { "p50": 0.0011, "p99": 0.25 } });
        let stalled =
            json!({ "stall": { "since": "2026-11-29T06:00:00.000Z", "why": "16 messages held\n\u{1b}[31m" } });
        let pause = json!({ "pause": { "kind": "operator", "by": "ops", "since": "2026-11-29T06:00:00.000Z" } });
        let before = [
            ("mail", "mail", json!({}), 0),
            ("orders", "invoice", fast.clone(), 1000),
            ("refunds", "invoice", json!({}), 0),
            ("slow", "slow", stalled.clone(), 5),
            ("tax", "tax", pause.clone(), 0),
        ];
        let now = [
            ("mail", "mail", json!({}), 0),
            ("orders", "invoice", fast, 5000),
            ("refunds", "invoice", json!({}), 3),
            ("slow", "slow", stalled, 5),
            ("tax", "tax", pause, 0),
        ];
        (look(start, &before), look(start + Duration::from_secs(2), &now))
    }

    fn text(lines: &[Line]) -> String {
        lines.iter().map(|line| format!("{:5} {}\n", format!("{:?}", line.mark), line.text)).collect()
    }

    #[test]
    fn what_is_wrong_stands_first_then_what_does_most() {
        let (before, now) = looks();
        let seen = Seen { before: Some(&before), now: Some(&now), trouble: None, by: By::Subscription };
        expect_test::expect![[r#"
            Plain host web-1  ready  up 1h 2m 5s  version 0.1.0
            Plain done 2,004/s  retried 20/s  dead 2.0/s  waiting 50,080, the oldest 1m 15s  in flight 15 of 80  fuel 18.0M/s
            Plain broker main (embedded)  connected  12 dead letters
            Bad   subscription slow is stalled: 16 messages held \u{1b}[31m
            Plain 
            Head  SUBSCRIPTION  HANDLER  STATE    DONE     RETRIED  DEAD   WAITING  OLDEST  IN FLIGHT  P50      P99        FUEL/RUN  FUEL/S
            Bad   slow          slow     stalled  0/s      0/s      0/s    50       1m 15s  3 of 16    -        -          -         0
            Warn  tax           tax      paused   0/s      0/s      0/s    0        1m 15s  3 of 16    -        -          -         0
            Plain orders        invoice  runs     2,002/s  20/s     2.0/s  50,000   1m 15s  3 of 16    1.10 ms  250.00 ms  9.0k      18.0M
            Plain refunds       invoice  runs     1.5/s    0/s      0/s    30       1m 15s  3 of 16    -        -          9.0k      13.5k
            Plain mail          mail     runs     0/s      0/s      0/s    0        1m 15s  3 of 16    -        -          -         0
        "#]].assert_eq(&text(&frame(&seen, None)));
        let handlers = Seen { by: By::Handler, ..seen };
        expect_test::expect![[r#"
            Plain host web-1  ready  up 1h 2m 5s  version 0.1.0
            Plain done 2,004/s  retried 20/s  dead 2.0/s  waiting 50,080, the oldest 1m 15s  in flight 15 of 80  fuel 18.0M/s
            Plain broker main (embedded)  connected  12 dead letters
            Bad   subscription slow is stalled: 16 messages held \u{1b}[31m
            Plain 
            Head  HANDLER  STATE    DONE     RETRIED  DEAD   WAITING  OLDEST  IN FLIGHT  P50      P99        FUEL/RUN  FUEL/S
            Bad   slow     stalled  0/s      0/s      0/s    50       1m 15s  3 of 16    -        -          -         0
            Warn  tax      paused   0/s      0/s      0/s    0        1m 15s  3 of 16    -        -          -         0
            Plain invoice  runs     2,004/s  20/s     2.0/s  50,030   1m 15s  6 of 32    1.10 ms  250.00 ms  9.0k      18.0M
            Plain mail     runs     0/s      0/s      0/s    0        1m 15s  3 of 16    -        -          -         0
        "#]].assert_eq(&text(&frame(&handlers, None)));
    }

    #[test]
    fn one_dead_letter_is_one() {
        let told = |dead_letters| {
            let broker = json!({ "name": "main", "type": "embedded", "connected": true, "dead_letters": dead_letters });
            super::broker(&serde_json::from_value(broker).unwrap()).text
        };
        assert_eq!(told(json!(1)), "broker main (embedded)  connected  1 dead letter");
        assert_eq!(told(json!(0)), "broker main (embedded)  connected  0 dead letters");
        assert_eq!(told(json!(null)), "broker main (embedded)  connected  an unknown number of dead letters");
    }

    #[test]
    fn what_does_not_fit_is_told_and_a_host_that_went_is_too() {
        let (before, now) = looks();
        let seen =
            Seen { before: Some(&before), now: Some(&now), trouble: Some("it went\naway"), by: By::Subscription };
        let size = Size { rows: 10, columns: 40 };
        let lines = frame(&seen, Some(size));
        assert!(
            lines.len() <= size.rows && lines.iter().all(|line| line.text.chars().count() <= size.columns),
            "{lines:?}"
        );
        assert_eq!(lines.first().unwrap().text, "it could not be looked at: it went away");
        assert!(lines.last().unwrap().text.starts_with("q ends"), "{lines:?}");
        for rows in 0..12 {
            assert!(frame(&seen, Some(Size { rows, columns: 200 })).len() <= rows.max(1));
        }
        let nothing = Seen { before: None, now: None, trouble: None, by: By::Subscription };
        assert_eq!(frame(&nothing, Some(size)).len(), 2);
    }

    #[test]
    fn the_first_look_has_no_rates_and_a_host_that_began_anew_none_below_zero() {
        let (before, now) = looks();
        let rows = |before: Option<&Look>, now: &Look| Figures::between(before, now, By::Subscription).rows;
        assert!(rows(None, &now).iter().all(|row| row.done_a_second.is_none() && row.fuel_a_run.is_none()));
        let backwards = Look { at: now.at + Duration::from_secs(1), ..before };
        assert!(rows(Some(&now), &backwards).iter().all(|row| row.done_a_second == Some(0.0)));
    }
}
