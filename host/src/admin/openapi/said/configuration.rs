use serde_json::json;

use super::{BUSY, Said, Tag, UNAVAILABLE, UNFIT};

const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

pub(in crate::admin) fn changes() -> Said {
    Said::of(
        "showChanges",
        Tag::Configuration,
        "What the host's file changes against what runs",
        "The host reads the file that it was started with, and the modules that it names. Nothing is changed.",
    )
    .gives("What differs, and what becomes of each part.")
    .fails(409, BUSY)
    .fails(422, &["config-invalid", "tls-unusable"])
    .fails(422, UNFIT)
    .fails(500, &["apply-broken"])
    .fails(503, &["no-configuration-here", "draining"])
    .fails(503, UNAVAILABLE)
    .example(json!({
        "file": "/etc/tidegate/tidegate.toml",
        "digest": DIGEST,
        "changes": [{ "what": "subscriptions.orders.concurrency", "before": "4", "after": "8" }],
        "steps": [{ "what": "subscription orders", "how": "tuned" }],
    }))
}

pub(in crate::admin) fn apply() -> Said {
    Said::of(
        "applyChanges",
        Tag::Configuration,
        "Applies the changes that were shown",
        "All of it or nothing. `digest` is that of the changes: when the file, a module or what runs has changed since \
         they were shown, nothing is applied.",
    )
    .gives("What was changed.")
    .fails(404, &["no-such-version"])
    .fails(409, &["config-changed", "needs-restart", "apply-in-progress"])
    .fails(409, BUSY)
    .fails(413, &["too-large"])
    .fails(422, &["config-invalid", "tls-unusable", "broker-unusable", "subscription-refused"])
    .fails(422, UNFIT)
    .fails(500, &["apply-broken"])
    .fails(503, &["no-configuration-here", "draining"])
    .fails(503, UNAVAILABLE)
    .fails(507, &["disk-full"])
    .example(json!({
        "changes": [{ "what": "subscriptions.orders.concurrency", "before": "4", "after": "8" }],
        "steps": [{ "what": "subscription orders", "how": "tuned" }],
        "ms": 12.5,
    }))
}
