//! A span that a handler made in a test.

use std::fmt;

/// A span that a handler made. Displayed as `charge cents=5`, with two spaces before it for each span that it is in, and with
/// `: failed: no such card` or `: left open` behind it where it ended so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestSpan {
    /// Its name.
    pub name: String,
    /// Named values, in their order.
    pub attributes: Vec<(String, String)>,
    /// How many spans it is in.
    pub depth: usize,
    /// What failed in it, when the handler said so.
    pub failure: Option<String>,
    /// Whether the handler did not end it: the span around it, or the run, was over first.
    pub left_open: bool,
}

impl TestSpan {
    pub(crate) fn open(name: &str, attributes: &[(String, String)], depth: usize) -> Self {
        let (name, attributes) = (name.to_owned(), attributes.to_vec());
        Self { name, attributes, depth, failure: None, left_open: true }
    }

    pub(crate) fn end(&mut self, failure: Option<&str>) {
        self.left_open = false;
        self.failure = failure.map(str::to_owned);
    }
}

impl fmt::Display for TestSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:indent$}{}", "", self.name, indent = 2 * self.depth)?;
        self.attributes.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))?;
        if self.left_open {
            f.write_str(": left open")?;
        }
        self.failure.as_ref().map_or(Ok(()), |failure| write!(f, ": failed: {failure}"))
    }
}
