//! The files of the audit log. Each line is written under a lock of the directory, so that a host and a command beside
//! it may both write, and is on the disk when it is answered.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The file that is written to.
const NAME: &str = "audit.jsonl";
/// What a file that was put aside begins with; then its number, the newest with the highest.
const ASIDE: &str = "audit-";
/// A file is put aside when it is so large: some 10,000 actions, read in some 20 ms.
const FULL_BYTES: u64 = 4 << 20;
/// So many files are kept aside: 64 MiB in all, or some 160,000 actions.
const KEPT_ASIDE: usize = 15;

/// Where the log is kept, and how much of it.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    full_bytes: u64,
}

impl Files {
    pub(super) const fn new(directory: PathBuf) -> Self {
        Self { directory, full_bytes: FULL_BYTES }
    }

    #[cfg(test)]
    pub(super) const fn small(directory: PathBuf, full_bytes: u64) -> Self {
        Self { directory, full_bytes }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Adds a line, and returns when it is on the disk.
    pub(super) fn append(&self, line: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let directory = self.locked()?;
        let path = self.directory.join(NAME);
        let mut file = open(&path)?;
        if file.metadata()?.len() >= self.full_bytes {
            let aside = self.aside()?;
            let number = aside.first().map_or(1, |(newest, _)| newest + 1);
            fs::rename(&path, self.directory.join(format!("{ASIDE}{number}.jsonl")))?;
            for (_, old) in aside.into_iter().skip(KEPT_ASIDE - 1) {
                fs::remove_file(old)?;
            }
            file = open(&path)?;
        }
        let is_new = file.metadata()?.len() == 0;
        // A line that was cut off by a crash or a full disk keeps its own line: what follows stays readable.
        let mut text = if ends_a_line(&mut file)? { Vec::new() } else { b"\n".to_vec() };
        text.extend_from_slice(line);
        text.push(b'\n');
        file.write_all(&text)?;
        file.sync_data()?;
        if is_new { directory.sync_all() } else { Ok(()) }
    }

    /// Every file of the log, the newest first. They stay what they are while the lock is held.
    pub(super) fn newest_first(&self) -> io::Result<(File, Vec<PathBuf>)> {
        let lock = self.locked()?;
        let mut files = vec![self.directory.join(NAME)];
        files.extend(self.aside()?.into_iter().map(|(_, path)| path));
        Ok((lock, files))
    }

    /// The files that were put aside with their numbers, the newest first.
    fn aside(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let number = name.strip_prefix(ASIDE).and_then(|rest| rest.strip_suffix(".jsonl"));
            if let Some(number) = number.and_then(|digits| digits.parse().ok()) {
                found.push((number, entry.path()));
            }
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found)
    }

    /// The directory, locked until it is closed.
    fn locked(&self) -> io::Result<File> {
        let directory = File::open(&self.directory)?;
        flock(&directory, FlockOperation::LockExclusive)?;
        Ok(directory)
    }
}

/// Names of people and machines stand in it: only the host's user reads it.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

fn ends_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}
