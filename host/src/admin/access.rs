//! Who a request is from, and whether they may have what they ask for.
//!
//! Invariants:
//! - Every request passes [`gate`] before what answers it: the router puts it before each route of the closed list.
//! - What changes something stands in the audit log before it is done.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::audit::{Action, Audit, EndsLater};
use super::connections::Peer;
use super::door::Door;
use super::endpoint::{Endpoint, Needs};
use super::fail::{Fail, FailCode};
use super::seldom::Seldom;
use super::wire;
use crate::access::{Caller, Role, Scope};

/// What the gate needs to know of the route that it stands before.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) endpoint: Endpoint,
    pub(super) door: Door,
    pub(super) audit: Arc<Audit>,
}

/// Lets a request through when its caller may have what it asks for; the caller then goes with the request.
pub(super) async fn gate(
    State(gate): State<Gate>,
    Extension(peer): Extension<Peer>,
    parameters: Result<RawPathParams, RawPathParamsRejection>,
    mut request: Request,
    next: Next,
) -> Response {
    let needs = gate.endpoint.needs();
    let Some(role) = needs.role() else {
        // Nobody has to say who they are; whoever does may be told more.
        if let Ok(caller) = gate.door.caller(request.headers(), Role::Read, SystemTime::now()) {
            request.extensions_mut().insert(caller);
        }
        return match parameters {
            Ok(_) => next.run(request).await,
            Err(rejection) => Fail::bad_request("invalid-path", rejection.body_text()).into_response(),
        };
    };
    let caller = gate.door.caller(request.headers(), role, SystemTime::now());
    let admitted = caller.and_then(|caller| {
        // After the question who asks: a stranger learns nothing of paths.
        let parameters = parameters.map_err(|rejection| Fail::bad_request("invalid-path", rejection.body_text()))?;
        let handler = parameters.iter().find(|(name, _)| *name == "handler").map(|(_, value)| value);
        allowed(&caller, needs, handler).map(|()| caller)
    });
    match admitted {
        Ok(caller) => {
            request.extensions_mut().insert(caller.clone());
            match gate.endpoint.audited() {
                None => next.run(request).await,
                Some(action) => audited(&gate.audit, &caller, peer, action, request, next).await,
            }
        }
        Err(fail) => {
            let (endpoint, code, message) = (gate.endpoint, &fail.body.code, &fail.body.message);
            refused().say(|unsaid| {
                tracing::warn!(from = %peer.0, ?endpoint, code, message, unsaid, "a request was refused");
            });
            fail.into_response()
        }
    }
}

/// Does what is asked for between two lines of the audit log. When the caller goes before the answer, the second line is
/// missing, as it is when the host is killed: what came of the action is then not known. A deploy writes its own second
/// line, because it ends behind the beginning of its answer.
async fn audited(
    audit: &Arc<Audit>,
    caller: &Caller,
    peer: Peer,
    action: &'static str,
    mut request: Request,
    next: Next,
) -> Response {
    let target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let begun = audit.begin(&Action { caller, from: peer.0, action, target: &target }).await;
    let begun = match begun {
        Ok(begun) => begun,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            tracing::error!(%error, cause, action, "an action was refused, because it could not be written down");
            let message = format!("nothing was done, because it could not be written into the audit log: {cause}");
            return Fail::new(StatusCode::SERVICE_UNAVAILABLE, "audit-unavailable", message).into_response();
        }
    };
    request.extensions_mut().insert(begun.clone());
    let answer = next.run(request).await;
    if answer.extensions().get::<EndsLater>().is_none() {
        let code = answer.extensions().get::<FailCode>().map(|code| code.0.clone());
        begun.answered(answer.status().as_u16(), code).await;
    }
    answer
}

/// Refusals are told once a second at most: a stranger can ask without end, and the log has one.
fn refused() -> &'static Seldom {
    static SELDOM: Seldom = Seldom::new(Duration::from_secs(1));
    &SELDOM
}

/// Whether a caller may have what a route gives.
fn allowed(caller: &Caller, needs: Needs, handler: Option<&str>) -> Result<(), Fail> {
    let Some(role) = needs.role() else { return Ok(()) };
    if caller.role < role {
        return Err(short_of(role, caller));
    }
    match needs {
        Needs::WholeHost(_) if caller.handlers != Scope::All => {
            let message = "this concerns the whole host, and your access is limited to some handlers";
            Err(Fail::new(StatusCode::FORBIDDEN, "limited-to-handlers", message))
        }
        Needs::Handler(_) => caller.check(handler.unwrap_or_default()),
        Needs::Nothing | Needs::Role(_) | Needs::WholeHost(_) => Ok(()),
    }
}

fn short_of(role: Role, caller: &Caller) -> Fail {
    let message = format!("this needs the role `{role}`, and `{}` has the role `{}`", caller.name, caller.role);
    Fail::new(StatusCode::FORBIDDEN, "role-too-low", message)
}

impl Caller {
    /// Refuses a handler that the caller is not to look into.
    pub(super) fn check(&self, handler: &str) -> Result<(), Fail> {
        if self.covers(handler) {
            return Ok(());
        }
        let message = format!("your access is limited to some handlers, and `{handler}` is not one of them");
        Err(Fail::new(StatusCode::FORBIDDEN, "limited-to-handlers", message))
    }
}

/// The caller, for whatever answers a route behind the gate.
impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let caller = parts.extensions.get::<Self>().cloned();
        // Only a route that needs nothing has no caller, and none of those asks for one.
        caller.ok_or_else(|| {
            let message = "the host did not look who asks for this";
            Fail::new(StatusCode::INTERNAL_SERVER_ERROR, "no-caller", message).into_response()
        })
    }
}

/// `GET /v1/whoami`
pub(super) async fn whoami(caller: Caller) -> Json<wire::Whoami> {
    let handlers = match &caller.handlers {
        Scope::All => None,
        Scope::Only(patterns) => Some(patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect()),
    };
    Json(wire::Whoami { name: caller.name.to_string(), role: caller.role, handlers })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::access::HandlerPattern;

    #[test]
    fn a_caller_gets_what_the_role_and_the_handlers_allow() {
        let caller = |role, handlers| Caller { name: "ci".into(), role, handlers };
        let billing = || Scope::Only([HandlerPattern::new("billing-*").unwrap()].into());
        let rows = [
            (caller(Role::Read, Scope::All), Needs::Nothing, None, None),
            (caller(Role::Read, Scope::All), Needs::Role(Role::Read), None, None),
            (caller(Role::Read, Scope::All), Needs::Role(Role::Operate), None, Some("role-too-low")),
            (caller(Role::Operate, Scope::All), Needs::Handler(Role::Deploy), Some("x"), Some("role-too-low")),
            (caller(Role::Deploy, Scope::All), Needs::WholeHost(Role::Deploy), None, None),
            (caller(Role::Deploy, billing()), Needs::WholeHost(Role::Deploy), None, Some("limited-to-handlers")),
            (caller(Role::Deploy, billing()), Needs::Handler(Role::Deploy), Some("billing-eu"), None),
            (
                caller(Role::Deploy, billing()),
                Needs::Handler(Role::Deploy),
                Some("triage"),
                Some("limited-to-handlers"),
            ),
            (caller(Role::Deploy, billing()), Needs::Handler(Role::Deploy), None, Some("limited-to-handlers")),
            (caller(Role::Read, billing()), Needs::Role(Role::Read), None, None),
        ];
        for (caller, needs, handler, code) in rows {
            let refused = allowed(&caller, needs, handler).err();
            let got = refused.as_ref().map(|fail| (fail.status, fail.body.code.as_str()));
            assert_eq!(got, code.map(|code| (StatusCode::FORBIDDEN, code)), "{caller:?} {needs:?} {handler:?}");
        }
    }
}
