//! Why a body is not the JSON that a handler takes, told without what stands in the body.
//!
//! The detail of a failure is logged, and shown to people who may not see bodies. The parser's own words quote what it
//! found, which may be a card's number or a name; what it looked for, and where, is all that is needed to find it.

use serde_json::error::Category;

/// What the parser says, with what it found told by its kind alone.
pub(crate) fn told(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match error.classify() {
        // Of the JSON itself it tells what is wrong with it, and quotes nothing.
        Category::Syntax | Category::Eof | Category::Io => text,
        Category::Data => {
            let place = format!(" at line {} column {}", error.line(), error.column());
            let words = text.strip_suffix(&place).unwrap_or(&text);
            format!("{}{place}", without_values(words))
        }
    }
}

/// The words of a type that does not fit: those that `serde` has for it, but for what they quote. What a type says in words
/// of its own is left out, as nobody knows what it quotes.
fn without_values(words: &str) -> String {
    // These name fields of the type, and numbers.
    let quotes_nothing =
        ["missing field `", "duplicate field `", "invalid length ", "data did not match any variant of "];
    if quotes_nothing.iter().any(|start| words.starts_with(start)) {
        return words.to_owned();
    }
    // What was found comes first and may hold any text; what was expected is behind the last of these.
    fn expected(rest: &str) -> &str {
        rest.rfind(", expected ").and_then(|at| rest.get(at..)).unwrap_or_default()
    }
    for start in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = words.strip_prefix(start) {
            let kind = rest.split(['`', '"']).next().unwrap_or_default();
            // Without a quotation the kind is all that was found.
            let kind = kind.split_once(", expected ").map_or(kind, |(kind, _)| kind).trim_end();
            return format!("{start}{kind}{}", expected(rest));
        }
    }
    for none in ["there are no fields", "there are no variants"] {
        if words.ends_with(none) {
            return format!("it does not fit, {none}");
        }
    }
    for start in ["unknown variant", "unknown field"] {
        if let Some(rest) = words.strip_prefix(start) {
            return format!("{start}{}", expected(rest));
        }
    }
    "it does not fit".to_owned()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only what does not fit is looked at")]
    struct Order {
        id: u32,
        kind: Option<Kind>,
        pair: Option<(u8, u8)>,
        address: Option<std::net::IpAddr>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Empty {}

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        New,
        Old,
    }

    #[test]
    fn what_does_not_fit_is_told_and_what_it_is_is_not() {
        let rows = [
            (r#"{"id": "4111 1111"}"#, "invalid type: string, expected u32 at line 1 column 18"),
            (r#"{"id": "a, expected b\", expected `c`"}"#, "invalid type: string, expected u32 at line 1 column 38"),
            (r#"{"id": -41111}"#, "invalid value: integer, expected u32 at line 1 column 13"),
            (r#"{"id": 4.1111}"#, "invalid type: floating point, expected u32 at line 1 column 13"),
            (r#"{"id": null}"#, "invalid type: null, expected u32 at line 1 column 11"),
            (r#"{"id": [41111]}"#, "invalid type: sequence, expected u32 at line 1 column 7"),
            (r#"{"id": true}"#, "invalid type: boolean, expected u32 at line 1 column 11"),
            (r#"{"id": 1, "kind": "4111"}"#, "unknown variant, expected `new` or `old` at line 1 column 24"),
            (
                r#"{"id": 1, "4111": 1}"#,
                "unknown field, expected one of `id`, `kind`, `pair`, `address` at line 1 column 16",
            ),
            (r#"{"id": 1, "id": 1}"#, "duplicate field `id` at line 1 column 14"),
            ("{}", "missing field `id` at line 1 column 2"),
            (r#"{"id": 1, "pair": [1]}"#, "invalid length 1, expected a tuple of size 2 at line 1 column 21"),
            // In the type's own words.
            (r#"{"id": 1, "address": "4111"}"#, "it does not fit at line 1 column 27"),
            (r#"{"id": 1"#, "EOF while parsing an object at line 1 column 8"),
            ("{} 4111", "missing field `id` at line 1 column 2"),
            (r#"{"id": 99999999999}"#, "invalid value: integer, expected u32 at line 1 column 18"),
        ];
        for (body, expected) in rows {
            let error = serde_json::from_str::<Order>(body).err().map(|error| told(&error));
            assert_eq!(error.as_deref(), Some(expected), "{body}");
        }
        let error = serde_json::from_str::<Empty>(r#"{"a, expected 4111": 1}"#).err().map(|error| told(&error));
        assert_eq!(error.as_deref(), Some("it does not fit, there are no fields at line 1 column 19"));
    }
}
