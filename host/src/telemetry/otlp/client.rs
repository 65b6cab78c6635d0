//! One request to a collector, and what became of it.

use std::sync::Arc;
use std::time::Duration;

use ureq::http::header::{CONTENT_TYPE, RETRY_AFTER};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Response};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::wire::find_number;
use super::{OtlpError, pairs};
use crate::config::TelemetryConfig;

/// An answer says how much was not taken, and why, in a few words.
const LARGEST_ANSWER: u64 = 64 << 10;

/// A collector.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    /// What the signals' paths are put behind.
    base: String,
    headers: HeaderMap,
    /// How long one request may take.
    pub(super) timeout: Duration,
}

/// What a collector said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It took the request, but for so many of what was in it.
    Taken {
        /// Spans or points that it did not take.
        rejected: u64,
    },
    /// It did not, and may the next time.
    Again {
        /// When it wants to be asked again, if it said so.
        after: Option<Duration>,
        /// Why.
        why: String,
    },
    /// It never will.
    Refused(String),
}

impl Client {
    pub(super) fn new(config: &TelemetryConfig) -> Result<Self, OtlpError> {
        let mut headers = HeaderMap::new();
        if let Some(source) = &config.headers {
            for (name, value) in pairs(source.read()?.expose()).ok_or(OtlpError::Headers)? {
                let name = HeaderName::try_from(name).map_err(|_| OtlpError::Headers)?;
                let mut value = HeaderValue::try_from(value).map_err(|_| OtlpError::Headers)?;
                value.set_sensitive(true);
                headers.append(name, value);
            }
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .tls_config(tls(config.endpoint.starts_with("https:")))
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .build();
        let base = config.endpoint.trim_end_matches('/').to_owned();
        Ok(Self { agent: agent.new_agent(), base, headers, timeout: config.timeout })
    }

    /// Where it is, for the log.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Gives it a request at a path, and waits for so long at the most.
    pub(super) fn post(&self, path: &str, body: &[u8], patience: Duration) -> Answer {
        let mut request = self.agent.post(format!("{}{path}", self.base));
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.headers.clone());
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        }
        let request = request.config().timeout_global(Some(patience.max(Duration::from_millis(1)))).build();
        match request.send(body) {
            Ok(response) => read(path, response),
            Err(error) => Answer::Again { after: None, why: error.to_string() },
        }
    }
}

fn read(path: &str, mut response: Response<Body>) -> Answer {
    let status = response.status();
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let body = response.body_mut().with_config().limit(LARGEST_ANSWER).read_to_vec().unwrap_or_default();
    match status.as_u16() {
        200..=299 => Answer::Taken { rejected: find_number(&body, &[1, 1]).unwrap_or(0) },
        // Those of which the protocol says that they pass.
        429 | 502 | 503 | 504 => {
            Answer::Again { after: after.map(Duration::from_secs), why: format!("it answers {status}") }
        }
        404 => {
            let asked = "is the `endpoint` of [telemetry] one for OTLP over HTTP, and does it take this signal?";
            Answer::Refused(format!("it answers {status} at {path}: {asked}"))
        }
        _ => Answer::Refused(format!("it answers {status}")),
    }
}

/// The cryptography that the rest of the host has, and the authorities that the system trusts.
fn tls(is_needed: bool) -> TlsConfig {
    let builder =
        TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
    if !is_needed {
        return builder.build();
    }
    let found = rustls_native_certs::load_native_certs();
    let certificates: Vec<_> =
        found.certs.iter().map(|certificate| Certificate::from_der(certificate.as_ref()).to_owned()).collect();
    builder.root_certs(RootCerts::from(certificates)).build()
}
