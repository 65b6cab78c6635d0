//! What a run has done with its grants, made at the first use of any: most handlers never do.
//!
//! Invariant: what is recorded is bounded in bytes, as the calls that make it are in number.

use super::http::Asking;
use super::opened::OpenBuckets;
use crate::handler::Effect;
use crate::sandbox::fault::Stop;
use crate::sandbox::limits::Limits;
use crate::sandbox::state::State;

/// What is recorded of an effect takes so many bytes besides its texts.
const EFFECT_BYTES: usize = 96;

/// What one store holds.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Used {
    pub(super) buckets: OpenBuckets,
    recorded: Vec<Effect>,
    recorded_bytes: usize,
    /// Made at the first request.
    pub(super) asking: Option<Asking>,
}

impl Used {
    /// Forgets what a run before has done.
    pub(in crate::sandbox) fn begin(&mut self) {
        self.recorded.clear();
        self.recorded_bytes = 0;
        if let Some(asking) = &self.asking {
            asking.begin();
        }
        self.buckets.begin();
    }

    /// What was recorded.
    pub(in crate::sandbox) fn take(&mut self) -> Vec<Effect> {
        self.recorded_bytes = 0;
        std::mem::take(&mut self.recorded)
    }

    fn record(&mut self, effect: Effect, limits: &Limits) -> Result<(), Stop> {
        self.recorded_bytes = self.recorded_bytes.saturating_add(effect.text_bytes()).saturating_add(EFFECT_BYTES);
        // What calls may hand over in all, at 256 bytes each: with the defaults 2.5 MB.
        let limit = u64::from(limits.host_calls).saturating_mul(256);
        if self.recorded_bytes as u64 > limit {
            return Err(Stop::TooMany { what: "bytes of effects", limit });
        }
        self.recorded.push(effect);
        Ok(())
    }
}

impl State {
    /// Notes what the run would have changed.
    pub(in crate::sandbox) fn record(&mut self, effect: Effect) -> Result<(), Stop> {
        let Self { used, limits, .. } = self;
        used.get_or_insert_default().record(effect, limits)
    }
}
