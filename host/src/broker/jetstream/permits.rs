//! Whether the login may acknowledge. A server that forbids it says so to nobody but the connection, and all that is seen
//! is that no settlement is ever confirmed.
//!
//! It is learnt by trying: the server is told that a message is still in work which no stream has. That changes nothing.
//!
//! Acknowledgements go to subjects of two forms. The longer one has domain and account in front of the stream: servers from
//! 2.14 on use it where `feature_flags { js_ack_fc_v2: true }` stands in their configuration, and later ones are to use it
//! without. Which one is used is seen only when a message comes (tried on 2.15.1: the shorter one, where nothing is said).

use async_nats::Subject;

use super::acks;
use super::session::{RequestError, Session, Unanswered};

/// The first server that has the longer form of subjects.
const LONGER_FROM: (u64, u64, u64) = (2, 14, 0);
/// A place in a stream at which no message stands. To place 0 the server does not answer.
const NOWHERE: u64 = 9_000_000_000_000_000_000;

/// A form of the subjects of acknowledgements.
struct Form {
    /// One that nobody waits for.
    subject: String,
    /// What has to be permitted.
    permission: String,
    /// When the server uses it.
    used: &'static str,
}

/// What keeps acknowledgements from being heard, for a person; empty when nothing does.
pub(super) async fn risks(session: &Session, stream: &str, consumer: &str) -> Vec<String> {
    let mut risks = Vec::new();
    for Form { subject, permission, used } in forms(session.version(), session.domain(), stream, consumer) {
        if session.may_publish(&subject, acks::in_progress()).await == Some(false) {
            let exact = if permission.contains('*') {
                "; a login that names its domain and account there may all the same"
            } else {
                ""
            };
            risks.push(format!(
                "the login may not publish to `{permission}`, where nats-server takes acknowledgements {used}: what is handled \
                 would never be done then, and come again and again; allow the user to `publish` to `$JS.ACK.>`, or to \
                 `{permission}`{exact}"
            ));
        }
    }
    risks
}

fn forms(version: (u64, u64, u64), domain: Option<&str>, stream: &str, consumer: &str) -> Vec<Form> {
    let mut forms = vec![Form {
        subject: format!("$JS.ACK.{stream}.{consumer}.1.{NOWHERE}.0.0.0"),
        permission: format!("$JS.ACK.{stream}.{consumer}.>"),
        used: "unless its configuration says `js_ack_fc_v2`",
    }];
    if version >= LONGER_FROM {
        forms.push(Form {
            // The account's hash is not told: any word stands for it.
            subject: format!("$JS.ACK.{}.tidegate.{stream}.{consumer}.1.{NOWHERE}.0.0.0", domain.unwrap_or("_")),
            permission: format!("$JS.ACK.*.*.{stream}.{consumer}.>"),
            used: "when its configuration says `js_ack_fc_v2`, and by itself in a later version",
        });
    }
    forms
}

impl Session {
    /// Whether the login may publish to a subject; `None` when that cannot be learnt.
    pub(super) async fn may_publish(&self, subject: &str, payload: bytes::Bytes) -> Option<bool> {
        let limit = self.request_timeout();
        tokio::select! {
            // The server's word goes before the answer that will not come.
            biased;
            () = self.refused(subject) => Some(false),
            answer = self.request(Subject::from(subject), None, payload, limit) => match answer {
                Ok(_) | Err(RequestError::NoResponders(_)) => Some(true),
                Err(RequestError::Unanswered(Unanswered::Denied(_))) => Some(false),
                Err(RequestError::Unanswered(
                    Unanswered::TimedOut(_) | Unanswered::Ended | Unanswered::NotSent(_),
                )) => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::jetstream::reply;

    #[test]
    fn each_form_that_a_server_may_use_is_tried_with_what_it_reads_as_an_acknowledgement() {
        let permissions = |forms: &[Form]| forms.iter().map(|form| form.permission.clone()).collect::<Vec<_>>();
        assert_eq!(permissions(&forms((2, 11, 4), None, "S", "c")), ["$JS.ACK.S.c.>"]);
        let both = forms((2, 15, 1), Some("hub"), "S", "c");
        assert_eq!(permissions(&both), ["$JS.ACK.S.c.>", "$JS.ACK.*.*.S.c.>"]);
        for form in both {
            let position = reply::parse(&form.subject).map(|position| position.sequence);
            assert_eq!(position, Some(NOWHERE), "{}", form.subject);
        }
    }
}
