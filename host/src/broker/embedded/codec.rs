//! How headers, times, ids and checksums are written into the store.
//!
//! Headers: one byte with the format's number (1), then for every header the length of its name, the name, the length
//! of its value, the value; lengths are little-endian 32-bit numbers. No headers at all is an empty blob.
//!
//! Invariants:
//! - What was encoded decodes to the same headers, in the same order, and nothing else decodes.
//! - A checksum covers everything of a message that a handler sees and that the publisher gave.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::message::{Header, Headers};

const HEADERS_FORMAT: u8 = 1;

/// The first half of the SHA-256 of a message id: what the window of known ids is keyed by. 128 bits, so that two ids
/// never share one by accident, and not for a publisher who tries either.
pub(super) type IdDigest = [u8; 16];

pub(super) fn digest(id: &str) -> IdDigest {
    let mut half = IdDigest::default();
    for (to, from) in half.iter_mut().zip(Sha256::digest(id.as_bytes())) {
        *to = from;
    }
    half
}

/// The headers' blob, or `None` when a name or value is longer than a length field can say.
pub(super) fn encode_headers(headers: &Headers) -> Option<Vec<u8>> {
    if headers.0.is_empty() {
        return Some(Vec::new());
    }
    let mut blob = Vec::with_capacity(1 + headers.size() + 8 * headers.0.len());
    blob.push(HEADERS_FORMAT);
    for header in headers.iter() {
        for part in [header.name.as_bytes(), &header.value] {
            blob.extend_from_slice(&u32::try_from(part.len()).ok()?.to_le_bytes());
            blob.extend_from_slice(part);
        }
    }
    Some(blob)
}

/// The headers in a blob, or `None` when it is not one.
pub(super) fn decode_headers(blob: &[u8]) -> Option<Headers> {
    let mut headers = Headers::default();
    let Some((format, mut rest)) = blob.split_first() else { return Some(headers) };
    if *format != HEADERS_FORMAT {
        return None;
    }
    while !rest.is_empty() {
        let name = take_part(&mut rest)?;
        let value = take_part(&mut rest)?;
        let name = std::str::from_utf8(name).ok()?.to_owned();
        headers.0.push(Header { name, value: Bytes::copy_from_slice(value) });
    }
    Some(headers)
}

fn take_part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (part, behind) = behind.split_at_checked(length)?;
    *rest = behind;
    Some(part)
}

/// The checksum of a message's row.
pub(super) fn checksum(subject: &str, id: Option<&str>, headers: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    // Lengths keep apart what would run together.
    for part in [subject.as_bytes(), id.unwrap_or_default().as_bytes(), headers] {
        hasher.update(&part.len().to_le_bytes());
        hasher.update(part);
    }
    hasher.update(body);
    hasher.finalize()
}

/// Microseconds since 1970; times before it count as it.
pub(super) fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    duration_micros(since)
}

/// A duration in microseconds, cut to what the store can hold.
pub(super) fn duration_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The time that is so many microseconds after 1970.
pub(super) fn time(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on should say where")]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn headers_come_back_as_they_were(
            list in proptest::collection::vec((".{0,12}", proptest::collection::vec(any::<u8>(), 0..40)), 0..6),
        ) {
            let headers = Headers(list.into_iter().map(|(name, value)| Header::new(name, value)).collect());
            let blob = encode_headers(&headers).unwrap();
            prop_assert_eq!(decode_headers(&blob), Some(headers));
        }

        #[test]
        fn a_cut_blob_is_refused(cut in 1usize..40) {
            let mut headers = Headers::default();
            headers.push("Content-Type", "application/json");
            headers.push("x", "some value");
            let blob = encode_headers(&headers).unwrap();
            // Where the cut falls between two headers the rest is whole, but one header shorter.
            let short = decode_headers(&blob[..cut.min(blob.len() - 1)]);
            prop_assert_ne!(short, Some(headers));
        }
    }

    #[test]
    fn foreign_bytes_are_no_headers() {
        for blob in [&b"\x02"[..], b"\x01\xff\xff\xff\xff", b"\x01\x01\0\0\0a", b"\x01\x01\0\0\0\xff\0\0\0\0"] {
            assert_eq!(decode_headers(blob), None, "{blob:?}");
        }
    }

    #[test]
    fn a_checksum_sees_every_part() {
        let whole = checksum("a.b", Some("id"), b"headers", b"body");
        for other in [
            checksum("a.c", Some("id"), b"headers", b"body"),
            checksum("a.b", Some("ie"), b"headers", b"body"),
            checksum("a.b", None, b"headers", b"body"),
            checksum("a.b", Some("id"), b"header", b"sbody"),
            checksum("a.b", Some("id"), b"headers", b"bodz"),
        ] {
            assert_ne!(whole, other);
        }
    }
}
