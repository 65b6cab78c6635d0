//! What Linux says of a running process: its memory, its open files.

use std::fs;

use anyhow::{Context, Result};

/// What of a process lies in memory now, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// All of it: `Rss` of `smaps_rollup`, which is counted page by page and exact, where `VmRSS` of `status` may be off
    /// by some pages a thread.
    pub(crate) resident: u64,
    /// What belongs to nobody else and no file can be read for again: heap, stacks, what was written to. The rest is
    /// the program's own file, compiled modules and libraries, which the kernel may drop and share.
    pub(crate) anonymous: u64,
}

/// The memory of a process.
pub(crate) fn memory(process: u32) -> Result<Memory> {
    let path = format!("/proc/{process}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}; this needs Linux"))?;
    parse(&text).with_context(|| format!("{path} is not as it was expected: {text}"))
}

fn parse(rollup: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib << 10)
    };
    Some(Memory { resident: bytes("Rss")?, anonymous: bytes("Anonymous")? })
}

/// How many files, sockets and the like a process has open.
pub(crate) fn open_files(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/fd");
    let entries = fs::read_dir(&path).with_context(|| format!("reading {path}; this needs Linux"))?;
    Ok(entries.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollup_is_read() {
        let text = "5-7 ---p 0 00:00 0   [rollup]\nRss:               20480 kB\nPss:  9 kB\nPss_Anon: 1 kB\nAnonymous:  4096 kB\n";
        assert_eq!(parse(text), Some(Memory { resident: 20 << 20, anonymous: 4 << 20 }));
        assert_eq!(parse("Rss: 1 kB"), None);
    }
}
