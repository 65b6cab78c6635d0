//! What `tidegate new` makes: the template of Rust is built, tested and run here; those of the other languages, whose
//! tools a machine can lack, are made here and built by `cargo xtask templates`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

fn tidegate(folder: &Path, arguments: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).current_dir(folder).env_remove("TIDEGATE_CONFIG");
    as_a_user_would(&mut command, root);
    command.output().unwrap()
}

/// Without what cargo set for these tests; and in a target directory that all runs share, so that only what changed is
/// built.
fn as_a_user_would(command: &mut Command, root: &Path) {
    for variable in ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_MANIFEST_DIR"] {
        command.env_remove(variable);
    }
    command.env("CARGO_TARGET_DIR", root.join("target/templates")).env("CARGO_TERM_COLOR", "never");
}

fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn made(folder: &Path, name: &str, language: &str) -> PathBuf {
    let output = tidegate(folder, &["new", name, "--lang", language]);
    assert!(output.status.success(), "{}", said(&output));
    let project = folder.join(name);
    if language == "rust" {
        // The versions that this repository was tested with are here already; a user's cargo would look for newer ones.
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
        std::fs::copy(lock, project.join("Cargo.lock")).unwrap();
    }
    project
}

fn invoked(project: &Path, body: &str) -> Value {
    std::fs::write(project.join("body"), body).unwrap();
    let output = tidegate(project, &["invoke", "--handler", "my-handler", "body", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&output)))
}

#[test]
fn a_project_in_rust_is_made_tested_built_and_run() {
    let folder = tempfile::tempdir().unwrap();
    let project = made(folder.path(), "my-handler", "rust");
    let mut tests = Command::new("cargo");
    tests.args(["test", "--quiet"]).current_dir(&project);
    as_a_user_would(&mut tests, Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
    let tested = tests.output().unwrap();
    assert!(tested.status.success() && said(&tested).contains("3 passed"), "{}", said(&tested));

    let output = tidegate(&project, &["build", "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    let built: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(built["language"], json!("Rust"));
    let imports = built["imports"].as_array().unwrap();
    assert!(imports.contains(&json!("tidegate:events/log@0.1.0")), "{imports:?}");
    // The configuration names the module where a user's cargo leaves it, which is not where this test's does.
    let configured = project.join("target/wasm32-wasip2/release/my_handler.wasm");
    std::fs::create_dir_all(configured.parent().unwrap()).unwrap();
    std::fs::copy(built["module"].as_str().unwrap(), &configured).unwrap();

    let sample = std::fs::read_to_string(project.join("order.json")).unwrap();
    let run = invoked(&project, &sample);
    assert_eq!(
        (&run["outcome"]["code"], &run["outputs"][0]["body"]),
        (&json!("completed"), &json!("order 7: 1250 cents"))
    );
    assert_eq!(run["module"]["digest"], built["digest"]);
    assert_eq!(invoked(&project, r#"{"id": 7}"#)["outcome"]["code"], json!("handler-retry"));
    assert_eq!(invoked(&project, r#"{"id": 7, "cents": 0}"#)["outcome"]["code"], json!("handler-rejected"));
    let tested = tidegate(&project, &["test", "--json"]);
    let report: Value =
        serde_json::from_slice(&tested.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&tested)));
    assert_eq!((&report["passed"], &report["failed"]), (&json!(3), &json!(0)), "{report:#}");
}

#[test]
fn the_compilers_words_are_shown_and_a_build_that_fails_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let project = made(folder.path(), "broken", "rust");
    std::fs::write(project.join("src/lib.rs"), "fn broken() -> u32 { \"no number\" }").unwrap();
    let output = tidegate(&project, &["build"]);
    assert_eq!(output.status.code(), Some(1));
    let told = said(&output);
    assert!(told.contains("expected `u32`, found `&str`"), "{told}");
    assert!(told.contains("error: `cargo build --release --target wasm32-wasip2` failed (exit status: 101)"), "{told}");
    assert!(output.stdout.is_empty(), "standard output is for what is built: {told}");
}

#[test]
fn projects_in_every_language_are_made_and_their_configurations_are_right() {
    let folder = tempfile::tempdir().unwrap();
    let contract = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/events.wit")).unwrap();
    for language in ["rust", "js", "python", "c"] {
        let project = made(folder.path(), &format!("{language}-handler"), language);
        let output = tidegate(&project, &["check", "--no-modules", "--json"]);
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        // What is not built yet is the one thing that is missing.
        let problems = found["problems"].as_array().unwrap();
        assert!(
            problems.len() == 1 && problems[0]["message"].as_str().unwrap().contains(".wasm"),
            "{language}: {problems:?}"
        );
        if let Ok(copy) = std::fs::read(project.join("wit/events.wit")) {
            assert!(copy == contract, "{language}: the contract is the one of this repository");
        }
        assert!(project.join(".gitignore").is_file());
    }
}

#[test]
fn nothing_is_written_over_and_names_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    made(folder.path(), "mine", "c");
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    made(folder.path(), "empty", "js");
    let rows: [(&[&str], &str); 7] = [
        (&["new", "mine"], "mine is there already"),
        (&["new", "Mine"], "`Mine` cannot be the name of a handler"),
        (&["new", "match"], "it is a keyword"),
        (&["new", "serde"], "a library of that name"),
        (&["new", "other", "--sdk", "mine"], "is not the folder of `tidegate-sdk`"),
        (&["new", "other", "--lang", "js", "--sdk", "mine"], "JavaScript has none"),
        (&["build", "."], "is no project of a handler"),
    ];
    for (arguments, expected) in rows {
        let output = tidegate(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(expected), "{arguments:?}: {}", said(&output));
    }
    let left = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut left: Vec<_> = left.map(|name| name.to_str().unwrap().to_owned()).collect();
    left.sort();
    assert_eq!(left, ["empty", "mine"], "a refusal leaves nothing behind");
}
