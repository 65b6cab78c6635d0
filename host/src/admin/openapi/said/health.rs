use serde_json::json;

use super::{Content, Said, Tag};
use crate::admin::wire::Readiness;
use crate::telemetry::Metrics;

pub(in crate::admin) fn live() -> Said {
    Said::of(
        "live",
        Tag::Health,
        "Whether the process answers",
        "For probes that start a dead host anew. It says nothing of brokers: a host whose broker is away is alive.",
    )
    .gives("It does.")
}

pub(in crate::admin) fn ready() -> Said {
    Said::of(
        "ready",
        Tag::Health,
        "Whether messages are taken",
        "For probes that send work elsewhere, and for people who wonder: what is not ready is named, and its reason is told to whoever shows a token that may read it. What is paused, what gets nowhere, and which version of its cluster the host cannot take, is named too, \
         and the host is ready all the same: it takes what is published to it, and its other subscriptions go on.",
    )
    .gives("Messages are taken, and given up ones can be stored.")
    .answers(503, "Something is not ready.", Content::json::<Readiness>())
    .example(json!({ "ready": true }))
}

pub(in crate::admin) fn metrics() -> Said {
    Said::of(
        "metrics",
        Tag::Health,
        "Metrics for Prometheus",
        "Every metric with its meaning is in `docs/metrics.md` of the repository.",
    )
    .answers(200, "All metrics.", Content::Text(Metrics::CONTENT_TYPE))
}

pub(in crate::admin) fn status() -> Said {
    Said::of(
        "status",
        Tag::Health,
        "What every subscription has done",
        "Counts since the host started. How many messages wait is as the broker said last. A caller who is limited to some \
         handlers sees the subscriptions of those alone, and of brokers neither warnings nor how many dead letters they keep.",
    )
    .gives("Brokers and subscriptions.")
    .example(json!({
        "host": "web-1",
        "version": "0.1.0",
        "uptime_seconds": 12.5,
        "draining": false,
        "brokers": [{ "name": "main", "type": "embedded", "connected": true, "dead_letters": 2 }],
        "subscriptions": [],
    }))
}

pub(in crate::admin) fn history() -> Said {
    Said::of(
        "history",
        Tag::Health,
        "The last hour",
        "A point every ten seconds, of one subscription or of all together: for a caller who is limited to some handlers, of all of these, and then without \
         how long runs took where several had some. It begins with the host; a metrics system keeps \
         more of it for longer.",
    )
    .gives("Lists of figures, the oldest first.")
    .fails(404, &["no-such-subscription"])
}
