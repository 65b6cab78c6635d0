//! What a registry answers, read within limits and explained.

use anyhow::{Context as _, anyhow};
use serde::Deserialize;
use ureq::Body;
use ureq::http::Response;

use super::super::exit::Failure;

/// A refusal is a line or two.
const LARGEST_REFUSAL: usize = 64 << 10;

#[derive(Deserialize)]
struct Refusal {
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// A body that may not be longer than so many bytes.
pub(super) fn whole(answer: &mut Response<Body>, largest: usize) -> anyhow::Result<Vec<u8>> {
    // One more, so that what is too long is told from what just fits.
    let read = answer.body_mut().with_config().limit(largest as u64 + 1).read_to_vec();
    let bytes = read.context("reading the answer")?;
    if bytes.len() > largest {
        return Err(anyhow!("the answer is longer than the {largest} bytes that it may have"));
    }
    Ok(bytes)
}

/// What an answer that is no success means, and what to do.
pub(super) fn refused(answer: &mut Response<Body>, registry: &str, doing: &str, has_credentials: bool) -> Failure {
    let status = answer.status();
    let said = whole(answer, LARGEST_REFUSAL).ok().and_then(|bytes| serde_json::from_slice::<Refusal>(&bytes).ok());
    let said = said.map(|refusal| {
        let lines = refusal.errors.into_iter().map(|error| format!("{}: {}", error.code, error.message));
        format!(" ({})", lines.collect::<Vec<_>>().join("; "))
    });
    let said = said.unwrap_or_default();
    match status.as_u16() {
        401 | 403 if has_credentials => Failure::from(anyhow!(
            "{doing}: {registry} refuses your credentials for that{said}: log in anew with `docker login {registry}` or \
             `podman login {registry}`"
        )),
        401 | 403 => Failure::from(anyhow!(
            "{doing}: {registry} wants to know who you are{said}: log in with `docker login {registry}` or \
             `podman login {registry}`, or write ~/.docker/config.json"
        )),
        404 => Failure::not_found(anyhow!("{doing}: it is not there{said}")),
        413 => Failure::from(anyhow!("{doing}: it is too large for {registry}{said}")),
        429 => Failure::from(anyhow!("{doing}: too many requests for {registry}{said}; try again later")),
        500.. => Failure::from(anyhow!("{doing}: {registry} is in trouble ({status}){said}; try again later")),
        _ => Failure::from(anyhow!("{doing}: {registry} answered {status}{said}")),
    }
}
