//! What becomes of messages, line by line as it happens.

use std::io::{BufRead as _, BufReader, Read as _};

use anyhow::Context as _;

use super::{Client, refusal};
use crate::admin::wire::LiveLine;
use crate::cli::exit::Failure;

/// A line has at most a message of 64 KiB, as much of logs and some outputs; base64 and JSON's escapes can multiply it by
/// six.
const LONGEST_LINE: u64 = 2 << 20;

impl Client {
    /// Passes lines on until the host ends, or whoever takes them gives back false.
    pub(crate) fn live(&self, query: &[(&str, &str)], mut each: impl FnMut(LiveLine) -> bool) -> Result<(), Failure> {
        let request = self.agent.get(format!("{}/v1/live", self.base)).query_pairs(query.iter().copied());
        // It lasts as long as both want it to.
        let request = request.config().timeout_recv_body(None).build();
        let mut answer = request.call().context("asking the host for what happens")?;
        if !answer.status().is_success() {
            return Err(refusal(&mut answer));
        }
        let mut lines = BufReader::new(answer.body_mut().as_reader());
        let mut line = Vec::new();
        loop {
            line.clear();
            let read =
                lines.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).context("reading what happens")?;
            if read == 0 {
                return Ok(());
            }
            if !each(serde_json::from_slice(&line).context("reading what happens")?) {
                return Ok(());
            }
        }
    }
}
