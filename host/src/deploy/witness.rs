//! Who keeps a record of how a deploy ended: told once, before whoever reads its lines is.

use std::sync::Arc;

use async_trait::async_trait;

use super::report::{End, Line, Step};
use super::say::Say;

/// Keeps a record of how a deploy ended.
#[async_trait]
pub trait Witness: Send + Sync {
    /// It ended; with the word of the error, where it is one. What is awaited here, the deploy's last line waits for.
    async fn ended(&self, end: End, code: Option<String>);

    /// It was cut off at a step, by the end of the host or by a bug of it. Nothing can be awaited any more.
    fn cut_off(&self, step: Step);
}

/// Sees to it that a witness is told, whatever ends the deploy.
pub(super) struct Witnessed {
    witness: Option<Box<dyn Witness>>,
    say: Arc<Say>,
}

impl Witnessed {
    pub(super) fn new(witness: Option<Box<dyn Witness>>, say: &Arc<Say>) -> Self {
        Self { witness, say: Arc::clone(say) }
    }

    /// The last line of the deploy.
    pub(super) async fn ended(mut self, last: &Line) {
        let code = match last {
            Line::Failed(failed) => Some(failed.code.clone()),
            Line::Step(_) | Line::Done(_) => None,
        };
        // Taken first, so that nobody is told twice when the host ends just here.
        if let (Some(witness), Some(end)) = (self.witness.take(), End::of(last)) {
            witness.ended(end, code).await;
        }
    }
}

impl Drop for Witnessed {
    fn drop(&mut self) {
        if let Some(witness) = self.witness.take() {
            witness.cut_off(self.say.step());
        }
    }
}
