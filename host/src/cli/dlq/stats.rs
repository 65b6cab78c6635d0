//! `tidegate dlq stats`: what died of what, the most frequent first.

use clap::{Args, ValueEnum};

use super::filter::Filter;
use super::{Place, reach, spark};
use crate::admin::wire::{DeadLetterGroup, DeadLetterStats};
use crate::cli::client::{Client, Wanted};
use crate::cli::exit::{Ended, Exit};
use crate::cli::say;
use crate::cli::table::{cut, number, rendered, table};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What they are counted by
    #[arg(long, value_enum, default_value_t = By::Fingerprint)]
    by: By,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    place: Place,
    /// Show so many groups
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    top: usize,
    /// Count all; on JetStream the newest 200,000 are otherwise, until the host has read the others
    #[arg(long)]
    whole: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// The same error of the same handler, whatever the version and whatever ids stand in it
    Fingerprint,
    /// The handler
    Handler,
    /// The version that ran last
    Version,
    /// The reason code
    Reason,
    /// The subscription that gave them up
    Subscription,
    /// How long ago they died
    Age,
}

impl By {
    const fn word(self) -> &'static str {
        match self {
            Self::Fingerprint => "fingerprint",
            Self::Handler => "handler",
            Self::Version => "version",
            Self::Reason => "reason",
            Self::Subscription => "subscription",
            Self::Age => "age",
        }
    }
}

pub(super) fn stats(arguments: &Arguments) -> Ended {
    let reached = reach(&arguments.place)?;
    let wanted = arguments.filter.wanted(&reached.client, arguments.place.broker.as_deref())?;
    let wanted = wanted.and("by", Some(arguments.by.word())).and("top", Some(arguments.top.to_string()));
    let wanted = wanted.and("whole", arguments.whole.then_some("true"));
    let stats = reached.client.dead_letter_stats(&wanted)?;
    if arguments.place.json {
        say::json(&stats)?;
    } else if stats.matched == 0 {
        say::talk("no dead letters");
    } else {
        say::data(&shown(&stats, arguments.by))?;
        if let Some(deaths) = &stats.deaths {
            say::data(&spark::line(deaths))?;
        }
    }
    if stats.matched == 0 {
        arguments.filter.tell_what_is_unknown(&reached.client);
    }
    if stats.more {
        say::talk(&left_out(&stats));
    }
    if let Some(ahead) = ahead(&stats) {
        say::talk(&ahead);
    }
    Ok(Exit::Done)
}

/// That not all were counted.
fn left_out(stats: &DeadLetterStats) -> String {
    let (examined, all) = (number(stats.examined), number(stats.examined + stats.left_out));
    format!(
        "the newest {examined} of {all} were counted; --whole counts all; --since, --subscription or --reason have fewer to count"
    )
}

/// That some are passed over, for their time is yet to come.
fn ahead(stats: &DeadLetterStats) -> Option<String> {
    let (those, died) = match stats.ahead {
        0 => return None,
        1 => ("1 more is".to_owned(), "it died"),
        more => (format!("{} more are", number(more)), "they died"),
    };
    Some(format!(
        "{those} not counted, as {died} at a time that is yet to come: the clock of a host is ahead, see `tidegate dlq ls`"
    ))
}

/// What an action would do, and nothing is done.
pub(super) fn what_matches(client: &Client, wanted: &Wanted, sends_back: bool, filter: &Filter, json: bool) -> Ended {
    let word = if sends_back { "would be sent back" } else { "would be removed" };
    let stats = client.dead_letter_stats(wanted)?;
    if stats.matched == 0 {
        filter.tell_what_is_unknown(client);
    }
    if json {
        say::json(&stats)?;
    } else {
        let (at_least, count) = (if stats.more { "at least " } else { "" }, number(stats.matched));
        let groups = if stats.matched == 0 { String::new() } else { shown(&stats, By::Fingerprint) };
        say::data(&format!("{groups}{at_least}{count} {word}\n"))?;
        say::talk(&format!("those that died before {0}: --until {0} means these alone", stats.until));
        if let Some(ahead) = ahead(&stats) {
            say::talk(&ahead);
        }
        if let Some(same) = stats.same_version.filter(|same| *same > 0 && sends_back) {
            say::talk(&format!("{} of them failed in a version that still runs, and may fail again", number(same)));
        }
    }
    Ok(Exit::Done)
}

fn shown(stats: &DeadLetterStats, by: By) -> String {
    let mut rows = match by {
        By::Fingerprint => table(&["COUNT", "FINGERPRINT", "HANDLER", "REASON", "LAST", "NEWEST", "ERROR"]),
        By::Version => table(&["COUNT", "VERSION", "DIGEST", "FIRST", "LAST", "NEWEST"]),
        By::Handler | By::Reason | By::Subscription => table(&["COUNT", heading(by), "FIRST", "LAST", "NEWEST"]),
        By::Age => table(&["COUNT", "AGE", "NEWEST"]),
    };
    for group in &stats.groups {
        rows.add_row(row(group, by));
    }
    let mut text = rendered(&rows);
    if stats.others > 0 {
        text += &format!(
            "{} more in {}{} other group{}; --top shows more\n",
            number(stats.others),
            if stats.other_groups_at_least { "at least " } else { "" },
            number(stats.other_groups),
            if stats.other_groups == 1 { "" } else { "s" }
        );
    }
    text
}

const fn heading(by: By) -> &'static str {
    match by {
        By::Fingerprint => "FINGERPRINT",
        By::Handler => "HANDLER",
        By::Version => "VERSION",
        By::Reason => "REASON",
        By::Subscription => "SUBSCRIPTION",
        By::Age => "AGE",
    }
}

fn row(group: &DeadLetterGroup, by: By) -> Vec<String> {
    let newest = group.newest.as_ref();
    let of = |text: Option<&String>| text.map(|text| cut(text, 48)).unwrap_or_default();
    let key = if group.key.is_empty() { "-".to_owned() } else { cut(&group.key, 48) };
    let id = newest.map(|newest| newest.id.clone()).unwrap_or_default();
    let (count, first, last) = (number(group.letters), group.first_dead_at.clone(), group.last_dead_at.clone());
    match by {
        By::Fingerprint => vec![
            count,
            key,
            of(newest.map(|newest| &newest.handler)),
            of(newest.map(|newest| &newest.reason)),
            last,
            id,
            of(newest.map(|newest| &newest.error)),
        ],
        By::Version => {
            let version = newest.map(|newest| match newest.version {
                Some(version) => format!("{}@{version}", newest.handler),
                None => newest.handler.clone(),
            });
            vec![count, version.unwrap_or_default(), key, first, last, id]
        }
        By::Handler | By::Reason | By::Subscription => vec![count, key, first, last, id],
        By::Age => vec![count, key, id],
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::admin::wire::DeadLetterSample;

    fn stats(key: &str) -> DeadLetterStats {
        let sample = DeadLetterSample {
            id: "01KB".to_owned(),
            broker: "main".to_owned(),
            subscription: "orders".to_owned(),
            handler: "invoice".to_owned(),
            version: Some(7),
            digest: "ab".repeat(32),
            reason: "handler-rejected".to_owned(),
            error: "order 17\nhas no total".to_owned(),
        };
        let group = DeadLetterGroup {
            key: key.to_owned(),
            letters: 1204,
            first_dead_at: "2026-11-28T22:14:03.120Z".to_owned(),
            last_dead_at: "2026-11-29T03:01:44.871Z".to_owned(),
            newest: Some(sample),
        };
        let gone = DeadLetterGroup { letters: 2, key: String::new(), newest: None, ..group.clone() };
        let groups = vec![group, gone];
        DeadLetterStats {
            groups,
            others: 3,
            other_groups: 2,
            other_groups_at_least: false,
            matched: 1209,
            examined: 1209,
            more: false,
            left_out: 0,
            same_version: None,
            until: "2026-11-29T03:10:00.000000Z".to_owned(),
            ahead: 0,
            deaths: None,
        }
    }

    #[test]
    fn errors_are_shown_the_most_frequent_first() {
        expect![[r#"
            COUNT  FINGERPRINT       HANDLER  REASON            LAST                      NEWEST  ERROR
            1,204  62324982debe2072  invoice  handler-rejected  2026-11-29T03:01:44.871Z  01KB    order 17 has no total
            2      -                                            2026-11-29T03:01:44.871Z
            3 more in 2 other groups; --top shows more
        "#]]
        .assert_eq(&shown(&stats("62324982debe2072"), By::Fingerprint));
    }

    #[test]
    fn a_count_that_is_not_of_all_says_of_how_many_it_is() {
        let stats = DeadLetterStats { examined: 200_000, more: true, left_out: 800_000, ..stats("k") };
        let told = "the newest 200,000 of 1,000,000 were counted; --whole counts all; --since, --subscription or --reason have fewer to count";
        assert_eq!(left_out(&stats), told);
    }

    #[test]
    fn what_is_not_known_exactly_or_not_counted_is_said() {
        let folded = DeadLetterStats { other_groups_at_least: true, ..stats("k") };
        let told = shown(&folded, By::Fingerprint);
        assert!(told.ends_with("3 more in at least 2 other groups; --top shows more\n"), "{told}");
        assert_eq!(ahead(&folded), None);
        let told = ahead(&DeadLetterStats { ahead: 1, ..stats("k") }).unwrap_or_default();
        assert!(told.starts_with("1 more is not counted, as it died at a time that is yet to come"), "{told}");
        let told = ahead(&DeadLetterStats { ahead: 1200, ..stats("k") }).unwrap_or_default();
        assert!(told.starts_with("1,200 more are not counted, as they died"), "{told}");
    }

    #[test]
    fn versions_have_their_numbers_and_ages_only_their_counts() {
        expect![[r#"
            COUNT  VERSION    DIGEST        FIRST                     LAST                      NEWEST
            1,204  invoice@7  abababababab  2026-11-28T22:14:03.120Z  2026-11-29T03:01:44.871Z  01KB
            2                 -             2026-11-28T22:14:03.120Z  2026-11-29T03:01:44.871Z
            3 more in 2 other groups; --top shows more
        "#]]
        .assert_eq(&shown(&stats("abababababab"), By::Version));
        expect![[r#"
            COUNT  AGE       NEWEST
            1,204  under 1h  01KB
            2      -
            3 more in 2 other groups; --top shows more
        "#]]
        .assert_eq(&shown(&stats("under 1h"), By::Age));
    }
}
