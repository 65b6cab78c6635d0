//! The body of a dead letter for people: JSON set out, text as it is, all else as hex digits.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;

use super::show::WITHHELD;
use crate::admin::wire::DeadLetterView;
use crate::cli::table::{harmless, size};

/// So much of a text is shown, in bytes: some thousand lines. `--body` has all of it.
const TEXT_BYTES: usize = 64 << 10;
/// So much of what is no text is shown: 256 lines.
const HEX_BYTES: usize = 4096;
/// Bytes on a line of hex digits.
const LINE: usize = 16;

/// The bytes of a body, as the host answered them.
pub(super) fn bytes(letter: &DeadLetterView) -> anyhow::Result<Vec<u8>> {
    match (&letter.body, &letter.body_base64) {
        (Some(text), _) => Ok(text.clone().into_bytes()),
        (None, Some(text)) => STANDARD.decode(text).context("reading the host's answer"),
        (None, None) if letter.payload_withheld => bail!("{WITHHELD}"),
        (None, None) => Ok(Vec::new()),
    }
}

/// The body alone, byte by byte, on standard output.
pub(super) fn print(letter: &DeadLetterView) -> anyhow::Result<()> {
    std::io::stdout().lock().write_all(&bytes(letter)?).context("writing to standard output")
}

/// A body for a terminal.
pub(super) fn shown(body: &[u8], as_hex: bool) -> String {
    match std::str::from_utf8(body) {
        // A zero is in no text that a person wrote.
        Ok(text) if !as_hex && !text.contains('\0') => {
            let json = serde_json::from_str::<IgnoredAny>(text).is_ok() && text.trim_start().starts_with(['{', '[']);
            let text = if json { set_out(text) } else { text.to_owned() };
            cut(harmless(&text), body.len())
        }
        Ok(_) | Err(_) => hex(body),
    }
}

fn cut(mut text: String, bytes: usize) -> String {
    if text.len() > TEXT_BYTES {
        text.truncate(text.floor_char_boundary(TEXT_BYTES));
        let _ = write!(text, "\n... it has {}; --body prints all of it", size(bytes as u64));
    }
    text
}

/// JSON with a line for each value. Keys, numbers and their order stay as they were written.
fn set_out(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut escaped, mut fresh) = (0usize, false, false, false);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    for c in json.chars() {
        if in_text {
            out.push(c);
            in_text = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            ' ' | '\n' | '\r' | '\t' => continue,
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                // An empty one stays on its line.
                if !fresh {
                    line(&mut out, depth);
                }
                out.push(c);
                fresh = false;
                continue;
            }
            _ if fresh => line(&mut out, depth),
            _ => {}
        }
        fresh = matches!(c, '{' | '[');
        depth += usize::from(fresh);
        in_text = c == '"';
        match c {
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            other => out.push(other),
        }
    }
    out
}

/// Lines of hex digits with the characters beside them.
fn hex(body: &[u8]) -> String {
    let mut out = String::new();
    let part = body.get(..HEX_BYTES).unwrap_or(body);
    for (number, line) in part.chunks(LINE).enumerate() {
        let digits: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let plain = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
        let characters: String = line.iter().map(plain).collect();
        let _ = writeln!(out, "{:08x}  {:<47}  {characters}", number * LINE, digits.join(" "));
    }
    if part.len() < body.len() {
        let _ = writeln!(out, "... it has {}; --body prints all of it", size(body.len() as u64));
    }
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn json_is_set_out_and_nothing_of_it_is_changed() {
        expect![[r#"
            {
              "b": 1.10,
              "a": [
                1,
                {
                  "x": "a, \"b\": {c}"
                }
              ],
              "n": {},
              "l": []
            }"#]]
        .assert_eq(&shown(br#"{"b":1.10,"a":[1, {"x":"a, \"b\": {c}"}],"n":{ },"l":[]}"#, false));
    }

    #[test]
    fn text_is_shown_as_it_is_and_cannot_play_with_the_terminal() {
        assert_eq!(shown(b"plain, {not json", false), "plain, {not json");
        assert_eq!(shown(b"\x1b[31mred", false), "\\u{1b}[31mred");
        let long = shown("é".repeat(TEXT_BYTES).as_bytes(), false);
        assert!(long.len() < TEXT_BYTES + 100 && long.ends_with("it has 128.0 KiB; --body prints all of it"));
    }

    #[test]
    fn all_else_is_shown_in_hex() {
        expect![[r#"
            00000000  00 9f 92 96 74 69 64 65 67 61 74 65 20 6d 65 73  ....tidegate mes
            00000010  73 61 67 65                                      sage"#]]
        .assert_eq(&shown(b"\x00\x9f\x92\x96tidegate message", false));
        assert!(shown(b"text", true).starts_with("00000000  74 65 78 74 "));
        assert!(shown(&[0; HEX_BYTES + 1], false).ends_with("it has 4.0 KiB; --body prints all of it"));
    }
}
