//! Where a handler's outputs go: names of outputs become messages for a broker, within what was granted. Pure.
//!
//! Invariant: an output's id depends on the subscription, the message and the output's place, never on the module, the
//! attempt or the host. A second run of the same message gives the same ids, so a de-duplicating broker takes them once.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::broker::subject::check_subject;
use crate::message::Publish;
use crate::outcome::{Fault, FaultKind, Outcome, Output};

/// Where one output leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The broker's name in the configuration.
    pub broker: Arc<str>,
    /// The one subject that may be published to; or, when it ends in `.>`, the prefix below which the handler may name
    /// any (naming none, it publishes to the prefix itself).
    pub subject: String,
}

impl Grant {
    /// Whether a subject may be published to.
    #[must_use]
    pub fn covers(&self, subject: &str) -> bool {
        match self.subject.strip_suffix(".>") {
            Some(prefix) => subject.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')),
            None => subject == self.subject,
        }
    }
}

/// The outputs that a handler may publish to, by name.
pub type Grants = BTreeMap<String, Grant>;

/// A message on its way to a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The broker's name.
    pub broker: Arc<str>,
    /// The message.
    pub publish: Publish,
}

/// Sees to where the outputs of a run go, and gives them back apart from its outcome; one that may not go there makes it a
/// fault of the handler.
pub fn resolve(outcome: Outcome, grants: &Grants, subscription: &str, message_id: &str) -> (Outcome, Vec<Routed>) {
    match outcome {
        Outcome::Completed(outputs) if !outputs.is_empty() => match route(outputs, grants, subscription, message_id) {
            Ok(routed) => (Outcome::Completed(Vec::new()), routed),
            Err(fault) => (Outcome::Fault(fault), Vec::new()),
        },
        other => (other, Vec::new()),
    }
}

/// Resolves a handler's outputs.
///
/// # Errors
/// `denied` for an output or a subject that is not granted, `invalid-result` for a subject that is none.
pub fn route(
    outputs: Vec<Output>,
    grants: &Grants,
    subscription: &str,
    message_id: &str,
) -> Result<Vec<Routed>, Fault> {
    outputs
        .into_iter()
        .enumerate()
        .map(|(index, output)| {
            let (subject, broker) = {
                let (to, grant) = find(&output, grants)?;
                (resolve_subject(to, &output, grant)?, Arc::clone(&grant.broker))
            };
            let id = output.id.unwrap_or_else(|| output_id(subscription, message_id, index, &subject));
            let publish = Publish { subject, id: Some(id), headers: output.headers, body: output.body };
            Ok(Routed { broker, publish })
        })
        .collect()
}

/// The id of an output: 32 hex digits of a sha256 over the subscription, the message's id, the output's place and its
/// subject.
#[must_use]
pub fn output_id(subscription: &str, message_id: &str, index: usize, subject: &str) -> String {
    let mut hash = Sha256::new();
    for part in [subscription, message_id, &index.to_string(), subject] {
        // The length goes first, so that no two lists of parts run together into the same bytes.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut id = hex::encode(hash.finalize());
    id.truncate(32);
    id
}

/// The grant of an output, with its name. Of several that cover a subject, the one that says most of it.
fn find<'a>(output: &'a Output, grants: &'a Grants) -> Result<(&'a str, &'a Grant), Fault> {
    if let Some(to) = &output.to {
        return grants.get(to).map(|grant| (to.as_str(), grant)).ok_or_else(|| not_granted(to, grants));
    }
    let subject = output.subject.as_deref().unwrap_or_default();
    let covering = grants.iter().filter(|(_name, grant)| grant.covers(subject));
    // An exact subject is longer than every prefix of it, but for the `.>`.
    let best = covering.max_by_key(|(_name, grant)| grant.subject.trim_end_matches(".>").len());
    best.map(|(name, grant)| (name.as_str(), grant)).ok_or_else(|| {
        let granted: Vec<&str> = grants.values().map(|grant| grant.subject.as_str()).collect();
        let granted = if granted.is_empty() { "none is".to_owned() } else { granted.join(", ") };
        let text = format!("the handler published to `{subject}`, which no output grants to it (granted: {granted})");
        fault(FaultKind::Denied, text)
    })
}

fn resolve_subject(to: &str, output: &Output, grant: &Grant) -> Result<String, Fault> {
    let granted = &grant.subject;
    let prefix = granted.strip_suffix(".>");
    let denied = |text: String| Err(fault(FaultKind::Denied, text));
    let Some(named) = &output.subject else {
        return Ok(prefix.unwrap_or(granted).to_owned());
    };
    check_subject(named).map_err(|error| fault(FaultKind::InvalidResult, format!("output `{to}`: {error}")))?;
    if grant.covers(named) {
        return Ok(named.clone());
    }
    match prefix {
        Some(prefix) => denied(format!("output `{to}` may publish below `{prefix}` only, not to `{named}`")),
        None => denied(format!("output `{to}` may publish to `{granted}` only, not to `{named}`")),
    }
}

fn not_granted(to: &str, grants: &Grants) -> Fault {
    let granted: Vec<&str> = grants.keys().map(String::as_str).collect();
    let granted = if granted.is_empty() { "none is".to_owned() } else { format!("granted: {}", granted.join(", ")) };
    fault(FaultKind::Denied, format!("the handler published to output `{to}`, which is not granted to it ({granted})"))
}

fn fault(kind: FaultKind, detail: String) -> Fault {
    // Always at the same place for the same text: the text is the place.
    let hash = Sha256::digest(detail.as_bytes());
    let fingerprint = hash.iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    Fault { kind, detail, fingerprint, backtrace: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;

    fn grants() -> Grants {
        let grant = |subject: &str| Grant { broker: "local".into(), subject: subject.into() };
        Grants::from([("fixed".into(), grant("routed")), ("tree".into(), grant("events.>"))])
    }

    fn output(to: &str, subject: Option<&str>) -> Output {
        Output {
            to: Some(to).filter(|to| !to.is_empty()).map(Into::into),
            subject: subject.map(Into::into),
            id: None,
            headers: Headers::default(),
            body: bytes::Bytes::new(),
        }
    }

    #[test]
    fn an_output_goes_where_it_is_granted_and_nowhere_else() {
        let rows = [
            ("fixed", None, Ok("routed")),
            ("fixed", Some("routed"), Ok("routed")),
            ("fixed", Some("other"), Err(FaultKind::Denied)),
            ("tree", None, Ok("events")),
            ("tree", Some("events.a.b"), Ok("events.a.b")),
            ("tree", Some("eventsx"), Err(FaultKind::Denied)),
            ("tree", Some("events.*"), Err(FaultKind::InvalidResult)),
            ("tree", Some("events..a"), Err(FaultKind::InvalidResult)),
            ("unknown", None, Err(FaultKind::Denied)),
            ("", Some("routed"), Ok("routed")),
            ("", Some("events.a"), Ok("events.a")),
            ("", Some("eventsx"), Err(FaultKind::Denied)),
            ("", Some("events.*"), Err(FaultKind::InvalidResult)),
            ("", None, Err(FaultKind::Denied)),
        ];
        for (to, subject, expected) in rows {
            let routed = route(vec![output(to, subject)], &grants(), "sub", "m1");
            let got = routed.map(|routed| routed.into_iter().map(|r| r.publish.subject).collect::<String>());
            assert_eq!(got.map_err(|fault| fault.kind), expected.map(str::to_owned), "{to} {subject:?}");
        }
    }

    #[test]
    fn ids_are_the_same_on_every_run_and_differ_between_outputs() {
        let ids = |message: &str| -> Vec<Option<String>> {
            let outputs = vec![output("fixed", None), output("fixed", None)];
            let routed = route(outputs, &grants(), "sub", message).unwrap_or_default();
            routed.into_iter().map(|routed| routed.publish.id).collect()
        };
        assert_eq!(ids("m1"), ids("m1"));
        assert_ne!(ids("m1").first(), ids("m1").get(1));
        assert_ne!(ids("m1"), ids("m2"));
        assert_ne!(output_id("a", "bc", 0, "s"), output_id("ab", "c", 0, "s"));
    }
}
