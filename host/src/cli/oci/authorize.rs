//! Leave to use a registry: its challenge, and the token that comes of it and the user's credentials.

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use docker_credential::DockerCredential;
use serde::Deserialize;
use ureq::Agent;

use super::super::client::tls;
use super::answer;

/// A token is some kilobytes; larger ones fit into no header.
const LARGEST_ANSWER: usize = 256 << 10;

/// What a registry wants to see, by its header `WWW-Authenticate`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    /// A token of the service at `realm`.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Challenge {
    /// Reads the header; `None` when it is of another scheme.
    pub(super) fn read(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        for (key, value) in pairs(rest) {
            match key.as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                "scope" => scope = Some(value),
                // `error`, and what may come.
                _ => {}
            }
        }
        Some(Self::Bearer { realm: realm?, service, scope })
    }
}

/// `key="value"` pairs; a comma inside quotes parts nothing.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        let key = key.trim_start_matches([',', ' ']).trim().to_ascii_lowercase();
        pairs.push((key, value.trim().to_owned()));
        rest = after;
    }
    pairs
}

/// The header `Authorization` that answers a challenge. `None`: the registry wants to know who we are, and there is
/// nothing to tell.
pub(super) fn answer(
    agent: &Agent,
    challenge: &Challenge,
    credentials: Option<&DockerCredential>,
    default_scope: &str,
    base: &str,
) -> anyhow::Result<Option<String>> {
    let basic = |user: &str, password: &str| format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    match (challenge, credentials) {
        (Challenge::Basic, Some(DockerCredential::UsernamePassword(user, password))) => Ok(Some(basic(user, password))),
        (Challenge::Basic, Some(DockerCredential::IdentityToken(_)) | None) => Ok(None),
        (Challenge::Bearer { realm, service, scope }, credentials) => {
            super::checked_address(realm, base)?;
            let scope = scope.as_deref().unwrap_or(default_scope);
            let service = service.as_deref().unwrap_or_default();
            let asking = || format!("asking {realm} for a token");
            let answered = match credentials {
                Some(DockerCredential::IdentityToken(token)) => agent.post(realm).send_form([
                    ("grant_type", "refresh_token"),
                    ("service", service),
                    ("scope", scope),
                    ("client_id", "tidegate"),
                    ("refresh_token", token),
                ]),
                Some(DockerCredential::UsernamePassword(user, password)) => agent
                    .get(realm)
                    .query("service", service)
                    .query("scope", scope)
                    .header("authorization", basic(user, password))
                    .call(),
                None => agent.get(realm).query("service", service).query("scope", scope).call(),
            };
            let unmet = |error: ureq::Error| match tls::why_no_registry(&error) {
                Some(why) => anyhow!(why),
                None => error.into(),
            };
            let mut answered = answered.map_err(unmet).with_context(asking)?;
            if matches!(answered.status().as_u16(), 401 | 403) {
                return Ok(None);
            }
            let bytes = answer::whole(&mut answered, LARGEST_ANSWER).with_context(asking)?;
            let token: Token = serde_json::from_slice(&bytes)
                .with_context(|| format!("{realm} answered {} and no token", answered.status()))?;
            let token = token.token.or(token.access_token).with_context(|| format!("{realm} gave no token"))?;
            Ok(Some(format!("Bearer {token}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            Some(Challenge::Bearer { realm: realm.to_owned(), service: owned(service), scope: owned(scope) })
        };
        let rows = [
            (r#"Basic realm="x""#, Some(Challenge::Basic)),
            (
                r#"Bearer realm="https://a.example/token",service="r",scope="repository:a/b:pull,push""#,
                bearer("https://a.example/token", Some("r"), Some("repository:a/b:pull,push")),
            ),
            (
                r#"bearer Realm=https://a.example/t, service="r", error="x""#,
                bearer("https://a.example/t", Some("r"), None),
            ),
            (r#"Bearer service="r""#, None),
            ("Negotiate", None),
        ];
        for (header, expected) in rows {
            assert_eq!(Challenge::read(header), expected, "{header}");
        }
    }
}
