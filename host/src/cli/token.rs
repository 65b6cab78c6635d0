//! `tidegate token`: tokens for the HTTP listener.

use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::exit::{Ended, Exit, Failure};
use super::say;
use crate::access::{HandlerPattern, Role, TOKEN_PREFIX, TokenHash, parse_moment};
use crate::config::parse_duration;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a token; print it, and the lines for the configuration that hold its hash
    New(New),
}

#[derive(Debug, Args)]
struct New {
    /// What it may do: read, operate or deploy
    #[arg(long, value_name = "ROLE")]
    role: Role,
    /// Its name in the configuration and in the audit log [default: the role]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The handlers that it is limited to, such as triage,billing-* [default: not limited]
    #[arg(long, value_name = "HANDLER", value_delimiter = ',', value_parser = pattern)]
    handlers: Vec<String>,
    /// When it ends: a day (2027-01-01) or a time in UTC, or how long it is good for (90d) [default: never]
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// Print token, hash and lines as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Made {
    name: String,
    token: String,
    hash: String,
    configuration: String,
}

pub(super) fn token(arguments: Arguments) -> Ended {
    match arguments.action {
        Action::New(new) => make(new),
    }
}

fn make(new: New) -> Ended {
    let name = new.name.unwrap_or_else(|| new.role.word().to_owned());
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(fits) {
        return Err(Failure::usage(anyhow!("`{name}` cannot be a token's name: use letters, digits, `-` and `_`")));
    }
    let expires = new.expires.as_deref().map(|text| moment(text, SystemTime::now())).transpose();
    let expires = expires.map_err(|error| Failure::usage(anyhow!("--expires: {error}")))?;
    let token = fresh()?;
    let hash = TokenHash::of(&token).to_string();
    let configuration = lines(&name, &hash, new.role, &new.handlers, expires.as_deref());
    if new.json {
        say::json(&Made { name, token, hash, configuration })?;
        return Ok(Exit::Done);
    }
    say::data(&token)?;
    say::talk("\nThis is the only time that the token is shown. Add these lines to the configuration of the host:\n");
    say::talk(&configuration);
    Ok(Exit::Done)
}

/// A new token: 256 bits that nobody can guess.
pub(super) fn fresh() -> anyhow::Result<String> {
    let mut bits = [0_u8; 32];
    getrandom::fill(&mut bits).context("asking the system for random bits")?;
    Ok(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bits)))
}

fn lines(name: &str, hash: &str, role: Role, handlers: &[String], expires: Option<&str>) -> String {
    let mut text = format!("[http.tokens.{name}]\nhash = \"{hash}\"\nrole = \"{role}\"\n");
    if !handlers.is_empty() {
        text += &format!("handlers = [\"{}\"]\n", handlers.join("\", \""));
    }
    if let Some(expires) = expires {
        text += &format!("expires = \"{expires}\"\n");
    }
    text
}

fn pattern(text: &str) -> Result<String, String> {
    HandlerPattern::new(text).map(|pattern| pattern.as_str().to_owned())
}

/// When a token ends, as the configuration writes it.
fn moment(text: &str, now: SystemTime) -> Result<String, String> {
    if let Ok(expected) = parse_moment(text) {
        return if expected > now { Ok(text.to_owned()) } else { Err("that is over already".to_owned()) };
    }
    let lasts = parse_duration(text).ok().filter(|lasts| *lasts >= Duration::from_secs(1));
    let ends = lasts.and_then(|lasts| now.checked_add(lasts));
    let ends = ends.ok_or("expected a day (2027-01-01), a time in UTC, or how long it is good for (90d)")?;
    Ok(humantime::format_rfc3339_seconds(ends).to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_lines_of_a_token_are_a_configuration_that_knows_it() {
        let token = fresh().unwrap();
        assert_eq!(token.len(), TOKEN_PREFIX.len() + 43, "256 bits in base64");
        assert!(token != fresh().unwrap());
        let hash = TokenHash::of(&token);
        let handlers = ["triage".to_owned(), "billing-*".to_owned()];
        let text = lines("ci", &hash.to_string(), Role::Deploy, &handlers, Some("2027-01-01"));
        let config = Config::from_text(std::path::Path::new("tidegate.toml"), text.clone(), &[]).unwrap();
        let known = config.http.tokens.get("ci").unwrap();
        assert_eq!((known.hash, known.role, known.expires), (hash, Role::Deploy, parse_moment("2027-01-01").ok()));
        assert!(!text.contains(&token));
    }

    #[test]
    fn an_end_is_a_day_or_so_far_from_now() {
        let now = parse_moment("2026-11-25").unwrap();
        assert_eq!(moment("2027-01-01", now).unwrap(), "2027-01-01");
        assert_eq!(moment("90d", now).unwrap(), "2027-02-23T00:00:00Z");
        for bad in ["2026-01-01", "soon", "0s", ""] {
            assert!(moment(bad, now).is_err(), "{bad}");
        }
    }
}
