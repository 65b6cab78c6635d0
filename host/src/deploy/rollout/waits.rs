//! What a canary waits for before it is promoted by itself. Pure.

use std::fmt;
use std::time::Duration;

use crate::cluster::NotYet;
use crate::telemetry::Evidence;

/// So many messages each version has to have run before a canary is promoted by itself: of a hundred, five bad ones show.
pub(super) const ENOUGH: u64 = 100;

/// A host that is waited for so much longer than the canary's own time is told of once more, as one that holds it up. A host
/// that has too much to do tries again after 320 s at the most, and each try may wait two minutes for a compiler and compile for
/// two: it has tried at least twice by then.
const LONG: Duration = Duration::from_secs(15 * 60);

/// The other hosts of a cluster, as far as a promotion waits for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others<'a> {
    /// All that are there have begun to try it; or there are none.
    Begun,
    /// These are there and have not.
    NotYet(&'a [NotYet]),
    /// It is not seen who is there.
    Unseen,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Waits {
    /// A person.
    Word,
    /// Its time.
    Time(Duration),
    /// It has had its time. Hosts that are there and have not begun to try it.
    Hosts(Vec<NotYet>),
    /// The same, and it had its time long ago.
    HostsForLong(Vec<NotYet>, Duration),
    /// It has had its time. To see which hosts are there.
    Sight,
    /// It has had its time. Messages, on the canary.
    Messages(u64),
    /// It has had its time. Messages, on the version that it is compared with.
    Comparison(u64),
}

impl Waits {
    /// Whether it has had its time, and would be promoted by now but for this.
    pub(super) const fn is_overdue(&self) -> bool {
        match self {
            Self::Word | Self::Time(_) => false,
            Self::Hosts(_) | Self::HostsForLong(..) | Self::Sight | Self::Messages(_) | Self::Comparison(_) => true,
        }
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word => write!(f, "waits for `tidegate promote` or `tidegate abort`"),
            Self::Time(left) => {
                let left = humantime::format_duration(Duration::from_secs(left.as_secs().max(1)));
                write!(f, "is promoted in {left} when nothing speaks against it")
            }
            Self::Hosts(hosts) => {
                let (names, refusals) = told(hosts);
                write!(
                    f,
                    "has had its time, and waits for {names} to begin to try it: `tidegate promote` does not \
                     wait{refusals}"
                )
            }
            Self::HostsForLong(hosts, over) => {
                let (names, refusals) = told(hosts);
                let over = humantime::format_duration(Duration::from_secs(over.as_secs() / 60 * 60));
                write!(
                    f,
                    "had its time {over} ago, and still waits for {names} to begin to try it: mend or stop what holds it \
                     up, or end it with `tidegate promote` or `tidegate abort`, which do not wait{refusals}"
                )
            }
            Self::Sight => write!(f, "has had its time, and waits to see which hosts of the cluster are there"),
            Self::Messages(0) => write!(f, "has had its time, and no message came to it: it is not promoted without"),
            Self::Messages(count) => {
                write!(f, "has had its time, and {count} of the {ENOUGH} messages that it takes to be promoted")
            }
            Self::Comparison(count) => {
                write!(f, "has had its time, and the version beside it {count} of the {ENOUGH} messages that it takes")
            }
        }
    }
}

/// The names of hosts, and what keeps them as far as they say it.
fn told(hosts: &[NotYet]) -> (String, String) {
    let names: Vec<&str> = hosts.iter().map(|one| one.host.as_str()).collect();
    let refusals = hosts.iter().filter_map(|one| Some(format!("; {}: {}", one.host, one.refusal.as_ref()?)));
    (names.join(", "), refusals.collect())
}

/// What it waits for; `None`: for nothing any more. Hosts before messages: those come by themselves.
pub(super) fn waits(
    stable: &Evidence,
    candidate: &Evidence,
    elapsed: Duration,
    promote_after: Option<Duration>,
    others: Others<'_>,
) -> Option<Waits> {
    let Some(after) = promote_after else { return Some(Waits::Word) };
    match (after.checked_sub(elapsed), others) {
        (Some(left), _) if !left.is_zero() => Some(Waits::Time(left)),
        (_, Others::NotYet(hosts)) => match elapsed.checked_sub(after).filter(|over| *over >= LONG) {
            Some(over) => Some(Waits::HostsForLong(hosts.to_vec(), over)),
            None => Some(Waits::Hosts(hosts.to_vec())),
        },
        (_, Others::Unseen) => Some(Waits::Sight),
        (_, Others::Begun) if candidate.sampled < ENOUGH => Some(Waits::Messages(candidate.sampled)),
        (_, Others::Begun) if stable.sampled < ENOUGH => Some(Waits::Comparison(stable.sampled)),
        (_, Others::Begun) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_told() {
        let (minutes, seen) =
            (|count: u64| Duration::from_secs(count * 60), |sampled| Evidence { sampled, ..Evidence::default() });
        let not_yet =
            |host: &str, refusal: Option<&str>| NotYet { host: host.to_owned(), refusal: refusal.map(str::to_owned) };
        let hosts = [not_yet("c", None), not_yet("d", None)];
        let refuses = [not_yet("c", None), not_yet("d", Some("version 2 cannot be taken since noon: too slow"))];
        let refuses = Others::NotYet(&refuses);
        let (not_yet, after) = (Others::NotYet(&hosts), Some(minutes(10)));
        let rows = [
            // Its time, how long it went on, messages of it and of the other, the other hosts; what is told.
            (None, 900, 0, 0, Others::Begun, "waits for `tidegate promote` or `tidegate abort`"),
            (None, 900, 0, 0, not_yet, "waits for `tidegate promote` or `tidegate abort`"),
            (after, 4, 0, 0, not_yet, "is promoted in 6m when nothing speaks against it"),
            (
                after,
                10,
                0,
                0,
                not_yet,
                "has had its time, and waits for c, d to begin to try it: `tidegate promote` does not wait",
            ),
            (
                after,
                24,
                100,
                100,
                refuses,
                "has had its time, and waits for c, d to begin to try it: `tidegate promote` does not wait; d: version 2 \
                 cannot be taken since noon: too slow",
            ),
            (
                after,
                25,
                100,
                100,
                refuses,
                "had its time 15m ago, and still waits for c, d to begin to try it: mend or stop what holds it up, or end it \
                 with `tidegate promote` or `tidegate abort`, which do not wait; d: version 2 cannot be taken since noon: \
                 too slow",
            ),
            (
                after,
                10,
                0,
                0,
                Others::Unseen,
                "has had its time, and waits to see which hosts of the cluster are there",
            ),
            (after, 10, 0, 0, Others::Begun, "has had its time, and no message came to it: it is not promoted without"),
            (
                after,
                10,
                37,
                0,
                Others::Begun,
                "has had its time, and 37 of the 100 messages that it takes to be promoted",
            ),
            (
                after,
                10,
                100,
                99,
                Others::Begun,
                "has had its time, and the version beside it 99 of the 100 messages that it takes",
            ),
        ];
        for (after, elapsed, tried, other, others, expected) in rows {
            let waits = waits(&seen(other), &seen(tried), minutes(elapsed), after, others);
            assert_eq!(waits.map(|waits| waits.to_string()).as_deref(), Some(expected));
        }
        for others in [not_yet, Others::Unseen] {
            let waits = waits(&seen(100), &seen(100), minutes(10), after, others);
            assert!(waits.is_some_and(|waits| waits.is_overdue()), "{others:?}");
        }
        assert_eq!(waits(&seen(100), &seen(100), minutes(10), after, Others::Begun), None);
    }
}
