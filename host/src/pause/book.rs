//! Which subscriptions are paused, as plain data.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// A pause of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseRecord {
    /// Who paused it.
    pub by: String,
    /// Why, when somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Since when.
    #[serde(with = "moment")]
    pub since: SystemTime,
    /// When it ends by itself; `None`: it does not.
    #[serde(default, with = "moment::option", skip_serializing_if = "Option::is_none")]
    pub until: Option<SystemTime>,
}

impl PauseRecord {
    /// Whether its time is over.
    #[must_use]
    pub fn is_over(&self, now: SystemTime) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// All pauses, by subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Book {
    /// The layout of the file, for a later one that differs.
    layout: Layout,
    subscriptions: BTreeMap<String, PauseRecord>,
}

/// The only layout so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Layout {
    #[default]
    #[serde(rename = "1")]
    First,
}

impl Book {
    pub(super) fn get(&self, subscription: &str) -> Option<&PauseRecord> {
        self.subscriptions.get(subscription)
    }

    pub(super) const fn all(&self) -> &BTreeMap<String, PauseRecord> {
        &self.subscriptions
    }

    pub(super) fn put(&mut self, subscriptions: &[String], record: &PauseRecord) {
        self.subscriptions.extend(subscriptions.iter().map(|name| (name.clone(), record.clone())));
    }

    /// Ends pauses, and gives them back.
    pub(super) fn take(&mut self, subscriptions: &[String]) -> BTreeMap<String, PauseRecord> {
        self.subscriptions.extract_if(.., |name, _| subscriptions.contains(name)).collect()
    }

    /// Ends those whose time is over, and gives them back.
    pub(super) fn end_over(&mut self, now: SystemTime) -> BTreeMap<String, PauseRecord> {
        self.subscriptions.extract_if(.., |_, pause| pause.is_over(now)).collect()
    }

    /// When the next one is over.
    pub(super) fn next_over(&self) -> Option<SystemTime> {
        self.subscriptions.values().filter_map(|pause| pause.until).min()
    }
}

/// Moments as people write them.
mod moment {
    use std::time::SystemTime;

    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(moment: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_millis(*moment))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339_weak(&text).map_err(|error| de::Error::custom(format!("`{text}`: {error}")))
    }

    /// The same, where there may be none.
    pub(super) mod option {
        use super::{Deserializer, Serializer, SystemTime};

        pub(in super::super) fn serialize<S: Serializer>(
            moment: &Option<SystemTime>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match moment {
                Some(moment) => super::serialize(moment, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<SystemTime>, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
    }
}
