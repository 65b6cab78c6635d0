//! Speaks to one repository of one registry, by the OCI distribution specification.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use ureq::config::RedirectAuthHeaders;
use ureq::http::{Method, Request, Response, header};
use ureq::{Agent, Body};

use super::super::client::tls;
use super::super::exit::Failure;
use super::authorize::{self, Challenge};
use super::keychain::{self, Found};
use super::reference::Reference;
use super::{ANSWER_TIMEOUT, CONNECT_TIMEOUT, LARGEST_MANIFEST, RegistryArguments, answer, layout};

/// One repository.
pub(super) struct Registry {
    agent: Agent,
    /// Host and port, as people write it.
    name: String,
    /// `https://host:port`.
    base: String,
    repository: String,
    scope: String,
    /// `None`: not looked for yet.
    found: Option<Found>,
    /// What the registry was last content with.
    authorization: Option<String>,
}

/// One request.
struct Asked<'a> {
    method: Method,
    /// From the root of the registry, or whole.
    address: &'a str,
    /// Its media type and bytes.
    body: Option<(&'a str, &'a [u8])>,
    accept: Option<&'a str>,
}

impl Registry {
    /// The repository of a reference, for `pull` or `pull,push`. Nothing is asked yet.
    pub(super) fn new(reference: &Reference, with: &RegistryArguments, actions: &str) -> Result<Self, Failure> {
        let is_plain = with.plain_http || (reference.is_loopback() && with.registry_ca.is_none());
        let scheme = if is_plain { "http" } else { "https" };
        let repository = reference.repository().to_owned();
        Ok(Self {
            agent: agent(with.registry_ca.as_deref())?,
            name: reference.registry().to_owned(),
            base: format!("{scheme}://{}", reference.registry()),
            scope: format!("repository:{repository}:{actions}"),
            repository,
            found: None,
            authorization: None,
        })
    }

    /// A manifest by its tag or digest, and its media type.
    pub(super) fn manifest(&mut self, version: &str) -> Result<(Vec<u8>, Option<String>), Failure> {
        let doing = format!("getting {}:{version}", self.repository);
        let address = format!("/v2/{}/manifests/{version}", self.repository);
        // Other kinds are asked for too, so that what is no module can be named as what it is.
        let accept = format!(
            "{}, application/vnd.oci.image.index.v1+json;q=0.5, \
             application/vnd.docker.distribution.manifest.v2+json;q=0.1",
            layout::MANIFEST
        );
        let asked = Asked { method: Method::GET, address: &address, body: None, accept: Some(&accept) };
        let mut answered = self.expect(&asked, &[200], &doing)?;
        let bytes = answer::whole(&mut answered, LARGEST_MANIFEST).context(doing)?;
        let kind = answered.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        Ok((bytes, kind.map(str::to_owned)))
    }

    /// A blob of so many bytes. Its digest is the caller's to check.
    pub(super) fn blob(&mut self, digest: &str, size: usize) -> Result<Vec<u8>, Failure> {
        let doing = format!("getting the module {digest}");
        let address = format!("/v2/{}/blobs/{digest}", self.repository);
        let asked = Asked { method: Method::GET, address: &address, body: None, accept: None };
        let mut answered = self.expect(&asked, &[200], &doing)?;
        Ok(answer::whole(&mut answered, size).context(doing)?)
    }

    /// Stores a blob, unless the registry has it already.
    pub(super) fn store(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let digest = layout::digest(bytes);
        let doing = format!("storing {} bytes", bytes.len());
        let there = format!("/v2/{}/blobs/{digest}", self.repository);
        let asked = Asked { method: Method::HEAD, address: &there, body: None, accept: None };
        if self.ask(&asked, &doing)?.status() == 200 {
            return Ok(());
        }
        let begin = format!("/v2/{}/blobs/uploads/", self.repository);
        let asked = Asked { method: Method::POST, address: &begin, body: Some(("", &[])), accept: None };
        let begun = self.expect(&asked, &[202], &doing)?;
        let place = begun.headers().get(header::LOCATION).and_then(|place| place.to_str().ok());
        let place = place.with_context(|| format!("{doing}: {} did not say where to", self.name))?;
        let join = if place.contains('?') { '&' } else { '?' };
        let place = format!("{place}{join}digest={digest}");
        let body = Some(("application/octet-stream", bytes));
        self.expect(&Asked { method: Method::PUT, address: &place, body, accept: None }, &[201], &doing)?;
        Ok(())
    }

    /// Gives a manifest a tag.
    pub(super) fn tag(&mut self, tag: &str, manifest: &[u8]) -> Result<(), Failure> {
        let doing = format!("naming it {}:{tag}", self.repository);
        let address = format!("/v2/{}/manifests/{tag}", self.repository);
        let body = Some((layout::MANIFEST, manifest));
        self.expect(&Asked { method: Method::PUT, address: &address, body, accept: None }, &[201], &doing)?;
        Ok(())
    }

    fn expect(&mut self, asked: &Asked<'_>, statuses: &[u16], doing: &str) -> Result<Response<Body>, Failure> {
        let mut answered = self.ask(asked, doing)?;
        if statuses.contains(&answered.status().as_u16()) {
            return Ok(answered);
        }
        let known = self.found.as_ref().is_some_and(|found| found.credentials.is_some());
        let (status, said) = (answered.status(), answer::said(&mut answered));
        let refused = answer::refused(status, said.as_deref(), &self.name, doing, known);
        let more = match status.as_u16() {
            // What speaks TLS and is asked without says so by this, if it says anything; not in the words of a registry.
            400 if said.is_none() && self.base.starts_with("http:") => Some(tls::REGISTRY_WITH_TLS.to_owned()),
            401 | 403 => self.found.as_ref().and_then(Found::not_looked_at),
            _ => None,
        };
        match more {
            None => Err(refused),
            Some(more) => Err(Failure { error: anyhow!("{}; {more}", refused.error), ..refused }),
        }
    }

    /// Asks, and once more with leave when the registry wants to know who we are.
    fn ask(&mut self, asked: &Asked<'_>, doing: &str) -> anyhow::Result<Response<Body>> {
        let answered = self.send(asked, doing)?;
        if answered.status() != 401 {
            return Ok(answered);
        }
        let challenge = answered.headers().get(header::WWW_AUTHENTICATE).and_then(|header| header.to_str().ok());
        let Some(challenge) = challenge.and_then(Challenge::read) else { return Ok(answered) };
        if self.found.is_none() {
            self.found = Some(keychain::credentials(&self.name)?);
        }
        let credentials = self.found.as_ref().and_then(|found| found.credentials.as_ref());
        let leave = authorize::answer(&self.agent, &challenge, credentials, &self.scope, &self.base)?;
        match leave {
            // It is what was refused just now, or there is nothing to tell.
            None => Ok(answered),
            Some(leave) if self.authorization.as_ref() == Some(&leave) => Ok(answered),
            Some(leave) => {
                self.authorization = Some(leave);
                self.send(asked, doing)
            }
        }
    }

    fn send(&self, asked: &Asked<'_>, doing: &str) -> anyhow::Result<Response<Body>> {
        let whole = if asked.address.starts_with('/') {
            format!("{}{}", self.base, asked.address)
        } else {
            super::checked_address(asked.address, &self.base)?;
            asked.address.to_owned()
        };
        let mut request = Request::builder().method(asked.method.clone()).uri(&whole);
        // Where the registry sends us to store things is not always the registry: it gets no secret then.
        let is_own = whole.strip_prefix(&self.base).is_some_and(|rest| rest.starts_with('/'));
        if let Some(leave) = self.authorization.as_ref().filter(|_| is_own) {
            request = request.header(header::AUTHORIZATION, leave);
        }
        if let Some(accept) = asked.accept {
            request = request.header(header::ACCEPT, accept);
        }
        let answered = match asked.body {
            None => self.agent.run(request.body(()).context("making a request")?),
            Some((kind, bytes)) => {
                if !kind.is_empty() {
                    request = request.header(header::CONTENT_TYPE, kind);
                }
                self.agent.run(request.body(bytes).context("making a request")?)
            }
        };
        answered.map_err(|error| self.unmet(error, doing))
    }

    /// The registry could not be asked.
    fn unmet(&self, error: ureq::Error, doing: &str) -> anyhow::Error {
        let (name, base) = (&self.name, &self.base);
        if let Some(why) = tls::why_no_registry(&error) {
            return anyhow!("{doing}: the registry {name} cannot be asked at {base}: {why}");
        }
        match error {
            error @ (ureq::Error::Io(_)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::Timeout(_)) => anyhow!(
                "{doing}: the registry {name} cannot be reached at {base}: {error}; is it running, and is that its address?"
            ),
            error => anyhow::Error::from(error).context(format!("{doing}: asking {base}")),
        }
    }
}

/// A client that trusts whom the system trusts and the authorities in a file, with the TLS that the rest of the host has.
fn agent(ca: Option<&Path>) -> Result<Agent, Failure> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(5)
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(ANSWER_TIMEOUT))
        .tls_config(tls::registry(ca)?);
    Ok(config.build().new_agent())
}
