//! How much waits for a subscription, as the server counts it.

use std::time::SystemTime;

use super::session::Session;
use super::source::JetStreamSource;
use super::{stored, wire};
use crate::broker::{Backlog, ReceiveError};

pub(super) async fn count(source: &JetStreamSource) -> Result<Backlog, ReceiveError> {
    let session = source.link.session().map_err(ReceiveError::Away)?;
    let info = source.look_at_consumer(&session).await?;
    let (ready, pending) = (info.num_pending, info.num_ack_pending);
    let oldest = if ready + pending == 0 { None } else { oldest(source, &session, info.ack_floor.stream_seq).await? };
    // Zero and less: as many as it likes.
    let limit = u64::try_from(wire::number(&info.config, "max_ack_pending")).ok().filter(|limit| *limit > 0);
    Ok(Backlog { ready, pending, oldest, limit, retries: None })
}

/// When the oldest message that is not settled was published.
async fn oldest(source: &JetStreamSource, session: &Session, after: u64) -> Result<Option<SystemTime>, ReceiveError> {
    let mut oldest: Option<SystemTime> = None;
    for subject in &source.spec.subjects {
        let stored = stored::next(session, &source.bound.stream, after + 1, subject).await;
        let stored = stored.map_err(|error| ReceiveError::Away(error.to_string()))?;
        let time = stored.and_then(|stored| humantime::parse_rfc3339(&stored.time).ok());
        oldest = [oldest, time].into_iter().flatten().min();
    }
    Ok(oldest)
}
