use serde_json::json;

use super::{BUSY, Content, Said, Tag, UNAVAILABLE, UNFIT};
use crate::deploy::report::Line;
use crate::signature;

const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

pub(in crate::admin) fn list() -> Said {
    Said::of(
        "listHandlers",
        Tag::Handlers,
        "What runs",
        "The handlers that the caller covers, each with its active version and the one that is tried beside it; and in a \
         cluster what runs on its hosts.",
    )
    .gives("The handlers, by name.")
    .fails(503, UNAVAILABLE)
    .example(json!({ "handlers": [{ "name": "invoice", "active": null, "kept": 0, "deploying": null, "trouble": null }] }))
}

pub(in crate::admin) fn show() -> Said {
    Said::of(
        "showHandler",
        Tag::Handlers,
        "The versions of a handler",
        "Those that are kept, with their limits and grants and what their runs came to, and the last fifty things that \
         happened to the handler.",
    )
    .gives("The handler.")
    .fails(404, &["no-such-handler"])
    .fails(503, UNAVAILABLE)
}

pub(in crate::admin) fn module() -> Said {
    Said::of(
        "getModule",
        Tag::Handlers,
        "The module of a version",
        "Its bytes, as they were deployed, as long as a version of the handler that is kept has it: what is needed to run a \
         message once more elsewhere.",
    )
    .answers(200, "The module.", Content::Bytes("application/wasm"))
    .fails(400, &["invalid-digest"])
    .fails(404, &["no-such-handler", "no-such-module"])
    .fails(503, UNAVAILABLE)
}

pub(in crate::admin) fn deploy() -> Said {
    Said::of(
        "deploy",
        Tag::Handlers,
        "Deploys a module",
        "The module is read to its end first: what is wrong with the upload is the status of the answer. Then each step \
         is a line, as it is done, and the last line is `done` or `failed`: whether the version runs stands there, and \
         not in the status, which is 200 by then. A module that fails any step changes nothing. \
         With `canary` or `shadow` the version is tried beside the active one. The deploy goes on when \
         the client goes away in the middle of the answer; it never begins when that happens in the middle of the \
         upload.",
    )
    .header(signature::HEADER, "The signature of the module: the file that minisign writes, in base64.")
    .takes(
        true,
        "The module, of as many bytes as `limits.module_size` of the handler says, 64 MiB where it says nothing, within \
         five minutes.",
        vec![Content::Bytes("application/wasm"), Content::Bytes("application/octet-stream")],
    )
    .answers(200, "The steps, as they are done, and how it ended.", Content::lines::<Line>())
    .fails(400, &["invalid-digest", "invalid-signature", "invalid-share", "broken-body"])
    .fails(404, &["no-such-handler"])
    .fails(408, &["too-slow"])
    .fails(409, BUSY)
    .fails(409, &["no-active-version", "not-current", "superseded"])
    .fails(413, &["too-large"])
    .fails(422, &["wrong-digest", "module-damaged"])
    .fails(503, UNAVAILABLE)
    .fails(507, &["disk-full"])
    .example(json!({ "step": { "name": "compile", "ms": 84.5, "detail": "3 imports, tidegate:events/handler@0.1.0" } }))
}

pub(in crate::admin) fn rollback() -> Said {
    Said::of(
        "rollback",
        Tag::Handlers,
        "Goes back to a version",
        "The version that was active before this one, or the one that `to` names, becomes the active one again. \
         Again, it goes further back, and not forth: to a version that was rolled back leads `to` alone. A deploy that has \
         recorded nothing yet ends for it, with `superseded`.",
    )
    .gives("It is the active version.")
    .fails(404, &["no-such-handler", "no-such-version"])
    .fails(409, BUSY)
    .fails(409, &["already-active", "not-granted"])
    .fails(422, UNFIT)
    .fails(500, &["switch-broken"])
    .fails(503, UNAVAILABLE)
    .fails(507, &["disk-full"])
    .example(json!({ "handler": "invoice", "from": 7, "to": 6, "digest": DIGEST, "was_loaded": true, "ms": 3.2 }))
}

pub(in crate::admin) fn promote() -> Said {
    Said::of(
        "promote",
        Tag::Handlers,
        "Makes the version that is tried the active one",
        "All messages run on it from here on. With `version` nothing is done when another one is tried by now.",
    )
    .gives("It is the active version.")
    .fails(404, &["no-such-handler", "no-rollout"])
    .fails(409, BUSY)
    .fails(409, &["not-granted", "other-version-tried"])
    .fails(422, UNFIT)
    .fails(500, &["switch-broken"])
    .fails(503, UNAVAILABLE)
    .fails(507, &["disk-full"])
    .example(json!({ "handler": "invoice", "from": 6, "to": 7, "digest": DIGEST }))
}

pub(in crate::admin) fn abort() -> Said {
    Said::of(
        "abort",
        Tag::Handlers,
        "Ends the trial of a version",
        "All messages run on the version from before again. With `version` nothing is done when another one is tried by now.",
    )
    .gives("It is not tried any more.")
    .fails(404, &["no-such-handler", "no-rollout"])
    .fails(409, BUSY)
    .fails(409, &["other-version-tried"])
    .fails(500, &["switch-broken"])
    .fails(503, UNAVAILABLE)
    .fails(507, &["disk-full"])
    .example(json!({ "handler": "invoice", "version": 7, "active": 6 }))
}
