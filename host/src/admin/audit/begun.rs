//! An action that has begun: whoever does it says how it ended.

use async_trait::async_trait;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use super::{Arc, Audit, AuditError, DONE, Line};
use crate::admin::configuration;
use crate::admin::fail::Fail;
use crate::apply::ApplyError;
use crate::deploy::Witness;
use crate::deploy::report::{End, Step};

/// The word for what was cut off.
const CUT_OFF: &str = "cut-off";
/// What the answer of a deploy begins with, whatever its end.
const BEGAN: u16 = 200;

/// An action whose first line is on the disk.
#[derive(Debug, Clone)]
pub(crate) struct Begun {
    pub(super) audit: Arc<Audit>,
    pub(super) id: String,
    pub(super) action: &'static str,
}

/// Beside an answer: the action goes on behind it, and its end is written down there.
#[derive(Debug, Clone, Copy)]
pub(in crate::admin) struct EndsLater;

impl Begun {
    /// It ended with its answer.
    pub(in crate::admin) async fn answered(self, status: u16, code: Option<String>) {
        let Self { audit, id, action } = self;
        told(action, audit.write(&[Line::ended(id, Some(status), code, None)]).await);
    }

    /// The configuration was applied, or why not.
    pub(crate) async fn applied(self, error: Option<&ApplyError>) {
        match error {
            None => self.answered(DONE, None).await,
            Some(error) => {
                self.answered(configuration::fail(error).status.as_u16(), Some(error.code().to_owned())).await
            }
        }
    }

    /// From here on until the answer it is told when the caller goes.
    pub(in crate::admin) const fn until_answered(self) -> Unanswered {
        Unanswered(Some(self))
    }

    /// A deploy of which the upload is not whole.
    fn cut_off_in_upload(self) {
        let line = Line::ended(self.id, None, Some(CUT_OFF.to_owned()), Some(End::CutOff { step: Step::Upload }));
        let work = move || told(self.action, self.audit.append(&line));
        // The caller's connection has gone, and what served it must not wait for a disk. Where the host ends just now this
        // may come too late, and the action stays unfinished.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(work)),
            Err(_) => work(),
        }
    }
}

/// What came of writing the second line.
pub(super) fn told(action: &str, written: Result<(), AuditError>) {
    if let Err(error) = written {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        tracing::error!(%error, cause, action, "what came of an action could not be written into the audit log");
    }
}

#[async_trait]
impl Witness for Begun {
    async fn ended(&self, end: End, code: Option<String>) {
        let line = Line::ended(self.id.clone(), Some(BEGAN), code, Some(end));
        told(self.action, self.audit.write(&[line]).await);
    }

    /// Waits for the disk where it is: it is called once a deploy, when the host ends, and nothing may come later.
    fn cut_off(&self, step: Step) {
        let (code, end) = (Some(CUT_OFF.to_owned()), Some(End::CutOff { step }));
        told(self.action, self.audit.append(&Line::ended(self.id.clone(), Some(BEGAN), code, end)));
    }
}

/// A deploy that has no answer yet. Dropped before it has, its caller went in the middle of the upload.
pub(in crate::admin) struct Unanswered(Option<Begun>);

impl Unanswered {
    /// It has one.
    pub(in crate::admin) fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(begun) = self.0.take() {
            begun.cut_off_in_upload();
        }
    }
}

/// The action, for whatever answers a route that is written down.
impl<S: Send + Sync> FromRequestParts<S> for Begun {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let begun = parts.extensions.get::<Self>().cloned();
        // Only a route that is not written down has none, and none of those asks for it.
        begun.ok_or_else(|| {
            let message = "the host did not write down that this is done";
            Fail::new(StatusCode::INTERNAL_SERVER_ERROR, "no-action", message).into_response()
        })
    }
}
