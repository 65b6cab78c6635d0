use serde_json::json;

use super::{Content, Said, Tag};

pub(in crate::admin) fn whoami() -> Said {
    Said::of(
        "whoami",
        Tag::Access,
        "Who the host takes the caller for",
        "A client finds out with it whether its token is good, and what it may do.",
    )
    .gives("The token's name, its role, and the handlers that it is limited to.")
    .example(json!({ "name": "ci", "role": "deploy", "handlers": ["billing-*"] }))
}

pub(in crate::admin) fn audit() -> Said {
    Said::of(
        "listAudit",
        Tag::Access,
        "Who changed what",
        "Every action that changed something over HTTP, or was to: the newest first. It stands in the log before it is \
         done.",
    )
    .gives("A page of actions.")
    .fails(503, &["audit-unavailable"])
    .example(json!({
        "entries": [{
            "id": "01KB6ZQ0V4Y8T2J5M9N3C7D1FG",
            "at": "2026-11-29T10:00:00.000Z",
            "who": "ci",
            "role": "deploy",
            "from": "10.0.0.7:51234",
            "action": "handler.deploy",
            "target": "/v1/handlers/invoice/versions",
            "result": { "at": "2026-11-29T10:00:00.412Z", "status": 200, "deploy": { "ended": "live", "version": 7 } },
        }],
        "next": "01KB6ZQ0V4Y8T2J5M9N3C7D1FG",
    }))
}

pub(in crate::admin) fn openapi() -> Said {
    Said::of(
        "openapi",
        Tag::Access,
        "This document",
        "It is the same on every host of a version, and is `docs/openapi.json` in the repository.",
    )
    .answers(200, "An OpenAPI document.", Content::Document)
}
