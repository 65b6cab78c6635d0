//! Speaks to a host over its HTTP listener.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde::de::DeserializeOwned;
use ureq::http::header::AUTHORIZATION;
use ureq::http::{HeaderValue, Request, Response};
use ureq::middleware::MiddlewareNext;
use ureq::tls::TlsConfig;
use ureq::{Agent, Body, SendBody};

use super::exit::{Exit, Failure};
use super::host::{HostArguments, Target};
use super::profile::{Profile, TlsFiles};
use crate::admin::wire::{ErrorAnswer, PublishSummary};
use crate::config::HttpConfig;

mod access;
mod configuration;
mod dead_letters;
mod handlers;
mod live;
mod subscriptions;
pub(super) mod tls;

pub(super) use dead_letters::Wanted;
pub(super) use subscriptions::Which;

/// A loopback connection is there or it is not.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A host that stores a batch on a slow disk, or waits for its turn, gets this long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// A dead letter's body is at most as large as a message: 8 MiB, a third more as base64, and its record.
const LARGEST_ANSWER: u64 = 64 << 20;
/// One that is elsewhere may be across the world.
const REMOTE_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A host that answers. Clones share their connections.
#[derive(Clone)]
pub(super) struct Client {
    agent: Agent,
    base: String,
}

/// The client of the host that is meant, when one answers.
pub(super) fn of(host: &HostArguments) -> Result<Client, Failure> {
    match host.target()? {
        Target::Remote(profile) => {
            let client = Client::remote(&profile)?;
            client.reached().map_err(|why| why.at(&profile.url))?;
            Ok(client)
        }
        Target::Local(config, token, tls) => here(Client::local(&config.http, token, &tls)?, config.http.listen),
        Target::Loopback(token) => here(Client::new(Target::LOOPBACK, token), Target::LOOPBACK),
    }
}

fn here(client: Client, address: SocketAddr) -> Result<Client, Failure> {
    client.reached().map_err(|why| match why {
        NotMet::Nobody(why) => anyhow!(
            "no host answers at {address}: start it with `tidegate run`; one that answers elsewhere, as when `listen` was changed after \
             its start, is named with --host ({why})"
        ),
        other @ (NotMet::NoHost(_) | NotMet::Unfit(_)) => other.at(client.base()),
    })?;
    Ok(client)
}

/// Why a host was not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotMet {
    /// Nobody answers.
    Nobody(String),
    /// What answers is something else.
    NoHost(String),
    /// Somebody answers, and cannot be spoken to as this command does it: what to do about it.
    Unfit(String),
}

impl NotMet {
    /// As it is told of an address.
    pub(super) fn at(self, address: &str) -> anyhow::Error {
        match self {
            Self::Nobody(why) | Self::NoHost(why) => anyhow!("no host answers at {address}: {why}"),
            Self::Unfit(why) => anyhow!("what answers at {address} cannot be asked: {why}"),
        }
    }
}

impl Client {
    /// The client of a host elsewhere.
    pub(super) fn remote(profile: &Profile) -> Result<Self, Failure> {
        let tls = tls::client(&profile.tls, false)?;
        Ok(Self::with(profile.url.clone(), profile.token.clone(), tls, REMOTE_CONNECT_TIMEOUT))
    }

    /// The client of the host that has this listener; whether it answers is not known yet.
    pub(super) fn local(http: &HttpConfig, token: Option<String>, files: &TlsFiles) -> Result<Self, Failure> {
        if http.tls.is_none() {
            return Ok(Self::new(http.listen, token));
        }
        let ip = http.listen.ip();
        // A certificate names the host as others reach it, and here it is reached by its address. On this machine
        // nobody is in between, as without TLS.
        let is_here = ip.is_loopback() || ip.is_unspecified();
        let tls = tls::client(files, is_here)?;
        Ok(Self::with(base_with_tls(http.listen), token, tls, CONNECT_TIMEOUT))
    }

    /// The client of an address without TLS.
    pub(super) fn new(address: SocketAddr, token: Option<String>) -> Self {
        Self::with(format!("http://{address}"), token, tls::builder().build(), CONNECT_TIMEOUT)
    }

    /// Where it is asked.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    fn with(base: String, token: Option<String>, tls: TlsConfig, connect: Duration) -> Self {
        // A token that is no header's value is none that a host knows; it is then refused as one that is missing.
        let authorization = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {}", token.trim())).ok());
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .tls_config(tls)
            .timeout_connect(Some(connect))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .timeout_recv_body(Some(ANSWER_TIMEOUT))
            .middleware(move |mut request: Request<SendBody<'_>>, next: MiddlewareNext<'_>| {
                if let Some(value) = &authorization {
                    request.headers_mut().insert(AUTHORIZATION, value.clone());
                }
                next.handle(request)
            });
        Self { agent: config.build().new_agent(), base }
    }

    /// Whether a host answers.
    pub(super) fn is_there(&self) -> bool {
        self.reached().is_ok()
    }

    /// Why no host answers.
    pub(super) fn reached(&self) -> Result<(), NotMet> {
        match self.agent.get(format!("{}/live", self.base)).call() {
            Ok(answer) if answer.status() == 200 => Ok(()),
            Ok(answer) => Err(NotMet::NoHost(format!("what answers is no host: {}", answer.status()))),
            Err(error) => Err(tls::not_met(&error)),
        }
    }

    /// Publishes JSON lines. The summary tells what became of them, in good and in bad.
    pub(super) fn publish(&self, broker: Option<&str>, lines: &[u8]) -> anyhow::Result<PublishSummary> {
        let mut request = self.agent.post(format!("{}/v1/publish", self.base));
        if let Some(broker) = broker {
            request = request.query("broker", broker);
        }
        let answer = request.header("content-type", "application/x-ndjson").send(lines);
        let mut answer = answer.map_err(|error| unread(error, lines.len()))?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(LARGEST_ANSWER).read_to_vec().context("reading the answer")?;
        if let Ok(summary) = serde_json::from_slice::<PublishSummary>(&body) {
            return Ok(summary);
        }
        let error: ErrorAnswer =
            serde_json::from_slice(&body).with_context(|| format!("the host answered {status}"))?;
        bail!("{}", error.error.message)
    }
}

/// Where the listener of this machine's configuration is asked. No certificate is for the address that means all of them,
/// and where `--ca` is given it is looked at.
fn base_with_tls(listen: SocketAddr) -> String {
    match listen.ip().is_unspecified() {
        true => format!("https://localhost:{}", listen.port()),
        false => format!("https://{listen}"),
    }
}

/// An id as one part of a path: all but letters, digits and a few signs by their bytes.
fn encoded(id: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    id.bytes().map(byte).collect()
}

fn read<T: DeserializeOwned>(answer: Result<Response<Body>, ureq::Error>) -> Result<T, Failure> {
    let mut answer = answer.map_err(unmet)?;
    if !answer.status().is_success() {
        return Err(refusal(&mut answer));
    }
    let read = answer.body_mut().with_config().limit(LARGEST_ANSWER).read_json();
    Ok(read.context("reading the host's answer")?)
}

/// The host could not be asked.
fn unmet(error: ureq::Error) -> anyhow::Error {
    anyhow!(said(&error)).context("asking the host")
}

/// What went wrong on the way, for a person.
fn said(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(io) if is_cut_off(io.kind()) => {
            "it ended the connection before it had answered: it was stopped just then, most likely; whether it did what it \
             was asked is not known, so look before you ask again"
                .to_owned()
        }
        _ => tls::why(error),
    }
}

/// Whether a connection was there, and ended.
const fn is_cut_off(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// A batch is sent at 1 MiB: one that is larger than this holds a message that is large by itself.
const LARGE_BATCH: usize = 2 << 20;

/// The host could not be asked, or ended the connection while it was being sent something. What it refuses it may not read to its
/// end, and its answer is then lost on some systems: the likelier of the two reasons is told, by the size.
fn unread(error: ureq::Error, bytes: usize) -> anyhow::Error {
    // One that ends in order was read to its end.
    let unread = |kind| is_cut_off(kind) && kind != std::io::ErrorKind::UnexpectedEof;
    match &error {
        ureq::Error::Io(io) if unread(io.kind()) && bytes > LARGE_BATCH => anyhow!(
            "the host ended the connection before it had read all: the message may be larger than it takes \
             (`max_publish_bytes` in its `[http]`, 8 MiB when it is not set), or the host was stopped just then"
        ),
        ureq::Error::Io(io) if is_cut_off(io.kind()) => anyhow!(
            "the host ended the connection before it had answered: it was stopped just then, most likely; what is not counted as \
             published is not known to be stored, and messages with ids can be published again"
        ),
        _ => unmet(error),
    }
}

fn refusal(answer: &mut Response<Body>) -> Failure {
    let status = answer.status();
    let exit = match status.as_u16() {
        404 => Exit::NotFound,
        // What was sent, or the host's file, is not fit.
        422 => Exit::Refused,
        _ => Exit::Failed,
    };
    match answer.body_mut().read_json::<ErrorAnswer>() {
        Ok(error) => Failure { exit, error: anyhow!(error.error.message) },
        Err(_) => Failure { exit, error: anyhow!("the host answered {status}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that is killed in the middle of a command was told as "io: Peer disconnected".
    #[test]
    fn a_host_that_goes_in_the_middle_is_told_as_that() {
        use std::io::ErrorKind;
        for kind in [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe] {
            let told = format!("{:#}", unmet(ureq::Error::Io(kind.into())));
            assert!(told.contains("it was stopped just then") && told.contains("look before you ask again"), "{told}");
            let told = format!("{:#}", unread(ureq::Error::Io(kind.into()), 10));
            assert!(told.contains("messages with ids can be published again"), "{told}");
        }
        let told = format!("{:#}", unread(ureq::Error::Io(ErrorKind::BrokenPipe.into()), LARGE_BATCH + 1));
        assert!(told.contains("`max_publish_bytes`"), "{told}");
        let told = format!("{:#}", unmet(ureq::Error::Io(ErrorKind::ConnectionRefused.into())));
        assert!(!told.contains("just then"), "{told}");
    }

    #[test]
    fn a_host_that_listens_everywhere_is_met_by_a_name_that_a_certificate_may_have() {
        let rows = [("0.0.0.0:7171", "https://localhost:7171"), ("[::]:7171", "https://localhost:7171")];
        for (listen, expected) in rows.into_iter().chain([("10.0.0.7:1", "https://10.0.0.7:1")]) {
            assert_eq!(listen.parse().map(base_with_tls).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn an_id_is_one_part_of_a_path() {
        assert_eq!(super::encoded("01HX-a_b"), "01HX-a_b");
        assert_eq!(super::encoded("../a b?c/ü"), "%2E%2E%2Fa%20b%3Fc%2F%C3%BC");
    }
}
