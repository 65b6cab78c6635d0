//! `tidegate audit`: who changed what on a host, the newest first.

use std::time::{Duration, SystemTime};

use clap::Args;

use super::exit::{Ended, Exit};
use super::host::HostArguments;
use super::{client, say, table};
use crate::admin::wire::{AuditEntry, AuditList, AuditResult};
use crate::config::parse_duration;
use crate::deploy::report::End;

/// The largest page of the listener.
const PAGE: usize = 1000;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    filter: Filter,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    host: HostArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which of them.
#[derive(Debug, Default, Args)]
struct Filter {
    /// Only what this one did, by the name of a token
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// Only this action, or those that begin with it: handler.deploy, handler, dead-letter
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only what this is in: a handler's name, the id of a dead letter
    #[arg(long, value_name = "TEXT")]
    target: Option<String>,
    /// Only what was asked for within this time, such as 24h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    since: Option<Duration>,
    /// Only what was refused, failed or was cut off, or is unfinished
    #[arg(long)]
    failed: bool,
}

impl Filter {
    fn takes(&self, entry: &AuditEntry) -> bool {
        let action = |wanted: &String| {
            entry.action.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.who.as_ref().is_none_or(|who| *who == entry.who)
            && self.action.as_ref().is_none_or(action)
            && self.target.as_ref().is_none_or(|target| entry.target.contains(target.as_str()))
            && (!self.failed || entry.result.as_ref().is_none_or(is_failed))
    }

    /// Whether what was asked for at a time is before all that is wanted.
    fn is_past(&self, at: &str, now: SystemTime) -> bool {
        let since = self.since.and_then(|since| now.checked_sub(since));
        let at = humantime::parse_rfc3339_weak(at).ok();
        since.zip(at).is_some_and(|(since, at)| at < since)
    }
}

pub(super) fn audit(arguments: &Arguments) -> Ended {
    let client = client::of(&arguments.host)?;
    let found = gather(&arguments.filter, arguments.limit, SystemTime::now(), |before, limit| {
        client.audit(before, limit.min(PAGE))
    })?;
    if arguments.json {
        say::json(&found)?;
    } else if found.is_empty() {
        say::talk("nothing was changed that matches");
    } else {
        say::data(&listed(&found))?;
    }
    Ok(Exit::Done)
}

/// Goes from page to page until there are enough, or no more.
fn gather<E>(
    filter: &Filter,
    limit: usize,
    now: SystemTime,
    mut page: impl FnMut(Option<&str>, usize) -> Result<AuditList, E>,
) -> Result<Vec<AuditEntry>, E> {
    let mut found = Vec::new();
    let mut before = None;
    while found.len() < limit {
        let AuditList { entries, next } = page(before.as_deref(), PAGE)?;
        let over = entries.last().is_none_or(|last| filter.is_past(&last.at, now));
        let wanted = entries.into_iter().filter(|entry| filter.takes(entry) && !filter.is_past(&entry.at, now));
        found.extend(wanted.take(limit - found.len()));
        match next {
            Some(next) if !over => before = Some(next),
            Some(_) | None => break,
        }
    }
    Ok(found)
}

fn listed(entries: &[AuditEntry]) -> String {
    let mut rows = table::table(&["AT", "WHO", "ROLE", "FROM", "ACTION", "TARGET", "RESULT"]);
    for entry in entries {
        rows.add_row(vec![
            entry.at.clone(),
            entry.who.clone(),
            entry.role.to_string(),
            entry.from.clone(),
            entry.action.clone(),
            table::cut(&entry.target, 100),
            told(entry.result.as_ref()),
        ]);
    }
    table::rendered(&rows)
}

/// Whether something did not come to a good end.
fn is_failed(result: &AuditResult) -> bool {
    result.code.is_some() || result.status.is_none_or(|status| status >= 400)
}

/// What came of an action. Without an end it is under way, or its host was killed or its caller went in the middle.
fn told(result: Option<&AuditResult>) -> String {
    const LONGEST: usize = 120;
    let Some(AuditResult { at: _, status, code, deploy }) = result else { return "unfinished".to_owned() };
    let code = code.as_deref().unwrap_or_default();
    let ended = match deploy {
        None => code.to_owned(),
        Some(End::Live { version }) => format!("live: version {version}"),
        Some(End::Tried { version }) => format!("tried: version {version}"),
        Some(End::Unchanged { version }) => format!("unchanged: version {version}"),
        Some(End::Failed { step, why }) => table::cut(&format!("failed at {} ({code}): {}", step.name(), why), LONGEST),
        Some(End::CutOff { step }) => format!("cut off at {}", step.name()),
    };
    let status = status.map(|status| status.to_string()).unwrap_or_default();
    format!("{status} {ended}").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;
    use crate::deploy::report::Step;

    fn entry(number: u64, who: &str, action: &str, status: Option<u16>) -> AuditEntry {
        let at = humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + Duration::from_secs(number)).to_string();
        let result = status.map(|status| AuditResult {
            at: at.clone(),
            status: Some(status),
            code: (status >= 400).then(|| "no-such-handler".to_owned()),
            deploy: None,
        });
        AuditEntry {
            id: number.to_string(),
            at,
            who: who.to_owned(),
            role: Role::Deploy,
            from: "127.0.0.1:5000".to_owned(),
            action: action.to_owned(),
            target: format!("/v1/handlers/h-{number}/versions"),
            result,
        }
    }

    /// Pages of two, the newest first.
    fn found(filter: &Filter, limit: usize) -> Vec<String> {
        let all = [
            entry(50, "ann", "handler.deploy", Some(200)),
            entry(40, "bob", "handler.rollback", Some(404)),
            entry(30, "ann", "dead-letter.redrive", None),
            entry(20, "ann", "handlers.none", Some(200)),
            entry(10, "bob", "handler.deploy", Some(200)),
        ];
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
        let page = |before: Option<&str>, _: usize| {
            let start = before.map_or(0, |id| all.iter().position(|entry| entry.id == id).map_or(0, |at| at + 1));
            let entries: Vec<_> = all.iter().skip(start).take(2).cloned().collect();
            let next = entries.last().filter(|_| start + 2 < all.len()).map(|entry| entry.id.clone());
            Ok::<_, ()>(AuditList { entries, next })
        };
        gather(filter, limit, now, page).unwrap_or_default().into_iter().map(|entry| entry.id).collect()
    }

    #[test]
    fn filters_go_over_all_pages() {
        let text = |text: &str| Some(text.to_owned());
        let rows = [
            (Filter::default(), 100, vec!["50", "40", "30", "20", "10"]),
            (Filter::default(), 3, vec!["50", "40", "30"]),
            (Filter { who: text("bob"), ..Filter::default() }, 100, vec!["40", "10"]),
            (Filter { who: text("bob"), ..Filter::default() }, 1, vec!["40"]),
            (Filter { action: text("handler"), ..Filter::default() }, 100, vec!["50", "40", "10"]),
            (Filter { action: text("handler.deploy"), ..Filter::default() }, 100, vec!["50", "10"]),
            (Filter { target: text("h-20"), ..Filter::default() }, 100, vec!["20"]),
            (Filter { failed: true, ..Filter::default() }, 100, vec!["40", "30"]),
            (Filter { since: Some(Duration::from_secs(25)), ..Filter::default() }, 100, vec!["50", "40"]),
        ];
        for (filter, limit, expected) in rows {
            assert_eq!(found(&filter, limit), expected, "{filter:?} {limit}");
        }
    }

    #[test]
    fn what_was_changed_is_a_table() {
        expect_test::expect![[r#"
            AT                        WHO  ROLE    FROM            ACTION               TARGET                      RESULT
            1970-01-01T00:00:40.000Z  bob  deploy  127.0.0.1:5000  handler.rollback     /v1/handlers/h-40/versions  404 no-such-handler
            1970-01-01T00:00:30.000Z  ann  deploy  127.0.0.1:5000  dead-letter.redrive  /v1/handlers/h-30/versions  unfinished
        "#]]
        .assert_eq(&listed(&[entry(40, "bob", "handler.rollback", Some(404)), entry(30, "ann", "dead-letter.redrive", None)]));
    }

    #[test]
    fn a_deploy_is_told_by_its_end_and_one_without_is_not_fine() {
        let of = |status, code: Option<&str>, deploy| AuditResult {
            at: String::new(),
            status,
            code: code.map(str::to_owned),
            deploy,
        };
        let why = "the module is empty".to_owned();
        let rows = [
            (of(Some(200), None, Some(End::Live { version: 7 })), "200 live: version 7", false),
            (of(Some(200), None, Some(End::Tried { version: 8 })), "200 tried: version 8", false),
            (of(Some(200), None, Some(End::Unchanged { version: 8 })), "200 unchanged: version 8", false),
            (
                of(Some(200), Some("module-refused"), Some(End::Failed { step: Step::Validate, why })),
                "200 failed at validate (module-refused): the module is empty",
                true,
            ),
            (of(Some(200), Some("cut-off"), Some(End::CutOff { step: Step::Init })), "200 cut off at init", true),
            (of(None, Some("cut-off"), Some(End::CutOff { step: Step::Upload })), "cut off at upload", true),
            (of(Some(409), Some("deploy-in-progress"), None), "409 deploy-in-progress", true),
            (of(Some(200), None, None), "200", false),
        ];
        for (result, expected, failed) in rows {
            assert_eq!((told(Some(&result)).as_str(), is_failed(&result)), (expected, failed));
        }
        assert_eq!(told(None), "unfinished");
    }
}
