//! What a new project is made of, by language. The files lie in `templates/`, as they are written but for the names in
//! double braces.

use super::super::language::Language;

/// What a file has in it.
#[derive(Clone, Copy)]
enum Content {
    /// Text in which names are filled in.
    Template(&'static str),
    /// Bytes as they are.
    Verbatim(&'static [u8]),
}

/// The names that are filled in.
#[derive(Debug, Clone)]
pub(super) struct Names<'a> {
    /// The project's.
    pub(super) name: &'a str,
    /// Where the SDK for Rust lies, from the project's folder.
    pub(super) sdk: &'a str,
}

/// The contract. There is one, and it is not copied.
const CONTRACT: &[u8] = include_bytes!("../../../../wit/events.wit");
/// The configuration to run the handler with.
const CONFIGURATION: &str = include_str!("templates/tidegate.toml");

/// Cases for `tidegate test`, for orders in JSON.
const CASES: &str = include_str!("templates/orders.jsonl");

/// Templates of a language, by their paths in the project. `gitignore` gets its dot when it is written: here it would
/// be in force.
macro_rules! templates {
    ($language:literal: $($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("templates/", $language, "/", $path)))),*]
    };
}

const RUST: &[(&str, &str)] = templates!["rust": "Cargo.toml", "README.md", "gitignore", "order.json", "src/lib.rs"];
const JS: &[(&str, &str)] = templates![
    "js": "README.md", "gitignore", "order.json", "package.json", "src/invoice.js", "src/main.js", "src/tidegate.js",
    "test/invoice.test.js",
];
const PYTHON: &[(&str, &str)] = templates![
    "python": "README.md", "app.py", "gitignore", "invoice.py", "order.json", "requirements.txt", "test_invoice.py",
    "tidegate.py",
];
const C: &[(&str, &str)] = templates![
    "c": "Makefile", "README.md", "cases/orders.jsonl", "gitignore", "handler.c", "order.txt", "test.c", "tidegate.c", "tidegate.h",
];
/// Generated from the contract by `cargo xtask bindings`.
const C_BINDINGS: [(&str, &[u8]); 3] = [
    ("bindings/message_handler.c", include_bytes!("templates/c/bindings/message_handler.c")),
    ("bindings/message_handler.h", include_bytes!("templates/c/bindings/message_handler.h")),
    (
        "bindings/message_handler_component_type.o",
        include_bytes!("templates/c/bindings/message_handler_component_type.o"),
    ),
];

/// Every file of a project, by its path in it.
pub(super) fn files(language: Language, names: &Names<'_>) -> Vec<(&'static str, Vec<u8>)> {
    let templates = match language {
        Language::Rust => RUST,
        Language::Js => JS,
        Language::Python => PYTHON,
        Language::C => C,
    };
    let mut files: Vec<_> = templates.iter().map(|(path, text)| (*path, Content::Template(text))).collect();
    files.push(("tidegate.toml", Content::Template(CONFIGURATION)));
    if language != Language::C {
        files.push(("cases/orders.jsonl", Content::Template(CASES)));
    }
    match language {
        // Its bindings come with the SDK.
        Language::Rust => {}
        Language::Js | Language::Python => files.push(("wit/events.wit", Content::Verbatim(CONTRACT))),
        Language::C => files.extend(C_BINDINGS.map(|(path, bytes)| (path, Content::Verbatim(bytes)))),
    }
    let written = |path| if path == "gitignore" { ".gitignore" } else { path };
    files.into_iter().map(|(path, content)| (written(path), content.filled(language, names))).collect()
}

/// The sample message of a project.
pub(in super::super) const fn sample(language: Language) -> &'static str {
    match language {
        Language::Rust | Language::Js | Language::Python => "order.json",
        Language::C => "order.txt",
    }
}

impl Content {
    fn filled(self, language: Language, names: &Names<'_>) -> Vec<u8> {
        match self {
            Self::Template(text) => {
                let module = match language {
                    Language::Rust => &format!("target/wasm32-wasip2/release/{}.wasm", names.name.replace('-', "_")),
                    Language::Js | Language::Python | Language::C => super::super::build::MODULE,
                };
                let text = text.replace("{{name}}", names.name).replace("{{sdk}}", names.sdk);
                text.replace("{{module}}", module).into_bytes()
            }
            Self::Verbatim(bytes) => bytes.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::collections::BTreeSet;
    use std::path::Path;

    use clap::ValueEnum as _;

    use super::*;
    use crate::cli::new::listing::files_below;
    use crate::config::Config;

    #[test]
    fn every_template_is_in_the_program() {
        let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/new/templates");
        let found = files_below(&templates, &[""]);
        let of = |language: &'static str, files: &[(&str, &str)]| {
            files.iter().map(|(path, _)| format!("{language}/{path}")).collect::<Vec<_>>()
        };
        let bindings = C_BINDINGS.iter().map(|(path, _)| format!("c/{path}"));
        let listed = [of("rust", RUST), of("js", JS), of("python", PYTHON), of("c", C)].concat();
        let listed: BTreeSet<_> =
            listed.into_iter().chain(bindings).chain(["orders.jsonl", "tidegate.toml"].map(str::to_owned)).collect();
        assert_eq!(listed, found);
    }

    #[test]
    fn every_name_is_filled_in_and_the_configuration_is_right() {
        for language in Language::value_variants() {
            let names = Names { name: "my-handler", sdk: "vendor/tidegate-sdk" };
            let files = files(*language, &names);
            for (path, bytes) in &files {
                let text = String::from_utf8_lossy(bytes);
                assert!(
                    !text.contains("{{name}}") && !text.contains("{{sdk}}") && !text.contains("{{module}}"),
                    "{path}"
                );
            }
            let text = |name: &str| {
                let (_, bytes) = files.iter().find(|(path, _)| *path == name).unwrap();
                String::from_utf8(bytes.clone()).unwrap()
            };
            let config = Config::from_text(Path::new("tidegate.toml"), text("tidegate.toml"), &[]).unwrap();
            assert!(config.handlers.contains_key("my-handler"));
            assert!(text("README.md").lines().count() <= 14, "a page that is read");
            assert!(text("README.md").contains(sample(*language)) && !text(sample(*language)).is_empty());
            assert!(files.iter().any(|(path, _)| *path == language.mark()), "`build` knows it by its mark");
        }
    }
}
