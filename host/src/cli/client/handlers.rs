//! Handlers over the listener: looked at, deployed to, rolled back.

use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use anyhow::{Context, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use ureq::AsSendBody;

use super::{Client, encoded, read, refusal, said, unmet};
use crate::cli::exit::{Exit, Failure};
use crate::deploy::report::{Aborted, HandlerList, HandlerView, Line, Promoted, RolledBack};
use crate::signature::{self, Signature};

/// A module that waits for the compiler, takes as long as it may there, and is tried on golden messages.
const DEPLOY_TIMEOUT: Duration = Duration::from_secs(600);

/// The configuration of a host may allow larger modules than the default of 64 MiB.
const LARGEST_MODULE: u64 = 1 << 30;

impl Client {
    /// All handlers.
    pub(crate) fn handlers(&self) -> Result<HandlerList, Failure> {
        read(self.agent.get(format!("{}/v1/handlers", self.base)).call())
    }

    /// One handler, whole.
    pub(crate) fn handler(&self, name: &str) -> Result<HandlerView, Failure> {
        read(self.agent.get(self.of_handler(name, "")).call())
    }

    /// The module of a version that is kept.
    pub(crate) fn module(&self, name: &str, digest: &str) -> Result<Vec<u8>, Failure> {
        let request = self.agent.get(self.of_handler(name, &format!("/modules/{}", encoded(digest))));
        let mut answer = request.call().map_err(unmet)?;
        if !answer.status().is_success() {
            return Err(refusal(&mut answer));
        }
        let read = answer.body_mut().with_config().limit(LARGEST_MODULE).read_to_vec();
        Ok(read.context("reading the module from the host")?)
    }

    /// Makes a version of before the active one again.
    pub(crate) fn rollback(&self, name: &str, to: Option<u64>) -> Result<RolledBack, Failure> {
        let mut request = self.agent.post(self.of_handler(name, "/rollback"));
        if let Some(number) = to {
            request = request.query("to", number.to_string());
        }
        read(request.send_empty())
    }

    /// Makes the version that is tried the active one, if it is this one.
    pub(crate) fn promote(&self, name: &str, version: Option<u64>) -> Result<Promoted, Failure> {
        self.end_trial(name, "/promote", version)
    }

    /// Ends the trial of a version, if it is this one.
    pub(crate) fn abort(&self, name: &str, version: Option<u64>) -> Result<Aborted, Failure> {
        self.end_trial(name, "/abort", version)
    }

    fn end_trial<T: DeserializeOwned>(&self, name: &str, how: &str, version: Option<u64>) -> Result<T, Failure> {
        let mut request = self.agent.post(self.of_handler(name, how));
        if let Some(number) = version {
            request = request.query("version", number.to_string());
        }
        read(request.send_empty())
    }

    /// Uploads a module, with its signature and what is asked of the deploy, and passes each line of the answer on as it comes.
    pub(crate) fn deploy(
        &self,
        name: &str,
        module: impl AsSendBody,
        signature: Option<&Signature>,
        query: &[(&str, String)],
        mut each: impl FnMut(Line),
    ) -> Result<(), Failure> {
        let mut request = self.agent.post(self.of_handler(name, "/versions"));
        for (key, value) in query {
            request = request.query(*key, value);
        }
        if let Some(signature) = signature {
            request = request.header(signature::HEADER, STANDARD.encode(signature.as_str()));
        }
        let request = request.header("content-type", "application/wasm").header("expect", "100-continue");
        let request =
            request.config().timeout_recv_response(Some(DEPLOY_TIMEOUT)).timeout_recv_body(Some(DEPLOY_TIMEOUT));
        let sent = request.build().send(module);
        let mut answer = sent.map_err(|error| anyhow!(said(&error)).context("uploading the module"))?;
        if !answer.status().is_success() {
            let failure = refusal(&mut answer);
            // The module is larger than the handler's `limits.module_size`: it is refused, as for any other of its limits.
            let is_too_large = answer.status().as_u16() == 413;
            return Err(if is_too_large { Failure { exit: Exit::Refused, ..failure } } else { failure });
        }
        let lines = BufReader::new(answer.body_mut().as_reader()).lines();
        let mut ended = false;
        for line in lines {
            let line = line.context("reading the host's answer")?;
            let line = serde_json::from_str(&line).with_context(|| format!("reading the host's answer, {line}"))?;
            ended = matches!(line, Line::Done(_) | Line::Failed(_));
            each(line);
        }
        if ended {
            return Ok(());
        }
        let unknown = "the host's answer broke off: `tidegate handlers show` tells which version runs";
        Err(Failure::from(anyhow!(unknown)))
    }

    fn of_handler(&self, name: &str, rest: &str) -> String {
        format!("{}/v1/handlers/{}{rest}", self.base, encoded(name))
    }
}
