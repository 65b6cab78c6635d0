//! When a shadow is over, and what is said of it. Pure.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use crate::telemetry::ShadowCounts;

/// What is left of a shadow's time; `None`: it has none that ends. Nothing is left when it is over.
pub(super) fn left(ends_at: Option<SystemTime>, now: SystemTime) -> Option<Duration> {
    ends_at.map(|ends_at| ends_at.duration_since(now).unwrap_or_default())
}

/// What it came to, in a few words: `compared 1000 messages, 5 differ (2 by fault, 3 by outputs), 12 not run`.
pub(super) fn summed_up(counts: &ShadowCounts) -> String {
    let ShadowCounts { same: _, different, by_fault, by_outcome, by_outputs, dropped, unfinished } = *counts;
    let compared = counts.compared();
    let plural = if compared == 1 { "" } else { "s" };
    let mut text = format!("compared {compared} message{plural}, ");
    let by: Vec<String> = [("fault", by_fault), ("outcome", by_outcome), ("outputs", by_outputs)]
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{count} by {what}"))
        .collect();
    // Writing into a string does not fail.
    let _ = match different {
        0 => write!(text, "none differs"),
        1 => write!(text, "1 differs ({})", by.join(", ")),
        _ => write!(text, "{different} differ ({})", by.join(", ")),
    };
    if dropped + unfinished > 0 {
        let _ = write!(text, ", {} not", dropped + unfinished);
    }
    text
}

/// What it waits for, after that. `hosts`: on so many of a cluster.
pub(super) fn note(counts: &ShadowCounts, hosts: u32, left: Option<Duration>) -> String {
    let waits = match left {
        None => "waits for `tidegate promote` or `tidegate abort`".to_owned(),
        Some(Duration::ZERO) => "has had its time, and sees nothing more".to_owned(),
        Some(left) => format!("ends in {}", humantime::format_duration(Duration::from_secs(left.as_secs().max(1)))),
    };
    let on = if hosts > 1 { format!(", on {hosts} hosts") } else { String::new() };
    format!("{}{on}; {waits}", summed_up(counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_when_nothing_is_left_of_its_time() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let rows = [
            (None, at(10), None),
            (Some(at(10)), at(3), Some(7)),
            (Some(at(10)), at(10), Some(0)),
            // The host was away when it ended.
            (Some(at(10)), at(1000), Some(0)),
        ];
        for (ends_at, now, expected) in rows {
            assert_eq!(left(ends_at, now), expected.map(Duration::from_secs), "{ends_at:?} {now:?}");
        }
    }

    #[test]
    fn what_it_came_to_is_told_on_one_line() {
        let none = ShadowCounts::default();
        let some =
            ShadowCounts { same: 995, different: 5, by_fault: 2, by_outputs: 3, dropped: 10, unfinished: 2, ..none };
        let one = ShadowCounts { different: 1, by_outcome: 1, ..none };
        let rows = [
            (
                note(&none, 1, None),
                "compared 0 messages, none differs; waits for `tidegate promote` or `tidegate abort`",
            ),
            (
                note(&one, 1, Some(Duration::ZERO)),
                "compared 1 message, 1 differs (1 by outcome); has had its time, and sees nothing more",
            ),
            (
                note(&one, 3, Some(Duration::from_millis(1))),
                "compared 1 message, 1 differs (1 by outcome), on 3 hosts; ends in 1s",
            ),
            (
                note(&some, 1, Some(Duration::from_millis(600_900))),
                "compared 1000 messages, 5 differ (2 by fault, 3 by outputs), 12 not; ends in 10m",
            ),
        ];
        for (told, expected) in rows {
            assert_eq!(told, expected);
        }
    }
}
