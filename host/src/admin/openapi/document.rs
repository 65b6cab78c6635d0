//! Puts the document together: the routes from the closed list, the schemas from the types that they name.

use std::collections::BTreeMap;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::content::{Content, SchemaOf, Tag};
use super::{Served, codes};
use crate::admin::endpoint::{Endpoint, Needs};
use crate::admin::wire::ErrorAnswer;
use crate::config::schema::without_null;

/// What is said of the listener as a whole.
const ABOUT: &str = "The HTTP listener of a Tidegate host.

**Who may what.** A host with tokens wants `Authorization: Bearer TOKEN` on every route but `/live`, `/ready` and the \
console's files. A token has a role, `read`, `operate` or `deploy`, each of which may do what the ones before it may, and may be limited to some handlers. \
`x-tidegate-role` of each operation is the role that it needs, `x-tidegate-scope` whether it concerns the whole host or the \
handler in the path. A host without tokens listens on loopback only, asks nobody, and answers to loopback names. No web \
page but the host's own console may change anything.

**Errors.** Every error is `{\"error\": {\"code\": ..., \"message\": ...}}`: a word for programs, which stays what it is, and a \
sentence for people. `x-tidegate-codes` of each answer lists the words that it may have; new ones may come. A path that is not \
here is answered with 404 `no-such-path`, a method that a path does not take with 405 `no-such-method`; what is no HTTP, or \
has a head that is too large, with 400, 414 or 431 and no body.

**Streams.** What is `application/x-ndjson` is a line of JSON after the other, each of the schema that is given, sent as it \
happens.

**Growth.** Fields and words are added, and none changes its meaning: a client passes over what it does not know. What is \
asked with a parameter that is not known is refused.";

/// The whole document.
pub(super) fn document() -> Value {
    let mut maker = Maker::new();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for endpoint in Endpoint::ALL {
        let (verb, path) = endpoint.route();
        let operation = maker.operation(endpoint);
        paths.entry(path).or_default().insert(verb.word().to_ascii_lowercase(), operation);
    }
    let tags: Vec<Value> =
        Tag::ALL.iter().map(|tag| json!({ "name": tag.name(), "description": tag.says() })).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tidegate",
            "summary": "Message handlers in a sandbox: publishing, dead letters, deploying, metrics",
            "description": ABOUT,
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache License 2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{
            "url": "http://127.0.0.1:7171",
            "description": "Where a host listens when its configuration says nothing else",
        }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": maker.schemas(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token as `tidegate token new` makes it. A host without tokens asks for none.",
                },
            },
        },
    })
}

/// Makes operations, and gathers the schemas that they name.
pub(super) struct Maker {
    /// Of what is read: a field with a default may be left out.
    reads: SchemaGenerator,
    /// Of what is answered: what is always there is required.
    writes: SchemaGenerator,
}

impl Maker {
    pub(super) fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        Self {
            reads: settings().for_deserialize().into_generator(),
            writes: settings().for_serialize().into_generator(),
        }
    }

    /// The schemas that were named: those that are read, then those that are answered.
    pub(super) fn named(&mut self) -> [Map<String, Value>; 2] {
        [self.reads.take_definitions(true), self.writes.take_definitions(true)]
    }

    fn schemas(&mut self) -> Map<String, Value> {
        let [mut schemas, answered] = self.named();
        schemas.extend(answered);
        schemas
    }

    /// One operation.
    pub(super) fn operation(&mut self, endpoint: Endpoint) -> Value {
        let served = endpoint.served();
        let (needs, (_, path)) = (endpoint.needs(), endpoint.route());
        let mut operation = Map::new();
        let mut put = |name: &str, value: Value| operation.insert(name.to_owned(), value);
        put("operationId", served.said.operation.into());
        put("tags", json!([served.said.tag.name()]));
        put("summary", served.said.summary.into());
        put("description", format!("{}\n\n{}", served.said.more, needed(needs)).into());
        put("x-tidegate-role", needs.role().map_or("none", crate::access::Role::word).into());
        put("x-tidegate-scope", scope(needs).into());
        // For a scheme that is not OAuth the list names the roles that are needed.
        put("security", needs.role().map_or_else(|| json!([]), |role| json!([{ "token": [role.word()] }])));
        let parameters = self.parameters(path, &served);
        if !parameters.is_empty() {
            put("parameters", parameters.into());
        }
        if let Some(body) = self.body(&served) {
            put("requestBody", body);
        }
        put("responses", self.answers(endpoint, &served).into());
        operation.into()
    }

    fn parameters(&mut self, path: &str, served: &Served) -> Vec<Value> {
        let mut parameters = Vec::new();
        for name in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            let says = match name {
                "handler" => "The handler, by its name in the configuration.",
                "id" => "The id of the dead letter.",
                "file" => "A file of the console, by its name.",
                "subscription" => "The subscription, by its name in the configuration.",
                "task" => "The id of the task.",
                "digest" => "The sha256 of the module, in hex.",
                // A test finds what has no description.
                _ => "",
            };
            let schema = json!({ "type": "string" });
            parameters
                .push(json!({ "name": name, "in": "path", "required": true, "description": says, "schema": schema }));
        }
        if let Some(query) = served.told.query {
            parameters.extend(in_query(&query(&mut self.reads).to_value()));
        }
        for (name, says) in &served.said.headers {
            let schema = json!({ "type": "string" });
            parameters.push(json!({ "name": name, "in": "header", "description": says, "schema": schema }));
        }
        parameters
    }

    fn body(&mut self, served: &Served) -> Option<Value> {
        let (required, says, bodies) = served.said.takes.as_ref()?;
        let mut content = Map::new();
        for body in bodies {
            // An example goes with what has a schema.
            let example = served.said.example_taken.as_ref().filter(|_| matches!(body, Content::Lines(..)));
            content.extend(media(*body, &mut self.reads, example));
        }
        Some(json!({ "required": required, "description": says, "content": content }))
    }

    fn answers(&mut self, endpoint: Endpoint, served: &Served) -> Map<String, Value> {
        let said = &served.said;
        let mut answers = Map::new();
        let told = served.told.answer.map(|(status, content)| (status, said.gives, content));
        for (status, says, content) in told.into_iter().chain(said.answers.iter().copied()) {
            let example = said.example.as_ref().filter(|_| status == 200);
            let content = media(content, &mut self.writes, example);
            answers.insert(status.to_string(), answer(says, content).into());
        }
        for (status, words) in failing(endpoint, served) {
            let content = said.fails_with.filter(|_| ![401, 403, 421].contains(&status));
            let content = content.unwrap_or(Content::json::<ErrorAnswer>());
            let says: Vec<String> = words.iter().map(|word| line(word)).collect();
            let mut failed = answer(&says.join("\n"), media(content, &mut self.writes, None));
            failed.insert("x-tidegate-codes".to_owned(), json!(words));
            if status == 401 {
                let header = json!({ "description": "How to come in.", "schema": { "type": "string" } });
                failed.insert("headers".to_owned(), json!({ "WWW-Authenticate": header }));
            }
            answers.insert(status.to_string(), failed.into());
        }
        answers
    }
}

fn line(word: &str) -> String {
    // A test finds a word that has no meaning.
    format!("- `{word}`: {}", codes::meaning(word).unwrap_or_default())
}

fn needed(needs: Needs) -> String {
    match needs {
        Needs::Nothing => "It needs no token.".to_owned(),
        Needs::Role(role) => format!("It needs the role `{role}`."),
        Needs::WholeHost(role) => format!("It needs the role `{role}`, and a token that is not limited to handlers."),
        Needs::Handler(role) => format!("It needs the role `{role}`, and a token that covers the handler."),
    }
}

fn scope(needs: Needs) -> &'static str {
    match needs {
        Needs::Nothing | Needs::Role(_) => "any",
        Needs::WholeHost(_) => "host",
        Needs::Handler(_) => "handler",
    }
}

/// The errors of a route by their status: those that it has by what it is, and those that are its own.
pub(super) fn failing(endpoint: Endpoint, served: &Served) -> BTreeMap<u16, Vec<&'static str>> {
    let (needs, (verb, path)) = (endpoint.needs(), endpoint.route());
    let mut failing: BTreeMap<u16, Vec<&'static str>> = BTreeMap::new();
    let mut fails = |status, words: &[&'static str]| failing.entry(status).or_default().extend(words);
    if path.contains('{') && needs != Needs::Nothing {
        fails(400, &["invalid-path"]);
    }
    if served.told.query.is_some() {
        fails(400, &["invalid-query"]);
    }
    match needs {
        Needs::Nothing => {}
        Needs::Role(_) | Needs::WholeHost(_) | Needs::Handler(_) => {
            fails(401, &["no-token", "unknown-token", "expired-token"]);
        }
    }
    // Nobody has less than the least role.
    if needs.role() > Some(crate::access::Role::Read) {
        fails(403, &["role-too-low"]);
    }
    match needs {
        Needs::Nothing | Needs::Role(_) => {}
        Needs::WholeHost(_) | Needs::Handler(_) => fails(403, &["limited-to-handlers"]),
    }
    if verb.changes() {
        fails(403, &["foreign-origin"]);
    }
    fails(421, &["foreign-host"]);
    if endpoint.audited().is_some() {
        fails(503, &["audit-unavailable"]);
    }
    for (status, words) in &served.said.fails {
        fails(*status, words);
    }
    failing
}

fn answer(says: &str, content: Map<String, Value>) -> Map<String, Value> {
    let mut answer = Map::new();
    answer.insert("description".to_owned(), says.into());
    if !content.is_empty() {
        answer.insert("content".to_owned(), content.into());
    }
    answer
}

/// A body by its media type.
fn media(content: Content, schemas: &mut SchemaGenerator, example: Option<&Value>) -> Map<String, Value> {
    let mut of = |schema: SchemaOf| schema(schemas).to_value();
    let (kind, schema) = match content {
        Content::Nothing => return Map::new(),
        Content::Json(schema) => ("application/json", Some(of(schema))),
        Content::Either(one, other) => ("application/json", Some(json!({ "anyOf": [of(one), of(other)] }))),
        Content::Lines(kind, schema) => (kind, Some(of(schema))),
        Content::Text(kind) => (kind, Some(json!({ "type": "string" }))),
        // OpenAPI 3.1 has no schema for bytes that are no text.
        Content::Bytes(kind) => (kind, None),
        Content::Document => ("application/json", Some(json!({ "type": "object", "additionalProperties": true }))),
    };
    let mut media = Map::new();
    if let Some(schema) = schema {
        media.insert("schema".to_owned(), schema);
    }
    if let Some(example) = example {
        media.insert("example".to_owned(), example.clone());
    }
    let mut content = Map::new();
    content.insert(kind.to_owned(), media.into());
    content
}

/// The fields of an object as parameters of a query.
fn in_query(object: &Value) -> Vec<Value> {
    let fields = object.get("properties").and_then(Value::as_object);
    let required = |name: &str| {
        let names = object.get("required").and_then(Value::as_array);
        names.is_some_and(|names| names.iter().any(|other| other == name))
    };
    let parameter = |(name, schema): (&String, &Value)| {
        let mut schema = schema.clone();
        let mut says = Value::Null;
        if let Some(schema) = schema.as_object_mut() {
            says = schema.remove("description").unwrap_or_default();
            // A query has no null: what may be left out is left out.
            without_null(schema);
        }
        json!({ "name": name, "in": "query", "required": required(name), "description": says, "schema": schema })
    };
    fields.into_iter().flatten().map(parameter).collect()
}
