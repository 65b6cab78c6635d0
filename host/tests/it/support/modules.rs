//! Modules that no honest toolchain would write, from the text format.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::guests;

/// A component whose `handle` is the given body, in a module with the given other definitions.
///
/// The message's address is `(local.get 0)`; the body leaves the address of the result. Memory is 2 pages, the result
/// belongs at 1024, and everything from 65536 on is where the host puts what it hands over.
pub(crate) fn handler(definitions: &str, body: &str) -> Vec<u8> {
    handler_with_memory("2", definitions, body)
}

/// The same with other limits of the memory, in pages.
pub(crate) fn handler_with_memory(pages: &str, definitions: &str, body: &str) -> Vec<u8> {
    let realloc = r#"(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))"#;
    handler_from(&format!(
        r#"(module
            (memory (export "memory") {pages})
            {realloc}
            {definitions}
            (func (export "tidegate:events/handler@0.1.0#handle") (param i32) (result i32) {body}))"#
    ))
}

/// A component from a whole core module in text.
pub(crate) fn handler_from(module: &str) -> Vec<u8> {
    wrap("component", module)
}

/// A core module in text with the metadata from which a component can be made.
pub(crate) fn core_with_metadata(module: &str) -> Vec<u8> {
    wrap("metadata", module)
}

/// A binary of a text, as it is.
pub(crate) fn plain(text: &str) -> Vec<u8> {
    wrap("plain", text)
}

/// Runs the tool that makes binaries of text; see `tests/fixtures/guests/wrap` for why it is one.
fn wrap(kind: &str, text: &str) -> Vec<u8> {
    let mut tool = Command::new(guests::tool("wrap"))
        .args([kind, concat!(env!("CARGO_MANIFEST_DIR"), "/../wit")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    assert!(output.status.success(), "{kind} of {}", text.get(..2000).unwrap_or(text));
    output.stdout
}

/// A body that answers with the result at 1024, after the given stores.
pub(crate) fn answer(stores: &str) -> String {
    format!("{stores} (i32.const 1024)")
}

/// A body that gives back as many outputs as said, all with the same body of so many bytes. The records lie from
/// 131072 on, 72 bytes each; a field that is left zero is an empty one.
pub(crate) fn outputs_that_share_a_body(count: u32, bytes: u32) -> String {
    answer(&format!(
        r"(local $index i32) (local $at i32)
        (local.set $at (i32.const 131072))
        (block $done (loop $next
            (br_if $done (i32.ge_u (local.get $index) (i32.const {count})))
            (i32.store offset=52 (local.get $at) (i32.const 131072))
            (i32.store offset=56 (local.get $at) (i32.const {bytes}))
            (local.set $at (i32.add (local.get $at) (i32.const 72)))
            (local.set $index (i32.add (local.get $index) (i32.const 1)))
            (br $next)))
        (i32.store offset=1028 (i32.const 0) (i32.const 131072))
        (i32.store offset=1032 (i32.const 0) (i32.const {count}))"
    ))
}
