//! What the stream of a bucket is made with, and what one that stands there must be like. Pure.

use serde_json::{Map, Value, json};

use crate::broker::Access;
use crate::broker::bucket::MAX_VALUE_BYTES;
use crate::broker::jetstream::check::{Problem, STAMP};
use crate::broker::jetstream::options::BucketOptions;
use crate::broker::jetstream::wire::{flag, number, text, texts};

/// What the headers of a value may take beside it: those by which it is swapped are a tenth of that.
const HEADER_BYTES: usize = 1024;

/// The stream of a bucket.
pub(super) fn stream(bucket: &str) -> String {
    format!("KV_{bucket}")
}

/// In front of each key of a bucket, as a subject.
pub(super) fn prefix(bucket: &str) -> String {
    format!("$KV.{bucket}.")
}

/// The settings of the stream of a bucket that is made: those of `nats kv add`, with bounds.
pub(super) fn made(bucket: &str, options: &BucketOptions) -> Value {
    json!({
        "name": stream(bucket),
        "description": "A bucket of Tidegate's handlers",
        "subjects": [format!("{}>", prefix(bucket))],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "max_bytes": i64::try_from(options.max_bytes).unwrap_or(i64::MAX),
        "max_msg_size": MAX_VALUE_BYTES + HEADER_BYTES,
        "num_replicas": options.replicas,
        "allow_rollup_hdrs": true,
        "deny_delete": true,
        "allow_direct": true,
        "metadata": { STAMP: env!("CARGO_PKG_VERSION") },
    })
}

/// What is wrong with the stream of a bucket that somebody else made.
pub(super) fn problems(bucket: &str, access: Access, config: &Map<String, Value>) -> Vec<Problem> {
    let stream = stream(bucket);
    let mut problems = Vec::new();
    let wrong = |setting, is: String, must_be: &str, why, option: &str| {
        let mend = format!("nats stream edit {stream} {option}");
        Problem { setting, is, must_be: must_be.to_owned(), why, mend, can_update: true }
    };
    let subject = format!("{}>", prefix(bucket));
    let subjects = texts(config, "subjects");
    if !subjects.contains(&subject) {
        let is = if config.contains_key("mirror") { "those of another bucket".to_owned() } else { subjects.join(", ") };
        let option = format!("--subjects='{subject}'");
        problems.push(wrong("subjects", is, &subject, "what is set is stored nowhere else", &option));
    }
    if access == Access::Read {
        return problems;
    }
    if flag(config, "sealed") {
        let mend = format!("nats kv add {bucket}-2");
        let (is, must_be, why) = ("true".to_owned(), "false".to_owned(), "it takes nothing in any more");
        problems.push(Problem { setting: "sealed", is, must_be, why, mend, can_update: false });
        return problems;
    }
    let discard = text(config, "discard");
    if discard != "new" {
        let is = if discard.is_empty() { "old" } else { discard };
        problems.push(wrong(
            "discard",
            is.to_owned(),
            "new",
            "a full bucket would forget what it holds",
            "--discard=new",
        ));
    }
    if number(config, "max_msgs_per_subject") < 1 {
        let (is, why) = ("without end".to_owned(), "each value of a key would be kept for ever");
        problems.push(wrong("max_msgs_per_subject", is, "1 to 64", why, "--max-msgs-per-subject=1"));
    }
    if number(config, "max_bytes") < 1 {
        let (is, why) =
            ("without end".to_owned(), "a handler could fill the server's disk, and messages would be refused");
        problems.push(wrong("max_bytes", is, "set", why, "--max-bytes=256MiB"));
    }
    problems
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn found(change: Value, access: Access) -> Vec<&'static str> {
        let options = BucketOptions { replicas: 1, max_bytes: 1000 };
        let mut config = made("seen", &options).as_object().unwrap().clone();
        config.extend(change.as_object().unwrap().clone());
        let problems = problems("seen", access, &config);
        for problem in &problems {
            assert!(problem.to_string().contains("nats "), "{problem}");
        }
        problems.iter().map(|problem| problem.setting).collect()
    }

    #[test]
    fn what_could_cost_a_value_or_the_disk_is_named_where_it_may_be_written() {
        for (change, written, read) in [
            (json!({}), vec![], vec![]),
            (json!({ "max_msgs_per_subject": 5, "max_age": 1_000_000_000, "num_replicas": 3 }), vec![], vec![]),
            (json!({ "discard": "old" }), vec!["discard"], vec![]),
            (json!({ "max_bytes": -1 }), vec!["max_bytes"], vec![]),
            (json!({ "max_msgs_per_subject": -1 }), vec!["max_msgs_per_subject"], vec![]),
            (json!({ "subjects": ["other.>"] }), vec!["subjects"], vec!["subjects"]),
            (json!({ "subjects": [], "mirror": { "name": "KV_other" } }), vec!["subjects"], vec!["subjects"]),
            (json!({ "sealed": true, "max_bytes": -1 }), vec!["sealed"], vec![]),
        ] {
            assert_eq!(found(change.clone(), Access::ReadWrite), written, "{change}");
            assert_eq!(found(change.clone(), Access::Read), read, "{change}");
        }
    }
}
