//! Stands for a payment gateway. As with a real gateway's test cards, the card's number says how it answers, so that the
//! same message always goes the same way.

use std::time::Duration;

/// Why the gateway did not charge the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is down, and says when to ask again.
    Down { retry_after: Duration },
    /// It takes no more requests just now.
    TooManyRequests,
    /// It will never charge this card.
    Declined { why: &'static str },
}

/// Charges a card, once for a key, and gives back the charge's reference.
pub(crate) fn charge(card: &str, key: &str, attempt: u32) -> Result<String, Refusal> {
    let down = || Refusal::Down { retry_after: Duration::from_millis(250) * 2u32.pow(attempt.clamp(1, 9) - 1) };
    match card.get(card.len().saturating_sub(4)..) {
        // Down at the first two attempts, and then up again.
        Some("0341") if attempt < 3 => Err(down()),
        Some("0119") => Err(down()),
        Some("0429") => Err(Refusal::TooManyRequests),
        Some("0002") => Err(Refusal::Declined { why: "insufficient funds" }),
        Some("0069") => Err(Refusal::Declined { why: "expired" }),
        _ => Ok(format!("charge-{key}")),
    }
}
