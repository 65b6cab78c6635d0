//! The HTTP listener: health, metrics, publishing, status, dead letters, and deploying. It is all that this host serves.
//!
//! | method and path | what |
//! |---|---|
//! | `GET /live` | the process answers |
//! | `GET /ready` | subscribed, brokers connected, not draining; 503 with the reasons otherwise |
//! | `GET /metrics` | OpenMetrics |
//! | `POST /v1/publish` | one message, or a stream of messages as JSON lines |
//! | `GET /v1/whoami` | who the host takes the caller for, and what they may do |
//! | `GET /v1/status` | counts of every subscription |
//! | `GET /v1/history` | the last hour, a point every ten seconds |
//! | `POST /v1/subscriptions/{subscription}/pause`, `/resume` | takes no messages for it, and takes them again |
//! | `POST /v1/handlers/{handler}/pause`, `/resume` | the same for all subscriptions of a handler |
//! | `GET /v1/dead-letters` | a page of dead letters |
//! | `GET /v1/dead-letters/stats` | how many there are of each kind |
//! | `GET /v1/dead-letters/export`, `POST /v1/dead-letters/import` | whole, as lines of JSON; in again |
//! | `GET`, `DELETE /v1/dead-letters/{id}` | one, whole; removes it |
//! | `POST /v1/dead-letters/{id}/redrive` | sends it back |
//! | `GET`, `POST /v1/dead-letters/tasks` | tasks over dead letters; begins one |
//! | `GET /v1/dead-letters/tasks/{task}`, `POST .../pause`, `.../resume`, `.../cancel` | how far it is; holds it, ends it |
//! | `GET /v1/handlers` | what runs |
//! | `GET /v1/handlers/{handler}` | its versions, and what happened |
//! | `GET /v1/handlers/{handler}/modules/{digest}` | the module of a version that is kept |
//! | `POST /v1/handlers/{handler}/versions` | deploys the module in the body; a line of JSON for each step |
//! | `POST /v1/handlers/{handler}/rollback` | makes a version of before the active one again |
//! | `GET /v1/configuration/changes` | what the host's file changes against what runs |
//! | `POST /v1/configuration/apply` | applies these very changes, all or nothing |
//! | `POST /v1/handlers/{handler}/promote`, `/abort` | makes the version that is tried the active one; ends that |
//! | `GET /v1/audit` | who changed what, the newest first |
//! | `GET /v1/live` | what becomes of messages, a line of JSON each, as it happens |
//! | `GET /v1/openapi.json` | all of this as an OpenAPI document |
//! | `GET /`, `GET /console/{file}` | the console: a page for people, made of what stands above |
//!
//! What each route needs of its caller, and what is said of it, stands in [`endpoint`], a closed list from which the router
//! and the document are built.
//!
//! Invariants:
//! - Without tokens it listens on loopback only, and answers whoever speaks to it by a loopback name: see [`guard`].
//! - A message is answered with success only after its broker has stored it.
//! - With TLS nothing is read of a request before the client has agreed on it, and shown a certificate where it must.
//! - What one request holds in memory is bounded, however long it is; so is the number of requests and connections.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::{Router, middleware};
use tokio::net::TcpListener;

mod access;
mod audit;
mod configuration;
mod connections;
mod console;
mod dead_letters;
mod door;
mod endpoint;
mod fail;
mod guard;
mod handlers;
mod handshakes;
mod health;
mod history;
mod kept;
mod lines;
mod live;
mod openapi;
mod past;
mod publish;
mod seldom;
mod state;
mod status;
mod subscriptions;
mod tls;
pub mod wire;

pub(crate) use audit::Begun;
pub use audit::{Audit, AuditError};
pub use door::Door;
use endpoint::Endpoint;
pub(crate) use health::show_broker;
pub use state::{HostState, Pausing, SubscriptionStatus, Subscriptions};
pub use tls::{Material, Tls, TlsError};

/// Why the listener does not run.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address can be reached from other machines, and there is no authentication.
    #[error("`{0}` is not a loopback address, and no tokens are configured")]
    NotLoopback(SocketAddr),
    /// The address could not be taken.
    #[error("could not listen on {address}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A listener that has its address and does not answer yet.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    door: Door,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
}

/// Takes the address, so that a host whose port is taken ends before it starts anything.
///
/// # Errors
/// When the address is not loopback and the door is open, or when the address is taken.
pub async fn listen(address: SocketAddr, door: Door) -> Result<Listening, ListenError> {
    if !address.ip().is_loopback() && door.is_open() {
        return Err(ListenError::NotLoopback(address));
    }
    let fail = |source| ListenError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;
    Ok(Listening { listener, door, address, tls: None })
}

impl Listening {
    /// Where it listens: the port that was given, or the one that was found for port 0.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same with TLS.
    #[must_use]
    pub fn with_tls(self, tls: Arc<Tls>) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Answers until `stop` ends; requests that run are then finished.
    ///
    /// # Errors
    /// When the listening socket breaks.
    pub async fn serve(
        self,
        state: Arc<HostState>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        connections::serve(self.listener, self.tls, router(state, &self.door), stop).await
    }
}

/// Every route of the closed list, behind its gate.
fn router(state: Arc<HostState>, door: &Door) -> Router {
    let mut router = Router::new();
    for endpoint in Endpoint::ALL {
        let gate = access::Gate { endpoint, door: door.clone(), audit: Arc::clone(&state.audit) };
        let answer = endpoint.served().router.route_layer(middleware::from_fn_with_state(gate, access::gate));
        router = router.route(endpoint.route().1, answer);
    }
    router
        .fallback(fail::no_such_path)
        .method_not_allowed_fallback(fail::no_such_method)
        .layer(middleware::from_fn_with_state(door.clone(), guard::guard))
        .with_state(state)
}

#[cfg(test)]
mod tests;
