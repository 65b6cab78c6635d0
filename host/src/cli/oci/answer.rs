//! What a registry answers, read within limits and explained.

use anyhow::{Context as _, anyhow};
use serde::Deserialize;
use ureq::Body;
use ureq::http::{Response, StatusCode};

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

/// What a registry says of a refusal, in the words of the specification; `None`: something else, which a registry may not even be.
pub(super) fn said(answer: &mut Response<Body>) -> Option<String> {
    let bytes = whole(answer, LARGEST_REFUSAL).ok()?;
    let refusal: Refusal = serde_json::from_slice(&bytes).ok()?;
    let lines = refusal.errors.into_iter().map(|error| format!("{}: {}", error.code, error.message));
    Some(lines.collect::<Vec<_>>().join("; "))
}

/// What an answer that is no success means, and what to do.
pub(super) fn refused(
    status: StatusCode,
    said: Option<&str>,
    registry: &str,
    doing: &str,
    has_credentials: bool,
) -> Failure {
    let said = said.map(|said| format!(" ({said})")).unwrap_or_default();
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
