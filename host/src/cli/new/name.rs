//! Names of projects: fit for a handler, a crate and an npm package alike.

/// Longer ones are refused as names of handlers too.
const LONGEST: usize = 64;

/// Rust's keywords, those that are reserved too.
const KEYWORDS: [&str; 51] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true",
    "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// What a crate of this name would stand in for.
const TAKEN: [&str; 10] =
    ["alloc", "core", "proc-macro", "serde", "serde-json", "std", "test", "tidegate-sdk", "tidegate", "wit-bindgen"];

/// Why a text cannot be the name of a project.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NameError {
    /// Characters or length are wrong.
    #[error(
        "`{0}` cannot be the name of a handler: use lower-case letters, digits and single `-` or `_`, a letter first, at \
         most {LONGEST} characters"
    )]
    Form(String),
    /// It is a word of the language.
    #[error("`{0}` cannot be the name of a handler: it is a keyword; say what the handler does, such as `{0}-orders`")]
    Keyword(String),
    /// It is the name of something that handlers use.
    #[error("`{0}` cannot be the name of a handler: it would stand in for a library of that name; such as `my-{0}`?")]
    Taken(String),
}

/// Checks a name.
pub(super) fn check(name: &str) -> Result<(), NameError> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let whole = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= LONGEST
        && name.chars().all(fits)
        && !name.split(['-', '_']).any(str::is_empty);
    if !whole {
        return Err(NameError::Form(name.to_owned()));
    }
    if KEYWORDS.contains(&name) {
        return Err(NameError::Keyword(name.to_owned()));
    }
    if TAKEN.contains(&name.replace('_', "-").as_str()) {
        return Err(NameError::Taken(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_everywhere() {
        for name in ["invoice", "my-handler", "a", "order_2", "test-orders", "x9-y"] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        let long = "a".repeat(65);
        let wrong = ["", "Invoice", "9a", "-a", "a-", "a--b", "a__b", "a b", "a/b", "..", "ä", "a.b", "a\n", &long];
        for name in wrong {
            assert_eq!(check(name), Err(NameError::Form(name.to_owned())));
        }
        assert_eq!(check("match"), Err(NameError::Keyword("match".to_owned())));
        assert_eq!(check("serde_json"), Err(NameError::Taken("serde_json".to_owned())));
    }
}
