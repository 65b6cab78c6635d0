//! The console: a page for people at `/`, and the files that it is made of. They are in the program, so that there is nothing
//! to install, and they load nothing from elsewhere.
//!
//! Invariants:
//! - The page runs its own scripts and no others, whatever a message holds: the content security policy allows neither
//!   inline scripts nor styles, and no text can become markup (trusted types). The scripts make text nodes only.
//! - A token is sent in a header by the page itself; there are no cookies, so no other page can send one for it.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};

use super::fail::Fail;

pub(super) const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const ICON: &str = "image/svg+xml";

/// Nothing from elsewhere, no inline script or style, no frame around it, no form that is sent, no text that becomes markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

/// A file of the console.
struct File {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    /// Its digest, as `ETag` has it.
    tag: HeaderValue,
}

macro_rules! files {
    ($($name:literal: $kind:expr),+ $(,)?) => {
        // A macro, because a file is put in at compile time by a name that has to be a literal.
        vec![$(file_of($name, $kind, include_bytes!(concat!("../../console/", $name)))),+]
    };
}

/// All of them; the first is the page.
static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    files! {
        "index.html": HTML,
        "style.css": STYLE,
        "icon.svg": ICON,
        "main.js": SCRIPT,
        "dom.js": SCRIPT,
        "api.js": SCRIPT,
        "format.js": SCRIPT,
        "chart.js": SCRIPT,
        "deaths.js": SCRIPT,
        "payload.js": SCRIPT,
        "dialog.js": SCRIPT,
        "table.js": SCRIPT,
        "rates.js": SCRIPT,
        "pauses.js": SCRIPT,
        "overview.js": SCRIPT,
        "subscriptions.js": SCRIPT,
        "handlers.js": SCRIPT,
        "handler.js": SCRIPT,
        "deploy.js": SCRIPT,
        "dead-letters.js": SCRIPT,
        "dead-letter.js": SCRIPT,
        "replay.js": SCRIPT,
        "outcome.js": SCRIPT,
        "edit.js": SCRIPT,
        "tasks.js": SCRIPT,
        "order.js": SCRIPT,
        "live.js": SCRIPT,
        "audit.js": SCRIPT,
    }
});

fn file_of(name: &'static str, kind: &'static str, bytes: &'static [u8]) -> File {
    let digest = hex::encode(Sha256::digest(bytes));
    // Hex in quotes is always a header's value.
    let tag = HeaderValue::from_str(&format!("\"{digest}\"")).unwrap_or(HeaderValue::from_static("\"\""));
    File { name, kind, bytes, tag }
}

/// `GET /`
pub(super) async fn page(headers: HeaderMap) -> Response {
    match FILES.first() {
        Some(page) => answer(page, &headers),
        None => no_such_file("index.html").into_response(),
    }
}

/// `GET /console/{file}`
pub(super) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Fail> {
    let file = FILES.iter().find(|file| file.name == name).ok_or_else(|| no_such_file(&name))?;
    Ok(answer(file, &headers))
}

fn no_such_file(name: &str) -> Fail {
    Fail::new(StatusCode::NOT_FOUND, "no-such-file", format!("the console has no file `{name}`"))
}

fn answer(file: &File, headers: &HeaderMap) -> Response {
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|tag| *tag == file.tag);
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // It is asked for each time, and answered with 304: after an upgrade nobody has half of the old one.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    let own = [(header::ETAG, file.tag.clone())];
    if known {
        return (StatusCode::NOT_MODIFIED, fixed, own).into_response();
    }
    (fixed, own, [(header::CONTENT_TYPE, file.kind)], file.bytes).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::collections::BTreeSet;

    use super::*;

    fn in_the_repository() -> BTreeSet<String> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("console");
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn every_file_of_the_console_is_served() {
        let served: BTreeSet<String> = FILES.iter().map(|file| file.name.to_owned()).collect();
        assert_eq!(served, in_the_repository());
        assert_eq!(FILES.first().unwrap().name, "index.html");
    }

    #[test]
    fn the_console_loads_nothing_from_elsewhere_and_makes_no_markup_of_text() {
        for file in FILES.iter() {
            let text = std::str::from_utf8(file.bytes).unwrap();
            let foreign =
                text.match_indices("//").filter(|(at, _)| text.get(..*at).is_some_and(|it| it.ends_with(':')));
            // The names of XML are no addresses.
            let foreign: Vec<&str> = foreign
                .filter_map(|(at, _)| text.get(at.saturating_sub(6)..)?.lines().next())
                .filter(|line| !line.contains("www.w3.org/"))
                .collect();
            assert!(foreign.is_empty(), "{}: {foreign:?}", file.name);
            for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
                assert!(!text.contains(markup), "{} has `{markup}`", file.name);
            }
        }
    }
}
