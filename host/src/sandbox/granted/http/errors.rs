//! What went wrong with a request, in the words of `wasi:http`: the only place where errors of the network become such.
//!
//! Invariant: an error is given a word here and not by the library behind, which would write each one into the host's log:
//! a guest that asks a host which is not there could fill it.

use std::error::Error as _;
use std::io::ErrorKind;

use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

/// Of a connection that was not made.
pub(super) fn of_connecting(error: &std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        ErrorKind::TimedOut => Error::ConnectionTimeout,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable => {
            Error::DestinationIpUnroutable
        }
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::UnexpectedEof => {
            Error::ConnectionTerminated
        }
        _ => Error::DestinationUnavailable,
    }
}

/// Of a handshake in which the two did not agree.
pub(super) fn of_tls(error: &std::io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            Error::TlsCertificateError
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            Error::TlsAlertReceived { alert_id: Some(u8::from(*alert)), alert_message: Some(format!("{alert:?}")) }
        }
        Some(_) => Error::TlsProtocolError,
        None => of_connecting(error),
    }
}

/// Of a request on its way, or an answer on its own.
pub(super) fn of_hyper(error: &hyper::Error) -> Error {
    if error.is_parse_too_large() {
        Error::HttpResponseHeaderSectionSize(None)
    } else if error.is_parse() {
        Error::HttpProtocolError
    } else if error.is_incomplete_message() || is_cut(error) {
        Error::HttpResponseIncomplete
    } else if error.is_timeout() {
        Error::HttpResponseTimeout
    } else {
        Error::ConnectionTerminated
    }
}

/// Whether a body ended before it had as many bytes as was said.
fn is_cut(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.kind() == ErrorKind::UnexpectedEof)
}

/// The code of an error that a guest met at a body. `None`: it is not one of a request.
pub(super) fn code(error: &wasmtime::Error) -> Option<ErrorCode> {
    let own = error.downcast_ref::<ErrorCode>().cloned();
    own.or_else(|| error.downcast_ref::<Error>().map(of_body))
}

fn of_body(error: &Error) -> ErrorCode {
    match error {
        Error::HttpProtocolError => ErrorCode::HttpProtocolError,
        Error::HttpResponseIncomplete => ErrorCode::HttpResponseIncomplete,
        Error::HttpResponseTimeout => ErrorCode::HttpResponseTimeout,
        Error::ConnectionReadTimeout => ErrorCode::ConnectionReadTimeout,
        Error::HttpResponseHeaderSectionSize(size) => ErrorCode::HttpResponseTrailerSectionSize(*size),
        // All that a body can end with is above, and in `of_hyper` below them.
        _ => ErrorCode::ConnectionTerminated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_word() {
        let rows = [
            (ErrorKind::ConnectionRefused, "connection refused"),
            (ErrorKind::TimedOut, "connection timeout"),
            (ErrorKind::NetworkUnreachable, "destination IP address is unroutable"),
            (ErrorKind::ConnectionReset, "connection terminated"),
            (ErrorKind::PermissionDenied, "destination unavailable"),
        ];
        for (kind, expected) in rows {
            assert_eq!(of_connecting(&kind.into()).to_string(), expected);
            assert_eq!(of_tls(&kind.into()).to_string(), expected);
        }
        let tls = |error: rustls::Error| of_tls(&std::io::Error::new(ErrorKind::InvalidData, error)).to_string();
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        assert_eq!(tls(unknown), "TLS certificate error");
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure);
        assert_eq!(tls(alert), "TLS alert received: alert id 40: HandshakeFailure");
        let no_tls = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        assert_eq!(tls(no_tls), "TLS protocol error");
    }
}
