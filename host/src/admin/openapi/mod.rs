//! The OpenAPI document of the listener: `/v1/openapi.json`, and `docs/openapi.json` in the repository.
//!
//! ```text
//! Endpoint (path, method, needs) --.
//! the function that answers it -----+-> document
//! what is said of it ---------------'
//! ```
//!
//! Invariants:
//! - Every route is described: [`Endpoint::served`](super::endpoint::Endpoint::served) gives what answers a route together
//!   with what is said of it, and the router takes both or none.
//! - What is read and answered is described from the very types of the function that answers ([`types`]); what is written
//!   by hand are sentences, examples, and which errors there are.
//! - It is the same on every host of a version, and holds no secret: nothing of a configuration is in it.

mod codes;
mod content;
mod document;
pub(super) mod said;
mod types;

use std::sync::{Arc, LazyLock};

use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, on};
use content::Said;
use types::{Tells, Told};

use super::endpoint::Verb;
use super::state::HostState;

/// A route that can be served: what answers it, and what is said of it.
pub(super) struct Served {
    pub(super) router: MethodRouter<Arc<HostState>>,
    pub(super) told: Told,
    pub(super) said: Said,
}

/// A route that a function answers.
pub(super) fn serve<F, M, A>(verb: Verb, answers: F, said: Said) -> Served
where
    F: axum::handler::Handler<M, Arc<HostState>> + Tells<A>,
    M: 'static,
{
    Served { router: on(verb.filter(), answers), told: F::tell(), said }
}

/// The document, as it is served and as it stands in the repository.
pub(crate) fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        // Text keys and plain data of ours always have a JSON form.
        serde_json::to_string_pretty(&document::document()).unwrap_or_default() + "\n"
    });
    &TEXT
}

/// `GET /v1/openapi.json`
pub(super) async fn show() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text()).into_response()
}

#[cfg(test)]
#[path = "../../../tests/it/support/openapi.rs"]
pub(super) mod checker;
#[cfg(test)]
mod tests;
