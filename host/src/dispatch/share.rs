//! A share of the messages: which of them are in it follows from their ids and from nothing else.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, de};
use sha2::{Digest as _, Sha256};

/// A share of all messages: above nothing and up to all, in hundredths of a percent. Written as `5%` or `0.25%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u16);

/// What is not a share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a share of the messages, such as 5% or 0.25%: above 0%, up to 100%, in steps of 0.01%")]
pub struct NotAShare(String);

impl Share {
    /// All messages.
    pub const ALL: Self = Self(10_000);

    /// From hundredths of a percent; `None` when there are none, or more than 10,000.
    #[must_use]
    pub const fn from_hundredths(hundredths: u16) -> Option<Self> {
        if hundredths == 0 || hundredths > Self::ALL.0 { None } else { Some(Self(hundredths)) }
    }

    /// In hundredths of a percent, from 1 to 10,000.
    #[must_use]
    pub const fn hundredths(self) -> u16 {
        self.0
    }

    /// Whether a message is in the share: when the first 64 bits of the sha256 of its id lie below that share of all
    /// numbers of 64 bits.
    ///
    /// A message that comes again is treated as before, on this host, after a restart and on another host, because
    /// nothing else goes in: no clock, no chance, no process, no build. So the hash has to be one that never changes,
    /// which rules out the standard library's; sha256 spreads ids that differ in one digit evenly, cannot be steered by
    /// who names the messages, is here already, and can be computed with any tool by whoever wonders where a message
    /// went. It takes a fraction of a microsecond, and only while there is something to choose between. A larger share
    /// has all messages of a smaller one.
    #[must_use]
    pub fn has(self, message_id: &str) -> bool {
        let hash = Sha256::digest(message_id);
        let mut first = [0; 8];
        first.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        let scaled = (u128::from(u64::from_be_bytes(first)) * u128::from(Self::ALL.0)) >> 64;
        scaled < u128::from(self.0)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        match (rest, rest % 10) {
            (0, _) => write!(f, "{whole}%"),
            (_, 0) => write!(f, "{whole}.{}%", rest / 10),
            (_, _) => write!(f, "{whole}.{rest:02}%"),
        }
    }
}

impl JsonSchema for Share {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^[0-9]{1,3}(\.[0-9]{1,2})?%$" })
    }
}

impl FromStr for Share {
    type Err = NotAShare;

    fn from_str(text: &str) -> Result<Self, NotAShare> {
        let wrong = || NotAShare(text.chars().take(40).collect());
        let number = text.trim().strip_suffix('%').ok_or_else(wrong)?.trim_end();
        let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
        let plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        if !plain(whole) || !plain(rest) || whole.len() > 3 || rest.len() > 2 {
            return Err(wrong());
        }
        let number = |digits: &str| digits.parse::<u16>().unwrap_or(u16::MAX);
        let scale = if rest.len() == 1 { 10 } else { 1 };
        let hundredths = number(whole).saturating_mul(100).saturating_add(number(rest) * scale);
        Self::from_hundredths(hundredths).ok_or_else(wrong)
    }
}

impl Serialize for Share {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn share(text: &str) -> Share {
        text.parse().unwrap()
    }

    #[test]
    fn a_share_is_read_as_it_is_written() {
        for text in ["5%", "0.01%", "0.25%", "12.5%", "99.99%", "100%", "1%"] {
            assert_eq!(share(text).to_string(), text);
        }
        assert_eq!((share(" 5.0 %"), share("5.50%")), (share("5%"), share("5.5%")));
        for text in
            ["", "5", "0%", "0.00%", "100.01%", "-1%", "0.001%", "%", "1.%", ".5%", "5 %%", "1e1%", "9999%", "x.wasm"]
        {
            assert!(text.parse::<Share>().is_err(), "{text:?} was taken for a share");
        }
    }

    /// A host that chose otherwise would give a message that comes again to another version.
    #[test]
    fn which_messages_are_in_a_share_never_changes() {
        let chosen: Vec<u32> = (0..100).filter(|number| share("10%").has(&format!("m-{number}"))).collect();
        assert_eq!(chosen, CHOSEN);
        let all = (0..1000).map(|number| number.to_string());
        assert!(all.clone().all(|id| Share::ALL.has(&id)));
        assert!(all.clone().all(|id| !share("5%").has(&id) || share("20%").has(&id)), "a larger one has a smaller one");
    }

    /// As `printf m-8 | sha256sum` says: what begins below 1999... is in it.
    const CHOSEN: &[u32] = &[8, 20, 31, 39, 68, 74, 94];

    #[test]
    fn a_share_is_as_large_as_it_says() {
        for text in ["0.5%", "5%", "50%", "99%"] {
            let share = share(text);
            let count = (0..100_000).filter(|number| share.has(&format!("order-{number}"))).count();
            let expected = 10 * usize::from(share.hundredths());
            // Six standard deviations of so many throws.
            let spread = 6.0 * (f64::from(share.hundredths()) * 10.0).sqrt();
            assert!((count.abs_diff(expected) as f64) < spread, "{text}: {count}");
        }
    }
}
