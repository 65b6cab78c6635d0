#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use expect_test::expect_file;
use serde_json::{Value, json};

use super::checker::Document;
use super::content::Content;
use super::{codes, document};
use crate::admin::endpoint::Endpoint;

fn whole() -> Document {
    Document(serde_json::from_str(super::text()).unwrap())
}

/// Every value in a JSON document that stands under a name.
fn under<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                if field == name {
                    found.push(value);
                }
                under(value, name, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| under(item, name, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_document_in_the_repository_is_current() {
    expect_file!["../../../../docs/openapi.json"].assert_eq(super::text());
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_used() {
    let document = whole();
    let mut references = Vec::new();
    under(&document.0, "$ref", &mut references);
    let targets: BTreeSet<&str> = references.iter().map(|reference| reference.as_str().unwrap()).collect();
    for target in &targets {
        let found = document.0.pointer(target.strip_prefix('#').unwrap());
        assert!(found.is_some(), "{target} leads nowhere");
    }
    for name in document.0["components"]["schemas"].as_object().unwrap().keys() {
        assert!(targets.contains(format!("#/components/schemas/{name}").as_str()), "{name} is named by nothing");
    }
}

/// What is read and what is answered stand side by side under their names.
#[test]
fn no_name_stands_for_two_schemas() {
    let mut maker = document::Maker::new();
    Endpoint::ALL.into_iter().for_each(|endpoint| drop(maker.operation(endpoint)));
    let [read, answered] = maker.named();
    for (name, schema) in &read {
        assert!(answered.get(name).is_none_or(|other| other == schema), "{name} is read otherwise than it is answered");
    }
    // A name that was given twice gets a number behind it.
    let numbered = |name: &&String| name.ends_with(|last: char| last.is_ascii_digit());
    assert_eq!(read.keys().chain(answered.keys()).find(numbered), None);
}

#[test]
fn every_operation_says_all_that_it_takes_and_gives() {
    let document = whole();
    let mut names = BTreeSet::new();
    for endpoint in Endpoint::ALL {
        let (verb, path) = endpoint.route();
        let operation = &document.0["paths"][path][verb.word().to_ascii_lowercase()];
        assert!(names.insert(operation["operationId"].as_str().unwrap()), "{verb} {path}: its name stands twice");
        for word in ["summary", "description"] {
            assert!(operation[word].as_str().is_some_and(|text| !text.is_empty()), "{verb} {path} has no {word}");
        }
        let served = endpoint.served();
        let in_path = path.matches('{').count();
        assert_eq!(served.told.body, served.said.takes.is_some(), "{verb} {path}: its body is read and not described");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let described = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
        assert_eq!(described, in_path, "{verb} {path}");
        // What the gate alone looks at needs no part of the path for itself.
        assert!(in_path > 0 || !served.told.path, "{verb} {path} takes a part of the path that it does not have");
        for parameter in &parameters {
            let says = parameter["description"].as_str().unwrap_or_default();
            assert!(!says.is_empty(), "{verb} {path}: {parameter} is not described");
        }
        let answers = operation["responses"].as_object().unwrap();
        assert!(answers.keys().any(|status| status.starts_with('2')), "{verb} {path} never goes well");
        let said = served.said.answers.iter().map(|(status, ..)| *status);
        let well: Vec<u16> = said.chain(served.told.answer.map(|(status, _)| status)).filter(|s| *s < 300).collect();
        assert_eq!(well.len(), 1, "{verb} {path} says twice what it answers");
    }
    let described: usize =
        document.0["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
    assert_eq!(described, Endpoint::ALL.len());
}

#[test]
fn every_word_of_an_error_has_a_meaning_and_every_meaning_a_route() {
    let mut used = BTreeSet::new();
    for endpoint in Endpoint::ALL {
        for (status, words) in document::failing(endpoint, &endpoint.served()) {
            assert!((400..600).contains(&status), "{endpoint:?}: {status}");
            let listed: BTreeSet<&str> = words.iter().copied().collect();
            assert_eq!(listed.len(), words.len(), "{endpoint:?}: {status} has a word twice: {words:?}");
            for word in words {
                assert!(codes::meaning(word).is_some(), "{endpoint:?}: nobody says what `{word}` means");
                used.insert(word);
            }
        }
    }
    let listed: Vec<&str> = codes::all().collect();
    assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>().len(), listed.len(), "a word stands twice");
    for word in listed {
        assert!(used.contains(word), "no route fails with `{word}`");
    }
}

#[test]
fn every_example_is_one_of_its_schema() {
    let document = whole();
    let mut seen = 0;
    let mut bodies = Vec::new();
    under(&document.0["paths"], "content", &mut bodies);
    for media in bodies.iter().flat_map(|body| body.as_object().unwrap().values()) {
        if let Some(example) = media.get("example") {
            document.whole(&media["schema"], example, "example").unwrap();
            seen += 1;
        }
    }
    let given = |endpoint: &Endpoint| endpoint.served().said.example.is_some();
    assert!(seen >= Endpoint::ALL.iter().filter(|endpoint| given(endpoint)).count(), "an example is lost: {seen}");
}

/// A checker that takes everything would find nothing.
#[test]
fn the_checker_finds_what_does_not_fit() {
    let document = whole();
    let schema = json!({ "$ref": "#/components/schemas/PublishedMessage" });
    document.whole(&schema, &json!({ "sequence": 1, "duplicate": false }), "body").unwrap();
    let wrong = [
        json!({ "sequence": 1 }),
        json!({ "sequence": -1, "duplicate": false }),
        json!({ "sequence": 1.5, "duplicate": false }),
        json!({ "sequence": 1, "duplicate": "no" }),
        json!({ "sequence": 1, "duplicate": false, "more": 1 }),
        json!([]),
    ];
    for value in wrong {
        assert!(document.whole(&schema, &value, "body").is_err(), "{value}");
    }
    assert!(document.whole(&json!({ "type": "string", "minLength": 1 }), &json!("a"), "body").is_err(), "not known");
}

#[test]
fn what_streams_says_so() {
    for endpoint in [Endpoint::Deploy, Endpoint::Happening] {
        let answers = endpoint.served().said.answers;
        assert!(matches!(answers.as_slice(), [(200, _, Content::Lines("application/x-ndjson", _))]), "{endpoint:?}");
    }
}
