//! Subjects and subject filters, by the rules of NATS: tokens split by dots, `*` for one token, `>` for one or more at
//! the end.

/// Why a text is not a subject or a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: {problem}")]
pub struct SubjectError {
    text: String,
    what: &'static str,
    problem: &'static str,
}

/// The longest subject that is accepted, in bytes: what fits a NATS protocol line with room to spare.
pub const MAX_SUBJECT_BYTES: usize = 1024;

/// Checks a subject to publish to: no wildcards, no empty tokens, no spaces or control characters, at most
/// [`MAX_SUBJECT_BYTES`].
///
/// # Errors
/// Says what is wrong with it.
pub fn check_subject(text: &str) -> Result<(), SubjectError> {
    let fail = |problem| Err(SubjectError { text: text.to_owned(), what: "subject", problem });
    if let Err(problem) = check_tokens(text) {
        return fail(problem);
    }
    if text.split('.').any(|token| token == "*" || token == ">") {
        return fail("it has a wildcard, and a message is published to one subject");
    }
    Ok(())
}

/// Checks a filter: as a subject, and `*` may stand for a token, `>` for the last ones.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_filter(text: &str) -> Result<(), SubjectError> {
    let fail = |problem| Err(SubjectError { text: text.to_owned(), what: "subject filter", problem });
    if let Err(problem) = check_tokens(text) {
        return fail(problem);
    }
    let mut tokens = text.split('.').peekable();
    while let Some(token) = tokens.next() {
        if token == ">" && tokens.peek().is_some() {
            return fail("`>` stands only at the end");
        }
    }
    Ok(())
}

/// Whether a filter takes in a subject.
///
/// ```
/// use tidegate::broker::subject::matches;
/// assert!(matches("orders.*.paid", "orders.eu.paid"));
/// assert!(matches("orders.>", "orders.eu.paid"));
/// assert!(!matches("orders.>", "orders"));
/// ```
#[must_use]
pub fn matches(filter: &str, subject: &str) -> bool {
    let mut wanted = filter.split('.');
    let mut given = subject.split('.');
    loop {
        match (wanted.next(), given.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(want), Some(have)) if want == have => {}
            (Some(_) | None, Some(_)) | (Some(_), None) => return false,
        }
    }
}

fn check_tokens(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > MAX_SUBJECT_BYTES {
        return Err("it is longer than 1024 bytes");
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("it has a space or a control character");
    }
    if text.split('.').any(str::is_empty) {
        return Err("it has an empty token (a dot at an end, or two in a row)");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_nats_does() {
        let rows = [
            ("a", "a", true),
            ("a", "b", false),
            ("a.b", "a", false),
            ("a", "a.b", false),
            ("*", "a", true),
            ("*", "a.b", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*.c", "a.b.c", true),
            (">", "a", true),
            (">", "a.b.c", true),
            ("a.>", "a", false),
            ("a.>", "a.b", true),
            ("a.>", "b.b", false),
            ("a.*.>", "a.b.c.d", true),
            ("a.*.>", "a.b", false),
        ];
        for (filter, subject, expected) in rows {
            assert_eq!(matches(filter, subject), expected, "{filter} on {subject}");
        }
    }

    #[test]
    fn what_is_not_a_subject_is_refused() {
        for text in ["", ".", "a.", ".a", "a..b", "a b", "a\n", "a.*", ">", "a.>"] {
            assert!(check_subject(text).is_err(), "{text:?} was taken for a subject");
        }
        for text in ["", "a..b", ">.a", "a.>.b"] {
            assert!(check_filter(text).is_err(), "{text:?} was taken for a filter");
        }
        for text in ["a", "a.b-c.D_9", "a*b.c"] {
            assert!(check_subject(text).is_ok(), "{text:?} was refused");
        }
    }
}
