//! The settings of `[signatures]`: whose signatures are trusted.

use std::collections::BTreeMap;

use super::check::Checker;
use super::problem::Problem;
use super::raw_trust::RawSignatures;
use crate::signature::{KeyId, Policy, PublicKey};

/// Where a public key is found.
const WHERE: &str = "the second line of the file that `minisign -G` writes as minisign.pub; it begins with RW";

pub(super) fn validate(raw: RawSignatures, checker: &mut Checker) -> Policy {
    let required = raw.required.unwrap_or(!raw.keys.is_empty());
    if required && raw.keys.is_empty() {
        let problem = Problem::at(&["signatures", "required"], "signatures are required, and no key is trusted");
        checker.problem(problem.help(format!("list one under [signatures.keys], by a name of your choice: {WHERE}")));
    }
    let mut keys = BTreeMap::new();
    let mut seen: BTreeMap<KeyId, String> = BTreeMap::new();
    for (name, text) in raw.keys {
        let at = ["signatures", "keys", name.as_str()];
        checker.name_at("key", &["signatures", "keys"], &name);
        match text.parse::<PublicKey>() {
            Err(wrong) => checker.problem(Problem::at(&at, wrong).help(WHERE)),
            Ok(key) => {
                if let Some(other) = seen.insert(key.id(), name.clone()) {
                    let message = format!("keys `{other}` and `{name}` are the same, {}", key.id());
                    checker.problem(Problem::at(&at, message));
                }
                keys.insert(name, key);
            }
        }
    }
    Policy::new(required, keys)
}
