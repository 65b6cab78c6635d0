//! Which dead letters are meant, on the command line.

use std::time::SystemTime;

use anyhow::anyhow;
use clap::Args;

use crate::access::parse_moment;
use crate::cli::client::{Client, Wanted};
use crate::cli::exit::Failure;
use crate::config::parse_duration;

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
            Some(version) => looked_up(client, version)?,
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

/// The handler and the digest of a version.
fn looked_up(client: &Client, version: &str) -> Result<(Option<String>, Option<String>), Failure> {
    let Some((name, number)) = version.rsplit_once('@') else {
        return Ok((None, Some(version.to_owned())));
    };
    let number: u64 = number
        .parse()
        .map_err(|_| Failure::usage(anyhow!("`{version}` is no version: NAME@NUMBER, or the digest of a module")))?;
    let handler = client.handler(name)?;
    let found = handler.versions.iter().find(|version| version.number == number);
    let found = found.ok_or_else(|| {
        Failure::not_found(anyhow!(
            "handler `{name}` has no version {number}, or not any more; give its digest, which `dlq show` tells"
        ))
    })?;
    Ok((Some(name.to_owned()), Some(found.digest.to_string())))
}

#[cfg(test)]
mod tests {
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
}
