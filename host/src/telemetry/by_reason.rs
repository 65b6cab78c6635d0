//! Series by reason code.

use std::sync::OnceLock;

use crate::outcome::ReasonCode;

/// Series by reason code, each made when it is first needed, so that what never happens is not shown as zero.
#[derive(Debug)]
pub(super) struct ByReason<M> {
    series: Vec<OnceLock<M>>,
}

impl<M> ByReason<M> {
    pub(super) fn new() -> Self {
        // One more for a code that is not in the list: the number of series is bounded whatever comes.
        let places = ReasonCode::ALL.len() + 1;
        Self { series: std::iter::repeat_with(OnceLock::new).take(places).collect() }
    }

    pub(super) fn get(&self, reason: ReasonCode, make: impl FnOnce(&'static str) -> M) -> Option<&M> {
        let known = ReasonCode::ALL.iter().position(|code| *code == reason);
        let name = known.map_or("other", |_| reason.0);
        let place = self.series.get(known.unwrap_or(ReasonCode::ALL.len()))?;
        Some(place.get_or_init(|| make(name)))
    }

    /// What there is so far, with its code.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &M)> {
        let codes = ReasonCode::ALL.iter().map(|code| code.0).chain(["other"]);
        codes.zip(&self.series).filter_map(|(code, place)| Some((code, place.get()?)))
    }
}
