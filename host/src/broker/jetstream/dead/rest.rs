//! What of a dead letter has no room in its own message: the whole record and the original headers, packed and cut.
//!
//! A message may have headers as large as the server takes a message at all. With the record beside them they are too
//! large for one; nothing of them may be lost for that, or the message could never be given up.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::layout::{self, Rest};
use crate::broker::PublishError;
use crate::message::Headers;
use crate::settle::dead_letter::{DeadLetter, DeadLetterRecord};

#[derive(Serialize, Deserialize)]
struct Packed {
    record: DeadLetterRecord,
    /// Each as [`layout::raw`] writes it.
    headers: Vec<String>,
}

/// The record and the headers of a dead letter as parts of so many bytes at most, and the way to find them again.
/// Two records of one death have different ids: the digest in the subject keeps the parts of one from those of the other.
pub(super) fn pack(letter: &DeadLetter, space: &str, most: usize) -> Result<(Rest, Vec<Bytes>), PublishError> {
    let headers = letter.headers.iter().map(layout::raw).collect();
    let packed = serde_json::to_vec(&Packed { record: letter.record.clone(), headers })
        .map_err(|error| PublishError::Invalid(error.to_string()))?;
    let sha256 = layout::digest(&packed);
    let packed = Bytes::from(packed);
    let parts: Vec<Bytes> = packed.chunks(most.max(1)).map(|part| packed.slice_ref(part)).collect();
    let subject = format!("{space}.{}", sha256.get(..16).unwrap_or(&sha256));
    Ok((Rest { subject, parts: parts.len(), sha256 }, parts))
}

/// Puts the record and the headers back into a dead letter. The error says what is wrong with them.
pub(super) fn unpack(letter: &mut DeadLetter, rest: &Rest, packed: &[u8]) -> Result<(), String> {
    if layout::digest(packed) != rest.sha256 {
        return Err(format!("its headers in `{}.*` are not those that were stored", rest.subject));
    }
    let packed: Packed =
        serde_json::from_slice(packed).map_err(|error| format!("its headers in `{}.*`: {error}", rest.subject))?;
    let headers: Option<Vec<_>> = packed.headers.iter().map(|header| layout::from_raw(header.as_bytes())).collect();
    letter.record = packed.record;
    letter.headers = Headers(headers.ok_or("a header of it")?);
    Ok(())
}
