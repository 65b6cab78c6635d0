//! Every route of the listener, in one closed list: its path, what it needs, who answers it, and what is said of it. The
//! router and the OpenAPI document are built from this list and from nothing else, so a route that does not say what it
//! needs, or that is not described, cannot exist.

use std::fmt;

use axum::routing::MethodFilter;

use super::openapi::{self, Served, said, serve};
use super::{
    access, audit, configuration, console, dead_letters, handlers, health, history, kept, live, past, publish, status,
    subscriptions,
};
use crate::access::Role;

/// A method of HTTP that routes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verb {
    Get,
    Post,
    Delete,
}

impl Verb {
    /// The word for it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }

    pub(super) const fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Delete => MethodFilter::DELETE,
        }
    }

    /// Whether it changes something.
    pub(super) const fn changes(self) -> bool {
        match self {
            Self::Get => false,
            Self::Post | Self::Delete => true,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One route: a method on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Endpoint {
    Live,
    Ready,
    Metrics,
    Whoami,
    Status,
    History,
    Kept,
    Forget,
    Pause,
    Resume,
    PauseHandler,
    ResumeHandler,
    Past,
    Publish,
    DeadLetters,
    DeadLetterStats,
    Export,
    Import,
    DeadLetter,
    Discard,
    Redrive,
    Replay,
    Tasks,
    BeginTask,
    Task,
    PauseTask,
    ResumeTask,
    CancelTask,
    Handlers,
    Handler,
    Module,
    Deploy,
    Rollback,
    Promote,
    Abort,
    Changes,
    Apply,
    Audit,
    Happening,
    OpenApi,
    Console,
    ConsoleFile,
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
    pub(super) const ALL: [Self; 42] = [
        Self::Live,
        Self::Ready,
        Self::Metrics,
        Self::Whoami,
        Self::Status,
        Self::History,
        Self::Kept,
        Self::Forget,
        Self::Pause,
        Self::Resume,
        Self::PauseHandler,
        Self::ResumeHandler,
        Self::Past,
        Self::Publish,
        Self::DeadLetters,
        Self::DeadLetterStats,
        Self::Export,
        Self::Import,
        Self::DeadLetter,
        Self::Discard,
        Self::Redrive,
        Self::Replay,
        Self::Tasks,
        Self::BeginTask,
        Self::Task,
        Self::PauseTask,
        Self::ResumeTask,
        Self::CancelTask,
        Self::Handlers,
        Self::Handler,
        Self::Module,
        Self::Deploy,
        Self::Rollback,
        Self::Promote,
        Self::Abort,
        Self::Changes,
        Self::Apply,
        Self::Audit,
        Self::Happening,
        Self::OpenApi,
        Self::Console,
        Self::ConsoleFile,
    ];

    /// The method and the path, as axum writes it.
    pub(super) const fn route(self) -> (Verb, &'static str) {
        match self {
            Self::Live => (Verb::Get, "/live"),
            Self::Ready => (Verb::Get, "/ready"),
            Self::Metrics => (Verb::Get, "/metrics"),
            Self::Whoami => (Verb::Get, "/v1/whoami"),
            Self::Status => (Verb::Get, "/v1/status"),
            Self::History => (Verb::Get, "/v1/history"),
            Self::Kept => (Verb::Get, "/v1/subscriptions"),
            Self::Forget => (Verb::Delete, "/v1/subscriptions/{subscription}"),
            Self::Pause => (Verb::Post, "/v1/subscriptions/{subscription}/pause"),
            Self::Resume => (Verb::Post, "/v1/subscriptions/{subscription}/resume"),
            Self::PauseHandler => (Verb::Post, "/v1/handlers/{handler}/pause"),
            Self::ResumeHandler => (Verb::Post, "/v1/handlers/{handler}/resume"),
            Self::Past => (Verb::Get, "/v1/subscriptions/{subscription}/messages"),
            Self::Publish => (Verb::Post, "/v1/publish"),
            Self::DeadLetters => (Verb::Get, "/v1/dead-letters"),
            Self::DeadLetterStats => (Verb::Get, "/v1/dead-letters/stats"),
            Self::Export => (Verb::Get, "/v1/dead-letters/export"),
            Self::Import => (Verb::Post, "/v1/dead-letters/import"),
            Self::DeadLetter => (Verb::Get, "/v1/dead-letters/{id}"),
            Self::Discard => (Verb::Delete, "/v1/dead-letters/{id}"),
            Self::Redrive => (Verb::Post, "/v1/dead-letters/{id}/redrive"),
            Self::Replay => (Verb::Post, "/v1/dead-letters/{id}/replay"),
            Self::Tasks => (Verb::Get, "/v1/dead-letters/tasks"),
            Self::BeginTask => (Verb::Post, "/v1/dead-letters/tasks"),
            Self::Task => (Verb::Get, "/v1/dead-letters/tasks/{task}"),
            Self::PauseTask => (Verb::Post, "/v1/dead-letters/tasks/{task}/pause"),
            Self::ResumeTask => (Verb::Post, "/v1/dead-letters/tasks/{task}/resume"),
            Self::CancelTask => (Verb::Post, "/v1/dead-letters/tasks/{task}/cancel"),
            Self::Handlers => (Verb::Get, "/v1/handlers"),
            Self::Handler => (Verb::Get, "/v1/handlers/{handler}"),
            Self::Module => (Verb::Get, "/v1/handlers/{handler}/modules/{digest}"),
            Self::Deploy => (Verb::Post, "/v1/handlers/{handler}/versions"),
            Self::Rollback => (Verb::Post, "/v1/handlers/{handler}/rollback"),
            Self::Changes => (Verb::Get, "/v1/configuration/changes"),
            Self::Apply => (Verb::Post, "/v1/configuration/apply"),
            Self::Promote => (Verb::Post, "/v1/handlers/{handler}/promote"),
            Self::Abort => (Verb::Post, "/v1/handlers/{handler}/abort"),
            Self::Audit => (Verb::Get, "/v1/audit"),
            Self::Happening => (Verb::Get, "/v1/live"),
            Self::OpenApi => (Verb::Get, "/v1/openapi.json"),
            Self::Console => (Verb::Get, "/"),
            Self::ConsoleFile => (Verb::Get, "/console/{file}"),
        }
    }

    /// What a caller needs.
    pub(super) const fn needs(self) -> Needs {
        match self {
            // Probes of orchestrators and load balancers have no token.
            // A page asks for a token itself; what it is made of is the same on every host, and says nothing of this one.
            Self::Live | Self::Ready | Self::Console | Self::ConsoleFile => Needs::Nothing,
            // These show the subscriptions whose handlers the caller covers.
            Self::Whoami | Self::Status | Self::History => Needs::Role(Role::Read),
            // They are of all handlers, in figures that cannot be taken apart.
            Self::Metrics => Needs::WholeHost(Role::Read),
            // Which handler a subscription had that is not configured any more, nobody knows.
            Self::Kept => Needs::WholeHost(Role::Read),
            Self::Forget => Needs::WholeHost(Role::Operate),
            // These look at the handler of the subscription.
            Self::Pause | Self::Resume | Self::Past => Needs::Role(Role::Operate),
            Self::PauseHandler | Self::ResumeHandler => Needs::Handler(Role::Operate),
            // A subject leads to any handler.
            Self::Publish => Needs::WholeHost(Role::Operate),
            // These look at the handler of each dead letter, and at the role for its headers and body.
            Self::DeadLetters | Self::DeadLetterStats | Self::DeadLetter => Needs::Role(Role::Read),
            // A replay shows payload, as the log and the outputs of a run do.
            Self::Discard | Self::Redrive | Self::Replay | Self::Export => Needs::Role(Role::Operate),
            // A record may say any handler.
            Self::Import => Needs::WholeHost(Role::Operate),
            // A task keeps to the handlers that its caller covers.
            Self::Tasks | Self::Task => Needs::Role(Role::Read),
            Self::BeginTask | Self::PauseTask | Self::ResumeTask | Self::CancelTask => Needs::Role(Role::Operate),
            // It shows the handlers that the caller covers.
            Self::Handlers => Needs::Role(Role::Read),
            Self::Handler => Needs::Handler(Role::Read),
            // It is fetched to run a message again, which is payload.
            Self::Module => Needs::Handler(Role::Operate),
            Self::Deploy | Self::Rollback | Self::Promote | Self::Abort => Needs::Handler(Role::Deploy),
            // What is wrong with the file is shown with its lines: to those alone who may apply it.
            Self::Changes | Self::Apply => Needs::WholeHost(Role::Deploy),
            Self::Audit => Needs::WholeHost(Role::Operate),
            // It shows the handlers that the caller covers, and looks at the role for payloads.
            Self::Happening => Needs::Role(Role::Read),
            // It holds no secret; but a stranger has no need to know which version runs here.
            Self::OpenApi => Needs::Role(Role::Read),
        }
    }

    /// The word for it in the audit log, where it changes something.
    pub(super) const fn audited(self) -> Option<&'static str> {
        match self {
            Self::Live | Self::Ready | Self::Metrics | Self::Whoami | Self::Status | Self::History => None,
            Self::Kept => None,
            Self::Forget => Some("subscription.forget"),
            Self::Console | Self::ConsoleFile => None,
            Self::Audit | Self::Happening | Self::OpenApi | Self::Past => None,
            // Messages are the traffic: the queue has each with its time, and the metrics count them.
            Self::Publish => None,
            Self::DeadLetters | Self::DeadLetterStats | Self::Export | Self::DeadLetter => None,
            // It changes nothing: what it would send goes nowhere, and nothing is counted.
            Self::Replay => None,
            Self::Tasks | Self::Task => None,
            Self::Import => Some("dead-letter.import"),
            Self::Handlers | Self::Handler | Self::Module | Self::Changes => None,
            Self::Pause => Some("subscription.pause"),
            Self::Resume => Some("subscription.resume"),
            Self::PauseHandler => Some("handler.pause"),
            Self::ResumeHandler => Some("handler.resume"),
            Self::Discard => Some("dead-letter.discard"),
            Self::Redrive => Some("dead-letter.redrive"),
            Self::BeginTask => Some("dead-letter.task"),
            Self::PauseTask => Some("dead-letter.task.pause"),
            Self::ResumeTask => Some("dead-letter.task.resume"),
            Self::CancelTask => Some("dead-letter.task.cancel"),
            Self::Deploy => Some("handler.deploy"),
            Self::Rollback => Some("handler.rollback"),
            Self::Apply => Some("configuration.apply"),
            Self::Promote => Some("handler.promote"),
            Self::Abort => Some("handler.abort"),
        }
    }

    /// What answers it, and what is said of it.
    pub(super) fn served(self) -> Served {
        let (verb, _) = self.route();
        match self {
            Self::Live => serve(verb, health::live, said::health::live()),
            Self::Ready => serve(verb, health::ready, said::health::ready()),
            Self::Metrics => serve(verb, health::metrics, said::health::metrics()),
            Self::Whoami => serve(verb, access::whoami, said::access::whoami()),
            Self::Status => serve(verb, status::status, said::health::status()),
            Self::History => serve(verb, history::history, said::health::history()),
            Self::Kept => serve(verb, kept::list, said::subscriptions::kept()),
            Self::Forget => serve(verb, kept::forget, said::subscriptions::forget()),
            Self::Pause => serve(verb, subscriptions::pause, said::subscriptions::pause()),
            Self::Resume => serve(verb, subscriptions::resume, said::subscriptions::resume()),
            Self::PauseHandler => serve(verb, subscriptions::pause_handler, said::subscriptions::pause_handler()),
            Self::ResumeHandler => serve(verb, subscriptions::resume_handler, said::subscriptions::resume_handler()),
            Self::Past => serve(verb, past::messages, said::subscriptions::past()),
            Self::Publish => serve(verb, publish::publish, said::messages::publish()),
            Self::DeadLetters => serve(verb, dead_letters::list, said::dead_letters::list()),
            Self::DeadLetterStats => serve(verb, dead_letters::stats, said::dead_letters::stats()),
            Self::Export => serve(verb, dead_letters::export, said::dead_letters::export()),
            Self::Import => serve(verb, dead_letters::import, said::dead_letters::import()),
            Self::DeadLetter => serve(verb, dead_letters::show, said::dead_letters::show()),
            Self::Discard => serve(verb, dead_letters::discard, said::dead_letters::discard()),
            Self::Redrive => serve(verb, dead_letters::redrive, said::dead_letters::redrive()),
            Self::Replay => serve(verb, dead_letters::replay, said::dead_letters::replay()),
            Self::Tasks => serve(verb, dead_letters::tasks::list, said::dead_letters::tasks()),
            Self::BeginTask => serve(verb, dead_letters::tasks::begin, said::dead_letters::begin_task()),
            Self::Task => serve(verb, dead_letters::tasks::show, said::dead_letters::task()),
            Self::PauseTask => serve(verb, dead_letters::tasks::pause, said::dead_letters::pause_task()),
            Self::ResumeTask => serve(verb, dead_letters::tasks::resume, said::dead_letters::resume_task()),
            Self::CancelTask => serve(verb, dead_letters::tasks::cancel, said::dead_letters::cancel_task()),
            Self::Handlers => serve(verb, handlers::list, said::handlers::list()),
            Self::Handler => serve(verb, handlers::show, said::handlers::show()),
            Self::Module => serve(verb, handlers::module, said::handlers::module()),
            Self::Deploy => serve(verb, handlers::deploy, said::handlers::deploy()),
            Self::Rollback => serve(verb, handlers::rollback, said::handlers::rollback()),
            Self::Changes => serve(verb, configuration::changes, said::configuration::changes()),
            Self::Apply => serve(verb, configuration::apply, said::configuration::apply()),
            Self::Promote => serve(verb, handlers::promote, said::handlers::promote()),
            Self::Abort => serve(verb, handlers::abort, said::handlers::abort()),
            Self::Audit => serve(verb, audit::list, said::access::audit()),
            Self::Happening => serve(verb, live::live, said::messages::happening()),
            Self::OpenApi => serve(verb, openapi::show, said::access::openapi()),
            Self::Console => serve(verb, console::page, said::console::page()),
            Self::ConsoleFile => serve(verb, console::file, said::console::file()),
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
            let (verb, path) = endpoint.route();
            assert!(seen.insert((verb, path)), "{verb} {path} stands twice");
            let names_handler = path.contains("{handler}");
            assert_eq!(matches!(endpoint.needs(), Needs::Handler(_)), names_handler, "{path}");
            let open = endpoint.needs() == Needs::Nothing;
            assert_eq!(
                open,
                matches!(endpoint, Endpoint::Live | Endpoint::Ready | Endpoint::Console | Endpoint::ConsoleFile),
                "{path} is open to all"
            );
            assert!(
                !verb.changes() || endpoint.needs().role() >= Some(Role::Operate),
                "{verb} {path} changes something for readers"
            );
        }
    }
}
