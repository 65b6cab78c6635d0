//! Reads the raw settings out of the tree by serde, and keeps the path of everything that does not fit.
//!
//! Unlike `deny_unknown_fields` alone, it gathers all unknown keys, each with the nearest known one, and goes on.

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

use super::elsewhere::elsewhere;
use super::problem::{Problem, nearest};
use super::tree::{Node, Origin, Path, Value};

/// What a list is, for whoever wrote a single text.
const LIST: &str = r#"a list in brackets, such as ["a", "b"]"#;

/// A value does not fit: where, and why. Never holds the value itself.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) path: Path,
    pub(super) message: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { path: Path::new(), message: message.to_string() }
    }

    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format!("expected {expected}, found {}", kind(&unexpected)))
    }

    fn invalid_value(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format!("expected {expected}"))
    }
}

fn kind(unexpected: &de::Unexpected<'_>) -> &'static str {
    match unexpected {
        de::Unexpected::Bool(_) => "true or false",
        de::Unexpected::Unsigned(_) | de::Unexpected::Signed(_) => "a whole number",
        de::Unexpected::Float(_) => "a number with a fraction",
        de::Unexpected::Char(_) | de::Unexpected::Str(_) => "text",
        de::Unexpected::Seq => "a list",
        de::Unexpected::Map | de::Unexpected::StructVariant => "a table",
        // What is left are serde's own shapes, which no TOML value has.
        _ => "something else",
    }
}

/// Reads one value of the tree.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    node: &'a Node,
    path: Path,
    unknown: &'a RefCell<Vec<Problem>>,
    /// The key that chose the kind of a table, and is no setting of it.
    tag: Option<&'static str>,
}

impl<'a> Reader<'a> {
    /// A reader of the whole tree; unknown keys go to `unknown`.
    pub(super) fn new(node: &'a Node, unknown: &'a RefCell<Vec<Problem>>) -> Self {
        Self { node, path: Path::new(), unknown, tag: None }
    }

    fn child(&self, name: &str, node: &'a Node) -> Self {
        let mut path = self.path.clone();
        path.push(name.to_owned());
        Self { node, path, unknown: self.unknown, tag: None }
    }

    fn misfit(&self, message: impl Into<String>) -> Misfit {
        Misfit { path: self.path.clone(), message: message.into() }
    }

    fn place(&self, error: Misfit) -> Misfit {
        if error.path.is_empty() { self.misfit(error.message) } else { error }
    }

    /// A variable that is to be a list or a table is written as TOML.
    fn with_parsed<T>(
        &self,
        text: &str,
        wanted: &str,
        read: impl FnOnce(Reader<'_>) -> Result<T, Misfit>,
    ) -> Result<T, Misfit> {
        let Origin::Environment(name) = &self.node.origin else {
            return Err(self.misfit(format!("expected {wanted}, found text")));
        };
        let Some(node) = Node::parse_variable(name, text) else {
            return Err(self.misfit(format!("expected {wanted}, written as in TOML")));
        };
        if matches!(node.value, Value::Text(_) | Value::Untyped(_)) {
            return Err(self.misfit(format!("expected {wanted}, found text")));
        }
        read(Reader { node: &node, path: self.path.clone(), unknown: self.unknown, tag: self.tag })
    }

    fn entries<'v, V: Visitor<'v>>(
        &self,
        visitor: V,
        fields: Option<&'static [&'static str]>,
    ) -> Result<V::Value, Misfit> {
        let table = match &self.node.value {
            Value::Table(table) => table,
            Value::Untyped(text) => return self.with_parsed(text, "a table", |reader| reader.entries(visitor, fields)),
            other => return Err(self.misfit(format!("expected a table, found {}", other.kind()))),
        };
        let mut known = Vec::with_capacity(table.len());
        for (name, node) in table {
            if self.tag == Some(name.as_str()) {
                continue;
            }
            let child = self.child(name, node);
            match fields {
                Some(fields) if !fields.contains(&name.as_str()) => self.report_unknown(name, child.path, fields),
                Some(_) | None => known.push((name.as_str(), child)),
            }
        }
        visitor.visit_map(Entries { entries: known.into_iter(), value: None }).map_err(|error| self.place(error))
    }

    fn report_unknown(&self, name: &str, path: Path, fields: &'static [&'static str]) {
        let message = match self.path.is_empty() {
            true => format!("unknown section `{name}`"),
            false => format!("unknown key `{name}` in [{}]", self.path.join(".")),
        };
        let problem = Problem::of_key(path, message);
        // The schema is looked through only where no key of this table is meant.
        let is_elsewhere = !self.path.is_empty() && nearest(name, fields.iter().copied()).is_none();
        let problem = match is_elsewhere.then(|| elsewhere(&self.path, name)).flatten() {
            Some((key, table)) => problem.help(format!("did you mean `{key}` in [{table}]?")),
            None => problem.nearest(name, fields.iter().copied()),
        };
        self.unknown.borrow_mut().push(problem);
    }

    fn scalar<'v, V: Visitor<'v>>(&self, visitor: V) -> Result<V::Value, Misfit> {
        let value = match &self.node.value {
            Value::Text(text) | Value::Untyped(text) => visitor.visit_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(flag) => visitor.visit_bool(*flag),
            Value::TooLarge => Err(self.misfit("the number is too large")),
            Value::Date => Err(self.misfit("no setting is a date")),
            Value::Array(_) => self.list(visitor),
            Value::Table(_) => self.entries(visitor, None),
        };
        value.map_err(|error| self.place(error))
    }

    fn list<'v, V: Visitor<'v>>(&self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.node.value {
            Value::Array(items) => {
                let readers: Vec<Reader<'_>> =
                    items.iter().enumerate().map(|(index, item)| self.child(&index.to_string(), item)).collect();
                visitor.visit_seq(Items(readers.into_iter())).map_err(|error| self.place(error))
            }
            Value::Untyped(text) => self.with_parsed(text, LIST, |reader| reader.list(visitor)),
            other => Err(self.misfit(format!("expected {LIST}, found {}", other.kind()))),
        }
    }
}

macro_rules! whole_numbers {
    // A macro, because serde has one method a type. Numbers from the environment are text until here.
    ($($method:ident $visit:ident $type:ty: $wanted:literal),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            let number = match &self.node.value {
                Value::Integer(number) => <$type>::try_from(*number).ok(),
                Value::Untyped(text) => text.trim().replace('_', "").parse::<$type>().ok(),
                Value::TooLarge => None,
                other => return Err(self.misfit(format!(concat!("expected ", $wanted, ", found {}"), other.kind()))),
            };
            match number {
                Some(number) => visitor.$visit(number).map_err(|error| self.place(error)),
                None => Err(self.misfit(concat!("expected ", $wanted))),
            }
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.node.value {
            // A number where text would do as well (`fuel`): a number it is.
            Value::Untyped(text) => match text.trim().replace('_', "").parse::<i64>() {
                Ok(number) => visitor.visit_i64(number).map_err(|error| self.place(error)),
                Err(_) if text.trim_start().starts_with('{') => self.entries(visitor, None),
                Err(_) => self.scalar(visitor),
            },
            _ => self.scalar(visitor),
        }
    }

    whole_numbers! {
        deserialize_i64 visit_i64 i64: "a whole number",
        deserialize_u64 visit_u64 u64: "a whole number that is not negative",
        deserialize_u32 visit_u32 u32: "a whole number from 0 to 4294967295"
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let flag = match &self.node.value {
            Value::Boolean(flag) => Some(*flag),
            Value::Untyped(text) => text.trim().parse().ok(),
            _ => None,
        };
        match flag {
            Some(flag) => visitor.visit_bool(flag),
            None => Err(self.misfit("expected true or false")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.list(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.entries(visitor, None)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.entries(visitor, Some(fields))
    }

    /// A word chooses a variant by itself; a table does it by its key `type`, and its other keys are the variant's.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let (word, path) = match &self.node.value {
            Value::Text(word) | Value::Untyped(word) => (word.as_str(), self.path.clone()),
            Value::Table(table) => match table.get("type").map(|node| &node.value) {
                Some(Value::Text(word) | Value::Untyped(word)) => (word.as_str(), self.child("type", self.node).path),
                Some(_) => {
                    return Err(Misfit { path: self.child("type", self.node).path, message: "expected text".into() });
                }
                None => return Err(self.misfit(format!("it has no `type`: one of {}", variants.join(", ")))),
            },
            other => {
                return Err(self.misfit(format!("expected one of {}, found {}", variants.join(", "), other.kind())));
            }
        };
        if !variants.contains(&word) {
            let meant = nearest(word, variants.iter().copied()).map(str::to_owned);
            let hint = meant.as_ref().map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
            let message = format!("expected one of {}{hint}", variants.join(", "));
            if let (Value::Table(_), Some(word)) = (&self.node.value, meant) {
                // Its keys are looked at by the kind that was meant; what is read of them is used nowhere.
                let _read = visitor.visit_enum(Variant { word, reader: self });
            }
            return Err(Misfit { path, message });
        }
        let word = word.to_owned();
        visitor.visit_enum(Variant { word, reader: self })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.node.value {
            Value::Text(text) | Value::Untyped(text) => visitor.visit_str(text).map_err(|error| self.place(error)),
            other => Err(self.misfit(format!("expected text, found {}", other.kind()))),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

struct Entries<'a, I: Iterator<Item = (&'a str, Reader<'a>)>> {
    entries: I,
    value: Option<Reader<'a>>,
}

impl<'de, 'a, I: Iterator<Item = (&'a str, Reader<'a>)>> de::MapAccess<'de> for Entries<'a, I> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        let Some((name, reader)) = self.entries.next() else { return Ok(None) };
        self.value = Some(reader);
        seed.deserialize(name.into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Misfit> {
        match self.value.take() {
            Some(reader) => {
                let place = reader.clone();
                seed.deserialize(reader).map_err(|error| place.place(error))
            }
            None => Err(de::Error::custom("a value was asked for before its key")),
        }
    }
}

struct Items<'a>(std::vec::IntoIter<Reader<'a>>);

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Misfit;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Misfit> {
        let Some(reader) = self.0.next() else { return Ok(None) };
        let place = reader.clone();
        seed.deserialize(reader).map(Some).map_err(|error| place.place(error))
    }
}

struct Variant<'a> {
    word: String,
    reader: Reader<'a>,
}

impl<'de, 'a> de::EnumAccess<'de> for Variant<'a> {
    type Error = Misfit;
    type Variant = VariantValue<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, VariantValue<'a>), Misfit> {
        let variant = seed.deserialize(self.word.as_str().into_deserializer())?;
        Ok((variant, VariantValue(Reader { tag: Some("type"), ..self.reader })))
    }
}

struct VariantValue<'a>(Reader<'a>);

impl<'de> de::VariantAccess<'de> for VariantValue<'_> {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Misfit> {
        let place = self.0.clone();
        seed.deserialize(self.0).map_err(|error| place.place(error))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Misfit> {
        self.0.list(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Misfit> {
        self.0.entries(visitor, Some(fields))
    }
}
