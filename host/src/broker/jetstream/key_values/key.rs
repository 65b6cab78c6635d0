//! Keys of handlers as keys of NATS, and back.
//!
//! NATS takes letters, digits and `-`, `/`, `_`, `=`, `.` in a key, and a key is a subject: no dot at either end and no two in
//! a row. A handler's key is any text. So each byte of its UTF-8 that cannot stand as it is, and `=` itself, is written as `=`
//! and two hex digits: `order:17` is `order=3A17`. What most people name keys by stays as it is, dots included, so
//! that `nats kv` and watches on `orders.>` go on as they are used to.
//!
//! Invariants:
//! - Two keys are never written as one, and what is read back is what was written.
//! - A key of [`MAX_KEY_BYTES`](crate::broker::bucket::MAX_KEY_BYTES) takes three times as much at the most.

use std::fmt::Write as _;

/// Writes a key as NATS takes it.
pub(super) fn encode(key: &str) -> String {
    let bytes = key.as_bytes();
    let mut text = String::with_capacity(bytes.len());
    for (index, &byte) in bytes.iter().enumerate() {
        let is_plain = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'/' | b'_' => true,
            // One that would stand at an end or beside another one does not.
            b'.' => index > 0 && index + 1 < bytes.len() && !text.ends_with('.'),
            _ => false,
        };
        if is_plain {
            text.push(char::from(byte));
        } else {
            // Writing into a string does not fail.
            let _ = write!(text, "={byte:02X}");
        }
    }
    text
}

/// Reads it back; `None`: it is none of a handler's, as another program may have written it.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'=' {
            let (digits, after) = after.split_first_chunk::<2>()?;
            bytes.extend(hex::decode(digits).ok()?);
            rest = after;
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    // Written another way it would not be found again.
    String::from_utf8(bytes).ok().filter(|key| encode(key) == text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;
    use crate::broker::bucket::MAX_KEY_BYTES;

    fn is_of_nats(text: &str) -> bool {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-/_=.".contains(c);
        !text.is_empty() && text.chars().all(fits) && text.split('.').all(|token| !token.is_empty())
    }

    #[test]
    fn what_is_plain_stays_and_the_rest_is_escaped() {
        for (key, expected) in [
            ("seen", "seen"),
            ("orders.17/a_b-c", "orders.17/a_b-c"),
            ("order:17", "order=3A17"),
            ("a=b", "a=3Db"),
            (".", "=2E"),
            (".a.", "=2Ea=2E"),
            ("a..b", "a.=2Eb"),
            ("a...b", "a.=2E.b"),
            ("*.>", "=2A.=3E"),
            (" ", "=20"),
            ("gr\u{fc}n", "gr=C3=BCn"),
            ("\u{0}\r\n", "=00=0D=0A"),
        ] {
            assert_eq!(encode(key), expected, "{key:?}");
            assert!(is_of_nats(expected), "{expected}");
            assert_eq!(decode(expected).as_deref(), Some(key), "{expected}");
        }
    }

    #[test]
    fn what_another_program_wrote_in_its_own_way_is_none_of_ours() {
        // Not two hex digits; digits for what stands as it is; small digits; no UTF-8.
        for text in ["a=b", "a=", "=4", "=41", "=3a", "=C3", "=FF=FE"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_key_is_it_comes_back(key in "\\PC{1,40}|[.=*> a]{1,20}") {
            let text = encode(&key);
            prop_assert!(is_of_nats(&text), "{text}");
            prop_assert_eq!(decode(&text), Some(key));
        }
    }

    #[test]
    fn the_longest_key_is_no_longer_than_a_server_takes() {
        assert_eq!(encode(&":".repeat(MAX_KEY_BYTES)).len(), 3 * MAX_KEY_BYTES);
    }
}
