//! Keeps web pages out. A page in a browser on this machine can send requests to loopback addresses: by a name of its
//! own that resolves to 127.0.0.1 (DNS rebinding), or across origins (CSRF).
//!
//! A door that asks for a token keeps them out by itself: a page has none, and a browser adds none.
//!
//! The one page that may change something is the host's own console: what a browser loaded from this very name and port.
//!
//! Invariant: behind a door that asks for nothing no request is answered whose `Host` is not a loopback name; and
//! nowhere one that changes anything and carries an `Origin`, which browsers add and cannot leave out, that is not the
//! `Host` it was sent to.

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
    if changes && headers.contains_key(header::ORIGIN) && !is_own_page(headers) {
        let message = "a web page may not change anything here, but the host's own console";
        return Err(Fail::new(StatusCode::FORBIDDEN, "foreign-origin", message));
    }
    Ok(())
}

/// Whether a browser says that the page it sends this for came from here: its origin is where the request went. A page of a
/// name that resolves to this host says so too; it fails at the door's token, and where there are none, at its `Host`.
fn is_own_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    // More than one of either is nothing that a browser sends.
    let single = |name| headers.get_all(name).iter().count() == 1;
    let (Some(origin), Some(host)) = (text(header::ORIGIN), text(header::HOST)) else { return false };
    let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let same =
        single(header::ORIGIN) && single(header::HOST) && authority.is_some_and(|it| it.eq_ignore_ascii_case(host));
    // Newer browsers say it in a word, too; then the two have to agree.
    same && text(axum::http::HeaderName::from_static("sec-fetch-site")).is_none_or(|site| site == "same-origin")
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
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    use super::{is_loopback, is_own_page};

    #[test]
    fn only_the_page_of_this_very_name_and_port_is_ours() {
        let page = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            is_own_page(&headers)
        };
        let here = ("host", "127.0.0.1:7171");
        assert!(page(&[here, ("origin", "http://127.0.0.1:7171")]));
        assert!(page(&[here, ("origin", "https://127.0.0.1:7171"), ("sec-fetch-site", "same-origin")]));
        assert!(page(&[("host", "gate.example"), ("origin", "https://GATE.example")]));
        let foreign: [&[(&str, &str)]; 8] = [
            &[here, ("origin", "http://127.0.0.1:8080")],
            &[here, ("origin", "http://localhost:7171")],
            &[here, ("origin", "http://evil.example")],
            &[here, ("origin", "null")],
            &[here, ("origin", "127.0.0.1:7171")],
            &[here, ("origin", "http://127.0.0.1:7171"), ("sec-fetch-site", "cross-site")],
            &[here, ("origin", "http://127.0.0.1:7171"), ("origin", "http://evil.example")],
            &[("origin", "http://127.0.0.1:7171")],
        ];
        for lines in foreign {
            assert!(!page(lines), "{lines:?}");
        }
    }

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
