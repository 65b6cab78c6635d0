//! Which hosts a grant covers. Pure.
//!
//! Invariant: a pattern covers only what it spells out: its scheme, its port, and the very host or, behind `*.`, names below it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest name that DNS has.
const LONGEST_HOST: usize = 253;

/// Hosts that may be asked: a scheme, a host or all below one, and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPattern {
    secure: bool,
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Host {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    /// One name, in lower case.
    Named(String),
    /// All names below this one, and not the name itself.
    Below(String),
}

/// The hosts of a handler.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts(BTreeSet<HostPattern>);

/// Why a text is no pattern of hosts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// It does not begin with a scheme that can be spoken.
    #[error("`{0}` does not begin with `https://` or `http://`")]
    Scheme(String),
    /// Something stands behind host and port.
    #[error("`{0}` says more than scheme, host and port: a grant covers all that a host has")]
    More(String),
    /// The port is none.
    #[error("`{0}` has a port that is none: 1 to 65535")]
    Port(String),
    /// The host is none.
    #[error("`{0}` has no host that could be asked")]
    Host(String),
}

impl HostPattern {
    /// Reads a pattern: `https://api.example.com`, `http://10.0.0.7:8080`, `https://*.example.com`.
    ///
    /// # Errors
    /// When it is none; the text says why.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| HostError::Scheme(text.to_owned()))?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(HostError::Scheme(text.to_owned())),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '@', '\\']) {
            return Err(HostError::More(text.to_owned()));
        }
        let (host, port) = match rest.rfind(':').filter(|at| rest.rfind(']').is_none_or(|end| end < *at)) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let port = match port.strip_prefix(':') {
            None => default_port(secure),
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|port| *port > 0).ok_or_else(|| HostError::Port(text.to_owned()))?
            }
            Some(_) => return Err(HostError::Port(text.to_owned())),
        };
        let host = Host::parse(host).ok_or_else(|| HostError::Host(text.to_owned()))?;
        Ok(Self { secure, host, port })
    }

    /// Whether it covers a host, by its name or address as a request spells it.
    #[must_use]
    pub fn covers(&self, secure: bool, host: &str, port: u16) -> bool {
        let Some(asked) = Host::parse(host) else { return false };
        self.secure == secure
            && self.port == port
            && match (&self.host, &asked) {
                (Host::Below(suffix), Host::Named(name)) => {
                    name.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
                }
                (Host::V4(_) | Host::V6(_) | Host::Named(_) | Host::Below(_), _) => self.host == asked,
            }
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return address.parse().ok().map(Self::V6);
        }
        if let Ok(address) = text.parse() {
            return Some(Self::V4(address));
        }
        let name = text.to_ascii_lowercase();
        match name.strip_prefix("*.") {
            // Below a whole top level nobody knows who answers.
            Some(below) => (is_name(below) && below.contains('.')).then(|| Self::Below(below.to_owned())),
            None => is_name(&name).then_some(Self::Named(name)),
        }
    }
}

/// Whether it can be a name: labels of letters, digits, `-` and `_`, the last of which is no number, since such a text is
/// taken for an address by some.
fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (1..=63).contains(&label.len()) && label.chars().all(fits)
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= LONGEST_HOST && name.split('.').all(label) && !last.starts_with(|c: char| c.is_ascii_digit())
}

const fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        match &self.host {
            Host::V4(address) => write!(f, "{scheme}://{address}"),
            Host::V6(address) => write!(f, "{scheme}://[{address}]"),
            Host::Named(name) => write!(f, "{scheme}://{name}"),
            Host::Below(name) => write!(f, "{scheme}://*.{name}"),
        }?;
        if self.port == default_port(self.secure) { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl Hosts {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them covers a host.
    #[must_use]
    pub fn covers(&self, secure: bool, host: &str, port: u16) -> bool {
        self.0.iter().any(|pattern| pattern.covers(secure, host, port))
    }
}

impl FromIterator<HostPattern> for Hosts {
    fn from_iter<I: IntoIterator<Item = HostPattern>>(patterns: I) -> Self {
        Self(patterns.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_pattern_comes_back_as_it_is_meant() {
        for (text, shown) in [
            ("https://api.example.com", "https://api.example.com"),
            ("HTTPS://API.Example.com:443/", "https://api.example.com"),
            ("http://10.0.0.7:8080", "http://10.0.0.7:8080"),
            ("http://[::1]:80", "http://[::1]"),
            ("https://*.internal.example", "https://*.internal.example"),
        ] {
            let pattern = HostPattern::parse(text).unwrap();
            assert_eq!(pattern.to_string(), shown);
            assert_eq!(HostPattern::parse(shown).unwrap(), pattern);
        }
        for text in [
            "",
            "api.example.com",
            "ftp://a.example",
            "https://",
            "https://a b",
            "https://a.example/path",
            "https://user@a.example",
            "https://a.example:0",
            "https://a.example:65536",
            "https://a.example:+1",
            "https://*",
            "https://*.com",
            "https://a.*.example",
            "https://a..example",
            "https://127.1",
            "https://0x7f000001.1",
            "https://[::1",
            "https://a.example?b",
            "https://a.example\\b",
        ] {
            assert!(HostPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pattern_covers_what_it_spells_out_and_no_more() {
        for (pattern, secure, host, port, covered) in [
            ("https://api.example.com", true, "api.example.com", 443, true),
            ("https://api.example.com", true, "API.example.com", 443, true),
            ("https://api.example.com", false, "api.example.com", 443, false),
            ("https://api.example.com", true, "api.example.com", 8443, false),
            ("https://api.example.com", true, "api.example.com.evil.example", 443, false),
            ("https://*.example.com", true, "a.example.com", 443, true),
            ("https://*.example.com", true, "a.b.example.com", 443, true),
            ("https://*.example.com", true, "example.com", 443, false),
            ("https://*.example.com", true, ".example.com", 443, false),
            ("https://*.example.com", true, "evilexample.com", 443, false),
            ("http://10.0.0.7:8080", false, "10.0.0.7", 8080, true),
            ("http://10.0.0.7:8080", false, "10.0.0.8", 8080, false),
            ("http://[::1]", false, "[0:0::1]", 80, true),
        ] {
            let hosts: Hosts = [HostPattern::parse(pattern).unwrap()].into_iter().collect();
            assert_eq!(hosts.covers(secure, host, port), covered, "{pattern} {host}");
        }
    }
}
