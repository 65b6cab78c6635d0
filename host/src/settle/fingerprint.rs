//! What makes two dead letters the same error: a hash over where it happened and what was said, without what differs from
//! message to message and from build to build.
//!
//! Invariants:
//! - It depends on the arguments only, and not on the module's digest: a group of one version is found again in the next.
//! - Numbers, ids, hex and what stands in double quotes do not tell two errors apart; nothing past [`LOOKED_AT`] does.

use sha2::{Digest as _, Sha256};

/// So much of a text is looked at, in bytes: what tells errors apart stands at their beginning.
const LOOKED_AT: usize = 512;
/// So many of the guest's own frames count: a deep recursion is one error wherever it began.
const FRAMES: usize = 5;
/// A word of hex digits alone is an id from this length on: `deadbeef`, but not `added`.
const HEX: usize = 8;

/// What is known of an error.
#[derive(Debug, Clone, Copy)]
pub struct Error<'a> {
    /// The handler's name.
    pub handler: &'a str,
    /// The reason code that the message was given up with.
    pub reason: &'a str,
    /// How the last run ended, by its code; empty when none did.
    pub outcome: &'a str,
    /// What was said.
    pub text: &'a str,
    /// The guest's frames, innermost first, where a trap has them; none where the place is chance (fuel, time).
    pub frames: &'a [String],
}

/// The fingerprint of an error: 16 hex digits.
#[must_use]
pub fn fingerprint(error: &Error<'_>) -> String {
    let mut hash = Sha256::new();
    for part in [error.handler, error.reason, error.outcome, &plain(error.text)] {
        hash.update(part);
        hash.update([0]);
    }
    for frame in error.frames.iter().filter(|frame| !is_machinery(frame)).take(FRAMES) {
        hash.update(plain(frame));
        hash.update([0]);
    }
    let mut text = hex::encode(hash.finalize());
    text.truncate(16);
    text
}

/// A text with `#` in the place of whatever differs from message to message.
fn plain(text: &str) -> String {
    let text = text.get(..text.floor_char_boundary(LOOKED_AT)).unwrap_or_default();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if first == '"' {
            quoted(rest)
        } else if is_word(first) {
            address(rest).unwrap_or_else(|| rest.find(|c| !is_word(c)).unwrap_or(rest.len()))
        } else {
            0
        };
        let (part, behind) = rest.split_at(if length == 0 { first.len_utf8() } else { length });
        match length > 0 && (first == '"' || is_id(part)) {
            true => push_variable(&mut out),
            false => out.push_str(part),
        }
        rest = behind;
    }
    out
}

/// The length of what stands in double quotes, the quotes included; 0 when they do not end.
fn quoted(text: &str) -> usize {
    text.get(1..).and_then(|behind| behind.find('"')).map_or(0, |end| end + 2)
}

/// The length of an address of mail, where one begins: it goes on over dots.
fn address(text: &str) -> Option<usize> {
    let length = text.find(|c: char| !is_word(c) && !matches!(c, '.' | '+' | '@')).unwrap_or(text.len());
    text.get(..length).filter(|word| word.contains('@')).map(str::len)
}

/// One `#` for a list of what differs, so that lists of any length are the same.
fn push_variable(out: &mut String) {
    let before = out.trim_end_matches([',', ' ']);
    if before.ends_with('#') {
        out.truncate(before.len());
    } else {
        out.push('#');
    }
}

/// What words are made of: an id with its dashes is one word.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_')
}

fn is_id(word: &str) -> bool {
    word.contains(|c: char| c.is_numeric() || c == '@')
        || (word.len() >= HEX && word.chars().all(|c| c.is_ascii_hexdigit()))
}

/// Whether a frame is of what every panic passes through on its way out.
fn is_machinery(frame: &str) -> bool {
    const BEGINNINGS: [&str; 7] = [
        "core::panicking",
        "std::panicking",
        "std::sys",
        "std::process",
        "core::result::unwrap_failed",
        "core::option::unwrap_failed",
        "core::option::expect_failed",
    ];
    let name = frame.trim_start_matches(['_', '<', '$']);
    name == "abort" || name.starts_with("rust_") || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        fingerprint(&Error { handler: "h", reason: "handler-rejected", outcome: "handler-rejected", text, frames: &[] })
    }

    #[test]
    fn what_differs_from_message_to_message_makes_no_other_error() {
        let rows = [
            ("order 17 has no total", "order 18234 has no total"),
            ("no such user alice@example.com", "no such user bob@example.org"),
            ("no-customer: 8f14e45f-ceea-467f-abcd-eeeeffffabcd", "no-customer: 00000000-ceea-467f-abcd-eeeeffffabce"),
            ("key deadbeef is gone", "key abcdefab is gone"),
            (r#"cannot read "a b" as a date"#, r#"cannot read "" as a date"#),
            ("panicked at src/lib.rs:9:12", "panicked at src/lib.rs:104:1"),
            ("bad rows: 1, 2, 3", "bad rows: 7"),
            ("at 2026-11-29T06:00:00Z", "at 2027-01-02T03:04:05Z"),
        ];
        for (one, other) in rows {
            assert_eq!(of(one), of(other), "{} / {}", plain(one), plain(other));
        }
        let long = "x ".repeat(LOOKED_AT);
        assert_eq!(of(&format!("{long}one")), of(&format!("{long}other")));
    }

    #[test]
    fn what_makes_another_error_is_told_apart() {
        let rows = [
            ("order has no total", "order has no customer"),
            ("timeout of the database", "timeout of the cache"),
            ("a \"b", "a \"c"),
            ("added", "faded"),
        ];
        for (one, other) in rows {
            assert_ne!(of(one), of(other), "{}", plain(one));
        }
        let base = Error { handler: "h", reason: "r", outcome: "o", text: "t", frames: &[] };
        let frames = ["order::parse".to_owned()];
        for other in [
            Error { handler: "i", ..base },
            Error { reason: "s", ..base },
            Error { outcome: "p", ..base },
            Error { text: "u", ..base },
            Error { frames: &frames, ..base },
        ] {
            assert_ne!(fingerprint(&base), fingerprint(&other), "{other:?}");
        }
    }

    #[test]
    fn the_way_of_a_panic_out_is_no_place_of_its_own() {
        let frames = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let with = |frames: &[String]| {
            fingerprint(&Error { handler: "h", reason: "r", outcome: "trap:unreachable", text: "", frames })
        };
        let one = frames(&["abort", "__rust_start_panic", "std::panicking::panic_with_hook", "order::parse"]);
        let other = frames(&["core::panicking::panic_fmt", "order::parse"]);
        assert_eq!(with(&one), with(&other));
        assert_ne!(with(&one), with(&frames(&["abort", "order::price"])));
        assert_eq!(with(&frames(&["function 17"])), with(&frames(&["function 18"])), "a build numbers them anew");
    }

    #[test]
    fn it_is_the_same_from_one_host_to_the_next() {
        assert_eq!(of("order 17 has no total"), "62324982debe2072");
    }
}
