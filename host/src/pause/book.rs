//! Which subscriptions are paused, as plain data.

use std::collections::BTreeMap;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which hosts a pause is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// The one that was asked.
    #[default]
    This,
    /// All of its cluster.
    All,
}

impl Reach {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::This => "this",
            Self::All => "all",
        }
    }
}

/// What holds a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Which hosts it is of.
    pub hosts: Reach,
    /// By whom, why and until when.
    pub record: PauseRecord,
}

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
    /// Those of this host.
    subscriptions: BTreeMap<String, PauseRecord>,
    /// Those of all hosts of its cluster, as it saw them last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    all_hosts: Option<OfAllHosts>,
}

/// What is paused on all hosts of a cluster, as a host of it saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfAllHosts {
    /// The cluster.
    pub cluster: String,
    /// The bucket that it stood in: when that was created, which tells it from one that was made anew.
    pub bucket: String,
    /// By subscription.
    pub subscriptions: BTreeMap<String, PauseRecord>,
}

/// The only layout so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Layout {
    #[default]
    #[serde(rename = "1")]
    First,
}

impl Book {
    /// What holds a subscription; where two pauses do, that of all hosts: when this host alone ends its own, it stays held.
    pub(super) fn get(&self, subscription: &str) -> Option<Pause> {
        let all = self.all_hosts.as_ref().and_then(|all| all.subscriptions.get(subscription));
        let all = all.map(|record| (Reach::All, record));
        let found = all.or_else(|| self.subscriptions.get(subscription).map(|record| (Reach::This, record)));
        found.map(|(hosts, record)| Pause { hosts, record: record.clone() })
    }

    /// Those of all hosts.
    pub(super) fn of_all_hosts(&self) -> OfAllHosts {
        self.all_hosts.clone().unwrap_or_default()
    }

    /// Those of all hosts are these from now on.
    pub(super) fn follow(&mut self, all: &OfAllHosts) {
        self.all_hosts = Some(all.clone()).filter(|all| !all.subscriptions.is_empty());
    }

    /// Lets go of what was paused on all hosts of another cluster than the one that this host is in; gives it back.
    pub(super) fn leave_other(&mut self, cluster: Option<&str>) -> Option<OfAllHosts> {
        self.all_hosts.take_if(|all| Some(all.cluster.as_str()) != cluster)
    }

    pub(super) fn put(&mut self, subscriptions: &[String], record: &PauseRecord) {
        self.subscriptions.extend(subscriptions.iter().map(|name| (name.clone(), record.clone())));
    }

    /// Ends pauses, and gives them back.
    pub(super) fn take(&mut self, subscriptions: &[String]) -> BTreeMap<String, PauseRecord> {
        self.subscriptions.extract_if(.., |name, _| subscriptions.contains(name)).collect()
    }

    /// Ends those whose time is over, and gives them back.
    pub(super) fn end_over(&mut self, now: SystemTime) -> Vec<(String, Pause)> {
        let over = |pauses: &mut BTreeMap<String, PauseRecord>, hosts| -> Vec<(String, Pause)> {
            let ended = pauses.extract_if(.., |_, pause| pause.is_over(now));
            ended.map(|(name, record)| (name, Pause { hosts, record })).collect()
        };
        let mut ended = over(&mut self.subscriptions, Reach::This);
        if let Some(all) = &mut self.all_hosts {
            ended.append(&mut over(&mut all.subscriptions, Reach::All));
        }
        ended
    }

    /// When the next one is over.
    pub(super) fn next_over(&self) -> Option<SystemTime> {
        let all = self.all_hosts.iter().flat_map(|all| all.subscriptions.values());
        self.subscriptions.values().chain(all).filter_map(|pause| pause.until).min()
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
