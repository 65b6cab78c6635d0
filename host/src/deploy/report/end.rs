//! How a deploy ended, for whoever keeps a record of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Line, Step};

/// How a deploy ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "ended", rename_all = "kebab-case")]
#[schemars(rename = "DeployEnd")]
pub enum End {
    /// The version is the active one.
    Live {
        /// Its number.
        version: u64,
    },
    /// The version is tried beside the active one.
    Tried {
        /// Its number.
        version: u64,
    },
    /// That very module ran with these very settings already.
    Unchanged {
        /// The number of the version that runs.
        version: u64,
    },
    /// A step did not go well. Nothing has changed.
    Failed {
        /// Which.
        step: Step,
        /// Why, for a person.
        why: String,
    },
    /// The host or the caller ended it in the middle. Unless the step is the last one, nothing has changed.
    CutOff {
        /// The step that went on, or was done last.
        step: Step,
    },
}

impl End {
    /// What the last line of a deploy says of its end; `None`: it is not the last one.
    #[must_use]
    pub fn of(line: &Line) -> Option<Self> {
        match line {
            Line::Step(_) => None,
            Line::Done(done) => {
                let version = done.version;
                Some(match (done.unchanged, &done.rollout) {
                    (true, _) => Self::Unchanged { version },
                    (false, Some(_)) => Self::Tried { version },
                    (false, None) => Self::Live { version },
                })
            }
            Line::Failed(failed) => Some(Self::Failed { step: failed.step, why: failed.message.clone() }),
        }
    }
}
