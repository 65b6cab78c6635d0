//! `/v1/dead-letters/export` and `/import`: dead letters out of a host as lines of JSON, and in again as they were.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Chosen, Given, given, named};
use crate::access::Caller;
use crate::admin::fail::Fail;
use crate::admin::lines::Lines;
use crate::admin::publish::{at_line, chunk, long_line};
use crate::admin::state::HostState;
use crate::admin::wire::{DeadLetterLine, ExportEnd, ExportLine, ImportSummary};
use crate::broker::{DeadLetterError, DeadLetterFilter, DeadLetterQuery, DeadLetters};
use crate::settle::dead_letter::{DeadLetter, DeadLetterId};

/// Dead letters that are listed at once, and read whole one after the other.
const PAGE: usize = 100;
/// Dead letters that are stored at once: a group commit or a server's answer is shared.
const AT_ONCE: usize = 64;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct ExportQuery {
    #[serde(flatten)]
    chosen: Chosen,
    /// Those that were sent back, too.
    #[serde(default)]
    include_redriven: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct ImportQuery {
    /// The broker that is to keep them.
    broker: String,
}

/// An export on its way.
struct Export {
    filter: DeadLetterFilter,
    /// The brokers that are left, the present one first.
    brokers: VecDeque<Arc<dyn DeadLetters>>,
    after: Option<DeadLetterId>,
    listed: VecDeque<DeadLetterId>,
    exported: u64,
    has_ended: bool,
}

pub(in crate::admin) async fn export(
    State(state): State<Arc<HostState>>,
    caller: Caller,
    query: Given<ExportQuery>,
) -> Result<Response, Fail> {
    let query = given(query)?;
    let filter = DeadLetterFilter { include_redriven: query.include_redriven, ..query.chosen.filter(&caller)? };
    let all = state.brokers.all();
    let names = query.chosen.brokers(&all)?;
    let brokers = names.into_iter().filter_map(|name| all.get(name)).map(|named| named.broker.dead_letters()).collect();
    let export = Export { filter, brokers, after: None, listed: VecDeque::new(), exported: 0, has_ended: false };
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(lines(export))).into_response())
}

fn lines(export: Export) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    futures_util::stream::try_unfold(export, |mut export| async move {
        let Some(line) = export.next().await.map_err(std::io::Error::other)? else { return Ok(None) };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        Ok(Some((Bytes::from(text), export)))
    })
}

impl Export {
    async fn next(&mut self) -> Result<Option<ExportLine>, DeadLetterError> {
        loop {
            if self.has_ended {
                return Ok(None);
            }
            let Some(letters) = self.brokers.front().cloned() else {
                self.has_ended = true;
                return Ok(Some(ExportLine::End(ExportEnd { exported: self.exported })));
            };
            while let Some(handle) = self.listed.pop_front() {
                match letters.get(&handle).await {
                    Ok(stored) => {
                        self.exported += 1;
                        return Ok(Some(ExportLine::Letter(Box::new(DeadLetterLine::new(stored.letter)))));
                    }
                    // It went meanwhile.
                    Err(DeadLetterError::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            let query = DeadLetterQuery {
                filter: self.filter.clone(),
                after: self.after.take(),
                limit: PAGE,
                oldest_first: true,
            };
            let page = letters.list(&query).await?;
            self.listed.extend(page.letters.into_iter().map(|stored| stored.handle));
            self.after = page.next;
            if self.listed.is_empty() && self.after.is_none() {
                self.brokers.pop_front();
            } else if self.after.is_none() {
                // These are its last: behind them the next broker's begin.
                self.after = self.listed.back().cloned();
            }
        }
    }
}

pub(in crate::admin) async fn import(
    State(state): State<Arc<HostState>>,
    query: Given<ImportQuery>,
    body: Body,
) -> Result<Json<ImportSummary>, Fail> {
    let query = given(query)?;
    let brokers = state.brokers.all();
    let letters = named(&brokers, &query.broker)?.1.broker.dead_letters();
    // A body of base64 takes a third more; the record and the headers have as much room again.
    let mut lines = Lines::new(state.max_publish_bytes / 3 * 4 + (1 << 20));
    let mut stream = body.into_data_stream();
    let mut summary = ImportSummary::default();
    let mut group = Vec::new();
    loop {
        let chunk = chunk(&mut stream).await?;
        let has_ended = chunk.is_none();
        if let Some(chunk) = chunk {
            lines.push(&chunk);
        }
        loop {
            let next = if has_ended { lines.last_line() } else { lines.next_line() };
            let Some((number, line)) = next.map_err(long_line)? else { break };
            group.extend(parse(&line).map_err(|fail| at_line(number, fail))?.map(|letter| (number, letter)));
            if group.len() >= AT_ONCE {
                store(&*letters, std::mem::take(&mut group), &mut summary).await?;
            }
        }
        if has_ended {
            break;
        }
    }
    store(&*letters, group, &mut summary).await?;
    Ok(Json(summary))
}

/// The dead letter of a line; nothing of an export's last line.
fn parse(line: &[u8]) -> Result<Option<DeadLetter>, Fail> {
    let invalid = |message: String| Fail::bad_request("invalid-line", message);
    match serde_json::from_slice::<DeadLetterLine>(line) {
        Ok(line) => line.into_letter().map(Some).map_err(invalid),
        Err(_) if serde_json::from_slice::<ExportEnd>(line).is_ok() => Ok(None),
        Err(error) => Err(invalid(error.to_string())),
    }
}

/// Stores a group. What comes behind a failure is stored all the same; the first failure ends the import.
async fn store(
    letters: &dyn DeadLetters,
    group: Vec<(u64, DeadLetter)>,
    summary: &mut ImportSummary,
) -> Result<(), Fail> {
    let stored = group.into_iter().map(|(number, letter)| async move {
        letters.restore(letter).await.map_err(|error| at_line(number, Fail::from(&error)))
    });
    let stored: Vec<_> = stored.collect();
    let stored = futures_util::stream::iter(stored).buffered(AT_ONCE);
    let counted = stored.try_fold((0, 0), |(imported, present), is_new| async move {
        Ok(if is_new { (imported + 1, present) } else { (imported, present + 1) })
    });
    let (imported, present) = counted.await?;
    summary.imported += imported;
    summary.present += present;
    Ok(())
}
