//! Answers that are errors: a status, a stable word and a sentence.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::wire::{ErrorAnswer, ErrorBody};
use crate::broker::{DeadLetterError, PublishError};

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct Fail {
    pub(super) status: StatusCode,
    pub(super) body: ErrorBody,
}

impl Fail {
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, body: ErrorBody { code: code.to_owned(), message: message.into() } }
    }

    pub(super) fn bad_request(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }
}

/// The word of an answer that is an error, beside its body.
#[derive(Debug, Clone)]
pub(super) struct FailCode(pub(super) String);

impl IntoResponse for Fail {
    fn into_response(self) -> Response {
        let code = FailCode(self.body.code.clone());
        let mut answer = (self.status, Json(ErrorAnswer { error: self.body })).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"tidegate\"");
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        answer.extensions_mut().insert(code);
        answer
    }
}

impl From<&PublishError> for Fail {
    fn from(error: &PublishError) -> Self {
        let (status, code) = match error {
            PublishError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "broker-unavailable"),
            PublishError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid-message"),
            PublishError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
            PublishError::Full(_) => (StatusCode::INSUFFICIENT_STORAGE, "queue-full"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<&DeadLetterError> for Fail {
    fn from(error: &DeadLetterError) -> Self {
        let (status, code) = match error {
            DeadLetterError::NotFound(_) => (StatusCode::NOT_FOUND, "no-such-dead-letter"),
            DeadLetterError::AlreadyRedriven(_) => (StatusCode::CONFLICT, "already-redriven"),
            DeadLetterError::Loop { .. } => (StatusCode::CONFLICT, "redriven-too-often"),
            DeadLetterError::NobodyTakes { .. } => (StatusCode::CONFLICT, "nobody-takes-it"),
            DeadLetterError::Publish { source, .. } => return Self::from(source),
            DeadLetterError::StillThere { .. } | DeadLetterError::Store(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "store-unavailable")
            }
        };
        Self::new(status, code, error.to_string())
    }
}

pub(super) async fn no_such_path() -> Fail {
    Fail::new(StatusCode::NOT_FOUND, "no-such-path", "there is nothing at this path")
}

pub(super) async fn no_such_method() -> Fail {
    Fail::new(StatusCode::METHOD_NOT_ALLOWED, "no-such-method", "this path does not take this method")
}
