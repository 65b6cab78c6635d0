//! Pairs of names and values in one text, as OpenTelemetry's variables have them: `name=value,name=value`.

/// The pairs, with what is written as `%20` read; `None`: this is no such text.
pub(crate) fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let pair = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let name = decoded(name.trim())?;
        (!name.is_empty()).then_some((name, decoded(value.trim())?))
    };
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(pair).collect()
}

/// A text with each `%` and two hex digits made the byte that they stand for.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.extend(hex::decode(digits).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_and_nonsense_is_not() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let rows = [
            ("", Some(vec![])),
            ("a=b", Some(vec![pair("a", "b")])),
            (" a = b , c=d=e,", Some(vec![pair("a", "b"), pair("c", "d=e")])),
            ("Authorization=Bearer%20abc%C3%BC", Some(vec![pair("Authorization", "Bearer abcü")])),
            ("a=", Some(vec![pair("a", "")])),
            ("a", None),
            ("=b", None),
            ("a=%2", None),
            ("a=%zz", None),
            ("a=%ff", None),
            ("a=%ü", None),
        ];
        for (text, expected) in rows {
            assert_eq!(pairs(text), expected, "{text}");
        }
    }
}
