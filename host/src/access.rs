//! Who asks a host for something, and what they may do: plain data, decided in one place and passed on unchanged.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What somebody may do. Each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See how the host does: status, metrics, handlers, why messages were given up. No payload.
    Read,
    /// See payloads; publish, send dead letters back, remove them; read the audit log.
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

/// Some handlers: a name, or the beginning of names with `*` at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All, and what concerns the host as a whole.
    All,
    /// These, and nothing that concerns others.
    Only(Arc<[HandlerPattern]>),
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
        match &self.handlers {
            Scope::All => true,
            Scope::Only(patterns) => patterns.iter().any(|pattern| pattern.covers(handler)),
        }
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
    fn a_caller_stays_with_their_handlers() {
        let only = Scope::Only([HandlerPattern::new("billing-*").unwrap()].into());
        let caller = Caller { name: "ci".into(), role: Role::Read, handlers: only };
        assert!(caller.covers("billing-eu") && !caller.covers("triage") && !caller.sees_payload());
        assert!(Caller::local().covers("triage") && Caller::local().sees_payload());
    }
}
