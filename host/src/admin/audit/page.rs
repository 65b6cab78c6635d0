//! Reading the audit log backwards: the newest actions first, each with its result.

use std::collections::HashMap;
use std::{fs, io};

use super::file::Files;
use super::{AuditEntry, AuditResult, Line};

/// Some actions, the newest first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) entries: Vec<AuditEntry>,
    /// The id to go on before; nothing when these were the last.
    pub(super) next: Option<String>,
}

pub(super) fn read(files: &Files, before: Option<&str>, limit: usize) -> io::Result<Page> {
    let mut page = Page::default();
    if !files.directory().exists() {
        return Ok(page);
    }
    let (_lock, paths) = files.newest_first()?;
    let mut ended: HashMap<String, AuditResult> = HashMap::new();
    // Lines of two actions may stand in another order than their ids; a page is behind an id by its place, not its text.
    let mut behind = before.is_none();
    for path in paths {
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in text.rsplit(|byte| *byte == b'\n') {
            // A line that was cut off says nothing that can be relied on.
            let Ok(line) = serde_json::from_slice::<Line>(line) else { continue };
            if !behind && matches!(line, Line::Begun { .. }) {
                behind = before == Some(line.id());
                continue;
            }
            match line {
                Line::Ended { id, at, status, code, deploy } => {
                    ended.insert(id, AuditResult { at, status, code, deploy });
                }
                Line::Begun { id, at, who, role, from, action, target } => {
                    if page.entries.len() >= limit {
                        page.next = page.entries.last().map(|entry| entry.id.clone());
                        return Ok(page);
                    }
                    let result = ended.remove(&id);
                    page.entries.push(AuditEntry { id, at, who, role, from, action, target, result });
                }
            }
        }
    }
    Ok(page)
}
