//! The file that has the pauses: one JSON object, replaced as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::PauseError;
use super::book::Book;

/// Its name in the data directory.
pub(super) const NAME: &str = "pauses.json";

/// What stands in it; nothing is paused when there is none.
pub(super) fn read(path: &Path) -> Result<Book, PauseError> {
    match fs::read(path) {
        Ok(text) => {
            serde_json::from_slice(&text).map_err(|source| PauseError::Unreadable { path: path.to_owned(), source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Book::default()),
        Err(source) => Err(PauseError::Read { path: path.to_owned(), source }),
    }
}

/// Puts another one in its place: who reads finds the old one or the new one, whole, whenever the host dies. Returns when
/// it is on the disk.
pub(super) fn write(path: &Path, book: &Book) -> Result<(), PauseError> {
    let written = || -> io::Result<()> {
        let directory = path.parent().unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(directory)?;
        let mut text = serde_json::to_vec_pretty(book)?;
        text.push(b'\n');
        let half = path.with_extension("part");
        // Names of people stand in it: only the host's user reads it.
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&half, path)?;
        File::open(directory)?.sync_all()
    };
    written().map_err(|source| PauseError::Write { path: path.to_owned(), source })
}
