//! Every route of the listener, in one closed list: its path, what it needs, and who answers it. The router is built
//! from this list and from nothing else, so a route that does not say what it needs cannot exist.

use std::sync::Arc;

use axum::http::Method;
use axum::routing::{MethodRouter, delete, get, post};

use super::state::HostState;
use super::{access, audit, configuration, dead_letters, handlers, health, live, publish, status};
use crate::access::Role;

/// One route: a method on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Endpoint {
    Live,
    Ready,
    Metrics,
    Whoami,
    Status,
    Publish,
    DeadLetters,
    DeadLetter,
    Discard,
    Redrive,
    Handlers,
    Handler,
    Deploy,
    Rollback,
    Promote,
    Abort,
    Changes,
    Apply,
    Audit,
    Happening,
}

/// What a caller needs for a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing: who asks is not looked at.
    Nothing,
    /// A role.
    Role(Role),
    /// A role, and that the caller is not limited to some handlers: it concerns all of them.
    WholeHost(Role),
    /// A role, and that the caller covers the handler that the path names with `{handler}`.
    Handler(Role),
}

impl Needs {
    /// The role that is needed.
    pub(super) const fn role(self) -> Option<Role> {
        match self {
            Self::Nothing => None,
            Self::Role(role) | Self::WholeHost(role) | Self::Handler(role) => Some(role),
        }
    }
}

impl Endpoint {
    /// All of them, in the order in which the documentation shows them.
    pub(super) const ALL: [Self; 20] = [
        Self::Live,
        Self::Ready,
        Self::Metrics,
        Self::Whoami,
        Self::Status,
        Self::Publish,
        Self::DeadLetters,
        Self::DeadLetter,
        Self::Discard,
        Self::Redrive,
        Self::Handlers,
        Self::Handler,
        Self::Deploy,
        Self::Rollback,
        Self::Promote,
        Self::Abort,
        Self::Changes,
        Self::Apply,
        Self::Audit,
        Self::Happening,
    ];

    /// The method and the path, as axum writes it.
    pub(super) const fn route(self) -> (Method, &'static str) {
        match self {
            Self::Live => (Method::GET, "/live"),
            Self::Ready => (Method::GET, "/ready"),
            Self::Metrics => (Method::GET, "/metrics"),
            Self::Whoami => (Method::GET, "/v1/whoami"),
            Self::Status => (Method::GET, "/v1/status"),
            Self::Publish => (Method::POST, "/v1/publish"),
            Self::DeadLetters => (Method::GET, "/v1/dead-letters"),
            Self::DeadLetter => (Method::GET, "/v1/dead-letters/{id}"),
            Self::Discard => (Method::DELETE, "/v1/dead-letters/{id}"),
            Self::Redrive => (Method::POST, "/v1/dead-letters/{id}/redrive"),
            Self::Handlers => (Method::GET, "/v1/handlers"),
            Self::Handler => (Method::GET, "/v1/handlers/{handler}"),
            Self::Deploy => (Method::POST, "/v1/handlers/{handler}/versions"),
            Self::Rollback => (Method::POST, "/v1/handlers/{handler}/rollback"),
            Self::Changes => (Method::GET, "/v1/configuration/changes"),
            Self::Apply => (Method::POST, "/v1/configuration/apply"),
            Self::Promote => (Method::POST, "/v1/handlers/{handler}/promote"),
            Self::Abort => (Method::POST, "/v1/handlers/{handler}/abort"),
            Self::Audit => (Method::GET, "/v1/audit"),
            Self::Happening => (Method::GET, "/v1/live"),
        }
    }

    /// What a caller needs.
    pub(super) const fn needs(self) -> Needs {
        match self {
            // Probes of orchestrators and load balancers have no token.
            Self::Live | Self::Ready => Needs::Nothing,
            Self::Metrics | Self::Whoami | Self::Status => Needs::Role(Role::Read),
            // A subject leads to any handler.
            Self::Publish => Needs::WholeHost(Role::Operate),
            // These look at the handler of each dead letter, and at the role for its headers and body.
            Self::DeadLetters | Self::DeadLetter => Needs::Role(Role::Read),
            Self::Discard | Self::Redrive => Needs::Role(Role::Operate),
            // It shows the handlers that the caller covers.
            Self::Handlers => Needs::Role(Role::Read),
            Self::Handler => Needs::Handler(Role::Read),
            Self::Deploy | Self::Rollback | Self::Promote | Self::Abort => Needs::Handler(Role::Deploy),
            // What is wrong with the file is shown with its lines: to those alone who may apply it.
            Self::Changes | Self::Apply => Needs::WholeHost(Role::Deploy),
            Self::Audit => Needs::WholeHost(Role::Operate),
            // It shows the handlers that the caller covers, and looks at the role for payloads.
            Self::Happening => Needs::Role(Role::Read),
        }
    }

    /// The word for it in the audit log, where it changes something.
    pub(super) const fn audited(self) -> Option<&'static str> {
        match self {
            Self::Live | Self::Ready | Self::Metrics | Self::Whoami | Self::Status => None,
            Self::Audit | Self::Happening => None,
            // Messages are the traffic: the queue has each with its time, and the metrics count them.
            Self::Publish => None,
            Self::DeadLetters | Self::DeadLetter | Self::Handlers | Self::Handler | Self::Changes => None,
            Self::Discard => Some("dead-letter.discard"),
            Self::Redrive => Some("dead-letter.redrive"),
            Self::Deploy => Some("handler.deploy"),
            Self::Rollback => Some("handler.rollback"),
            Self::Apply => Some("configuration.apply"),
            Self::Promote => Some("handler.promote"),
            Self::Abort => Some("handler.abort"),
        }
    }

    /// What answers it.
    pub(super) fn answer(self) -> MethodRouter<Arc<HostState>> {
        match self {
            Self::Live => get(health::live),
            Self::Ready => get(health::ready),
            Self::Metrics => get(health::metrics),
            Self::Whoami => get(access::whoami),
            Self::Status => get(status::status),
            Self::Publish => post(publish::publish),
            Self::DeadLetters => get(dead_letters::list),
            Self::DeadLetter => get(dead_letters::show),
            Self::Discard => delete(dead_letters::discard),
            Self::Redrive => post(dead_letters::redrive),
            Self::Handlers => get(handlers::list),
            Self::Handler => get(handlers::show),
            Self::Deploy => post(handlers::deploy),
            Self::Rollback => post(handlers::rollback),
            Self::Changes => get(configuration::changes),
            Self::Apply => post(configuration::apply),
            Self::Promote => post(handlers::promote),
            Self::Abort => post(handlers::abort),
            Self::Audit => get(audit::list),
            Self::Happening => get(live::live),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_listed_once_and_says_what_it_needs() {
        let mut seen = std::collections::BTreeSet::new();
        for (index, endpoint) in Endpoint::ALL.into_iter().enumerate() {
            // One that is missing at the end is never constructed, and the compiler says so.
            assert_eq!(endpoint as usize, index, "{endpoint:?} is not where the enum has it, or one is missing");
            let (method, path) = endpoint.route();
            assert!(seen.insert((method.to_string(), path)), "{method} {path} stands twice");
            let names_handler = path.contains("{handler}");
            assert_eq!(matches!(endpoint.needs(), Needs::Handler(_)), names_handler, "{path}");
            let open = endpoint.needs() == Needs::Nothing;
            assert_eq!(open, matches!(endpoint, Endpoint::Live | Endpoint::Ready), "{path} is open to all");
            let changes = method != Method::GET;
            assert!(
                !changes || endpoint.needs().role() >= Some(Role::Operate),
                "{method} {path} changes something for readers"
            );
        }
    }
}
