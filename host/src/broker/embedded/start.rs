//! Starts the queue's thread: checks the options, takes the directory, opens the store, takes up what was left.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::error::{Failure, OpenError};
use super::inbox::Inbox;
use super::lock::Lock;
use super::log::Log;
use super::options::{LARGEST_PAYLOAD, Options};
use super::shared::Shared;
use super::writer::Writer;
use super::{codec, log, private, recover, schema};

pub(super) async fn start(options: Options) -> Result<(Arc<Inbox>, Arc<Shared>, JoinHandle<()>), OpenError> {
    check(&options)?;
    let inbox = Arc::new(Inbox::new());
    let shared = Arc::new(Shared::new());
    let path = options.path.clone();
    let (opened, opening) = oneshot::channel();
    let own = (Arc::clone(&inbox), Arc::clone(&shared));
    let thread = std::thread::Builder::new()
        .name("embedded-queue".to_owned())
        .spawn(move || run(options, own, opened))
        .map_err(|source| OpenError::Io { path: path.clone(), source })?;
    match opening.await {
        Ok(Ok(())) => Ok((inbox, shared, thread)),
        Ok(Err(error)) => Err(error),
        Err(_gone) => Err(OpenError::Store { path, detail: "the writer ended before it began".to_owned() }),
    }
}

/// The life of the thread. The directory is ours from the first to the last line of it.
fn run(options: Options, (inbox, shared): (Arc<Inbox>, Arc<Shared>), opened: oneshot::Sender<Result<(), OpenError>>) {
    let path = options.path.clone();
    let failed = |failure: Failure| OpenError::Store { path: path.clone(), detail: failure.to_string() };
    let (_lock, mut connection, log) = match take(&path) {
        Ok(taken) => taken,
        Err(error) => {
            // Whoever opened may have gone; then nobody needs the queue.
            let _gone = opened.send(Err(error));
            return;
        }
    };
    let oldest_id_us = recover::oldest_id_us(codec::micros(SystemTime::now()), options.dedupe_window);
    let writer = recover::load(&mut connection, oldest_id_us)
        .and_then(|loaded| Writer::new(&connection, options, (loaded, log), inbox, shared));
    match writer {
        Ok(writer) => {
            if opened.send(Ok(())).is_ok() {
                writer.run();
            }
        }
        Err(failure) => {
            let _gone = opened.send(Err(failed(failure)));
        }
    }
}

/// Takes the directory and opens what is in it.
fn take(path: &Path) -> Result<(Lock, Connection, Log), OpenError> {
    private::make(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    let lock = Lock::take(path)?;
    private::close_to_others(path);
    log::write_anew(&path.join(schema::LOG_FILE))?;
    let mut connection = schema::open_writer(path)?;
    let log = Log::take_over(&mut connection).map_err(|error| schema::store_error(path, &error))?;
    log::keep_names(path)?;
    // Once more, for those that were made just now. SQLite makes others like its store.
    private::close_to_others(path);
    Ok((lock, connection, log))
}

fn check(options: &Options) -> Result<(), OpenError> {
    let refused = |option, problem: &str| Err(OpenError::Option { option, problem: problem.to_owned() });
    if options.max_payload == 0 || options.max_payload > LARGEST_PAYLOAD {
        return refused("max_payload", "it must be between 1 byte and 256 MiB");
    }
    if options.max_bytes == 0 {
        return refused("max_bytes", "nothing could be published; it must be at least 1");
    }
    if options.max_messages == 0 {
        return refused("max_messages", "nothing could be published; it must be at least 1");
    }
    Ok(())
}
