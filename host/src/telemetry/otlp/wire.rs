//! Protocol Buffers, as far as OTLP needs them written: numbers, texts, and messages within messages.
//!
//! The format is a dozen lines and has not changed since 2008; a code generator and its runtime would be more than what they
//! save.

/// A message as it grows.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

/// How the value of a field is laid out.
#[derive(Debug, Clone, Copy)]
enum Layout {
    Varint = 0,
    Fixed64 = 1,
    Length = 2,
    Fixed32 = 5,
}

impl Writer {
    /// What was written.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// A number in as few bytes as it takes. Zero is what is not there.
    pub(super) fn number(&mut self, field: u32, value: u64) {
        if value > 0 {
            self.tag(field, Layout::Varint);
            push_varint(&mut self.bytes, value);
        }
    }

    /// One of several forms of a value, which is there even when it is zero.
    pub(super) fn variant(&mut self, field: u32, value: i64) {
        self.tag(field, Layout::Varint);
        push_varint(&mut self.bytes, value.cast_unsigned());
    }

    /// A number of eight bytes, there even when it is zero.
    pub(super) fn fixed64(&mut self, field: u32, value: u64) {
        self.tag(field, Layout::Fixed64);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// A number of four bytes.
    pub(super) fn fixed32(&mut self, field: u32, value: u32) {
        self.tag(field, Layout::Fixed32);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Bytes; none at all are what is not there.
    pub(super) fn bytes(&mut self, field: u32, value: &[u8]) {
        if !value.is_empty() {
            self.present(field, value);
        }
    }

    /// A text; an empty one is what is not there.
    pub(super) fn text(&mut self, field: u32, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    /// Bytes that are one of several forms of a value, and there even when they are none.
    pub(super) fn present(&mut self, field: u32, value: &[u8]) {
        self.tag(field, Layout::Length);
        push_varint(&mut self.bytes, value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    /// A message within this one.
    pub(super) fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.tag(field, Layout::Length);
        let start = self.bytes.len();
        write(self);
        // Its length is known now, and goes before it.
        let mut length = Vec::with_capacity(5);
        push_varint(&mut length, (self.bytes.len() - start) as u64);
        self.bytes.splice(start..start, length);
    }

    fn tag(&mut self, field: u32, layout: Layout) {
        push_varint(&mut self.bytes, (u64::from(field) << 3) | layout as u64);
    }
}

fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push((value & 0x7f) as u8);
}

/// The number in a field of a message, or in a message in a field of it, by the fields on the way; `None`: it is not there, or
/// this is no message.
pub(super) fn find_number(message: &[u8], path: &[u32]) -> Option<u64> {
    let (field, rest) = path.split_first()?;
    let mut left = message;
    while !left.is_empty() {
        let tag = take_varint(&mut left)?;
        let is_it = tag >> 3 == u64::from(*field);
        match tag & 7 {
            0 => {
                let value = take_varint(&mut left)?;
                if is_it && rest.is_empty() {
                    return Some(value);
                }
            }
            1 => left = left.get(8..)?,
            2 => {
                let length = usize::try_from(take_varint(&mut left)?).ok()?;
                let (inner, behind) = left.split_at_checked(length)?;
                if is_it && !rest.is_empty() {
                    return find_number(inner, rest);
                }
                left = behind;
            }
            5 => left = left.get(4..)?,
            _ => return None,
        }
    }
    None
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_laid_out_as_the_format_says() {
        let mut writer = Writer::default();
        writer.number(1, 150);
        writer.number(2, 0);
        writer.text(2, "testing");
        writer.text(3, "");
        writer.message(3, |inner| inner.number(1, 150));
        writer.variant(4, 0);
        writer.fixed32(16, 1);
        writer.fixed64(5, 0);
        writer.present(6, b"");
        // The first four are the examples of the format's own description.
        let expected = [
            &[0x08, 0x96, 0x01][..],
            &[0x12, 0x07, b't', b'e', b's', b't', b'i', b'n', b'g'],
            &[0x1a, 0x03, 0x08, 0x96, 0x01],
            &[0x20, 0],
            &[0x85, 0x01, 1, 0, 0, 0],
            &[0x29, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x32, 0],
        ];
        assert_eq!(writer.into_bytes(), expected.concat());
    }

    #[test]
    fn a_long_message_has_a_long_length_and_a_negative_number_ten_bytes() {
        let mut writer = Writer::default();
        writer.message(1, |inner| inner.text(1, &"x".repeat(300)));
        let bytes = writer.into_bytes();
        assert_eq!(bytes.get(..6), Some(&[0x0a, 0xaf, 0x02, 0x0a, 0xac, 0x02][..]));
        let mut writer = Writer::default();
        writer.variant(1, -1);
        assert_eq!(writer.into_bytes(), [&[0x08][..], &[0xff; 9], &[0x01]].concat());
    }

    #[test]
    fn a_number_is_found_and_nonsense_has_none() {
        let mut writer = Writer::default();
        writer.text(9, "before");
        writer.fixed32(8, 7);
        writer.fixed64(7, 7);
        writer.message(1, |inner| {
            inner.text(2, "why");
            inner.number(1, 42);
        });
        let bytes = writer.into_bytes();
        assert_eq!(find_number(&bytes, &[1, 1]), Some(42));
        assert_eq!(find_number(&bytes, &[1, 3]), None);
        assert_eq!(find_number(&bytes, &[2, 1]), None);
        for nonsense in [&b"\xff\xff"[..], b"<html>", b"\x0a\xff\x01", &[0xff; 20]] {
            assert_eq!(find_number(nonsense, &[1, 1]), None);
        }
    }
}
