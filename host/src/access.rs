//! Who asks a host for something, and what they may do: plain data, decided in one place and passed on unchanged.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What somebody may do. Each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See how the host does: status, metrics, handlers, why messages were given up. No payload.
    Read,
    /// See payloads; publish, pause and resume subscriptions, send dead letters back, remove them; read the audit log.
    Operate,
    /// Change what runs: deploy, roll back, apply a configuration.
    Deploy,
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Operate, Self::Deploy];

    /// The word for it, in the configuration and in answers.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Deploy => "deploy",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.word() == text);
        found.ok_or_else(|| format!("`{text}` is no role: read, operate or deploy"))
    }
}

/// The SHA-256 of a token, which is all that is kept of it.
///
/// A password hash (argon2 and the like) is slow so that guessing what a person would choose is slow. A token of ours is
/// 256 random bits: there is nothing to guess, and a check costs a request a microsecond and not a tenth of a second.
#[derive(Debug, Clone, Copy, Eq)]
pub struct TokenHash([u8; 32]);

/// What a token begins with, so that a person or a scanner of leaked secrets knows it for what it is.
pub const TOKEN_PREFIX: &str = "tidegate_";
/// What a hash begins with.
const HASH_PREFIX: &str = "sha256:";

impl TokenHash {
    /// The hash of a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }
}

impl PartialEq for TokenHash {
    /// Takes the same time wherever they differ.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HASH_PREFIX}{}", hex::encode(self.0))
    }
}

impl FromStr for TokenHash {
    type Err = String;

    /// Says nothing of the text: it may be the token itself, in the wrong place.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut hash = [0; 32];
        let digits = text.strip_prefix(HASH_PREFIX).filter(|digits| hex::decode_to_slice(digits, &mut hash).is_ok());
        digits.map(|_| Self(hash)).ok_or_else(|| format!("expected \"{HASH_PREFIX}\" and 64 hexadecimal digits"))
    }
}

/// The moment of a text: a day (its beginning) or a time, in UTC.
///
/// # Errors
/// When it is neither.
pub fn parse_moment(text: &str) -> Result<SystemTime, String> {
    let day = humantime::parse_rfc3339(&format!("{text}T00:00:00Z"));
    let moment = day.or_else(|_| humantime::parse_rfc3339(text));
    moment.map_err(|_| "expected a day or a time in UTC: \"2027-01-01\" or \"2027-01-01T12:00:00Z\"".to_owned())
}

/// Some handlers: a name, or the beginning of names with `*` at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HandlerPattern(String);

impl HandlerPattern {
    /// The pattern of a text.
    ///
    /// # Errors
    /// When it holds anything but letters, digits, `-`, `_` and one `*` at its end.
    pub fn new(text: &str) -> Result<Self, String> {
        let name = text.strip_suffix('*').unwrap_or(text);
        let fits = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        match fits && !text.is_empty() {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("`{text}` is no handler's name, nor the beginning of one with `*` at its end")),
        }
    }

    /// Whether a handler is one of them.
    #[must_use]
    pub fn covers(&self, handler: &str) -> bool {
        self.0.strip_suffix('*').map_or(self.0 == handler, |start| handler.starts_with(start))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which handlers somebody may look into and change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<Vec<HandlerPattern>>", into = "Option<Vec<HandlerPattern>>")]
pub enum Scope {
    /// All, and what concerns the host as a whole.
    #[default]
    All,
    /// These, and nothing that concerns others.
    Only(Arc<[HandlerPattern]>),
}

impl From<Option<Vec<HandlerPattern>>> for Scope {
    fn from(patterns: Option<Vec<HandlerPattern>>) -> Self {
        patterns.map_or(Self::All, |patterns| Self::Only(patterns.into()))
    }
}

impl From<Scope> for Option<Vec<HandlerPattern>> {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::All => None,
            Scope::Only(patterns) => Some(patterns.to_vec()),
        }
    }
}

impl Scope {
    /// Whether a handler is one of them.
    #[must_use]
    pub fn covers(&self, handler: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(patterns) => patterns.iter().any(|pattern| pattern.covers(handler)),
        }
    }
}

/// Who a request is from, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name for the audit log and the log: that of the token or of the client certificate; `local` where none is
    /// asked for.
    pub name: Arc<str>,
    /// What they may do.
    pub role: Role,
    /// With which handlers.
    pub handlers: Scope,
}

impl Caller {
    /// Whoever speaks to a loopback listener that asks for no token: a person on this machine, who may do everything.
    #[must_use]
    pub fn local() -> Self {
        Self { name: "local".into(), role: Role::Deploy, handlers: Scope::All }
    }

    /// Whether they may look into this handler and, by their role, change it.
    #[must_use]
    pub fn covers(&self, handler: &str) -> bool {
        self.handlers.covers(handler)
    }

    /// Whether they may see headers and bodies of messages.
    #[must_use]
    pub fn sees_payload(&self) -> bool {
        self.role >= Role::Operate
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn each_role_may_do_what_the_ones_before_it_may() {
        assert!(Role::Read < Role::Operate && Role::Operate < Role::Deploy);
        for role in Role::ALL {
            assert_eq!(role.word().parse::<Role>().unwrap(), role);
        }
        assert!("admin".parse::<Role>().is_err());
    }

    #[test]
    fn a_pattern_covers_a_name_or_a_beginning() {
        let covers = |pattern: &str, name: &str| HandlerPattern::new(pattern).unwrap().covers(name);
        assert!(covers("triage", "triage") && covers("billing-*", "billing-eu") && covers("*", "any"));
        assert!(!covers("triage", "triage2") && !covers("billing-*", "billing") && !covers("billing-*", "x-billing-"));
        for bad in ["", "a*b", "a**", "../x", "a b", "**"] {
            assert!(HandlerPattern::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_known_by_its_hash_alone() {
        let hash = TokenHash::of("tidegate_x");
        // As `printf %s tidegate_x | sha256sum` has it.
        assert_eq!(hash.to_string().len(), "sha256:".len() + 64);
        assert_eq!(hash.to_string().parse::<TokenHash>().unwrap(), hash);
        assert!(hash != TokenHash::of("tidegate_y"));
        for bad in ["", "tidegate_x", "sha256:", "sha256:00", "md5:00"] {
            let said = bad.parse::<TokenHash>().unwrap_err();
            assert!(bad.is_empty() || !said.contains("tidegate_x"), "{said}");
        }
    }

    #[test]
    fn a_moment_is_a_day_or_a_time() {
        let at = |text: &str| parse_moment(text).unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!((at("1970-01-02"), at("1970-01-02T00:00:01Z")), (86_400, 86_401));
        for bad in ["", "tomorrow", "2027-13-01", "2027-01-01 12:00", "90d"] {
            assert!(parse_moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_caller_stays_with_their_handlers() {
        let only = Scope::Only([HandlerPattern::new("billing-*").unwrap()].into());
        let caller = Caller { name: "ci".into(), role: Role::Read, handlers: only };
        assert!(caller.covers("billing-eu") && !caller.covers("triage") && !caller.sees_payload());
        assert!(Caller::local().covers("triage") && Caller::local().sees_payload());
    }
}
