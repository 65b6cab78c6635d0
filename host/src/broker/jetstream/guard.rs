//! Whether the consumer is still such that no message is lost, whatever somebody makes of it while the host runs.
//!
//! Invariant: on one that is not, nothing more is asked for until it is right again.

use std::sync::{MutexGuard, PoisonError};

use tokio::time::Instant;

use super::session::Session;
use super::source::JetStreamSource;
use super::wire::ConsumerInfo;
use super::{check, setup};
use crate::broker::ReceiveError;

impl JetStreamSource {
    /// Looks at what somebody may have made of the consumer while the host runs. From then on nothing is received until it
    /// is put right: by the setting up anew that the error asks for, or by a person.
    fn look_at(&self, info: &ConsumerInfo) -> Result<(), ReceiveError> {
        let (stream, consumer) = (&self.bound.stream, &self.spec.name);
        self.upsets.handed_out(info.delivered.consumer_seq, Instant::now());
        let problems = if info.created == self.bound.consumer_created {
            let problems = check::consumer_problems(stream, &info.config, info.paused, &self.spec);
            let problems = problems.iter().filter(|problem| problem.endangers()).map(ToString::to_string);
            problems.collect::<Vec<_>>().join("; ")
        } else {
            "it was made anew by somebody".to_owned()
        };
        let why = (!problems.is_empty()).then(|| format!("consumer `{consumer}` of stream `{stream}`: {problems}"));
        let before = std::mem::replace(&mut *self.endangered(), why.clone());
        match why {
            None => Ok(()),
            Some(why) => {
                if before.as_ref() != Some(&why) {
                    tracing::error!(
                        subscription = consumer,
                        why,
                        "the consumer was changed; nothing is received until it is right"
                    );
                }
                Err(ReceiveError::Gone(why))
            }
        }
    }

    pub(super) fn endangered(&self) -> MutexGuard<'_, Option<String>> {
        self.endangered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The consumer, when it is there, the same, and right.
    pub(super) async fn look_at_consumer(&self, session: &Session) -> Result<ConsumerInfo, ReceiveError> {
        let (stream, consumer) = (&self.bound.stream, &self.spec.name);
        match setup::consumer_info(session, stream, consumer).await {
            Ok(Some(info)) => self.look_at(&info).map(|()| info),
            Ok(None) => {
                self.upsets.note(Instant::now());
                Err(ReceiveError::Gone(format!("stream `{stream}` has no consumer `{consumer}` any more")))
            }
            Err(error) => Err(ReceiveError::Away(error.to_string())),
        }
    }
}
