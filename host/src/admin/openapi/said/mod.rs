//! What is said of each route: one function a route, a file a heading.

pub(in crate::admin) mod access;
pub(in crate::admin) mod configuration;
pub(in crate::admin) mod console;
pub(in crate::admin) mod dead_letters;
pub(in crate::admin) mod handlers;
pub(in crate::admin) mod health;
pub(in crate::admin) mod messages;
pub(in crate::admin) mod subscriptions;

use super::content::{Content, Said, Tag};

/// Why what runs cannot be asked or changed.
const UNAVAILABLE: &[&str] = &[
    "no-handlers-here",
    "registry-unavailable",
    "module-damaged",
    "cluster-unavailable",
    "unconfirmed",
    "record-unreadable",
    "not-recorded",
];

/// Why a module is not let in.
const UNFIT: &[&str] = &[
    "module-refused",
    "module-unreadable",
    "module-damaged",
    "version-unloadable",
    "grant-unavailable",
    "not-signed",
    "untrusted-key",
    "wrong-signature",
    "invalid-signature",
    "wrong-digest",
    "init-failed",
    "golden-unusable",
    "golden-failed",
];

/// Why somebody has to wait.
const BUSY: &[&str] = &["deploy-in-progress", "rollout-in-progress", "conflict"];
