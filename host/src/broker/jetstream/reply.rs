//! The reply subject of a delivery: where it stands in the stream, how often it was handed out, when it was stored.
//!
//! Two forms are in use. The first has nine tokens: `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream sequence>.
//! <consumer sequence>.<nanoseconds>.<pending>`. The second has eleven or more, with domain and account in front of the
//! stream and room for more at the end; servers from 2.15 on send it by default.

use std::time::{Duration, SystemTime};

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

/// Reads a reply subject; `None` when it is none of a JetStream delivery.
pub(super) fn parse(reply: &str) -> Option<Position> {
    let count = reply.split('.').count();
    let mut tokens = reply.split('.');
    if tokens.next() != Some("$JS") || tokens.next() != Some("ACK") {
        return None;
    }
    // In front of the deliveries: stream and consumer, and domain and account before them in the longer form.
    let skip = match count {
        9 => 2,
        11.. => 4,
        0..=8 | 10 => return None,
    };
    let mut tokens = tokens.skip(skip);
    let deliveries = tokens.next()?.parse::<u64>().ok()?;
    let sequence = tokens.next()?.parse().ok()?;
    let _consumer_sequence: u64 = tokens.next()?.parse().ok()?;
    let nanos: u64 = tokens.next()?.parse().ok()?;
    Some(Position {
        deliveries: u32::try_from(deliveries).unwrap_or(u32::MAX),
        sequence,
        stored_at: SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos),
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
        }
        let made = expected.map(|position| of_unseen("ORDERS", "billing", &position));
        assert_eq!(made.as_deref().and_then(parse), expected);
        for reply in [
            "",
            "_INBOX.abc.def",
            "$JS.ACK.ORDERS.billing.3.42.7.1700000000000000001",
            "$JS.ACK.x.ORDERS.billing.3.42.7.1700000000000000001.5",
            "$JS.ACK.ORDERS.billing.3.forty-two.7.1700000000000000001.5",
            "$JS.NAK.ORDERS.billing.3.42.7.1700000000000000001.5",
        ] {
            assert_eq!(parse(reply), None, "{reply}");
        }
    }
}
