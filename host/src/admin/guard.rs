//! Keeps web pages out. A page in a browser on this machine can send requests to loopback addresses: by a name of its
//! own that resolves to 127.0.0.1 (DNS rebinding), or across origins (CSRF).
//!
//! A door that asks for a token keeps them out by itself: a page has none, and a browser adds none.
//!
//! Invariant: behind a door that asks for nothing no request is answered whose `Host` is not a loopback name; and
//! nowhere one that changes anything and carries an `Origin`, which browsers add and cannot leave out.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::door::Door;
use super::fail::Fail;

pub(super) async fn guard(State(door): State<Door>, request: Request, next: Next) -> Response {
    let checked = ours(&door, request.headers(), request.uri().host())
        .and_then(|()| no_page(request.method(), request.headers()));
    match checked {
        Ok(()) => next.run(request).await,
        Err(fail) => fail.into_response(),
    }
}

fn ours(door: &Door, headers: &HeaderMap, absolute: Option<&str>) -> Result<(), Fail> {
    if !door.is_open() {
        return Ok(());
    }
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    // A request may name its host in the request line too; then both have to be ours.
    if !host.is_some_and(is_loopback) || absolute.is_some_and(|host| !is_loopback(host)) {
        let message = "this listener answers to loopback names only: localhost, 127.0.0.1 or [::1]";
        return Err(Fail::new(StatusCode::MISDIRECTED_REQUEST, "foreign-host", message));
    }
    Ok(())
}

fn no_page(method: &Method, headers: &HeaderMap) -> Result<(), Fail> {
    let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if changes && headers.contains_key(header::ORIGIN) {
        let message = "a web page may not change anything here";
        return Err(Fail::new(StatusCode::FORBIDDEN, "foreign-origin", message));
    }
    Ok(())
}

/// Whether a `Host` names this machine, whatever the port.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_loopback_names_are_ours() {
        for host in ["localhost", "LOCALHOST:7171", "127.0.0.1:80", "127.9.9.9", "[::1]:7171", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "10.0.0.1", "[::2]:1"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
