//! What is known of all hosts and of what is to run, as the buckets showed it last.
//!
//! Invariant: whether a host is there is told by the server's clock alone; no host's clock has to be right.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::record::Desired;
use super::report::{ClusterView, HostView, OnHost, Presence, Standing, ToRun};
use super::wanted::Wanted;
use super::word::Word;
use super::{Counts, Member};
use crate::broker::jetstream::{Changed, HOST_REMEMBERED};
use crate::registry::Digest;

/// Between two words of a host that has nothing new to say.
pub(crate) const SAYS_EVERY: Duration = Duration::from_secs(5);
/// The same while a version is tried: a version that fails everywhere is noticed within this and a look.
pub(crate) const COUNTS_EVERY: Duration = Duration::from_secs(1);
/// Between two words whatever happens: a hundred hosts say a few hundred words a second at the most.
pub(crate) const SAYS_AT_MOST_EVERY: Duration = Duration::from_millis(100);
/// A host that missed three words is gone.
const GONE_AFTER: Duration = Duration::from_secs(16);

/// How much of a reason is told: a host's word has those of all its handlers, and a message of NATS has a megabyte.
const WHY_CHARS: usize = 500;

/// The latest of all.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    words: BTreeMap<String, (Word, SystemTime)>,
    /// The server's clock when it was seen last, and when that was on ours.
    clock: Option<(SystemTime, Instant)>,
    /// What is to run, by handler.
    wanted: BTreeMap<String, Wanted>,
    /// Why what is to run does not run here, by handler.
    troubles: BTreeMap<String, Trouble>,
    /// Why the cluster cannot be seen.
    away: Option<String>,
    /// When another host was seen under our name last, by the server's clock.
    doubled: Option<SystemTime>,
}

/// Why what is to run does not run here.
#[derive(Debug)]
struct Trouble {
    why: String,
    /// When that was so first, by the server's clock.
    since: SystemTime,
    /// When it is tried again; `None`: that is not known, or it is not.
    tries_again: Option<SystemTime>,
}

/// A host that is there, and has not begun to try a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotYet {
    pub(crate) host: String,
    /// What keeps it from that, as it says itself.
    pub(crate) refusal: Option<String>,
}

/// Who takes part in a rollout, of the hosts that are there and have the handler; by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// Those that try the version.
    pub(crate) trying: Vec<String>,
    /// Those that have not begun to.
    pub(crate) not_yet: Vec<NotYet>,
    /// Whether the others are seen at all: a host that hears its own last words hears all that was said before them.
    pub(crate) is_seen: bool,
}

impl Hosts {
    /// What is to run of a handler is this now: it was just read or changed, and stands at a revision.
    pub(crate) fn wanted(&self, handler: &str, desired: Option<&Desired>, revision: u64) {
        self.lock().want(handler, desired, revision);
    }

    /// The same, as a watch showed it: it may lag behind what this host has changed itself.
    pub(crate) fn shown(&self, handler: &str, desired: Option<&Desired>, revision: u64) {
        let mut state = self.lock();
        if state.wanted.get(handler).is_none_or(|known| known.revision <= revision) {
            state.want(handler, desired, revision);
        }
    }

    /// A watch begins, of a bucket that may have been made anew: its revisions then count from the start.
    pub(crate) fn shown_anew(&self) {
        self.lock().wanted.values_mut().for_each(|known| known.revision = 0);
    }

    /// What is to run of a handler, and who said so; `None`: it is not known, or nothing.
    pub(crate) fn to_run(&self, handler: &str) -> Option<ToRun> {
        self.lock().wanted.get(handler).map(Wanted::to_run)
    }

    /// What is to run of a handler does not run here, and why; `None`: it does, or is being taken.
    pub(crate) fn trouble(&self, handler: &str, why: Option<String>) {
        let mut state = self.lock();
        let Some(why) = why else {
            state.troubles.remove(handler);
            return;
        };
        let now = state.now().unwrap_or_else(SystemTime::now);
        let since = state.troubles.get(handler).map_or(now, |before| before.since);
        let why = why.chars().take(WHY_CHARS).collect();
        state.troubles.insert(handler.to_owned(), Trouble { why, since, tries_again: None });
    }

    /// What does not run here is tried again after so long; `None`: not by itself.
    pub(crate) fn tries_again(&self, handler: &str, after: Option<Duration>) {
        let mut state = self.lock();
        let at = after.and_then(|after| state.now().unwrap_or_else(SystemTime::now).checked_add(after));
        if let Some(trouble) = state.troubles.get_mut(handler) {
            trouble.tries_again = at;
        }
    }

    /// The cluster cannot be seen, and why; `None`: it can. Whether that is new.
    pub(crate) fn away(&self, why: Option<String>) -> bool {
        let mut state = self.lock();
        let is_new = state.away.is_some() != why.is_some();
        state.away = why;
        is_new
    }

    /// A host said something, or its key is gone.
    pub(crate) fn heard(&self, me: &Member, changed: &Changed) {
        let mut state = self.lock();
        if state.clock.is_none_or(|(at, _)| changed.at >= at) {
            state.clock = Some((changed.at, Instant::now()));
        }
        let word = changed.value.as_ref().and_then(|value| serde_json::from_slice::<Word>(value).ok());
        let Some(word) = word else {
            state.words.remove(&changed.key);
            return;
        };
        if changed.key == me.host {
            // The last word of an earlier life is no other host: that one says more.
            let other = word.life != me.life && !word.stopped;
            let was = state.words.get(&me.host).is_some_and(|(word, _)| word.life == me.life);
            if other && was && state.doubled.replace(changed.at).is_none() {
                tracing::error!(
                    host = me.host,
                    "another host is called the same in the cluster, as when a data directory was copied: give it another \
                     name (`host` in `[cluster]`), or remove `cluster-host` from its data directory while it is stopped"
                );
            }
        }
        state.words.insert(changed.key.clone(), (word, changed.at));
    }

    /// How a handler of this host stands to what is to run. `runs` is the version's number and module; `tries` is the
    /// version that is tried beside it.
    pub(crate) fn standing(&self, handler: &str, runs: Option<(u64, Digest)>, tries: Option<u64>) -> OnHost {
        let state = self.lock();
        let wanted = state.wanted.get(handler);
        let runs_it = wanted.is_some_and(|wanted| {
            runs.as_ref().is_some_and(|(number, digest)| {
                *number == wanted.number && wanted.digest.as_ref().is_none_or(|wanted| wanted == digest)
            })
        });
        let is_wanted = runs_it && wanted.is_some_and(|wanted| wanted.tries == tries);
        let told = state.troubles.get(handler);
        let standing = match (wanted, is_wanted, &told) {
            (Some(_), true, _) => Standing::Current,
            (_, _, Some(_)) => Standing::Refused,
            (Some(_), false, None) => Standing::Taking,
            (None, _, None) => Standing::Waiting,
        };
        // What is told where it runs is no reason why it does not.
        let (refused, beside) = if standing == Standing::Current { (None, told) } else { (told, None) };
        let (why, trouble) = (refused.map(|told| told.why.clone()), beside.map(|told| told.why.clone()));
        let since = refused.map(|told| spelled(told.since));
        let tries_again = refused.and_then(|told| told.tries_again).map(spelled);
        let (version, digest) = runs.unzip();
        let wants = wanted.filter(|_| !is_wanted);
        let wants = wants.map(|wanted| wanted.tries.filter(|_| runs_it).unwrap_or(wanted.number));
        OnHost { version, digest, tries, standing, wants, why, since, tries_again, trouble }
    }

    /// What the two versions of a rollout came to on the other hosts, as far as they have said it; also on those that said
    /// it and are gone. By the hosts' names.
    pub(crate) fn counts(&self, me: &Member, handler: &str, version: u64, beside: u64) -> BTreeMap<String, Counts> {
        let state = self.lock();
        let others = state.words.iter().filter(|(name, _)| **name != me.host);
        let counts = others.filter_map(|(name, (word, _))| Some((name.clone(), word.counts.get(handler)?.clone())));
        counts.filter(|(_, counts)| counts.are_of(version, beside)).collect()
    }

    /// Who takes part in the rollout of a version that this host tries, as far as the others have said it.
    pub(crate) fn part(&self, me: &Member, handler: &str, version: u64) -> Part {
        let state = self.lock();
        let now = state.now();
        let mut part = Part { is_seen: state.hears(me), ..Part::default() };
        for (name, (word, at)) in &state.words {
            let is_there = presence(word.stopped, silent_for(now, *at)) == Presence::Here;
            // A host whose configuration does not have the handler has no part in it.
            let Some(on) = word.handlers.get(handler).filter(|_| is_there && *name != me.host) else { continue };
            match on.tries == Some(version) {
                true => part.trying.push(name.clone()),
                false => part.not_yet.push(NotYet { host: name.clone(), refusal: on.refusal() }),
            }
        }
        part.trying.push(me.host.clone());
        part.trying.sort();
        part
    }

    /// Whether a host hears its own last words: then it hears all that was said before them.
    pub(crate) fn hears(&self, me: &Member) -> bool {
        self.lock().hears(me)
    }

    /// The server's clock; `None`: it was not seen yet.
    pub(crate) fn now(&self) -> Option<SystemTime> {
        self.lock().now()
    }

    /// All that is known, as it is shown.
    pub(crate) fn view(&self, me: &Member) -> ClusterView {
        let state = self.lock();
        let now = state.now();
        let mut hosts: Vec<HostView> = state
            .words
            .iter()
            .filter(|(_, (_, at))| silent_for(now, *at) < HOST_REMEMBERED)
            .map(|(name, (word, at))| HostView {
                name: name.clone(),
                address: word.address.clone(),
                presence: presence(word.stopped, silent_for(now, *at)),
                last_word: spelled(*at),
                handlers: word.handlers.clone(),
                paused: word.paused.clone(),
            })
            .collect();
        hosts.sort_by(|one, other| one.name.cmp(&other.name));
        let doubled = || format!("another host is called `{}` too: give it another name", me.host);
        // One that was given another name is not heard under ours any more.
        let is_doubled = state.doubled.is_some_and(|at| silent_for(now, at) <= GONE_AFTER);
        let trouble = state.away.clone().or_else(|| is_doubled.then(doubled));
        ClusterView { name: me.cluster.clone(), host: me.host.clone(), trouble, hosts }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Changed in steps that cannot panic: it is whole even if a holder died.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn hears(&self, me: &Member) -> bool {
        self.words.get(&me.host).is_some_and(|(word, at)| {
            word.life == me.life && presence(word.stopped, silent_for(self.now(), *at)) == Presence::Here
        })
    }

    fn want(&mut self, handler: &str, desired: Option<&Desired>, revision: u64) {
        let is_other = match desired.map(|desired| Wanted::of(desired, revision)) {
            Some(wanted) => {
                let before = self.wanted.insert(handler.to_owned(), wanted.clone());
                before.is_some_and(|before| !before.is_same(&wanted))
            }
            None => {
                self.wanted.remove(handler);
                true
            }
        };
        if is_other {
            self.troubles.remove(handler);
        }
    }

    fn now(&self) -> Option<SystemTime> {
        self.clock.map(|(at, seen)| at + seen.elapsed())
    }
}

fn spelled(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at.max(SystemTime::UNIX_EPOCH)).to_string()
}

fn silent_for(now: Option<SystemTime>, last_word: SystemTime) -> Duration {
    now.and_then(|now| now.duration_since(last_word).ok()).unwrap_or_default()
}

/// Whether a host is there that has said nothing for so long.
fn presence(stopped: bool, silent: Duration) -> Presence {
    match (stopped, silent > GONE_AFTER) {
        (true, _) => Presence::Stopped,
        (false, true) => Presence::Gone,
        (false, false) => Presence::Here,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
    use super::super::record::tests::{deployed, new};
    use super::super::record::{Changed, What};
    use super::*;
    use crate::broker::jetstream as bucket;
    use crate::dispatch::Share;
    use crate::registry::RolloutPlan;
    use crate::telemetry::Evidence;

    fn me(host: &str, life: &str) -> Member {
        Member { cluster: "c".into(), host: host.into(), life: life.into(), address: "127.0.0.1:1".into() }
    }

    fn said(by: &Member, at: u64, stopped: bool) -> bucket::Changed {
        let word = Word { stopped, ..Word::of(by, BTreeMap::new(), BTreeMap::new()) };
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
        bucket::Changed { key: by.host.clone(), value: Some(word.to_json().into()), at, revision: 1 }
    }

    #[test]
    fn who_is_there_is_told_by_the_servers_clock() {
        let (hosts, one) = (Hosts::default(), me("one", "1"));
        // All of them long ago by our clock: what counts is how far they are apart.
        hosts.heard(&one, &said(&me("gone", "3"), 1_000, false));
        hosts.heard(&one, &said(&me("stopped", "4"), 1_000, true));
        hosts.heard(&one, &said(&me("two", "2"), 1_010, false));
        hosts.heard(&one, &said(&one, 1_020, false));
        hosts.heard(&one, &said(&me("gone", "3"), 1_001, false));
        let shown: Vec<_> =
            hosts.view(&one).hosts.into_iter().map(|host| format!("{} {}", host.name, host.presence.name())).collect();
        assert_eq!(shown, ["gone gone", "one here", "stopped stopped", "two here"]);
        hosts.heard(&one, &said(&one, 1_000 + 24 * 3600, false));
        assert_eq!(hosts.view(&one).hosts.len(), 3, "one said its last word a day ago");
        hosts.heard(&one, &bucket::Changed { value: None, ..said(&me("two", "2"), 1_000 + 24 * 3600, false) });
        assert_eq!(hosts.view(&one).hosts.len(), 2, "the key of another one is gone");
    }

    #[test]
    fn another_host_under_our_name_is_told_from_our_own_past() {
        let (hosts, one) = (Hosts::default(), me("one", "now"));
        hosts.heard(&one, &said(&me("one", "killed before"), 1, false));
        hosts.heard(&one, &said(&one, 2, false));
        assert_eq!(hosts.view(&one).trouble, None);
        hosts.heard(&one, &said(&me("one", "another"), 3, false));
        assert!(hosts.view(&one).trouble.unwrap().contains("another host is called `one` too"));
        // It is given another name, and not heard under this one any more.
        hosts.heard(&one, &said(&one, 20, false));
        assert_eq!(hosts.view(&one).trouble, None);
    }

    #[test]
    fn how_a_handler_stands_follows_from_what_is_to_run_and_what_runs() {
        let hosts = Hosts::default();
        let (first, desired) = (deployed(None, "a"), deployed(Some(&deployed(None, "a")), "b"));
        let runs = |desired: &Desired| Some((desired.active, desired.active_version().unwrap().digest.clone()));
        assert_eq!(hosts.standing("h", None, None).standing, Standing::Waiting);
        hosts.wanted("h", Some(&first), 1);
        assert_eq!(hosts.standing("h", runs(&first), None).standing, Standing::Current);
        hosts.wanted("h", Some(&desired), 2);
        let on = hosts.standing("h", runs(&first), None);
        assert_eq!((on.standing, on.version, on.wants), (Standing::Taking, Some(1), Some(2)));
        hosts.trouble("h", Some("it cannot".to_owned()));
        let on = hosts.standing("h", runs(&first), None);
        assert_eq!((on.standing, on.wants, on.why.as_deref()), (Standing::Refused, Some(2), Some("it cannot")));
        assert_eq!((on.since.is_some(), on.tries_again), (true, None));
        // One that runs is not refused, whatever else the host has to tell: as that what its own file names cannot run.
        let on = hosts.standing("h", runs(&desired), None);
        let told = (on.standing, on.wants, on.why.as_deref(), on.trouble.as_deref());
        assert_eq!(told, (Standing::Current, None, None, Some("it cannot")));
        // Another version is another question; and the same number with another module is another version.
        let next = deployed(Some(&desired), "c");
        hosts.wanted("h", Some(&next), 3);
        assert_eq!(hosts.standing("h", runs(&first), None).standing, Standing::Taking);
        assert_eq!(hosts.standing("h", Some((3, Digest::of(b"x"))), None).standing, Standing::Taking);
        assert_eq!(hosts.standing("h", runs(&next), None).wants, None);
        // One that is to be tried is wanted too, and one that is not is not.
        let tried = Some(next.next);
        let on = hosts.standing("h", runs(&next), tried);
        assert_eq!((on.standing, on.tries, on.wants), (Standing::Taking, tried, Some(3)));
        let plan = RolloutPlan::Canary { share: Share::ALL, promote_after: None };
        let change = Changed::now(What::CanaryStarted, "ann", "a");
        hosts.wanted("h", Some(&next.tried(&new("d"), None, &plan, 3, SystemTime::UNIX_EPOCH, change)), 4);
        let on = hosts.standing("h", runs(&next), None);
        assert_eq!((on.standing, on.version, on.wants), (Standing::Taking, Some(3), tried));
        assert_eq!(hosts.standing("h", runs(&next), tried).standing, Standing::Current);
        assert_eq!(hosts.standing("h", runs(&first), None).wants, Some(3));
    }

    /// A host that could not start a version said so for ever, and not that it had done so since yesterday.
    #[test]
    fn since_when_a_version_is_refused_is_kept_over_the_tries() {
        let (hosts, one) = (Hosts::default(), me("one", "1"));
        let (first, second) = (deployed(None, "a"), deployed(Some(&deployed(None, "a")), "b"));
        let runs = || Some((first.active, first.active_version().unwrap().digest.clone()));
        let refusal = || hosts.standing("h", runs(), None).refusal();
        hosts.wanted("h", Some(&second), 1);
        assert_eq!(refusal(), None, "it is being taken");
        // By the server's clock.
        hosts.heard(&one, &said(&one, 1_000, false));
        hosts.trouble("h", Some("it was stopped by the clock".to_owned()));
        hosts.tries_again("h", Some(Duration::from_secs(40)));
        let told = refusal().unwrap();
        assert!(told.starts_with("version 2 cannot be taken since 1970-01-01T00:16:40."), "{told}");
        assert!(told.contains(": it was stopped by the clock; it is tried again at 1970-01-01T00:17:20."), "{told}");
        hosts.heard(&one, &said(&one, 2_000, false));
        hosts.trouble("h", Some("the machine has too much to do".to_owned()));
        let told = refusal().unwrap();
        let since = "version 2 cannot be taken since 1970-01-01T00:16:40.";
        assert!(told.starts_with(since) && told.ends_with(": the machine has too much to do"), "{told}");
        // Another version is another question.
        hosts.wanted("h", Some(&deployed(Some(&second), "c")), 2);
        assert_eq!(refusal(), None);
        hosts.trouble("h", Some("no".to_owned()));
        assert!(refusal().unwrap().starts_with("version 3 cannot be taken since 1970-01-01T00:33:20."));
    }

    #[test]
    fn what_this_host_changed_is_not_taken_back_by_a_watch_that_lags() {
        let hosts = Hosts::default();
        let first = deployed(None, "a");
        let second = deployed(Some(&first), "b");
        let version = || hosts.to_run("h").map(|to_run| to_run.version);
        hosts.shown("h", Some(&first), 5);
        assert_eq!(version(), Some(1));
        hosts.wanted("h", Some(&second), 6);
        hosts.shown("h", Some(&first), 5);
        assert_eq!(version(), Some(2));
        hosts.shown("h", Some(&second), 6);
        let to_run = hosts.to_run("h").unwrap();
        assert_eq!((to_run.by.as_str(), to_run.host.as_str(), to_run.change.as_str()), ("ann", "a", "deployed"));
        // The bucket was lost, and another host brought what it has.
        hosts.shown_anew();
        hosts.shown("h", Some(&first), 1);
        assert_eq!(version(), Some(1));
        hosts.shown("h", None, 2);
        assert_eq!((version(), hosts.to_run("g")), (None, None));
    }

    #[test]
    fn who_takes_part_is_told_by_those_who_are_there_and_have_the_handler() {
        let (hosts, one) = (Hosts::default(), me("one", "1"));
        let on = |tries| OnHost {
            version: Some(1),
            digest: None,
            tries,
            standing: Standing::Current,
            wants: None,
            why: None,
            since: None,
            tries_again: None,
            trouble: None,
        };
        let say = |name: &str, handler: &str, tries, stopped, at: u64| {
            let handlers = BTreeMap::from([(handler.to_owned(), on(tries))]);
            let word = Word { stopped, ..Word::of(&me(name, "1"), handlers, BTreeMap::new()) };
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
            hosts.heard(
                &one,
                &bucket::Changed { key: name.to_owned(), value: Some(word.to_json().into()), at, revision: 1 },
            );
        };
        let part = || {
            let Part { trying, not_yet, .. } = hosts.part(&one, "h", 2);
            let not_yet: Vec<String> = not_yet.into_iter().map(|one| one.host).collect();
            (trying.join(" "), not_yet.join(" "))
        };
        let is_seen = || hosts.part(&one, "h", 2).is_seen;
        assert_eq!(part(), ("one".to_owned(), String::new()), "it tries it, whether or not it hears itself");
        say("one", "h", None, false, 1_000);
        assert!(is_seen());
        say("stopped", "h", None, true, 1_000);
        say("another", "h", Some(2), false, 1_000);
        say("other-handlers", "g", None, false, 1_000);
        say("late", "h", None, false, 1_000);
        say("before", "h", Some(1), false, 1_000);
        assert_eq!(part(), ("another one".to_owned(), "before late".to_owned()));
        say("late", "h", Some(2), false, 1_010);
        assert_eq!(part(), ("another late one".to_owned(), "before".to_owned()));
        // What says nothing any more is not there.
        say("one", "h", Some(2), false, 1_020);
        assert_eq!(part(), ("late one".to_owned(), String::new()));
        // Of one that does not hear itself nobody knows how old what it heard is; nor does its own past tell.
        say("another", "h", Some(2), false, 1_040);
        assert!(!is_seen());
        say("one", "h", Some(2), false, 1_041);
        assert!(is_seen());
        let word = Word::of(&me("one", "a life before"), BTreeMap::new(), BTreeMap::new());
        let (value, at) = (Some(word.to_json().into()), SystemTime::UNIX_EPOCH + Duration::from_secs(1_042));
        hosts.heard(&one, &bucket::Changed { key: "one".to_owned(), value, at, revision: 1 });
        assert!(!is_seen());
    }

    #[test]
    fn counts_are_those_of_the_others_about_the_same_two_versions() {
        let (hosts, one, two) = (Hosts::default(), me("one", "1"), me("two", "2"));
        let counts = |version, sampled| Counts {
            version,
            beside: 1,
            stable: Evidence::default(),
            candidate: Evidence { sampled, ..Evidence::default() },
            shadow: None,
            differences: Vec::new(),
        };
        let say = |by: &Member, counts: Counts, at: u64| {
            let word = Word::of(by, BTreeMap::new(), BTreeMap::from([("h".to_owned(), counts)]));
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
            hosts.heard(
                &one,
                &bucket::Changed { key: by.host.clone(), value: Some(word.to_json().into()), at, revision: 1 },
            );
        };
        say(&one, counts(2, 1), 1);
        say(&two, counts(2, 10), 2);
        say(&me("three", "3"), counts(3, 100), 3);
        let found = |version, beside| -> Vec<(String, u64)> {
            let found = hosts.counts(&one, "h", version, beside).into_iter();
            found.map(|(name, counts)| (name, counts.candidate.sampled)).collect()
        };
        assert_eq!(found(2, 1), [("two".to_owned(), 10)]);
        assert_eq!(found(3, 1), [("three".to_owned(), 100)]);
        assert_eq!((found(2, 2), found(4, 1)), (Vec::new(), Vec::new()));
        // Said again, it counts once; and when a host begins anew, so do its counts.
        say(&two, counts(2, 12), 4);
        assert_eq!(found(2, 1), [("two".to_owned(), 12)]);
        // One that is gone has said it all the same.
        say(&one, counts(2, 1), 1_000);
        assert_eq!(found(2, 1), [("two".to_owned(), 12)]);
    }
}
