//! The door of the listener: how a caller shows who they are.
//!
//! Invariants:
//! - A listener that asks nobody stays on loopback: see [`super::listen`].
//! - An answer that refuses says what the request needs, and nothing about which tokens there are. Every token is
//!   compared, in constant time each, so the time of an answer says nothing either.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::http::{HeaderMap, StatusCode, header};

use super::fail::Fail;
use crate::access::{Caller, Role, Scope, TokenHash};
use crate::config::TokenConfig;

/// Who is let in, as whom.
#[derive(Debug, Clone)]
pub struct Door {
    /// By name; none at all: whoever reaches the listener is `local`.
    tokens: Arc<[(Arc<str>, TokenConfig)]>,
}

impl Door {
    /// A door for these tokens. Without any it is open, and the listener stays on loopback.
    #[must_use]
    pub fn new(tokens: &BTreeMap<String, TokenConfig>) -> Self {
        Self { tokens: tokens.iter().map(|(name, token)| (name.as_str().into(), token.clone())).collect() }
    }

    /// A door for whoever has this one token; they may do everything.
    #[must_use]
    pub fn only(token: &str) -> Self {
        let token = TokenConfig { hash: TokenHash::of(token), role: Role::Deploy, handlers: Scope::All, expires: None };
        Self { tokens: Arc::new([("local".into(), token)]) }
    }

    /// Whether nobody is asked who they are.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Who a request is from; `needed` is what a refusal says that the request needs.
    pub(super) fn caller(&self, headers: &HeaderMap, needed: Role, now: SystemTime) -> Result<Caller, Fail> {
        if self.is_open() {
            return Ok(Caller::local());
        }
        let refused = |code, what: &str| {
            let message = format!("{what}; this needs one with the role `{needed}`");
            Fail::new(StatusCode::UNAUTHORIZED, code, message)
        };
        let token = bearer(headers)
            .ok_or_else(|| refused("no-token", "there is no token in it: send `Authorization: Bearer TOKEN`"))?;
        let hash = TokenHash::of(token);
        let mut known = None;
        for (name, token) in self.tokens.iter() {
            if token.hash == hash {
                known = Some((name, token));
            }
        }
        let (name, token) = known.ok_or_else(|| refused("unknown-token", "the token is not known here"))?;
        if token.expires.is_some_and(|expires| expires <= now) {
            return Err(refused("expired-token", "the token has expired"));
        }
        Ok(Caller { name: Arc::clone(name), role: token.role, handlers: token.handlers.clone() })
    }
}

/// The token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_caller_is_whoever_has_the_token() {
        let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let entry = |token: &str, role, expires| TokenConfig {
            hash: TokenHash::of(token),
            role,
            handlers: Scope::All,
            expires,
        };
        let door = Door::new(&BTreeMap::from([
            ("ci".to_owned(), entry("tidegate_ci", Role::Deploy, Some(expires))),
            ("board".to_owned(), entry("tidegate_board", Role::Read, None)),
        ]));
        let ask = |authorization: Option<&str>, seconds| {
            let mut headers = HeaderMap::new();
            authorization.map(|value| headers.insert(header::AUTHORIZATION, value.parse().unwrap()));
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            door.caller(&headers, Role::Operate, now).map(|caller| (caller.name.to_string(), caller.role))
        };
        assert_eq!(ask(Some("Bearer tidegate_ci"), 99).unwrap(), ("ci".to_owned(), Role::Deploy));
        assert_eq!(ask(Some("bearer  tidegate_board "), 101).unwrap(), ("board".to_owned(), Role::Read));
        let rows = [
            (None, "no-token"),
            (Some("Bearer "), "no-token"),
            (Some("Basic tidegate_board"), "no-token"),
            (Some("Bearer tidegate_boar"), "unknown-token"),
            (Some("Bearer tidegate_ci"), "expired-token"),
        ];
        for (authorization, code) in rows {
            let fail = ask(authorization, 100).unwrap_err();
            assert_eq!((fail.status, fail.body.code.as_str()), (StatusCode::UNAUTHORIZED, code), "{authorization:?}");
            assert!(fail.body.message.contains("`operate`"), "{}", fail.body.message);
            assert!(!fail.body.message.contains("ci") && !fail.body.message.contains("board"), "{}", fail.body.message);
        }
        assert_eq!(
            Door::new(&BTreeMap::new()).caller(&HeaderMap::new(), Role::Deploy, expires).unwrap(),
            Caller::local()
        );
    }
}
