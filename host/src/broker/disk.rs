//! The room on a disk.

use std::io;
use std::path::Path;

/// The bytes that the disk of a directory has for us.
///
/// # Errors
/// When the directory is not there, or its disk does not say.
pub(super) fn free(directory: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(directory)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
