//! Boundaries between folders, and words that do not belong into the code.

use super::Problem;
use super::source::Source;

/// A crate that talks to the world, and the only places under `host/src/` that may name it.
const BOUNDARIES: [(&str, &[&str]); 12] = [
    ("async_nats", &["broker/jetstream/"]),
    ("rusqlite", &["broker/embedded/", "broker/done", "broker/record", "registry/records"]),
    ("wasmtime", &["sandbox/"]),
    ("wasmtime_wasi", &["sandbox/"]),
    ("axum", &["admin/"]),
    ("hyper", &["admin/", "sandbox/granted/http"]),
    ("hyper_util", &["admin/", "sandbox/granted/http"]),
    ("wasmtime_wasi_http", &["sandbox/granted/http"]),
    ("clap", &["cli/", "main.rs"]),
    ("clap_complete", &["cli/"]),
    ("notify", &["cli/dev"]),
    ("anyhow", &["main.rs", "cli/", "app.rs", "app/"]),
];

/// What stands in the host exactly once, so that it can't be decided in two ways.
const ONCE: [(&str, &str); 2] = [
    ("bindgen!", "the contracts' types are generated in one file, one `bindgen!` each"),
    ("Trap::", "traps are classified in one file"),
];

/// Checks one file.
pub(super) fn check(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(boundaries(source));
    problems.extend(reasons(source));
    problems.extend(unfinished(source));
    problems.extend(sleeps(source));
    problems
}

fn boundaries(source: &Source) -> Vec<Problem> {
    let Some(inside) = source.path.strip_prefix("host/src/") else { return Vec::new() };
    let mut problems = Vec::new();
    for (name, places) in BOUNDARIES {
        if places.iter().any(|place| inside.starts_with(place)) {
            continue;
        }
        for place in source.words(name) {
            let behind = source.code.get(place + name.len()..).unwrap_or_default();
            if behind.starts_with("::") && !source.is_test(place) {
                let text = format!("`{name}` is used under {} only", places.join(", "));
                problems.push(source.problem(place, "boundary", text));
            }
        }
    }
    problems
}

/// Every `allow` and `expect` says why.
fn reasons(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    for word in ["allow", "expect"] {
        for place in source.words(word) {
            let before = source.code.get(..place).unwrap_or_default();
            let opens = before.ends_with("#[") || before.ends_with("#![");
            if opens && !source.code.get(source.group(place)).is_some_and(|group| group.contains("reason")) {
                problems.push(source.problem(place, "reason", format!("`#[{word}]` has no `reason`")));
            }
        }
    }
    problems
}

fn unfinished(source: &Source) -> Vec<Problem> {
    let refused = [
        ("todo!", "finish it"),
        ("unimplemented!", "finish it"),
        ("#[ignore", "a test that does not run tests nothing"),
        ("#[should_panic", "say what it gives back instead"),
    ];
    let found = refused.iter().flat_map(|(word, why)| source.words(word).map(move |place| (place, word, why)));
    found.map(|(place, word, why)| source.problem(place, "unfinished", format!("`{word}`: {why}"))).collect()
}

/// A test waits for a condition, with a deadline, and never for a time; unless time itself is paused.
fn sleeps(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, range) in source.test_functions() {
        let start = source.code.get(..range.start).and_then(|before| before.rfind("#[")).unwrap_or(range.start);
        let paused = source.code.get(start..range.start).is_some_and(|attribute| attribute.contains("start_paused"));
        let sleeping = source.words("sleep").find(|place| range.contains(place));
        if let Some(place) = sleeping.filter(|_| !paused) {
            let text = format!("`{name}` sleeps: wait for a condition with a deadline");
            problems.push(source.problem(place, "sleep", text));
        }
    }
    problems
}

/// Checks what stands in the host exactly once.
pub(super) fn check_once(sources: &[Source]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (word, why) in ONCE {
        let in_host = sources.iter().filter(|source| source.is_rust() && source.path.starts_with("host/src/"));
        let found: Vec<Problem> = in_host
            .filter_map(|source| {
                let place = source.words(word).find(|place| !source.is_test(*place))?;
                Some(source.problem(place, "once", format!("`{word}` stands in more than one file: {why}")))
            })
            .collect();
        if found.len() > 1 {
            problems.extend(found);
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        check(&Source::new(path, text.to_owned())).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_crate_stays_in_its_folder() {
        let text = "// wasmtime::Engine\nuse wasmtime::Engine;\n#[cfg(test)]\nmod tests { use wasmtime::Trap; }";
        let expected = "host/src/settle/mod.rs:2: `wasmtime` is used under sandbox/ only (boundary)";
        assert_eq!(problems("host/src/settle/mod.rs", text), [expected]);
        assert!(problems("host/src/sandbox/mod.rs", text).is_empty());
        assert!(problems("xtask/src/main.rs", text).is_empty());
    }

    #[test]
    fn an_allow_without_a_reason_is_found() {
        let text =
            "#[allow(dead_code)]\n#[allow(dead_code, reason = \"x\")]\n#![expect(dead_code)]\nfn allow(a: u8) {}";
        let expected = ["a.rs:1: `#[allow]` has no `reason` (reason)", "a.rs:3: `#[expect]` has no `reason` (reason)"];
        assert_eq!(problems("a.rs", text), expected);
    }

    #[test]
    fn what_is_not_finished_is_found() {
        // In pieces, so that this file is tidy.
        let text = ["todo", "!();\n#[", "ignore]\n// todo", "!()\nlet x = \"todo", "!\";"].concat();
        assert_eq!(problems("a.rs", &text).len(), 2);
    }

    #[test]
    fn a_test_does_not_sleep_unless_time_is_paused() {
        let text = "#[tokio::test]\nasync fn a() { sleep(x) }\n\
                    #[tokio::test(start_paused = true)]\nasync fn b() { sleep(x) }\n\
                    #[test]\nfn c() { asleep(x) }\nasync fn helper() { sleep(x) }";
        assert_eq!(problems("a.rs", text), ["a.rs:2: `a` sleeps: wait for a condition with a deadline (sleep)"]);
    }

    #[test]
    fn what_stands_once_stands_once() {
        let source = |path: &str, text: &str| Source::new(path, text.to_owned());
        let one = || source("host/src/sandbox/fault.rs", "match t { Trap::OutOfFuel => {} }");
        let other = source("host/src/sandbox/run.rs", "FaultKind::Trap(x); // Trap::OutOfFuel");
        assert!(check_once(&[one(), other]).is_empty());
        let second = source("host/src/settle/decide.rs", "if t == Trap::OutOfFuel {}");
        assert_eq!(check_once(&[one(), second]).len(), 2);
    }
}
