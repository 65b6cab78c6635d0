//! What is said of a route beyond what its types say: sentences, bodies that are streams, errors, an example.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

/// Makes the schema of a type, and of those in it.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What a body holds.
#[derive(Debug, Clone, Copy)]
pub(in crate::admin) enum Content {
    /// Nothing.
    Nothing,
    /// JSON of a type.
    Json(SchemaOf),
    /// JSON of one of two types.
    Either(SchemaOf, SchemaOf),
    /// A line of JSON each, as it happens.
    Lines(&'static str, SchemaOf),
    /// Text of a media type.
    Text(&'static str),
    /// Any bytes.
    Bytes(&'static str),
    /// This document, which has no schema of its own here.
    Document,
}

impl Content {
    pub(in crate::admin) const fn json<T: JsonSchema>() -> Self {
        Self::Json(SchemaGenerator::subschema_for::<T>)
    }

    pub(in crate::admin) const fn either<A: JsonSchema, B: JsonSchema>() -> Self {
        Self::Either(SchemaGenerator::subschema_for::<A>, SchemaGenerator::subschema_for::<B>)
    }

    pub(in crate::admin) const fn lines<T: JsonSchema>() -> Self {
        Self::lines_as::<T>("application/x-ndjson")
    }

    pub(in crate::admin) const fn lines_as<T: JsonSchema>(kind: &'static str) -> Self {
        Self::Lines(kind, SchemaGenerator::subschema_for::<T>)
    }
}

/// Under which heading a route stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::admin) enum Tag {
    Health,
    Subscriptions,
    Messages,
    DeadLetters,
    Handlers,
    Configuration,
    Access,
    Console,
}

impl Tag {
    pub(super) const ALL: [Self; 8] = [
        Self::Health,
        Self::Subscriptions,
        Self::Messages,
        Self::DeadLetters,
        Self::Handlers,
        Self::Configuration,
        Self::Access,
        Self::Console,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Subscriptions => "subscriptions",
            Self::Messages => "messages",
            Self::DeadLetters => "dead letters",
            Self::Handlers => "handlers",
            Self::Configuration => "configuration",
            Self::Access => "access",
            Self::Console => "console",
        }
    }

    pub(super) const fn says(self) -> &'static str {
        match self {
            Self::Health => "Whether the host does well, and what it counts.",
            Self::Subscriptions => "Which of them take messages: pausing and resuming them.",
            Self::Messages => "Publishing, and what becomes of messages.",
            Self::DeadLetters => "Messages that were given up: why, sending them back, removing them.",
            Self::Handlers => "The versions of handlers: deploying, trying, going back.",
            Self::Configuration => "What the host's own file changes, and applying it.",
            Self::Access => "Who asks, who changed what, and this document.",
            Self::Console => "A page for people, and what it is made of.",
        }
    }
}

/// What is said of a route.
#[derive(Debug)]
pub(in crate::admin) struct Said {
    /// Its name for programs that are made from the document.
    pub(super) operation: &'static str,
    pub(super) tag: Tag,
    pub(super) summary: &'static str,
    pub(super) more: &'static str,
    /// What the answer holds when all goes well.
    pub(super) gives: &'static str,
    /// Headers of the request, and what they say.
    pub(super) headers: Vec<(&'static str, &'static str)>,
    /// What the body of the request may be, and whether there has to be one; a sentence of it.
    pub(super) takes: Option<(bool, &'static str, Vec<Content>)>,
    /// Answers that the types do not say.
    pub(super) answers: Vec<(u16, &'static str, Content)>,
    /// The errors beside those that every route has: a status and its words.
    pub(super) fails: Vec<(u16, &'static [&'static str])>,
    /// What an error of this route holds, where it is not the error alone.
    pub(super) fails_with: Option<Content>,
    /// An answer, when all goes well.
    pub(super) example: Option<Value>,
    /// A body of the request.
    pub(super) example_taken: Option<Value>,
}

impl Said {
    pub(super) const fn of(operation: &'static str, tag: Tag, summary: &'static str, more: &'static str) -> Self {
        Self {
            operation,
            tag,
            summary,
            more,
            gives: "It went well.",
            headers: Vec::new(),
            takes: None,
            answers: Vec::new(),
            fails: Vec::new(),
            fails_with: None,
            example: None,
            example_taken: None,
        }
    }

    pub(super) fn gives(self, gives: &'static str) -> Self {
        Self { gives, ..self }
    }

    pub(super) fn header(mut self, name: &'static str, says: &'static str) -> Self {
        self.headers.push((name, says));
        self
    }

    pub(super) fn takes(self, required: bool, says: &'static str, bodies: Vec<Content>) -> Self {
        Self { takes: Some((required, says, bodies)), ..self }
    }

    pub(super) fn answers(mut self, status: u16, says: &'static str, content: Content) -> Self {
        self.answers.push((status, says, content));
        self
    }

    pub(super) fn fails(mut self, status: u16, words: &'static [&'static str]) -> Self {
        self.fails.push((status, words));
        self
    }

    pub(super) fn fails_with(self, content: Content) -> Self {
        Self { fails_with: Some(content), ..self }
    }

    pub(super) fn example(self, example: Value) -> Self {
        Self { example: Some(example), ..self }
    }

    pub(super) fn example_taken(self, example: Value) -> Self {
        Self { example_taken: Some(example), ..self }
    }
}
