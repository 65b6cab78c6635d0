//! A message as it is read from its row, or what is wrong with the row.

use bytes::Bytes;
use rusqlite::{Row, Statement};

use super::codec;
use crate::message::Message;

/// A row of the table `message`.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) sequence: i64,
    pub(super) target: Option<i64>,
    /// What it takes of the queue's bytes.
    pub(super) bytes: i64,
    pub(super) message: Message,
    /// Why it cannot be handed to anyone, when it is damaged. The message then holds what could be read.
    pub(super) damage: Option<Damage>,
}

#[derive(Debug)]
pub(super) struct Damage {
    pub(super) problem: &'static str,
    pub(super) headers: Vec<u8>,
}

/// Reads the part of a row that says for whom it is: its subject (where damaged, as near as can be) and its target.
pub(super) fn address<'r>(row: &'r Row<'_>, at: usize) -> Result<(Option<&'r str>, Option<i64>), rusqlite::Error> {
    let subject = row.get_ref(at + 1)?.as_bytes().ok().and_then(|bytes| std::str::from_utf8(bytes).ok());
    Ok((subject, row.get(at + 2)?))
}

/// Reads a message from the columns that start at an index.
pub(super) fn read(
    row: &Row<'_>,
    at: usize,
    queue: &str,
    large_body: &mut Statement<'_>,
) -> Result<Found, rusqlite::Error> {
    let sequence: i64 = row.get(at)?;
    let (subject, target) = address(row, at)?;
    let id = row.get_ref(at + 3)?.as_bytes_or_null().ok().flatten();
    let headers = row.get_ref(at + 6)?.as_blob().unwrap_or_default();
    // Added up here: a sum of the store's own functions costs a seventh of reading the row.
    let texts = row.get_ref(at + 1)?.as_bytes().map_or(0, <[u8]>::len) + id.map_or(0, <[u8]>::len) + headers.len();
    let bytes = row.get::<_, i64>(at + 8)?.saturating_add(i64::try_from(texts).unwrap_or(i64::MAX));
    let id = id.map(|bytes| std::str::from_utf8(bytes).unwrap_or_default());
    let body = match row.get_ref(at + 7)?.as_blob_or_null().ok().flatten() {
        Some(body) => Bytes::copy_from_slice(body),
        None => large_body
            .query_row([sequence], |row| Ok(Bytes::copy_from_slice(row.get_ref(0)?.as_blob().unwrap_or_default())))?,
    };
    let decoded = codec::decode_headers(headers);
    let sum = codec::checksum(subject.unwrap_or_default(), id, headers, &body);
    let problem = if i64::from(sum) != row.get::<_, i64>(at + 5)? {
        Some("its checksum does not match: the row was damaged on the disk or changed by hand")
    } else if decoded.is_none() {
        Some("its headers cannot be decoded")
    } else {
        None
    };
    Ok(Found {
        sequence,
        target,
        bytes,
        damage: problem.map(|problem| Damage { problem, headers: headers.to_vec() }),
        message: Message {
            id: id.map_or_else(|| own_id(queue, sequence), str::to_owned),
            subject: subject.unwrap_or_default().to_owned(),
            headers: decoded.unwrap_or_default(),
            body,
            sequence: sequence.cast_unsigned(),
            published_at: codec::time(row.get(at + 4)?),
        },
    })
}

/// The id of a message whose publisher gave none: its coordinates.
fn own_id(queue: &str, sequence: i64) -> String {
    format!("{queue}-{sequence}")
}
