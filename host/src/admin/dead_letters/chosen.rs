//! Which dead letters a request means.

use std::time::SystemTime;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Brokers, named};
use crate::access::{Caller, parse_moment};
use crate::admin::fail::Fail;
use crate::broker::DeadLetterFilter;

/// Those for which all holds that is said.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub(in crate::admin) struct Chosen {
    /// Only those that this broker keeps.
    pub(super) broker: Option<String>,
    /// Only those that this subscription gave up.
    subscription: Option<String>,
    /// Only those with this reason code.
    reason: Option<String>,
    /// Only those of this handler.
    handler: Option<String>,
    /// Only those with this fingerprint.
    fingerprint: Option<String>,
    /// Only those whose last run was of this module: its digest, or the first 12 hex digits of it or more.
    #[schemars(extend("pattern" = "^(sha256:)?[0-9a-fA-F]{12,64}$"))]
    digest: Option<String>,
    /// Only those that died at this time or later: a day or a time in UTC.
    since: Option<String>,
    /// Only those that died before this time.
    until: Option<String>,
    /// Only those in whose error this text stands, without regard to case.
    text: Option<String>,
}

impl Chosen {
    /// The same for the brokers; what the caller may not look into is not meant.
    pub(super) fn filter(&self, caller: &Caller) -> Result<DeadLetterFilter, Fail> {
        Ok(DeadLetterFilter {
            subscription: self.subscription.clone(),
            reason: self.reason.clone(),
            handler: self.handler.clone(),
            fingerprint: self.fingerprint.clone(),
            digest: self.digest.as_deref().map(digest).transpose()?,
            since: moment("since", self.since.as_deref())?,
            until: moment("until", self.until.as_deref())?,
            text: self.text.clone().filter(|text| !text.is_empty()),
            include_redriven: false,
            scope: caller.handlers.clone(),
        })
    }

    /// The names of the brokers that are meant, in their order.
    pub(super) fn brokers<'a>(&self, brokers: &'a Brokers) -> Result<Vec<&'a str>, Fail> {
        match &self.broker {
            Some(name) => Ok(vec![named(brokers, name)?.0]),
            None => Ok(brokers.keys().map(String::as_str).collect()),
        }
    }
}

fn digest(text: &str) -> Result<String, Fail> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let fits = (12..=64).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_hexdigit());
    match fits {
        true => Ok(digits.to_ascii_lowercase()),
        false => Err(Fail::bad_request("invalid-query", "`digest` takes 12 to 64 hex digits of a module's sha256")),
    }
}

fn moment(key: &str, text: Option<&str>) -> Result<Option<SystemTime>, Fail> {
    let wrong = |why: String| Fail::bad_request("invalid-query", format!("`{key}`: {why}"));
    text.map(parse_moment).transpose().map_err(wrong)
}
