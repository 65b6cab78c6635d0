//! How much waits for a subscription, as the server counts it.

use std::time::SystemTime;

use serde_json::json;

use super::session::Session;
use super::setup;
use super::source::JetStreamSource;
use super::wire::{ApiError, StoredMessage, code};
use crate::broker::{Backlog, ReceiveError};

pub(super) async fn count(source: &JetStreamSource) -> Result<Backlog, ReceiveError> {
    let session = source.link.session().map_err(ReceiveError::Away)?;
    let info = match setup::consumer_info(&session, &source.bound.stream, &source.spec.name).await {
        Ok(Some(info)) => info,
        Ok(None) => return Err(ReceiveError::Gone("the consumer is not there any more".to_owned())),
        Err(error) => return Err(ReceiveError::Away(error.to_string())),
    };
    source.look_at(&info)?;
    let (ready, pending) = (info.num_pending, info.num_ack_pending);
    let oldest = if ready + pending == 0 { None } else { oldest(source, &session, info.ack_floor.stream_seq).await? };
    Ok(Backlog { ready, pending, oldest })
}

/// When the oldest message that is not settled was published.
async fn oldest(source: &JetStreamSource, session: &Session, after: u64) -> Result<Option<SystemTime>, ReceiveError> {
    let mut oldest: Option<SystemTime> = None;
    for subject in &source.spec.subjects {
        let question = json!({ "seq": after + 1, "next_by_subj": subject });
        let answer: Result<StoredMessage, ApiError> =
            session.api(&format!("STREAM.MSG.GET.{}", source.bound.stream), &question).await;
        match answer {
            Ok(stored) => {
                let time = humantime::parse_rfc3339(&stored.message.time).ok();
                oldest = [oldest, time].into_iter().flatten().min();
            }
            Err(error) if error.is(code::MESSAGE_NOT_FOUND) => {}
            Err(error) => return Err(ReceiveError::Away(error.to_string())),
        }
    }
    Ok(oldest)
}
