//! The reply subject of a delivery: where it stands in the stream, how often it was handed out, when it was stored.
//!
//! Two forms are in use. The first has nine tokens: `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream sequence>.
//! <consumer sequence>.<nanoseconds>.<pending>`. The second has eleven or more, with domain and account in front of the
//! stream and room for more at the end; servers from 2.15 on send it by default.

use std::time::{Duration, SystemTime};

use crate::broker::Receipt;
use crate::broker::done::MessageIdentity;

/// What a reply subject says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Hand-overs by the server, this one included.
    pub(super) deliveries: u32,
    /// The position in the stream.
    pub(super) sequence: u64,
    /// When the stream took the message in.
    pub(super) stored_at: SystemTime,
}

impl Position {
    /// Which message it is.
    pub(super) const fn message(&self) -> MessageIdentity {
        MessageIdentity { sequence: self.sequence, stored_at: self.stored_at }
    }
}

/// Which message a receipt is of.
pub(super) fn message(receipt: &Receipt) -> MessageIdentity {
    let position = std::str::from_utf8(&receipt.token).ok().and_then(parse);
    // All receipts of ours have a reply subject for their token.
    let stored_at = position.map_or(SystemTime::UNIX_EPOCH, |position| position.stored_at);
    MessageIdentity { sequence: receipt.sequence, stored_at }
}

/// Tokens that are looked at: those of the longer form. What is behind them is only counted.
const TOKENS: usize = 11;

/// Reads a reply subject; `None` when it is none of a JetStream delivery.
pub(super) fn parse(reply: &str) -> Option<Position> {
    let [deliveries, sequence, consumer_sequence, nanos, _pending] = numbers(reply)?;
    number(consumer_sequence)?;
    Some(Position {
        deliveries: u32::try_from(number(deliveries)?).unwrap_or(u32::MAX),
        sequence: number(sequence)?,
        stored_at: SystemTime::UNIX_EPOCH + Duration::from_nanos(number(nanos)?),
    })
}

/// How many messages are left for the consumer, as a reply subject says.
pub(super) fn pending(reply: &str) -> Option<u64> {
    let [_, _, _, _, pending] = numbers(reply)?;
    number(pending)
}

/// The numbers of a reply subject, in the order in which they stand there.
fn numbers(reply: &str) -> Option<[&[u8]; 5]> {
    // One pass over the bytes: tokens are short, and this is done for every message.
    let mut tokens: [&[u8]; TOKENS] = [&[]; TOKENS];
    let mut count = 0;
    for token in reply.as_bytes().split(|byte| *byte == b'.') {
        if let Some(place) = tokens.get_mut(count) {
            *place = token;
        }
        count += 1;
    }
    // The longer form has domain and account in front of stream and consumer.
    let [js, ack, _, _, third, fourth, numbers @ ..] = tokens;
    if js != b"$JS" || ack != b"ACK" {
        return None;
    }
    match count {
        9 => {
            let [fifth, sixth, seventh, _, _] = numbers;
            Some([third, fourth, fifth, sixth, seventh])
        }
        11.. => Some(numbers),
        0..=8 | 10 => None,
    }
}

/// Reads digits; `None` when there are none, anything else among them, or too many.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// The reply subject of a message that did not come with one, as it cannot be read from the wire. The server goes by the
/// position in the stream alone when each message is acknowledged by itself, and takes the shorter form in all versions.
pub(super) fn of_unseen(stream: &str, consumer: &str, position: &Position) -> String {
    let nanos = position.stored_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("$JS.ACK.{stream}.{consumer}.{}.{}.0.{nanos}.0", position.deliveries, position.sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_others_are_not() {
        let expected = Some(Position {
            deliveries: 3,
            sequence: 42,
            stored_at: SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_000_000_001),
        });
        for reply in [
            "$JS.ACK.ORDERS.billing.3.42.7.1700000000000000001.5",
            "$JS.ACK._.abcdef.ORDERS.billing.3.42.7.1700000000000000001.5",
            "$JS.ACK.hub.abcdef.ORDERS.billing.3.42.7.1700000000000000001.5.random",
            "$JS.ACK.hub.abcdef.ORDERS.billing.3.42.7.1700000000000000001.5.random.more",
        ] {
            assert_eq!(parse(reply), expected, "{reply}");
            assert_eq!(pending(reply), Some(5), "{reply}");
        }
        let made = expected.map(|position| of_unseen("ORDERS", "billing", &position));
        assert_eq!(made.as_deref().and_then(parse), expected);
        for reply in ["", "_INBOX.abc.def", "$JS.ACK.ORDERS.billing.3.42.7.1700000000000000001", "1.2.3.4.5.6.7.8.x"] {
            assert_eq!(pending(reply), None, "{reply}");
        }
        for reply in [
            "",
            "_INBOX.abc.def",
            "$JS.ACK.ORDERS.billing.3.42.7.1700000000000000001",
            "$JS.ACK.x.ORDERS.billing.3.42.7.1700000000000000001.5",
            "$JS.ACK.ORDERS.billing.3.forty-two.7.1700000000000000001.5",
            "$JS.ACK.ORDERS.billing.3..7.1700000000000000001.5",
            "$JS.ACK.ORDERS.billing.3.18446744073709551616.7.1700000000000000001.5",
            "$JS.NAK.ORDERS.billing.3.42.7.1700000000000000001.5",
        ] {
            assert_eq!(parse(reply), None, "{reply}");
        }
    }
}
