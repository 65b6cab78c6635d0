//! The records of tasks on the disk, a file each.
//!
//! Invariants:
//! - A file is whole: it is written beside its place, synced, and then put there.
//! - So many that have ended are kept, and no more.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::record::Record;

/// So many tasks that have ended are kept, to be looked at.
pub(super) const KEPT: usize = 50;

/// The folder of records.
#[derive(Debug, Clone)]
pub(super) struct Store {
    folder: PathBuf,
    /// One writes at a time.
    writing: Arc<Mutex<()>>,
}

impl Store {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, writing: Arc::default() }
    }

    /// All records. A file that cannot be read is left where it is, and told.
    pub(super) fn read(&self) -> io::Result<Vec<Record>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut records = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_none_or(|end| end != "json") {
                continue;
            }
            match serde_json::from_slice::<Record>(&fs::read(&path)?) {
                Ok(record) => records.push(record),
                Err(error) => {
                    tracing::error!(file = %path.display(), %error, "a task over dead letters cannot be read; it does not go on");
                }
            }
        }
        records.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(records)
    }

    /// Writes a record in the place of the one of its id, as it is when it is its turn.
    pub(super) fn write(&self, record: impl FnOnce() -> Record) -> io::Result<()> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let record = record();
        let text = serde_json::to_vec_pretty(&record)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let (path, part) = (self.path(&record.id), self.folder.join(format!("{}.part", record.id)));
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        sync(&self.folder)
    }

    /// Removes the record of an id.
    pub(super) fn remove(&self, id: &str) -> io::Result<()> {
        fs::remove_file(self.path(id))
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }
}

/// Makes the names in a folder durable.
fn sync(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}
