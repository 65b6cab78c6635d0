//! Which hosts a handler may send requests to: how a grant is written, and what it covers.
//!
//! Invariants:
//! - A grant covers a scheme, a host and a port together.
//! - Nothing is guessed of how a host is written: a name with a dot at its end, or an address in another form, is another
//!   host and covered by nothing.
//! - An address is covered by a grant of that very address alone.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::reach::Reach;

/// The longest name that there is, without the dot at its end.
const NAME_BYTES: usize = 253;
/// The longest label of a name.
const LABEL_BYTES: usize = 63;
/// The name of this machine, and what all names below it end with.
const LOCALHOST: &str = "localhost";

/// How a host is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Scheme {
    /// In plain.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// The scheme of a URL, in whichever case. `None`: it is another one.
    pub(super) fn of(text: &str) -> Option<Self> {
        [Self::Http, Self::Https].into_iter().find(|scheme| text.eq_ignore_ascii_case(scheme.name()))
    }

    /// As it is written.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port where none is written.
    pub(super) const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// One grant: a host that requests may go to, or all whose names are below one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPattern {
    scheme: Scheme,
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Host {
    Address(IpAddr),
    /// In lower case.
    Name(String),
    /// All names that end with a dot and this one.
    Below(String),
}

/// Why a text is no grant of a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing says how the host is spoken to.
    #[error("it does not say how the host is spoken to: begin it with `https://` or `http://`")]
    Scheme,
    /// There is more than a host and a port.
    #[error("a grant is for all of a host: leave out the path, and what else stands behind host and port")]
    Path,
    /// It has a name for a login.
    #[error("a grant has no user and no password: leave out what stands before the `@`")]
    Login,
    /// It has no port that there is.
    #[error("the port is no number from 1 to 65535")]
    Port,
    /// It has an asterisk where none can be.
    #[error("`*` stands for all that is below a name of two labels or more: write `https://*.example.com`")]
    Wildcard,
    /// What looks like an address is none.
    #[error("the address is not one: write IPv4 as four decimal numbers, and IPv6 in brackets")]
    Address,
    /// The name is none.
    #[error(
        "the name is not one: labels of at most 63 letters, digits, `-` and `_` with dots between them, 253 in all, \
         and no dot at the end; write one that is not ASCII in its `xn--` form"
    )]
    Name,
}

/// A host as it is written, and its port.
fn split_port(text: &str) -> Result<(&str, Option<u16>), HostError> {
    let (host, port) = match text.find(']') {
        Some(end) => text.split_at(end + 1),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok((host, None)),
        None => Err(HostError::Address),
        Some(port) if port.contains(':') => Err(HostError::Address),
        Some(port) if port.starts_with(|first: char| first.is_ascii_digit()) => {
            port.parse().ok().filter(|port| *port > 0).map(|port| (host, Some(port))).ok_or(HostError::Port)
        }
        Some(_) => Err(HostError::Port),
    }
}

impl Host {
    /// A host that stands for itself alone.
    fn exact(text: &str) -> Result<Self, HostError> {
        if let Some(address) = text.strip_prefix('[') {
            let address = address.strip_suffix(']').and_then(|address| address.parse::<Ipv6Addr>().ok());
            return address.map(|address| Self::Address(IpAddr::V6(address).to_canonical())).ok_or(HostError::Address);
        }
        match text.parse::<Ipv4Addr>() {
            Ok(address) => Ok(Self::Address(IpAddr::V4(address))),
            Err(_) => name(text).map(Self::Name),
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Address(one), Self::Address(other)) => one == other,
            (Self::Name(one), Self::Name(other)) => one == other,
            (Self::Below(one), Self::Name(other)) => is_below(other, one),
            (Self::Below(one), Self::Below(other)) => one == other || is_below(other, one),
            (Self::Address(_), Self::Name(_) | Self::Below(_))
            | (Self::Name(_) | Self::Below(_), Self::Address(_))
            | (Self::Name(_), Self::Below(_)) => false,
        }
    }
}

fn is_below(name: &str, above: &str) -> bool {
    name.strip_suffix(above).is_some_and(|rest| rest.ends_with('.'))
}

/// A name in lower case.
fn name(text: &str) -> Result<String, HostError> {
    if text.contains('*') {
        return Err(HostError::Wildcard);
    }
    let fits = |label: &str| {
        let letters = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        letters && (1..=LABEL_BYTES).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    if text.len() > NAME_BYTES || !text.split('.').all(fits) {
        return Err(HostError::Name);
    }
    // What ends with a number some systems take for an address: 127.1 and 0x7f000001 are this machine to them.
    let last = text.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let number = last.bytes().all(|byte| byte.is_ascii_digit());
    let hex = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if number || hex {
        return Err(HostError::Address);
    }
    Ok(text.to_ascii_lowercase())
}

impl HostPattern {
    /// Reads a grant: `https://api.example.com`, `http://10.0.0.7:8080`, `https://*.example.com`.
    ///
    /// # Errors
    /// When it is none; the text says what to write.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let (scheme, rest) = text.split_once("://").ok_or(HostError::Scheme)?;
        let scheme = Scheme::of(scheme).ok_or(HostError::Scheme)?;
        // As it is copied from a browser.
        Self::read(scheme, rest.strip_suffix('/').unwrap_or(rest))
    }

    /// Whether all that another grant covers is covered by this one.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.port == other.port && self.host.covers(&other.host)
    }

    /// Reads host and port.
    fn read(scheme: Scheme, text: &str) -> Result<Self, HostError> {
        if text.contains(['/', '?', '#', '\\']) {
            return Err(HostError::Path);
        }
        if text.contains('@') {
            return Err(HostError::Login);
        }
        let (host, port) = split_port(text)?;
        let host = match host.strip_prefix("*.") {
            // Below a whole top level nobody knows who answers.
            Some(rest) => Host::Below(name(rest).ok().filter(|rest| rest.contains('.')).ok_or(HostError::Wildcard)?),
            None => Host::exact(host)?,
        };
        Ok(Self { scheme, host, port: port.unwrap_or(scheme.port()) })
    }
}

fn is_local(name: &str) -> bool {
    name.strip_suffix(LOCALHOST).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme.name())?;
        match &self.host {
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Host::Name(name) => f.write_str(name),
            Host::Below(name) => write!(f, "*.{name}"),
        }?;
        if self.port == self.scheme.port() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// Where a request that is granted goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The host of the request, which has no wildcard.
    asked: HostPattern,
    reach: Reach,
}

/// What the host of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place<'a> {
    Address(IpAddr),
    Name(&'a str),
}

impl Target {
    pub(super) const fn scheme(&self) -> Scheme {
        self.asked.scheme
    }

    pub(super) const fn port(&self) -> u16 {
        self.asked.port
    }

    pub(super) fn place(&self) -> Place<'_> {
        match &self.asked.host {
            Host::Address(address) => Place::Address(*address),
            Host::Name(name) | Host::Below(name) => Place::Name(name),
        }
    }

    /// Which addresses it may be sent to.
    pub(super) const fn reach(&self) -> Reach {
        self.reach
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.asked.fmt(f)
    }
}

/// All hosts that a handler may send requests to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts(BTreeSet<HostPattern>);

impl Hosts {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all that a grant covers is covered by one of these.
    #[must_use]
    pub fn include(&self, grant: &HostPattern) -> bool {
        self.0.iter().any(|one| one.covers(grant))
    }

    /// Where a request goes. `None`: it is not granted.
    ///
    /// `authority` is as it stands in the request's URL: host and port, IPv6 in brackets.
    pub(super) fn target(&self, scheme: Scheme, authority: &str) -> Option<Target> {
        let asked = HostPattern::read(scheme, authority).ok()?;
        let reach = match &asked.host {
            Host::Address(address) => Reach::Address(*address),
            Host::Name(name) if is_local(name) => Reach::ThisMachine,
            Host::Name(_) => Reach::Elsewhere,
            // No machine has such a name.
            Host::Below(_) => return None,
        };
        self.include(&asked).then_some(Target { asked, reach })
    }
}

impl FromIterator<HostPattern> for Hosts {
    fn from_iter<T: IntoIterator<Item = HostPattern>>(grants: T) -> Self {
        Self(grants.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    fn hosts(grants: &[&str]) -> Hosts {
        grants.iter().map(|grant| HostPattern::parse(grant).unwrap()).collect()
    }

    #[test]
    fn a_grant_is_written_in_one_way_and_what_is_none_says_why() {
        let rows = [
            ("https://api.example.com", Ok("https://api.example.com")),
            ("HTTPS://Api.Example.COM:443", Ok("https://api.example.com")),
            ("http://api.example.com:443", Ok("http://api.example.com:443")),
            ("http://10.0.0.7:8080", Ok("http://10.0.0.7:8080")),
            ("http://[::1]:080", Ok("http://[::1]")),
            ("http://[0:0::1]:8080", Ok("http://[::1]:8080")),
            ("http://[::ffff:10.0.0.7]", Ok("http://10.0.0.7")),
            ("https://*.internal.example:8443", Ok("https://*.internal.example:8443")),
            ("https://my_host", Ok("https://my_host")),
            ("api.example.com", Err(HostError::Scheme)),
            ("ftp://api.example.com", Err(HostError::Scheme)),
            ("https://api.example.com/", Ok("https://api.example.com")),
            ("https://api.example.com/v1", Err(HostError::Path)),
            ("https://api.example.com//", Err(HostError::Path)),
            ("https://*.com", Err(HostError::Wildcard)),
            ("https://*.a b.example", Err(HostError::Wildcard)),
            ("https://api.example.com?x", Err(HostError::Path)),
            ("https://me@api.example.com", Err(HostError::Login)),
            ("https://api.example.com:0", Err(HostError::Port)),
            ("https://api.example.com:", Err(HostError::Port)),
            ("https://api.example.com:+80", Err(HostError::Port)),
            ("https://api.example.com:65536", Err(HostError::Port)),
            ("https://*", Err(HostError::Wildcard)),
            ("https://*.*.example.com", Err(HostError::Wildcard)),
            ("https://a*.example.com", Err(HostError::Wildcard)),
            ("https://api.*.com", Err(HostError::Wildcard)),
            ("https://", Err(HostError::Name)),
            ("https://api.example.com.", Err(HostError::Name)),
            ("https://api..example", Err(HostError::Name)),
            ("https://-a.example", Err(HostError::Name)),
            ("https://b\u{fc}cher.example", Err(HostError::Name)),
            ("https://api example", Err(HostError::Name)),
            ("https://::1", Err(HostError::Address)),
            ("https://[::1", Err(HostError::Address)),
            ("https://[::1]x", Err(HostError::Address)),
            ("https://[fe80::1%eth0]", Err(HostError::Address)),
            ("https://127.1", Err(HostError::Address)),
            ("https://2130706433", Err(HostError::Address)),
            ("https://0x7f000001", Err(HostError::Address)),
            ("https://0177.0.0.1", Err(HostError::Address)),
            ("https://*.0.0.1", Err(HostError::Wildcard)),
            ("https://256.0.0.1", Err(HostError::Address)),
        ];
        for (text, expected) in rows {
            let written = HostPattern::parse(text).map(|grant| grant.to_string());
            assert_eq!(written, expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_request_is_covered_by_scheme_host_and_port_together() {
        let granted = hosts(&[
            "https://api.example.com",
            "http://10.0.0.7:8080",
            "https://*.internal.example",
            "http://localhost:9000",
            "http://[::1]",
        ]);
        let rows = [
            (Scheme::Https, "api.example.com", Some("https://api.example.com Elsewhere")),
            (Scheme::Https, "API.Example.com:443", Some("https://api.example.com Elsewhere")),
            (Scheme::Https, "api.example.com:8443", None),
            (Scheme::Https, "api.example.com:", None),
            (Scheme::Https, "api.example.com:99999", None),
            (Scheme::Https, "api.example.com:+443", None),
            (Scheme::Http, "api.example.com:443", None),
            (Scheme::Http, "api.example.com", None),
            (Scheme::Https, "api.example.com.", None),
            (Scheme::Https, "api.example.com.evil.example", None),
            (Scheme::Https, "evil-api.example.com", None),
            (Scheme::Https, "example.com", None),
            (Scheme::Https, "me@api.example.com", None),
            (Scheme::Https, "api.example.com@evil.example", None),
            (Scheme::Https, "api.example.com/@evil.example", None),
            (Scheme::Https, "a.internal.example", Some("https://a.internal.example Elsewhere")),
            (Scheme::Https, "a.b.internal.example", Some("https://a.b.internal.example Elsewhere")),
            (Scheme::Https, "a.internal.example.com", None),
            (Scheme::Https, "evilinternal.example", None),
            (Scheme::Https, "internal.example", None),
            (Scheme::Https, ".internal.example", None),
            (Scheme::Https, "*.internal.example", None),
            (Scheme::Https, "a.internal.example:8443", None),
            (Scheme::Http, "10.0.0.7:8080", Some("http://10.0.0.7:8080 Address(10.0.0.7)")),
            (Scheme::Http, "[::ffff:10.0.0.7]:8080", Some("http://10.0.0.7:8080 Address(10.0.0.7)")),
            (Scheme::Http, "010.0.0.7:8080", None),
            (Scheme::Http, "167772167:8080", None),
            (Scheme::Http, "10.0.0.8:8080", None),
            (Scheme::Http, "localhost:9000", Some("http://localhost:9000 ThisMachine")),
            (Scheme::Http, "127.0.0.1:9000", None),
            (Scheme::Http, "[0::1]", Some("http://[::1] Address(::1)")),
            (Scheme::Http, "::1", None),
            (Scheme::Http, "", None),
        ];
        let said = |hosts: &Hosts, scheme, authority| {
            hosts.target(scheme, authority).map(|target| format!("{target} {:?}", target.reach()))
        };
        for (scheme, authority, expected) in rows {
            assert_eq!(said(&granted, scheme, authority).as_deref(), expected, "{scheme:?} {authority}");
        }
        let local = hosts(&["http://*.dev.localhost", "http://notlocalhost"]);
        assert_eq!(
            said(&local, Scheme::Http, "a.dev.localhost").as_deref(),
            Some("http://a.dev.localhost ThisMachine")
        );
        assert_eq!(said(&local, Scheme::Http, "notlocalhost").as_deref(), Some("http://notlocalhost Elsewhere"));
        assert_eq!(said(&Hosts::default(), Scheme::Https, "api.example.com"), None);
    }

    /// Few labels, so that names are often below one another.
    fn any_grant() -> impl Strategy<Value = HostPattern> {
        let label = proptest::sample::select(vec!["a", "b", "x-1", "localhost"]);
        let labels = proptest::collection::vec(label, 1..4).prop_map(|labels| labels.join("."));
        let host = prop_oneof![
            labels.clone().prop_map(Host::Name),
            labels.prop_filter("it has two labels", |labels| labels.contains('.')).prop_map(Host::Below),
            proptest::sample::select(vec!["10.0.0.7", "127.0.0.1", "::1", "fe80::1"])
                .prop_map(|address| Host::Address(address.parse().unwrap())),
        ];
        let scheme = proptest::sample::select(vec![Scheme::Http, Scheme::Https]);
        let port = proptest::sample::select(vec![80, 443, 8080]);
        (scheme, host, port).prop_map(|(scheme, host, port)| HostPattern { scheme, host, port })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was(grant in any_grant()) {
            prop_assert_eq!(HostPattern::parse(&grant.to_string()), Ok(grant.clone()));
            prop_assert_eq!(HostPattern::parse(&grant.to_string().to_ascii_uppercase()), Ok(grant));
        }

        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_is_written_in_one_way(text in "(https?://)?[\\[\\]*.:@/%a-zA-Z0-9_ -]{0,40}|.{0,40}") {
            if let Ok(grant) = HostPattern::parse(&text) {
                let written = grant.to_string();
                prop_assert_eq!(HostPattern::parse(&written).map(|grant| grant.to_string()), Ok(written));
            }
        }

        #[test]
        fn covering_is_an_order(one in any_grant(), two in any_grant(), three in any_grant()) {
            prop_assert!(one.covers(&one));
            if one.covers(&two) && two.covers(&one) {
                prop_assert_eq!(&one, &two);
            }
            if one.covers(&two) && two.covers(&three) {
                prop_assert!(one.covers(&three));
            }
        }

        /// What the guard is for: a request goes nowhere but where the text of a grant says.
        #[test]
        fn a_request_goes_only_where_a_grant_is_written_for(
            grants in proptest::collection::vec(any_grant(), 0..4),
            asked in any_grant(),
        ) {
            let hosts: Hosts = grants.iter().cloned().collect();
            let url = asked.to_string();
            let (_scheme, authority) = url.split_once("://").unwrap();
            let wildcard = matches!(asked.host, Host::Below(_));
            let below = |grant: &str| {
                let above = grant.split_once("*.").map(|(before, above)| (before, format!(".{above}")));
                above.is_some_and(|(before, above)| url.starts_with(before) && url.ends_with(&above))
            };
            let granted = grants.iter().map(ToString::to_string).any(|grant| grant == url || below(&grant));
            prop_assert_eq!(hosts.target(asked.scheme, authority).is_some(), granted && !wildcard);
        }
    }
}
