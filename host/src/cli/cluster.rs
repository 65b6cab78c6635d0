//! A cluster for people: which host runs which version, and waiting until all of them run one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clap::Args;

use super::client::Client;
use super::exit::{Exit, Failure};
use super::{say, table};
use crate::cluster::report::{ClusterView, HostView, OnHost, Presence, Standing, ToRun};
use crate::config::parse_duration;
use crate::deploy::report::HandlerView;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(super) struct WaitArgument {
    /// In a cluster, how long to wait until every host runs it; 0s: not at all
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    wait: Duration,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// A version is the active one on every host.
    Run,
    /// It is tried on every host.
    Try,
}

/// How the hosts of a cluster stand to a version.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stand {
    run: Vec<String>,
    /// With why.
    refuse: Vec<(String, String)>,
    take: Vec<String>,
    away: Vec<String>,
}

impl WaitArgument {
    /// Waits until every host that is there runs a version or has refused it, and tells; or that another one is to run by now.
    pub(super) fn all_run(&self, client: &Client, handler: &str, version: u64) -> Result<Exit, Failure> {
        self.all(client, handler, version, Goal::Run)
    }

    /// Waits until every host that is there tries a version, and tells; or why it is not tried any more.
    pub(super) fn all_try(&self, client: &Client, handler: &str, version: u64) -> Result<Exit, Failure> {
        self.all(client, handler, version, Goal::Try)
    }

    fn all(&self, client: &Client, handler: &str, version: u64, goal: Goal) -> Result<Exit, Failure> {
        let until = Instant::now() + self.wait;
        let mut last = None;
        while !self.wait.is_zero() {
            let view = client.handler(handler)?;
            if goal == Goal::Try
                && let Some((exit, why)) = ended(&view, version)
            {
                say::talk(&why);
                return Ok(exit);
            }
            if let Some(by) = view.to_run.as_ref().and_then(|to_run| superseded(to_run, version, goal)) {
                say::talk(&by);
                return Ok(Exit::Partly);
            }
            let Some(cluster) = view.cluster else { return Ok(Exit::Done) };
            let now = stand(&cluster, handler, version, goal);
            let settled = now.take.is_empty() && !now.run.is_empty();
            last = Some(now);
            if settled || Instant::now() >= until {
                break;
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        let Some(stand) = last else { return Ok(Exit::Done) };
        say::talk(&stand.told(self.wait, goal));
        Ok(if stand.refuse.is_empty() && stand.take.is_empty() { Exit::Done } else { Exit::Partly })
    }
}

/// Why a version is not tried any more; `None`: it is, or it is the active one by now, or this host is in no cluster.
fn ended(view: &HandlerView, version: u64) -> Option<(Exit, String)> {
    view.cluster.as_ref()?;
    let is_tried = view.rollout.as_ref().is_some_and(|rollout| rollout.version == version);
    if is_tried || view.active == Some(version) {
        return None;
    }
    let last = view.history.iter().find(|one| one.version == Some(version))?;
    let exit = match last.event.as_str() {
        "aborted" => Exit::Partly,
        // A shadow had the time that it was given.
        "ended" => Exit::Done,
        _ => return None,
    };
    Some((exit, format!("version {version} is not tried any more: {}", table::harmless(&last.detail))))
}

/// Which version is to run in the place of the one that is waited for; `None`: that one still is, or is still tried.
fn superseded(to_run: &ToRun, version: u64, goal: Goal) -> Option<String> {
    let ToRun { version: other, tries, change, by, host, at } = to_run;
    let did_that = matches!(change.as_str(), "deployed" | "rolled back" | "brought" | "promoted");
    let is_over = match goal {
        Goal::Run => *other != version,
        // Without a word of why it is not tried any more, another one took its place.
        Goal::Try => *other != version && *tries != Some(version) && did_that,
    };
    let cut = |text: &str| table::cut(text, 120);
    let who =
        if did_that { format!(" ({change} by {} on host {}, {})", cut(by), cut(host), cut(at)) } else { String::new() };
    is_over.then(|| format!("version {version} was superseded by version {other}{who}; it is not waited for any more"))
}

fn stand(cluster: &ClusterView, handler: &str, version: u64, goal: Goal) -> Stand {
    let mut stand = Stand::default();
    for HostView { name, presence, handlers, .. } in &cluster.hosts {
        // A host whose configuration does not have the handler has no part in it.
        let Some(on) = handlers.get(handler) else { continue };
        let is_there = match goal {
            Goal::Run => on.version == Some(version),
            // One that was tried well is the active one soon.
            Goal::Try => on.tries == Some(version) || on.version == Some(version),
        };
        match (presence, on.standing) {
            (Presence::Gone | Presence::Stopped, _) => stand.away.push(name.clone()),
            // It runs also where another one is taken or refused: one that is tried.
            (Presence::Here, Standing::Current | Standing::Taking | Standing::Refused)
                if is_there && on.wants != Some(version) =>
            {
                stand.run.push(name.clone());
            }
            (Presence::Here, Standing::Refused) if on.wants == Some(version) => {
                stand.refuse.push((name.clone(), on.why.clone().unwrap_or_default()));
            }
            (Presence::Here, _) => stand.take.push(name.clone()),
        }
    }
    stand
}

impl Stand {
    fn told(&self, waited: Duration, goal: Goal) -> String {
        let (one, several) = match goal {
            Goal::Run => ("runs", "run"),
            Goal::Try => ("tries", "try"),
        };
        let mut lines = Vec::new();
        if self.refuse.is_empty() && self.take.is_empty() {
            lines.push(match self.run.len() {
                1 => format!("the only host that is there {one} it: {}", self.run.join(", ")),
                count => format!("all {count} hosts {several} it: {}", self.run.join(", ")),
            });
        } else if !self.run.is_empty() {
            lines.push(match goal {
                Goal::Run => format!("it runs on {}", self.run.join(", ")),
                Goal::Try => format!("it is tried on {}", self.run.join(", ")),
            });
        }
        for (name, why) in &self.refuse {
            lines.push(format!("{name} refuses it and goes on with what it ran: {}", table::harmless(why)));
        }
        if !self.take.is_empty() {
            let waited = humantime::format_duration(waited);
            lines.push(match goal {
                Goal::Run => format!("after {waited} it did not run yet on {}", self.take.join(", ")),
                Goal::Try => format!("after {waited} it was not tried yet on {}", self.take.join(", ")),
            });
        }
        if !self.away.is_empty() {
            lines.push(format!("not there: {}; they take it when they are back", self.away.join(", ")));
        }
        lines.join("\n")
    }
}

/// Which host runs which version of which handler.
pub(super) fn by_host(cluster: &ClusterView) -> String {
    let mut text = header(cluster);
    let names: BTreeSet<&String> = cluster.hosts.iter().flat_map(|host| host.handlers.keys()).collect();
    if cluster.hosts.is_empty() || names.is_empty() {
        return text;
    }
    let columns = cluster.hosts.iter().map(|host| match host.presence {
        Presence::Here => host.name.clone(),
        absent @ (Presence::Stopped | Presence::Gone) => format!("{} ({})", host.name, absent.name()),
    });
    let columns: Vec<String> = std::iter::once("HANDLER".to_owned()).chain(columns).collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut rows = table::table(&columns);
    for name in names {
        let cells = cluster.hosts.iter().map(|host| host.handlers.get(name).map_or_else(|| "-".to_owned(), cell));
        rows.add_row(std::iter::once(name.clone()).chain(cells).collect::<Vec<_>>());
    }
    text += &table::rendered(&rows);
    for host in &cluster.hosts {
        for (name, on) in &host.handlers {
            if let (Some(why), Some(wants)) = (&on.why, on.wants) {
                let since = since(on).map(|since| format!(" since {since}")).unwrap_or_default();
                text += &format!("{} refuses {name}@{wants}{since}: {}\n", host.name, table::cut(why, 200));
            }
            if let (Some(trouble), Some(version)) = (&on.trouble, on.version) {
                text += &format!("{} runs {name}@{version}, and tells: {}\n", host.name, table::cut(trouble, 200));
            }
        }
    }
    text
}

/// The hosts of one handler.
pub(super) fn of_handler(cluster: &ClusterView, handler: &str) -> String {
    let mut rows = table::table(&["HOST", "VERSION", "DIGEST", "", "LAST WORD", "ADDRESS", "WHY"]);
    for host in &cluster.hosts {
        let Some(on) = host.handlers.get(handler) else { continue };
        let standing = match host.presence {
            Presence::Here => on.standing.name(),
            absent @ (Presence::Stopped | Presence::Gone) => absent.name(),
        };
        let digest =
            on.digest.as_ref().map_or_else(|| "-".to_owned(), |digest| digest.as_str().chars().take(12).collect());
        rows.add_row(vec![
            host.name.clone(),
            cell(on),
            digest,
            standing.to_owned(),
            host.last_word.clone(),
            table::cut(&host.address, 60),
            why(on),
        ]);
    }
    format!("{}{}", header(cluster), table::rendered(&rows))
}

/// Why it does not run there, or what else is wrong.
fn why(on: &OnHost) -> String {
    let told = table::cut(on.why.as_deref().or(on.trouble.as_deref()).unwrap_or_default(), 200);
    since(on).map_or_else(|| told.clone(), |since| format!("since {since}: {told}"))
}

/// Since when a version is refused, and when it is tried again. That host may have said anything.
fn since(on: &OnHost) -> Option<String> {
    let cut = |at: &String| table::cut(at, 40);
    let again = on.tries_again.as_ref().map(|at| format!(", again at {}", cut(at))).unwrap_or_default();
    on.since.as_ref().map(|since| format!("{}{again}", cut(since)))
}

fn header(cluster: &ClusterView) -> String {
    let trouble = cluster.trouble.as_deref();
    let trouble =
        trouble.map(|why| format!("; what is shown may be old: {}", table::harmless(why))).unwrap_or_default();
    format!("cluster {}, asked {}{trouble}\n", cluster.name, cluster.host)
}

fn cell(on: &OnHost) -> String {
    let version = on.version.map_or_else(|| "-".to_owned(), |version| version.to_string());
    match (on.standing, on.wants, on.tries) {
        (Standing::Refused, Some(wants), _) => format!("{version} (refuses {wants})"),
        (Standing::Taking, Some(wants), _) => format!("{version} (takes {wants})"),
        (_, _, Some(tries)) => format!("{version} (tries {tries})"),
        (Standing::Refused | Standing::Taking | Standing::Current | Standing::Waiting, _, None) => version,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::registry::Digest;

    fn host(name: &str, presence: Presence, on: OnHost) -> HostView {
        HostView {
            name: name.to_owned(),
            address: "127.0.0.1:7171".to_owned(),
            presence,
            last_word: "2026-01-01T00:00:00.000Z".to_owned(),
            handlers: BTreeMap::from([("invoice".to_owned(), on)]),
            paused: BTreeMap::new(),
        }
    }

    fn on(version: u64, standing: Standing, wants: Option<u64>, why: Option<&str>) -> OnHost {
        let why = why.map(str::to_owned);
        OnHost {
            version: Some(version),
            digest: Some(Digest::of(b"")),
            tries: None,
            standing,
            wants,
            why,
            since: None,
            tries_again: None,
            trouble: None,
        }
    }

    fn cluster() -> ClusterView {
        let hosts = vec![
            host("a", Presence::Here, on(8, Standing::Current, None, None)),
            host("b", Presence::Here, on(7, Standing::Refused, Some(8), Some("it does not start"))),
            host("c", Presence::Gone, on(7, Standing::Current, None, None)),
            host("d", Presence::Here, on(7, Standing::Taking, Some(8), None)),
        ];
        ClusterView { name: "main".to_owned(), host: "a".to_owned(), trouble: None, hosts }
    }

    #[test]
    fn it_is_shown_which_host_runs_which_version() {
        expect_test::expect![[r"
            cluster main, asked a
            HANDLER  a  b              c (gone)  d
            invoice  8  7 (refuses 8)  7         7 (takes 8)
            b refuses invoice@8: it does not start
        "]]
        .assert_eq(&by_host(&cluster()));
        expect_test::expect![[r"
            cluster main, asked a
            HOST  VERSION        DIGEST                 LAST WORD                 ADDRESS         WHY
            a     8              e3b0c44298fc  current  2026-01-01T00:00:00.000Z  127.0.0.1:7171
            b     7 (refuses 8)  e3b0c44298fc  refused  2026-01-01T00:00:00.000Z  127.0.0.1:7171  it does not start
            c     7              e3b0c44298fc  gone     2026-01-01T00:00:00.000Z  127.0.0.1:7171
            d     7 (takes 8)    e3b0c44298fc  taking   2026-01-01T00:00:00.000Z  127.0.0.1:7171
        "]]
        .assert_eq(&of_handler(&cluster(), "invoice"));
    }

    #[test]
    fn since_when_a_host_refuses_a_version_is_shown() {
        let refuses = OnHost {
            since: Some("2026-01-01T00:00:01.000Z".to_owned()),
            tries_again: Some("2026-01-01T00:05:21.000Z".to_owned()),
            ..on(7, Standing::Refused, Some(8), Some("it does not start"))
        };
        let cluster = ClusterView { hosts: vec![host("b", Presence::Here, refuses)], ..cluster() };
        let told = by_host(&cluster);
        let since = "since 2026-01-01T00:00:01.000Z, again at 2026-01-01T00:05:21.000Z: it does not start";
        assert!(told.contains(&format!("b refuses invoice@8 {since}\n")), "{told}");
        let told = of_handler(&cluster, "invoice");
        assert!(told.contains(&format!("  {since}\n")), "{told}");
    }

    #[test]
    fn who_runs_it_and_who_does_not_is_told() {
        let mut cluster = cluster();
        expect_test::expect![[r"
            it runs on a
            b refuses it and goes on with what it ran: it does not start
            after 30s it did not run yet on d
            not there: c; they take it when they are back"]]
        .assert_eq(&stand(&cluster, "invoice", 8, Goal::Run).told(Duration::from_secs(30), Goal::Run));
        cluster.hosts.retain(|host| host.name == "a" || host.name == "c");
        expect_test::expect![[r"
            the only host that is there runs it: a
            not there: c; they take it when they are back"]]
        .assert_eq(&stand(&cluster, "invoice", 8, Goal::Run).told(Duration::from_secs(30), Goal::Run));
        assert_eq!(stand(&cluster, "other", 8, Goal::Run), Stand::default());
    }

    /// A deploy reported that a host did not run it yet, on which it ran.
    #[test]
    fn a_host_that_runs_it_is_not_waited_for_whatever_else_is_wrong_there() {
        let mut cluster = cluster();
        let trouble = Some("handler `invoice` cannot run the module that the configuration names".to_owned());
        cluster.hosts = vec![
            host("a", Presence::Here, OnHost { trouble, ..on(8, Standing::Current, None, None) }),
            host("b", Presence::Here, on(8, Standing::Refused, Some(9), Some("it does not start"))),
            host("c", Presence::Here, on(8, Standing::Refused, Some(8), Some("another module"))),
        ];
        let stood = stand(&cluster, "invoice", 8, Goal::Run);
        assert_eq!((stood.run.join(" "), stood.refuse.len(), stood.take.len()), ("a b".to_owned(), 1, 0));
        cluster.hosts.truncate(1);
        expect_test::expect![[r"
            cluster main, asked a
            HANDLER  a
            invoice  8
            a runs invoice@8, and tells: handler `invoice` cannot run the module that the configuration names
        "]]
        .assert_eq(&by_host(&cluster));
    }

    #[test]
    fn what_superseded_it_is_told() {
        let to_run = |version, tries, change: &str| ToRun {
            version,
            tries,
            change: change.to_owned(),
            by: "ann".to_owned(),
            host: "b".to_owned(),
            at: "2026-01-01T00:00:00.000Z".to_owned(),
        };
        let rows = [
            // What is to run and what is tried beside it, by which change; by what 8 is superseded, if it is.
            (Goal::Run, to_run(8, None, "deployed"), None),
            (Goal::Run, to_run(8, Some(9), "begun"), None),
            (Goal::Run, to_run(8, None, "aborted"), None),
            (Goal::Run, to_run(9, None, "deployed"), Some("9 (deployed by ann on host b, 2026-01-01T00:00:00.000Z)")),
            (
                Goal::Run,
                to_run(7, None, "rolled back"),
                Some("7 (rolled back by ann on host b, 2026-01-01T00:00:00.000Z)"),
            ),
            (Goal::Run, to_run(9, Some(10), "begun"), Some("9")),
            (Goal::Try, to_run(7, Some(8), "begun"), None),
            (Goal::Try, to_run(8, None, "promoted"), None),
            // The history says how a trial ended.
            (Goal::Try, to_run(7, None, "aborted"), None),
            (Goal::Try, to_run(9, None, "deployed"), Some("9 (deployed by ann on host b, 2026-01-01T00:00:00.000Z)")),
        ];
        for (goal, to_run, expected) in rows {
            let expected =
                expected.map(|by| format!("version 8 was superseded by version {by}; it is not waited for any more"));
            assert_eq!(superseded(&to_run, 8, goal), expected, "{goal:?} {to_run:?}");
        }
    }

    #[test]
    fn who_tries_it_is_told() {
        let tries = OnHost { tries: Some(9), ..on(8, Standing::Current, None, None) };
        let mut cluster = cluster();
        cluster.hosts = vec![
            host("a", Presence::Here, tries.clone()),
            host("b", Presence::Here, on(8, Standing::Taking, Some(9), None)),
        ];
        expect_test::expect![[r"
            cluster main, asked a
            HANDLER  a            b
            invoice  8 (tries 9)  8 (takes 9)
        "]]
        .assert_eq(&by_host(&cluster));
        let told =
            |cluster: &ClusterView| stand(cluster, "invoice", 9, Goal::Try).told(Duration::from_secs(30), Goal::Try);
        assert_eq!(told(&cluster), "it is tried on a\nafter 30s it was not tried yet on b");
        cluster.hosts.push(host("c", Presence::Here, on(9, Standing::Current, None, None)));
        cluster.hosts.remove(1);
        assert_eq!(told(&cluster), "all 2 hosts try it: a, c");
    }
}
