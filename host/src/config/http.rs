//! The settings of the HTTP listener: where it listens, and who may ask it for what.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::SystemTime;

use super::check::Checker;
use super::problem::Problem;
use super::raw::{RawHttp, RawToken};
use super::raw_trust::RawHttpTls;
use crate::access::{HandlerPattern, Role, Scope, TokenHash, parse_moment};

/// 7171 is registered for nothing that runs beside it; loopback, because a host starts with no tokens.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7171);
/// The largest body that a handler takes by default, and a little for its JSON wrapping is not needed: raw bodies.
const MAX_PUBLISH_BYTES: usize = 8 << 20;

/// The settings of `[http]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where it listens; loopback, unless there is authentication. Port 0 takes any that is free.
    pub listen: SocketAddr,
    /// The largest message that is accepted for publishing, in bytes.
    pub max_publish_bytes: usize,
    /// The files of its TLS; `None`: it speaks plain HTTP.
    pub tls: Option<HttpTlsConfig>,
    /// Whether a proxy in front speaks TLS, so that the listener may be reached from elsewhere without.
    pub insecure_plaintext: bool,
    /// The tokens that are known, by name. Without any, whoever reaches the listener may do everything.
    pub tokens: BTreeMap<String, TokenConfig>,
}

/// The settings of `[http.tls]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTlsConfig {
    /// The certificate with those between it and its authority.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// The authorities of clients; `None`: a client needs no certificate.
    pub client_ca: Option<PathBuf>,
}

/// The settings of `[http.tokens.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenConfig {
    /// By which the token is known.
    pub hash: TokenHash,
    /// What it may do.
    pub role: Role,
    /// The handlers that it is limited to.
    pub handlers: Scope,
    /// When it ends; `None`: never.
    pub expires: Option<SystemTime>,
}

impl HttpConfig {
    pub(super) fn validate(raw: RawHttp, checker: &mut Checker) -> Self {
        let max_publish_bytes =
            checker.memory_size(&["http", "max_publish_bytes"], raw.max_publish_bytes, MAX_PUBLISH_BYTES);
        let listen = raw.listen.as_deref().map_or(LISTEN, |text| listen(text, checker));
        let is_encrypted = raw.tls.is_some();
        let tls = raw.tls.and_then(|raw| tls(raw, checker));
        let insecure_plaintext = raw.insecure_plaintext.unwrap_or_default();
        let has_tokens = !raw.tokens.is_empty();
        let mut tokens = BTreeMap::new();
        for (name, raw) in raw.tokens {
            if let Some(token) = token(&name, &raw, checker) {
                tokens.insert(name, token);
            }
        }
        same_hash(&tokens, checker);
        if !listen.ip().is_loopback() {
            reachable(listen, has_tokens, insecure_plaintext || is_encrypted, checker);
        }
        Self { listen, max_publish_bytes, tls, insecure_plaintext, tokens }
    }
}

fn listen(text: &str, checker: &mut Checker) -> SocketAddr {
    text.parse().unwrap_or_else(|_| {
        let problem = Problem::at(&["http", "listen"], "expected an address and a port");
        checker.problem(problem.help("such as \"127.0.0.1:7171\" or \"[::1]:7171\""));
        LISTEN
    })
}

fn tls(raw: RawHttpTls, checker: &mut Checker) -> Option<HttpTlsConfig> {
    let mut file = |key: &str, what: &str, given: Option<PathBuf>| {
        let given = given.filter(|path| !path.as_os_str().is_empty());
        if given.is_none() {
            let problem = Problem::at(&["http", "tls", key], format!("[http.tls] has no `{key}`"));
            checker.problem(problem.help(format!("{what}, a PEM file; the path is relative to this file")));
        }
        given.map(|path| checker.resolve(&path))
    };
    let certificate =
        file("certificate", "the certificate of this host, and those between it and its authority", raw.certificate);
    let key = file("key", "the private key of the certificate", raw.key);
    let client_ca = raw.client_ca.map(|path| checker.resolve(&path));
    Some(HttpTlsConfig { certificate: certificate?, key: key?, client_ca })
}

/// What must hold where other machines reach the listener.
fn reachable(address: SocketAddr, has_tokens: bool, is_guarded: bool, checker: &mut Checker) {
    let at = ["http", "listen"];
    if !has_tokens {
        let message = format!("`{address}` can be reached from other machines, and nobody is asked who they are");
        checker.problem(Problem::at(&at, message).help(format!(
            "`tidegate token new --role deploy --name NAME` makes a token and its lines for this file; or stay on \
             loopback: \"127.0.0.1:{}\"",
            address.port()
        )));
    }
    if !is_guarded {
        let message =
            format!("`{address}` can be reached from other machines, and tokens would cross the wire as text");
        checker.problem(Problem::at(&at, message).help(
            "name a certificate and its key in [http.tls]; or let a proxy speak TLS in front, see to it that nobody else \
             reaches this port, and say so with `insecure_plaintext = true` in [http]",
        ));
    }
}

fn token(name: &str, raw: &RawToken, checker: &mut Checker) -> Option<TokenConfig> {
    let at = |key| ["http", "tokens", name, key];
    checker.name_at("token", &["http", "tokens"], name);
    let hash = match raw.hash.as_deref().map(str::parse::<TokenHash>) {
        Some(Ok(hash)) => Some(hash),
        Some(Err(expected)) => {
            let help = "`tidegate token new` makes a token and prints its hash; the token itself does not belong here";
            checker.problem(Problem::at(&at("hash"), expected).help(help));
            None
        }
        None => {
            let problem = Problem::at(&at("hash"), format!("token `{name}` has no `hash`"));
            checker.problem(problem.help("`tidegate token new` makes a token and prints its hash"));
            None
        }
    };
    if raw.role.is_none() {
        let problem = Problem::at(&at("role"), format!("token `{name}` has no `role`"));
        checker.problem(problem.help("one of read, operate, deploy"));
    }
    let handlers = scope(raw.handlers.as_deref(), &at("handlers"), checker);
    let expires = raw.expires.as_deref().and_then(|text| match parse_moment(text) {
        Ok(moment) => Some(moment),
        Err(expected) => {
            checker.problem(Problem::at(&at("expires"), expected));
            None
        }
    });
    Some(TokenConfig { hash: hash?, role: raw.role?, handlers, expires })
}

/// The handlers that somebody is limited to.
fn scope(raw: Option<&[String]>, at: &[&str], checker: &mut Checker) -> Scope {
    let Some(texts) = raw else { return Scope::All };
    if texts.is_empty() {
        let problem = Problem::at(at, "`handlers` is empty: it would allow no handler at all");
        checker.problem(problem.help("leave it out for all handlers"));
    }
    let mut patterns = Vec::with_capacity(texts.len());
    for text in texts {
        match HandlerPattern::new(text) {
            Ok(pattern) => patterns.push(pattern),
            Err(problem) => checker.problem(Problem::at(at, problem)),
        }
    }
    Scope::Only(patterns.into())
}

/// One token with two names: the audit log could not say who it was.
fn same_hash(tokens: &BTreeMap<String, TokenConfig>, checker: &mut Checker) {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for (name, token) in tokens {
        if let Some(other) = seen.insert(token.hash.to_string(), name) {
            let message = format!("tokens `{other}` and `{name}` have the same `hash`");
            checker.problem(Problem::at(&["http", "tokens", name, "hash"], message));
        }
    }
}
