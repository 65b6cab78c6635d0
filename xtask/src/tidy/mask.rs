//! Blanks out what is not code: comments, and the insides of strings and characters.
//!
//! Invariants: the result has the length and the line breaks of the text, so that a place in one is the same place in
//! the other.

/// The text with comments and literals blanked out.
pub(super) fn mask(text: &str) -> String {
    let mut masker = Masker { bytes: text.as_bytes(), at: 0, masked: Vec::with_capacity(text.len()) };
    while masker.at < masker.bytes.len() {
        masker.step();
    }
    // Bytes outside ASCII stand in comments and literals only, where they are blanked one for one, or in names, where
    // they are kept whole.
    String::from_utf8(masker.masked).unwrap_or_default()
}

struct Masker<'a> {
    bytes: &'a [u8],
    at: usize,
    masked: Vec<u8>,
}

impl Masker<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or_default()
    }

    fn keep(&mut self, count: usize) {
        for _ in 0..count {
            self.masked.push(self.peek(0));
            self.at += 1;
        }
    }

    fn blank(&mut self, count: usize) {
        for _ in 0..count {
            if let Some(byte) = self.bytes.get(self.at) {
                self.masked.push(if *byte == b'\n' { b'\n' } else { b' ' });
                self.at += 1;
            }
        }
    }

    fn step(&mut self) {
        let before = self.masked.last().copied().unwrap_or_default();
        let in_name = before.is_ascii_alphanumeric() || before == b'_';
        match (self.peek(0), self.peek(1)) {
            (b'/', b'/') => {
                while self.at < self.bytes.len() && self.peek(0) != b'\n' {
                    self.blank(1);
                }
            }
            (b'/', b'*') => self.block_comment(),
            (b'"', _) => self.string(),
            (b'r', b'"' | b'#') if !in_name => self.raw_string(1),
            (b'b' | b'c', b'"') if !in_name => {
                self.keep(1);
                self.string();
            }
            (b'b' | b'c', b'r') if !in_name && matches!(self.peek(2), b'"' | b'#') => self.raw_string(2),
            (b'\'', _) => self.character(),
            _ => self.keep(1),
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.blank(2);
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.blank(2);
                }
                _ => self.blank(1),
            }
            if depth == 0 || self.at >= self.bytes.len() {
                return;
            }
        }
    }

    fn string(&mut self) {
        self.keep(1);
        while self.at < self.bytes.len() && self.peek(0) != b'"' {
            self.blank(if self.peek(0) == b'\\' { 2 } else { 1 });
        }
        if self.at < self.bytes.len() {
            self.keep(1);
        }
    }

    /// A raw string behind a prefix of so many letters; or a raw name, `r#type`.
    fn raw_string(&mut self, letters: usize) {
        self.keep(letters);
        let mut hashes = 0;
        while self.peek(hashes) == b'#' {
            hashes += 1;
        }
        if self.peek(hashes) != b'"' {
            return;
        }
        self.keep(hashes + 1);
        let end: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
        while self.at < self.bytes.len() && !self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(&end)) {
            self.blank(1);
        }
        if self.at < self.bytes.len() {
            self.keep(end.len());
        }
    }

    /// A character, or the start of a lifetime or label.
    fn character(&mut self) {
        let escaped = self.peek(1) == b'\\';
        let length = std::str::from_utf8(self.bytes.get(self.at + 1..).unwrap_or_default())
            .ok()
            .and_then(|rest| rest.chars().next())
            .map_or(1, char::len_utf8);
        if !escaped && self.peek(1 + length) != b'\'' {
            return self.keep(1);
        }
        self.keep(1);
        if escaped {
            self.blank(2);
        }
        while self.at < self.bytes.len() && self.peek(0) != b'\'' {
            self.blank(1);
        }
        if self.at < self.bytes.len() {
            self.keep(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_code_is_blanked_and_everything_keeps_its_place() {
        let rows = [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"a("b\"c", d)"#, r#"a("    ", d)"#),
            (r##"a(r#"b"c"#, d)"##, r##"a(r#"   "#, d)"##),
            (r#"b"x" r"y" br"z" bar"w""#, r#"b" " r" " br" " bar" ""#),
            ("'{' 'a '\\'' '\\u{7b}' b'}'", "' ' 'a '  ' '      ' b' '"),
            ("fn r#type() { r#\"}\"# }", "fn r#type() { r#\" \"# }"),
            ("\"\u{e9}\" x", "\"  \" x"),
            ("'\u{e9}' x", "'  ' x"),
        ];
        for (text, expected) in rows {
            assert_eq!(mask(text), expected, "{text}");
            assert_eq!(mask(text).len(), text.len(), "{text}");
        }
    }
}
