//! Headers between our form and that of NATS, and which of them nobody but the host may set.
//!
//! Invariants:
//! - A header that the server executes (`Nats-Rollup`, `Nats-TTL`, `Nats-Expected-*`, ...) never comes from a message
//!   or a handler: it is refused on publish and renamed in dead letters.
//! - What cannot be written to the wire as it is (a line break, bytes that are not UTF-8) is refused, not changed.
//!
//! The client library keeps headers in a map, so the order between different names is not that of the publisher; it is
//! made alphabetical, so that the same message always looks the same. Values of one name keep their order.

use std::str::FromStr;

use async_nats::header::{HeaderName, HeaderValue};
use async_nats::{HeaderMap, Message};
use bytes::Bytes;

use crate::broker::PublishError;
use crate::message::{Header, Headers, KEPT_ID_HEADER, REDRIVE_FOR_HEADER, is_of_nats};

/// The id by which a stream de-duplicates.
pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";
/// The server stores a message only in the stream of this name.
pub(super) const EXPECTED_STREAM: &str = "Nats-Expected-Stream";

/// Whether the server gives a header a meaning of its own.
pub(super) fn is_reserved(name: &str) -> bool {
    is_of_nats(name)
}

/// Whether a name starts with a prefix, without regard to ASCII case.
pub(super) fn has_prefix(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The headers of a message that came.
pub(super) fn from_nats(message: &Message) -> Headers {
    message.headers.as_ref().map(of_map).unwrap_or_default()
}

/// The headers of a message as a stream stores them, from the line `NATS/1.0` on. Lines that the library would not read are left
/// out; whoever asks knows that there are none ([`super::unreadable`]).
pub(super) fn from_stored(text: &str) -> Headers {
    let mut map = HeaderMap::new();
    let mut lines = text.lines().skip(1).peekable();
    while let Some(line) = lines.next() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let mut value = value.trim_start().to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        if let (Ok(name), Ok(value)) = (HeaderName::from_str(name), HeaderValue::from_str(value.trim_end())) {
            map.append(name, value);
        }
    }
    of_map(&map)
}

fn of_map(map: &HeaderMap) -> Headers {
    let mut headers: Vec<Header> = Vec::with_capacity(map.len());
    for (name, values) in map.iter() {
        let name: &str = name.as_ref();
        for value in values {
            headers.push(Header::new(name, Bytes::copy_from_slice(value.as_str().as_bytes())));
        }
    }
    if headers.len() > 1 {
        // Stable: values of one name keep their order.
        headers.sort_by(|one, other| one.name.cmp(&other.name));
    }
    Headers(headers)
}

/// Adds a header of a message to what is sent.
pub(super) fn append(map: &mut HeaderMap, name: &str, value: &[u8]) -> Result<(), PublishError> {
    let invalid = |problem: &str| PublishError::Invalid(format!("header `{}` {problem}", name.escape_debug()));
    if name.is_empty() || name.chars().any(|c| !c.is_ascii_graphic() || c == ':') {
        return Err(invalid("has a name that NATS does not take: ASCII letters, digits and signs but the colon"));
    }
    let Ok(text) = std::str::from_utf8(value) else {
        return Err(invalid("has a value that is not UTF-8"));
    };
    let Ok(text) = HeaderValue::from_str(text) else {
        return Err(invalid("has a line break in its value"));
    };
    let Ok(name) = HeaderName::from_str(name) else {
        return Err(invalid("has a name that NATS does not take"));
    };
    map.append(name, text);
    Ok(())
}

/// The headers of an untrusted message to publish: reserved ones are refused.
pub(super) fn to_nats(headers: &Headers, id: Option<&str>) -> Result<HeaderMap, PublishError> {
    let mut map = HeaderMap::new();
    for header in headers.iter() {
        if is_reserved(&header.name) {
            return Err(PublishError::Invalid(format!(
                "header `{}` is reserved: the server would execute it",
                header.name.escape_debug()
            )));
        }
        // Both belong to the message that they came with, and what is published here is another one: it would keep an
        // id that is not its own, or be passed over by all subscriptions but one.
        let of_another = [KEPT_ID_HEADER, REDRIVE_FOR_HEADER].iter().any(|name| header.name.eq_ignore_ascii_case(name));
        if !of_another {
            append(&mut map, &header.name, &header.value)?;
        }
    }
    if let Some(id) = id {
        append(&mut map, MESSAGE_ID, id.as_bytes())?;
    }
    Ok(map)
}

/// The bytes that headers take on the wire, with the line in front and the empty one behind.
pub(super) fn wire_size(map: &HeaderMap) -> usize {
    if map.is_empty() {
        return 0;
    }
    let lines: usize = map
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (AsRef::<str>::as_ref(name).len(), value)))
        .map(|(name, value)| name + value.as_str().len() + ": \r\n".len())
        .sum();
    "NATS/1.0\r\n\r\n".len() + lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn headers(rows: &[(&str, &[u8])]) -> Headers {
        Headers(rows.iter().map(|(name, value)| Header::new(*name, value.to_vec())).collect())
    }

    #[test]
    fn what_would_change_the_wire_is_refused() {
        let rows: [(&str, &[u8]); 9] = [
            ("Nats-Rollup", b"all"),
            ("nats-ttl", b"1s"),
            ("NATS-Msg-Id", b"1"),
            ("A", b"one\r\nNats-Rollup: all"),
            ("A", b"one\nB: two"),
            ("A", &[0xff, 0xfe]),
            ("A:B", b"x"),
            ("", b"x"),
            ("A B", b"x"),
        ];
        for (name, value) in rows {
            let result = to_nats(&headers(&[(name, value)]), None);
            assert!(matches!(result, Err(PublishError::Invalid(_))), "{name:?}: {result:?}");
        }
        assert!(to_nats(&Headers::default(), Some("a\r\nb")).is_err(), "an id with a line break was taken");
    }

    #[test]
    fn what_is_plain_is_taken_and_comes_back() {
        let sent = headers(&[("A", b"1"), ("B", "ü €".as_bytes()), ("A", b"2")]);
        let map = to_nats(&sent, Some("id-1")).unwrap();
        let size = wire_size(&map);
        let message = Message {
            subject: "a".into(),
            reply: None,
            payload: Bytes::new(),
            headers: Some(map),
            status: None,
            description: None,
            length: 0,
        };
        let came = from_nats(&message);
        let expected = headers(&[("A", b"1"), ("A", b"2"), ("B", "ü €".as_bytes()), ("Nats-Msg-Id", b"id-1")]);
        assert_eq!(came, expected);
        assert_eq!(size, "NATS/1.0\r\nA: 1\r\nA: 2\r\nB: ü €\r\nNats-Msg-Id: id-1\r\n\r\n".len());
    }
}
