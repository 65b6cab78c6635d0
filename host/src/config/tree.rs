//! The configuration as a tree of values that know where they come from: the file, or the environment over it.
//!
//! Invariant: every value can say its origin, so that every problem can show the line or the variable that is meant.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use toml::de::{DeInteger, DeTable, DeValue};

/// Names of keys from the top of the file down. A number stands for a place in an array.
pub(super) type Path = Vec<String>;

/// Where a value was written.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// In the file: the bytes of its key (empty for what has none) and of the value.
    File { key: Range<usize>, value: Range<usize> },
    /// In the environment variable of this name.
    Environment(String),
}

/// A value and its origin.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

/// What a value is.
#[derive(Clone)]
pub(super) enum Value {
    Table(BTreeMap<String, Node>),
    Array(Vec<Node>),
    Text(String),
    Integer(i64),
    /// A whole number that no setting can hold.
    TooLarge,
    Float(f64),
    Boolean(bool),
    /// A date or time; no setting is one.
    Date,
    /// Text from the environment: what it means is decided by what is asked for.
    Untyped(String),
}

impl fmt::Debug for Node {
    /// Names the kind only: a value may be a secret in the wrong place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.value.kind())
    }
}

impl Value {
    /// What it is, in a problem's words.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Table(_) => "a table",
            Self::Array(_) => "a list",
            Self::Text(_) | Self::Untyped(_) => "text",
            Self::Integer(_) | Self::TooLarge => "a whole number",
            Self::Float(_) => "a number with a fraction",
            Self::Boolean(_) => "true or false",
            Self::Date => "a date",
        }
    }
}

impl Node {
    /// A table that nothing is in yet.
    pub(super) fn empty() -> Self {
        Self { origin: Origin::File { key: 0..0, value: 0..0 }, value: Value::Table(BTreeMap::new()) }
    }

    /// Reads a whole TOML text.
    pub(super) fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let document = DeTable::parse(text)?;
        let span = document.span();
        Ok(Self { origin: Origin::File { key: 0..0, value: span }, value: Value::Table(table(document.into_inner())) })
    }

    /// Reads one TOML value out of an environment variable: a list or an inline table.
    pub(super) fn parse_variable(name: &str, text: &str) -> Option<Self> {
        let value = DeValue::parse(text).ok()?;
        let mut node = Self { origin: Origin::Environment(name.to_owned()), value: plain(value.into_inner()) };
        node.set_origin(&Origin::Environment(name.to_owned()));
        Some(node)
    }

    fn set_origin(&mut self, origin: &Origin) {
        self.origin = origin.clone();
        match &mut self.value {
            Value::Table(entries) => entries.values_mut().for_each(|child| child.set_origin(origin)),
            Value::Array(items) => items.iter_mut().for_each(|child| child.set_origin(origin)),
            Value::Text(_)
            | Value::Integer(_)
            | Value::TooLarge
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Date
            | Value::Untyped(_) => {}
        }
    }

    /// The child of a name, or at a place of an array.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        match &self.value {
            Value::Table(entries) => entries.get(name),
            Value::Array(items) => name.parse::<usize>().ok().and_then(|index| items.get(index)),
            Value::Text(_)
            | Value::Integer(_)
            | Value::TooLarge
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Date
            | Value::Untyped(_) => None,
        }
    }

    /// The names in a table.
    pub(super) fn names(&self) -> Vec<&str> {
        match &self.value {
            Value::Table(entries) => entries.keys().map(String::as_str).collect(),
            Value::Array(_)
            | Value::Text(_)
            | Value::Integer(_)
            | Value::TooLarge
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Date
            | Value::Untyped(_) => Vec::new(),
        }
    }

    /// The value at a path, or the innermost one on the way to it, with how many names of the path lead there.
    pub(super) fn nearest(&self, path: &[String]) -> (&Self, usize) {
        let mut node = self;
        for (depth, name) in path.iter().enumerate() {
            match node.child(name) {
                Some(child) => node = child,
                None => return (node, depth),
            }
        }
        (node, path.len())
    }

    /// Takes away the value at a path; of a list, the whole list. False when there is none.
    pub(super) fn remove(&mut self, path: &[String]) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        let Value::Table(entries) = &mut self.value else { return false };
        let in_array = matches!(entries.get(first).map(|child| &child.value), Some(Value::Array(_)));
        if rest.is_empty() || in_array {
            return entries.remove(first).is_some();
        }
        entries.get_mut(first).is_some_and(|child| child.remove(rest))
    }
}

fn table(entries: DeTable<'_>) -> BTreeMap<String, Node> {
    let mut nodes = BTreeMap::new();
    for (name, value) in entries {
        let origin = Origin::File { key: name.span(), value: value.span() };
        nodes.insert(name.into_inner().into_owned(), Node { origin, value: plain(value.into_inner()) });
    }
    nodes
}

fn plain(value: DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => integer(&number),
        DeValue::Float(number) => number.as_str().replace('_', "").parse().map_or(Value::TooLarge, Value::Float),
        DeValue::Boolean(flag) => Value::Boolean(flag),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(items) => {
            let node = |item: toml::Spanned<DeValue<'_>>| {
                let origin = Origin::File { key: 0..0, value: item.span() };
                Node { origin, value: plain(item.into_inner()) }
            };
            Value::Array(items.into_iter().map(node).collect())
        }
        DeValue::Table(entries) => Value::Table(table(entries)),
    }
}

fn integer(number: &DeInteger<'_>) -> Value {
    i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::TooLarge, Value::Integer)
}
