//! Which dead letters are meant, on the command line.

use std::collections::BTreeSet;
use std::time::SystemTime;

use anyhow::anyhow;
use clap::Args;

use crate::access::parse_moment;
use crate::cli::client::{Client, Wanted};
use crate::cli::exit::Failure;
use crate::cli::say;
use crate::cli::table::harmless;
use crate::config::{nearest, parse_duration};
use crate::outcome::ReasonCode;

/// So many names are told.
const NAMED: usize = 20;

/// Which of them: those for which all holds that is said.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Which of them")]
pub(super) struct Filter {
    /// Only those that this subscription gave up
    #[arg(long, value_name = "NAME")]
    subscription: Option<String>,
    /// Only those with this reason code
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
    /// Only those of this handler
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// Only those with this error, by the fingerprint that `stats` and `show` tell
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
    /// Only those whose last run was of this version: NAME@NUMBER, or its digest (12 digits or more)
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Only those that died since then: for so long, such as 2h, or a day or time in UTC
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    since: Option<When>,
    /// Only those that died before then
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    until: Option<When>,
    /// Only those in whose error this stands, without regard to case
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
}

/// A time, as a person says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum When {
    Ago(std::time::Duration),
    At(SystemTime),
}

pub(in crate::cli) fn parse_when(text: &str) -> Result<When, String> {
    if let Ok(ago) = parse_duration(text) {
        return Ok(When::Ago(ago));
    }
    let moment = parse_moment(text);
    moment.map(When::At).map_err(|_| "expected a duration such as 2h, or a day or time in UTC: 2027-01-01".to_owned())
}

impl When {
    /// The moment that is meant.
    pub(in crate::cli) fn at(self, now: SystemTime) -> SystemTime {
        match self {
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH).max(SystemTime::UNIX_EPOCH),
            Self::At(at) => at,
        }
    }

    fn spelled(self, now: SystemTime) -> String {
        humantime::format_rfc3339_nanos(self.at(now)).to_string()
    }
}

impl Filter {
    /// What the host is asked for. A version's number is looked up there.
    pub(super) fn wanted(&self, client: &Client, broker: Option<&str>) -> Result<Wanted, Failure> {
        let now = SystemTime::now();
        let (of_version, digest) = match self.version.as_deref() {
            Some(version) => looked_up(client, version, self.handler.as_deref())?,
            None => (None, None),
        };
        if let (Some(handler), Some(of_version)) = (&self.handler, &of_version)
            && handler != of_version
        {
            return Err(Failure::usage(anyhow!("--handler says `{handler}`, and --version is one of `{of_version}`")));
        }
        Ok(Wanted::default()
            .and("broker", broker)
            .and("subscription", self.subscription.as_deref())
            .and("reason", self.reason.as_deref())
            .and("handler", self.handler.clone().or(of_version))
            .and("fingerprint", self.fingerprint.as_deref())
            .and("digest", digest)
            .and("since", self.since.map(|when| when.spelled(now)))
            .and("until", self.until.map(|when| when.spelled(now)))
            .and("text", self.text.as_deref()))
    }
}

/// What a host has, of what a filter can name.
#[derive(Debug, Default)]
struct Known {
    handlers: BTreeSet<String>,
    subscriptions: BTreeSet<String>,
}

impl Filter {
    /// Says what of the filter the host knows nothing of, where nothing was found by it. It is no error: there may have been dead
    /// letters of a handler or a subscription that is gone, and those are found by its name.
    pub(super) fn tell_what_is_unknown(&self, client: &Client) {
        // Whoever may not ask, or asks where nothing runs, is told of the reason alone.
        let subscriptions = client.status().map(|status| status.subscriptions).unwrap_or_default();
        let handlers = client.handlers().map(|list| list.handlers).unwrap_or_default();
        let known = Known {
            handlers: handlers.into_iter().map(|one| one.name).collect(),
            subscriptions: subscriptions.into_iter().map(|one| one.name).collect(),
        };
        self.unknown(&known).iter().for_each(|text| say::talk(text));
    }

    fn unknown(&self, known: &Known) -> Vec<String> {
        let absent = |what: &str, wanted: Option<&String>, there: &BTreeSet<String>| {
            let wanted = wanted.filter(|wanted| !there.is_empty() && !there.contains(*wanted))?;
            let names = there.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if there.len() > NAMED { ", \u{2026}" } else { "" };
            Some(format!("this host has no {what} `{}` now; it has {names}{more}", harmless(wanted)))
        };
        let is_code = |reason: &str| ReasonCode::ALL.iter().any(|code| code.0 == reason);
        let reason = self.reason.as_ref().filter(|reason| !is_code(reason)).map(|reason| {
            let meant = nearest(reason, ReasonCode::ALL.iter().map(|code| code.0));
            let meant = meant.map(|meant| format!("did you mean `{meant}`? ")).unwrap_or_default();
            format!(
                "`{}` is no reason code: {meant}`tidegate dlq stats --by reason` shows those that there are",
                harmless(reason)
            )
        });
        let handler = absent("handler", self.handler.as_ref(), &known.handlers);
        let subscription = absent("subscription", self.subscription.as_ref(), &known.subscriptions);
        [handler, subscription, reason].into_iter().flatten().collect()
    }
}

/// A digest, or the first digits of one.
fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    (12..=64).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_hexdigit())
}

/// The handler and the digest of a version.
fn looked_up(
    client: &Client,
    version: &str,
    handler: Option<&str>,
) -> Result<(Option<String>, Option<String>), Failure> {
    let Some((name, number)) = version.rsplit_once('@') else {
        if is_digest(version) {
            return Ok((None, Some(version.to_owned())));
        }
        return Err(Failure::usage(anyhow!(no_version(version, handler))));
    };
    let number: u64 = number.parse().map_err(|_| Failure::usage(anyhow!(no_version(version, handler))))?;
    let handler = client.handler(name)?;
    let found = handler.versions.iter().find(|version| version.number == number);
    let found = found.ok_or_else(|| {
        Failure::not_found(anyhow!(
            "handler `{name}` has no version {number}, or not any more; give its digest, which `dlq show` tells"
        ))
    })?;
    Ok((Some(name.to_owned()), Some(found.digest.to_string())))
}

/// How a version is named, for whoever named it otherwise.
fn no_version(version: &str, handler: Option<&str>) -> String {
    let example = match version.parse::<u64>() {
        Ok(number) => format!("{}@{number}", handler.unwrap_or("HANDLER")),
        Err(_) => "HANDLER@NUMBER".to_owned(),
    };
    format!("`{version}` is no version: say {example}, or 12 digits or more of its digest, which `dlq show` tells")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_is_a_duration_or_a_moment() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100_000);
        for (text, spelled) in [
            ("1h", "1970-01-02T02:46:40.000000000Z"),
            ("2000-01-01", "2000-01-01T00:00:00.000000000Z"),
            ("2000-01-01T10:00:00Z", "2000-01-01T10:00:00.000000000Z"),
            // As the counts tell it.
            ("2000-01-01T10:00:00.000007Z", "2000-01-01T10:00:00.000007000Z"),
            ("7d", "1970-01-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(parse_when(text).map(|when| when.spelled(now)).as_deref(), Ok(spelled));
        }
        assert!(parse_when("yesterday").is_err());
    }

    /// A name that was mistyped looked like one of which nothing had died.
    #[test]
    fn what_a_host_knows_nothing_of_is_told() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let known = Known { handlers: set(&["invoice", "mail"]), subscriptions: set(&["orders"]) };
        let by = |handler: &str, subscription: &str, reason: &str| Filter {
            handler: Some(handler.to_owned()),
            subscription: Some(subscription.to_owned()),
            reason: Some(reason.to_owned()),
            ..Filter::default()
        };
        let told = by("invoices", "nope", "handler-reject").unknown(&known);
        assert_eq!(told.first().unwrap(), "this host has no handler `invoices` now; it has invoice, mail");
        assert_eq!(told.get(1).unwrap(), "this host has no subscription `nope` now; it has orders");
        assert!(told.get(2).unwrap().contains("did you mean `handler-rejected`?"), "{told:?}");
        assert_eq!(by("invoice", "orders", "handler-rejected").unknown(&known), [] as [String; 0]);
        let nothing_runs = by("invoices", "nope", "timeout").unknown(&Known::default());
        assert_eq!(nothing_runs, [] as [String; 0], "what there is, is not known");
    }

    #[test]
    fn a_version_is_named_with_its_handler() {
        assert!(no_version("2", Some("invoice")).contains("say invoice@2, or"));
        assert!(no_version("2", None).contains("say HANDLER@2, or"));
        assert!(no_version("latest", None).contains("say HANDLER@NUMBER, or"));
        assert!(is_digest("sha256:0123456789ab") && !is_digest("2") && !is_digest("invoice"));
    }
}
