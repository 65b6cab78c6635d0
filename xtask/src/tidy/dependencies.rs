//! What we depend on: permissive licences, one registry, one version of each crate, no crate that is banned.
//!
//! Read from `cargo metadata`, so that the check needs no program beside cargo and is never left out. What it does not
//! know is the database of advisories; see CONTRIBUTING.md.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Problem;
use crate::run::{cargo, output};

/// What we build for.
const TARGETS: [&str; 5] = [
    "x86_64-unknown-linux-gnu",
    "aarch64-unknown-linux-gnu",
    "x86_64-apple-darwin",
    "aarch64-apple-darwin",
    "wasm32-wasip2",
];

/// Permissive licences only: the host and the guests' SDK are Apache-2.0, and what people build with them is their own.
const LICENCES: [&str; 9] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// The one place that crates come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Crates that must not come in, and what to use.
const BANNED: [(&str, &str); 2] = [
    ("openssl-sys", "rustls: one TLS, and no system library to install"),
    ("native-tls", "rustls: one TLS, and no system library to install"),
];

/// Crates that are there twice, and who keeps the older one.
const TWICE: [(&str, &str); 15] = [
    ("base64", "async-nats and we have 0.22, ureq and pem 0.23"),
    ("block-buffer", "follows digest"),
    ("const-oid", "follows digest and der"),
    ("cpufeatures", "follows sha2 and curve25519-dalek"),
    ("crypto-common", "follows digest"),
    ("digest", "ed25519-dalek, for nkeys, and wasmtime's sha2 are on 0.10"),
    ("embedded-io", "postcard, for wasmtime, takes both by itself"),
    ("getrandom", "nkeys and ring are on 0.2"),
    ("hashbrown", "gimli is on 0.16"),
    ("io-lifetimes", "fs-set-times, for wasmtime-wasi, is on 2"),
    ("rand", "nkeys is on 0.8"),
    ("rand_core", "follows rand"),
    ("sha2", "wasmtime and ed25519-dalek are on 0.10"),
    ("syn", "half of the derive macros are on 2"),
    ("synstructure", "follows syn"),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
}

/// Checks what the lock file holds for the targets that we build for.
pub(super) fn check() -> Result<Vec<Problem>> {
    let mut metadata = cargo(&["metadata", "--format-version=1", "--locked", "--all-features"]);
    metadata.args(TARGETS.iter().flat_map(|target| ["--filter-platform", target]));
    let text = output(&mut metadata)?;
    let metadata: Metadata = serde_json::from_str(&text).context("reading what cargo metadata wrote")?;
    let used: BTreeSet<&str> = metadata.resolve.nodes.iter().map(|node| node.id.as_str()).collect();
    Ok(judge(metadata.packages.iter().filter(|package| used.contains(package.id.as_str()))))
}

fn judge<'a>(packages: impl Iterator<Item = &'a Package>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().insert(&package.version);
        let (name, version) = (&package.name, &package.version);
        match &package.license {
            Some(licence) if is_allowed(licence) => {}
            Some(licence) => {
                problems
                    .push(problem("licence", format!("{name} {version} is under `{licence}`, which is not allowed")));
            }
            None => problems.push(problem("licence", format!("{name} {version} names no licence"))),
        }
        if package.source.as_deref().is_some_and(|source| source != REGISTRY) {
            let source = package.source.as_deref().unwrap_or_default();
            problems.push(problem("source", format!("{name} {version} comes from {source}, not from crates.io")));
        }
        if let Some((_, instead)) = BANNED.iter().find(|(banned, _)| banned == name) {
            problems.push(problem("banned", format!("{name} must not come in; use {instead}")));
        }
    }
    for (name, versions) in &versions {
        let known = TWICE.iter().any(|(twice, _)| twice == name);
        let list: Vec<&str> = versions.iter().copied().collect();
        match (versions.len(), known) {
            (1, false) | (2, true) => {}
            (1, true) => {
                problems.push(problem("duplicate", format!("{name} is there only once by now: take it off the list")));
            }
            (_, _) => {
                let text = format!(
                    "{name} is there in the versions {}: bring them together, or say who keeps the older \
                                    one",
                    list.join(" and ")
                );
                problems.push(problem("duplicate", text));
            }
        }
    }
    problems
}

fn problem(rule: &'static str, text: String) -> Problem {
    Problem { path: "Cargo.lock".to_owned(), line: 0, rule, text }
}

/// Whether an SPDX expression can be met with the licences that are allowed.
fn is_allowed(expression: &str) -> bool {
    // The slash is the old way to write OR.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    matches!(either(&words), Some((allowed, [])) if allowed)
}

/// Reads terms with OR between them: one that is allowed is enough. `None` when it is no expression.
fn either<'a>(words: &'a [&'a str]) -> Option<(bool, &'a [&'a str])> {
    let (mut allowed, mut rest) = all(words)?;
    while let Some((&"OR", more)) = rest.split_first() {
        let (next, behind) = all(more)?;
        allowed |= next;
        rest = behind;
    }
    Some((allowed, rest))
}

/// Reads terms with AND between them: each has to be allowed.
fn all<'a>(words: &'a [&'a str]) -> Option<(bool, &'a [&'a str])> {
    let (mut allowed, mut rest) = one(words)?;
    while let Some((&"AND", more)) = rest.split_first() {
        let (next, behind) = one(more)?;
        allowed &= next;
        rest = behind;
    }
    Some((allowed, rest))
}

fn one<'a>(words: &'a [&'a str]) -> Option<(bool, &'a [&'a str])> {
    match words {
        ["(", inner @ ..] => {
            let (allowed, rest) = either(inner)?;
            let (close, rest) = rest.split_first()?;
            (*close == ")").then_some((allowed, rest))
        }
        [licence, "WITH", exception, rest @ ..] => {
            Some((LICENCES.contains(&format!("{licence} WITH {exception}").as_str()), rest))
        }
        ["OR" | "AND" | "WITH" | ")", ..] | [] => None,
        [licence, rest @ ..] => Some((LICENCES.contains(licence), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_allowed_when_it_can_be_met() {
        for (expression, allowed) in [
            ("MIT", true),
            ("MIT OR GPL-3.0", true),
            ("GPL-3.0 OR MIT", true),
            ("MIT AND GPL-3.0", false),
            ("MIT/Apache-2.0", true),
            ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
            ("MIT OR GPL-3.0 AND ISC", true),
            ("(MIT OR GPL-3.0) AND GPL-2.0", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("MIT WITH Classpath-exception", false),
            ("GPL-3.0", false),
            ("(MIT", false),
            ("MIT MIT", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(expression), allowed, "{expression}");
        }
    }

    #[test]
    fn what_does_not_fit_is_found() {
        let package = |name: &str, version: &str, licence: Option<&str>, source: Option<&str>| Package {
            id: format!("{name}@{version}"),
            name: name.to_owned(),
            version: version.to_owned(),
            license: licence.map(str::to_owned),
            source: source.map(str::to_owned),
        };
        let ours: Vec<Package> = TWICE
            .iter()
            .flat_map(|(name, _)| ["1", "2"].map(|version| package(name, version, Some("MIT"), Some(REGISTRY))))
            .collect();
        assert!(judge(ours.iter()).is_empty());
        let bad = [
            package("copyleft", "1", Some("GPL-3.0"), Some(REGISTRY)),
            package("unlicensed", "1", None, Some(REGISTRY)),
            package("forked", "1", Some("MIT"), Some("git+https://example.com/forked")),
            package("openssl-sys", "1", Some("MIT"), Some(REGISTRY)),
            package("double", "1", Some("MIT"), Some(REGISTRY)),
            package("double", "2", Some("MIT"), Some(REGISTRY)),
            package("base64", "1", Some("MIT"), Some(REGISTRY)),
        ];
        let mut rules: Vec<&str> = judge(bad.iter()).iter().map(|problem| problem.rule).collect();
        rules.sort_unstable();
        assert_eq!(rules, ["banned", "duplicate", "duplicate", "licence", "licence", "source"]);
    }
}
