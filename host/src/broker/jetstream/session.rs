//! One connection to a server, from its handshake to its end. It is never re-established: when it ends, another session
//! takes its place (see `link`).
//!
//! Invariants:
//! - All that is sent through one session goes over one connection, in order: what is confirmed later vouches for what
//!   was sent before.
//! - What was not written when the connection ended is dropped and never written to a later connection: an
//!   acknowledgement does not lie in a queue until long after its lease.
//!
//! The client library would reconnect by itself and write its queue to the new connection. It is kept from it by an
//! authentication callback that refuses every handshake but the first, and a limit of one attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::{AuthError, Client, ConnectErrorKind, ConnectOptions, Event, HeaderMap, Message, Subject, jetstream};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::auth;
use super::events::{Events, note_event};
use super::options::{OLDEST_SERVER, Options, parse_version};
use super::wire::{ApiAnswer, ApiError};

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    ended: CancellationToken,
    api_prefix: String,
    max_payload: AtomicUsize,
    request_timeout: Duration,
    domain: Option<String>,
    version: (u64, u64, u64),
    events: Arc<Events>,
    /// Tells sessions apart: 1, 2, 3.
    pub(super) number: u64,
    /// Further servers of the cluster, as the server named them.
    pub(super) discovered: Vec<String>,
}

/// Why there is no session with a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OpenError {
    /// The server does not let us in, or what we would prove ourselves with cannot be read.
    Unauthorized(String),
    /// Encryption cannot be agreed on.
    Tls(String),
    /// The server is older than [`OLDEST_SERVER`].
    TooOld(String),
    /// It cannot be reached now.
    Away(String),
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestError {
    /// Nobody listens on the subject.
    #[error("nobody answers on `{0}`")]
    NoResponders(String),
    /// Whoever listens there has not answered.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
}

/// Why somebody who is there has not answered a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unanswered {
    /// No answer in time. The request may have been carried out.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The connection ended. The request may have been carried out.
    #[error("the connection ended")]
    Ended,
    /// It was not sent.
    #[error("the request was not sent: {0}")]
    NotSent(String),
    /// The server dropped it, and says that the credentials do not permit it.
    #[error("the server does not permit it: {0}")]
    Denied(String),
}

impl Session {
    /// Connects to one server.
    pub(super) async fn open(
        options: &Options,
        server: &str,
        number: u64,
        events: Arc<Events>,
    ) -> Result<Self, OpenError> {
        let ended = CancellationToken::new();
        let armed = Arc::new(AtomicBool::new(false));
        let connect = connect_options(options, Arc::clone(&events), &ended, Arc::clone(&armed));
        let client = match connect.connect(server).await {
            Ok(client) => client,
            Err(error) => return Err(open_error(server, &error)),
        };
        armed.store(true, Ordering::Release);
        let info = client.server_info();
        let version = match parse_version(&info.version) {
            Some(version) if version >= OLDEST_SERVER => version,
            Some(_) | None => {
                let (major, minor, patch) = OLDEST_SERVER;
                return Err(OpenError::TooOld(format!(
                    "the server `{server}` is nats-server {}, and at least {major}.{minor}.{patch} is needed: older \
                     ones can lose a stream when they are killed, and ignore settings silently",
                    info.version.escape_debug()
                )));
            }
        };
        let api_prefix = match &options.domain {
            Some(domain) => format!("$JS.{domain}.API"),
            None => "$JS.API".to_owned(),
        };
        Ok(Self {
            max_payload: AtomicUsize::new(info.max_payload),
            client,
            ended,
            api_prefix,
            request_timeout: options.request_timeout,
            domain: options.domain.clone(),
            version,
            events,
            number,
            discovered: info.connect_urls,
        })
    }

    /// Whether the connection stands, as far as is known.
    pub(super) fn is_live(&self) -> bool {
        !self.ended.is_cancelled()
    }

    /// Waits until the connection has ended.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// The largest message that the server takes: headers and body together, in bytes.
    pub(super) fn max_payload(&self) -> usize {
        self.max_payload.load(Ordering::Relaxed)
    }

    /// How long a request may take when nothing else is said.
    pub(super) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// The subject of a question to JetStream.
    pub(super) fn api_subject(&self, verb: &str) -> String {
        format!("{}.{verb}", self.api_prefix)
    }

    /// The server's version.
    pub(super) const fn version(&self) -> (u64, u64, u64) {
        self.version
    }

    /// The domain of JetStream, where it has one.
    pub(super) fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// Waits until the server says that a request on a subject is not permitted.
    pub(super) async fn refused(&self, subject: &str) {
        self.events.until_refused(subject).await;
    }

    /// A subject of our own that nobody else listens on.
    pub(super) fn inbox(&self) -> String {
        self.client.new_inbox()
    }

    /// Listens on a subject.
    pub(super) async fn subscribe(&self, subject: String) -> Result<async_nats::Subscriber, RequestError> {
        self.client.subscribe(subject).await.map_err(|error| Unanswered::NotSent(error.to_string()).into())
    }

    /// Sends without waiting for an answer. Dropping the future sends nothing or all.
    pub(super) async fn send(&self, subject: Subject, payload: Bytes) -> Result<(), RequestError> {
        self.client.publish(subject, payload).await.map_err(|error| Unanswered::NotSent(error.to_string()).into())
    }

    /// Sends with a subject to answer on.
    pub(super) async fn send_with_reply(
        &self,
        subject: String,
        reply: String,
        payload: Bytes,
    ) -> Result<(), RequestError> {
        self.client
            .publish_with_reply(subject, reply, payload)
            .await
            .map_err(|error| Unanswered::NotSent(error.to_string()).into())
    }

    /// Sends and waits for the answer, the end of the time or the end of the connection.
    pub(super) async fn request(
        &self,
        subject: Subject,
        headers: Option<HeaderMap>,
        payload: Bytes,
        limit: Duration,
    ) -> Result<Message, RequestError> {
        let mut request = async_nats::Request::new().payload(payload).timeout(None);
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let name = subject.clone();
        let answer = tokio::select! {
            // The answer goes before the end: what came in time counts.
            biased;
            answer = self.client.send_request(subject, request) => answer,
            () = self.ended.cancelled() => return Err(Unanswered::Ended.into()),
            () = tokio::time::sleep(limit) => {
                let said = self.events.said_of(&name);
                return Err(said.map_or(Unanswered::TimedOut(limit), Unanswered::Denied).into());
            }
        };
        answer.map_err(|error| match error.kind() {
            async_nats::RequestErrorKind::NoResponders => RequestError::NoResponders(name.to_string()),
            async_nats::RequestErrorKind::TimedOut => Unanswered::TimedOut(limit).into(),
            async_nats::RequestErrorKind::InvalidSubject | async_nats::RequestErrorKind::MaxPayloadExceeded => {
                Unanswered::NotSent(error.to_string()).into()
            }
            // The library's word for a connection task that is gone.
            async_nats::RequestErrorKind::Other => Unanswered::Ended.into(),
        })
    }

    /// The library's own view of JetStream over this connection, for its key-value and object stores.
    pub(super) fn jetstream(&self) -> jetstream::Context {
        let client = self.client.clone();
        let mut context = match &self.domain {
            Some(domain) => jetstream::with_domain(client, domain),
            None => jetstream::new(client),
        };
        context.set_timeout(self.request_timeout);
        context
    }

    /// Asks JetStream something.
    pub(super) async fn api<T: DeserializeOwned>(&self, verb: &str, question: &impl Serialize) -> Result<T, ApiError> {
        self.ask(Subject::from(self.api_subject(verb)), question).await
    }

    /// Sends JSON to JetStream under any subject: a question, or a message for a stream.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        subject: Subject,
        json: &impl Serialize,
    ) -> Result<T, ApiError> {
        let payload = serde_json::to_vec(json).map_err(|error| ApiError::Unreadable(error.to_string()))?;
        let answer = self.request(subject, None, payload.into(), self.request_timeout).await?;
        match serde_json::from_slice::<ApiAnswer<T>>(&answer.payload) {
            Ok(ApiAnswer::Refused { error }) => Err(ApiError::Refused(error)),
            Ok(ApiAnswer::Given(value)) => Ok(value),
            Err(error) => Err(ApiError::Unreadable(error.to_string())),
        }
    }

    /// Waits until what was sent is with the operating system.
    pub(super) async fn flush(&self) {
        tokio::select! {
            _ = self.client.flush() => {}
            () = self.ended.cancelled() => {}
            () = tokio::time::sleep(self.request_timeout) => {}
        }
    }
}

fn connect_options(
    options: &Options,
    events: Arc<Events>,
    ended: &CancellationToken,
    armed: Arc<AtomicBool>,
) -> ConnectOptions {
    let proof = options.auth.clone();
    let on_event = {
        // Cancels also when the library's task ends without a word, as the callback is dropped with it.
        let guard = Arc::new(ended.clone().drop_guard());
        let ended = ended.clone();
        move |event: Event| {
            let _ = &guard;
            note_event(&event, &events, &ended);
            std::future::ready(())
        }
    };
    let mut connect = ConnectOptions::with_auth_callback(move |nonce| {
        let answer = if armed.load(Ordering::Acquire) {
            Err(AuthError::new("this session has ended"))
        } else {
            auth::answer(&proof, &nonce)
        };
        std::future::ready(answer)
    })
    .name(format!("tidegate {}", options.name))
    .connection_timeout(options.connect_timeout)
    .request_timeout(None)
    .ignore_discovered_servers()
    .max_reconnects(1)
    .reconnect_delay_callback(|_| Duration::ZERO)
    // Two of them unanswered end the session: a peer that is gone without a word is noticed within 30 s.
    .ping_interval(Duration::from_secs(10))
    .event_callback(on_event)
    .require_tls(options.tls.require);
    if let Some(ca) = &options.tls.ca {
        connect = connect.add_root_certificates(ca.clone());
    }
    if let (Some(cert), Some(key)) = (&options.tls.cert, &options.tls.key) {
        connect = connect.add_client_certificate(cert.clone(), key.clone());
    }
    connect
}

fn open_error(server: &str, error: &async_nats::ConnectError) -> OpenError {
    let text = format!("could not connect to `{server}`: {}", chain(error));
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => OpenError::Unauthorized(text),
        ConnectErrorKind::Tls => OpenError::Tls(text),
        // A handshake of TLS that fails comes as an input or output error with what TLS said inside.
        ConnectErrorKind::Io if is_tls_refusal(error) => OpenError::Tls(text),
        ConnectErrorKind::ServerParse
        | ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => OpenError::Away(text),
    }
}

fn is_tls_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::InvalidData) {
            return true;
        }
        next = error.source();
    }
    false
}

/// An error with its causes, as one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}
