//! What is to run of a handler, in all hosts of a cluster: the JSON that stands under the handler's key. Pure.
//!
//! ```json
//! {"layout": 1, "active": 7, "next": 8, "versions": [{"number": 7, "digest": "...", ...}], "change": {"by": "ann", ...}}
//! ```

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::ClusterError;
use crate::registry::{
    Digest, Event, NewVersion, Ran, RolloutRecord, Settings, VersionRecord, before, forgotten, replaced_by,
};
use crate::signature::Signature;

mod rollout;

pub use rollout::{DesiredRollout, Kind};

/// The layout of the JSON. A host that finds a later one leaves it alone.
const LAYOUT: u32 = 1;

/// What is to run of a handler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    layout: u32,
    /// The version that is to run.
    pub active: u64,
    /// The number of the next version: none is used twice.
    pub next: u64,
    /// The versions that are kept, the newest first; the active one is among them.
    pub versions: Vec<DesiredVersion>,
    /// The version that is tried beside the active one; nothing: none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<DesiredRollout>,
    /// The last change.
    pub change: Changed,
}

/// A version, the same on every host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DesiredVersion {
    /// Its number.
    pub number: u64,
    /// Its module.
    pub digest: Digest,
    /// Its limits and grants.
    pub settings: Settings,
    /// The module's size in bytes.
    pub size: u64,
    /// The contract that the module speaks.
    pub contract: String,
    /// Where the module came from, for people.
    pub source: String,
    /// Who deployed it.
    pub deployed_by: String,
    /// On which host.
    pub host: String,
    /// When.
    pub deployed_at: String,
    /// The signature of its module, as minisign writes it; nothing: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// When it was last made the active one; nothing: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated_at: Option<String>,
    /// The version that it took the place of then; nothing: none, or an earlier host did that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<u64>,
}

/// Who changed what is to run, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Tells it from every other change.
    pub id: String,
    /// What it was.
    pub what: What,
    /// By whom.
    pub by: String,
    /// On which host.
    pub host: String,
    /// When, by that host's clock.
    pub at: String,
    /// The version that is not tried any more, where it ended that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
    /// Why, where that is to be told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// The ways in which what is to run changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A version was deployed.
    Deployed,
    /// A version of before was made the active one again.
    RolledBack,
    /// A host brought what it ran before it was in the cluster.
    Brought,
    /// A version is tried on a share of the messages.
    CanaryStarted,
    /// A version sees copies of a share of the messages.
    ShadowStarted,
    /// The version that was tried was made the active one.
    Promoted,
    /// The version that was tried is not tried any more.
    Aborted,
    /// The version that was tried had its time, and is not tried any more.
    Ended,
}

impl What {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deployed => "deployed",
            Self::RolledBack => "rolled back",
            Self::Brought => "brought",
            Self::CanaryStarted | Self::ShadowStarted => "begun",
            Self::Promoted => "promoted",
            Self::Aborted => "aborted",
            Self::Ended => "ended",
        }
    }

    /// What a host notes of a version that is not tried any more by such a change.
    #[must_use]
    pub const fn ends_as(self) -> Event {
        match self {
            Self::Ended => Event::Ended,
            Self::Aborted
            // What takes its place, or begins when this host was away at its end.
            | Self::Deployed
            | Self::RolledBack
            | Self::Brought
            | Self::Promoted
            | Self::CanaryStarted
            | Self::ShadowStarted => Event::Aborted,
        }
    }
}

impl Changed {
    /// A change that is made now.
    #[must_use]
    pub fn now(what: What, by: &str, host: &str) -> Self {
        let (id, at) = (ulid::Ulid::generate().to_string(), spelled(SystemTime::now()));
        Self { id, what, by: by.to_owned(), host: host.to_owned(), at, ended: None, why: String::new() }
    }

    /// With why it is made.
    #[must_use]
    pub fn because(self, why: &str) -> Self {
        Self { why: why.to_owned(), ..self }
    }
}

impl Desired {
    /// Reads what stands under a handler's key.
    ///
    /// # Errors
    /// When it is none of these, or was written by a later host.
    pub fn read(handler: &str, json: &[u8]) -> Result<Self, ClusterError> {
        let unreadable = |detail: String| ClusterError::Record { handler: handler.to_owned(), detail };
        let layout = serde_json::from_slice::<Layout>(json).map_err(|error| unreadable(error.to_string()))?.layout;
        if layout != LAYOUT {
            return Err(unreadable(format!("it has the layout {layout}, and this host knows {LAYOUT}")));
        }
        let desired: Self = serde_json::from_slice(json).map_err(|error| unreadable(error.to_string()))?;
        if desired.active_version().is_none() {
            return Err(unreadable(format!("it does not have the version {} that it says is active", desired.active)));
        }
        let tried = desired.rollout.as_ref().map(|rollout| rollout.version);
        if let Some(tried) = tried.filter(|tried| desired.version(*tried).is_none() || *tried == desired.active) {
            let wrong = format!("it does not have the version {tried} that it says is tried, beside the active one");
            return Err(unreadable(wrong));
        }
        Ok(desired)
    }

    /// As it stands under the key.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Plain data of ours with text keys always has a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The version that is to run.
    #[must_use]
    pub fn active_version(&self) -> Option<&DesiredVersion> {
        self.version(self.active)
    }

    /// A version by its number.
    #[must_use]
    pub fn version(&self, number: u64) -> Option<&DesiredVersion> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// The version to go back to: the one that was active before the active one.
    #[must_use]
    pub fn previous(&self) -> Option<&DesiredVersion> {
        self.version(before(&self.ran(), self.active)?)
    }

    /// When its versions ran.
    fn ran(&self) -> Vec<Ran> {
        let ran = |version: &DesiredVersion| Ran {
            number: version.number,
            was_active: version.activated_at.is_some(),
            replaced: version.replaced,
        };
        self.versions.iter().map(ran).collect()
    }

    /// With another version, which is the active one; of the others those in use and the newest `keep` stay.
    #[must_use]
    pub fn deployed(
        before: Option<&Self>,
        new: &NewVersion,
        signature: Option<&Signature>,
        keep: usize,
        change: Changed,
    ) -> Self {
        let mut version = next(before, new, signature, &change);
        version.activated_at = Some(change.at.clone());
        version.replaced = before.map(|before| before.active);
        let (active, next) = (version.number, version.number + 1);
        let versions = with(before, version);
        Self { layout: LAYOUT, active, next, versions, rollout: None, change }.kept(keep)
    }

    /// With another one of its versions as the active one. A rollout that was on is over.
    #[must_use]
    pub fn rolled_back(&self, to: u64, change: Changed) -> Self {
        let replaced = replaced_by(&self.ran(), Some(self.active), to);
        let mut after = Self { active: to, rollout: None, change, ..self.clone() };
        if let Some(version) = after.versions.iter_mut().find(|version| version.number == to) {
            version.activated_at = Some(after.change.at.clone());
            version.replaced = replaced;
        }
        after
    }

    /// What a host ran before it was in the cluster; `None` when it ran nothing. `versions` are the newest first, with the
    /// signatures of their modules; `next` is the number of the next one, above those of versions that are not brought.
    #[must_use]
    pub fn brought(
        active: u64,
        next: u64,
        versions: &[(VersionRecord, Option<Signature>)],
        rollout: Option<&RolloutRecord>,
        change: Changed,
    ) -> Option<Self> {
        let version = |(version, signature): &(VersionRecord, Option<Signature>)| DesiredVersion {
            number: version.number,
            digest: version.digest.clone(),
            settings: version.settings.clone(),
            size: version.size,
            contract: version.contract.clone(),
            source: version.source.clone(),
            deployed_by: version.deployed_by.clone(),
            host: change.host.clone(),
            deployed_at: spelled(version.deployed_at),
            signature: signature.as_ref().map(|signature| signature.as_str().to_owned()),
            activated_at: version.activated_at.map(spelled),
            replaced: version.replaced,
        };
        let versions = versions.iter().map(version).collect();
        let mut brought = Self { layout: LAYOUT, active, next, versions, rollout: None, change };
        // One whose module is gone was not brought, and is not tried any more.
        let rollout = rollout.filter(|rollout| brought.version(rollout.number).is_some());
        brought.rollout = rollout.map(DesiredRollout::of);
        brought.active_version().is_some().then_some(brought)
    }

    /// Without the versions that are not to be kept beside those in use: see [`forgotten`].
    fn kept(mut self, keep: usize) -> Self {
        let tried = self.rollout.as_ref().map(|rollout| rollout.version);
        let forgotten = forgotten(&self.ran(), Some(self.active), tried, keep);
        self.versions.retain(|version| !forgotten.contains(&version.number));
        self
    }

    /// The version that is tried.
    #[must_use]
    pub fn tried_version(&self) -> Option<&DesiredVersion> {
        self.version(self.rollout.as_ref()?.version)
    }

    /// Its versions as a host records them.
    #[must_use]
    pub fn records(&self) -> Vec<VersionRecord> {
        self.versions.iter().map(DesiredVersion::record).collect()
    }
}

impl DesiredVersion {
    /// The signature of its module; one that cannot be read is none.
    #[must_use]
    pub fn signature(&self) -> Option<Signature> {
        Signature::read(self.signature.as_deref()?.as_bytes(), "the cluster's signature").ok()
    }

    /// As a host records it.
    #[must_use]
    pub fn record(&self) -> VersionRecord {
        VersionRecord {
            number: self.number,
            digest: self.digest.clone(),
            settings: self.settings.clone(),
            size: self.size,
            contract: self.contract.clone(),
            source: self.source.clone(),
            deployed_by: self.deployed_by.clone(),
            deployed_at: read(&self.deployed_at),
            activated_at: self.activated_at.as_deref().map(read),
            replaced: self.replaced,
        }
    }
}

/// A new version, under the next number; it is not the active one.
fn next(before: Option<&Desired>, new: &NewVersion, signature: Option<&Signature>, change: &Changed) -> DesiredVersion {
    DesiredVersion {
        number: before.map_or(1, |before| before.next),
        digest: new.digest.clone(),
        settings: new.settings.clone(),
        size: new.size,
        contract: new.contract.clone(),
        source: new.source.clone(),
        deployed_by: new.deployed_by.clone(),
        host: change.host.clone(),
        deployed_at: change.at.clone(),
        signature: signature.map(|signature| signature.as_str().to_owned()),
        activated_at: None,
        replaced: None,
    }
}

/// The versions with a new one before them.
fn with(before: Option<&Desired>, version: DesiredVersion) -> Vec<DesiredVersion> {
    std::iter::once(version).chain(before.iter().flat_map(|before| &before.versions).cloned()).collect()
}

#[derive(Deserialize)]
struct Layout {
    layout: u32,
}

fn spelled(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time.max(SystemTime::UNIX_EPOCH)).to_string()
}

/// A time that somebody wrote; for people, so that one that cannot be read is no reason to run nothing.
fn read(time: &str) -> SystemTime {
    humantime::parse_rfc3339(time).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    pub(in crate::cluster) fn new(module: &str) -> NewVersion {
        NewVersion {
            handler: "h".to_owned(),
            digest: Digest::of(module.as_bytes()),
            settings: Settings::default(),
            size: 1,
            contract: "c".to_owned(),
            source: module.to_owned(),
            deployed_by: "ann".to_owned(),
        }
    }

    pub(in crate::cluster) fn deployed(before: Option<&Desired>, module: &str) -> Desired {
        Desired::deployed(before, &new(module), None, 3, Changed::now(What::Deployed, "ann", "a"))
    }

    fn numbers(desired: &Desired) -> Vec<u64> {
        desired.versions.iter().map(|version| version.number).collect()
    }

    #[test]
    fn numbers_grow_and_the_newest_and_the_active_one_are_kept() {
        let first = deployed(None, "a");
        assert_eq!((first.active, first.next, numbers(&first)), (1, 2, vec![1]));
        assert!(first.previous().is_none());
        let mut last = first;
        for module in ["b", "c", "d"] {
            last = deployed(Some(&last), module);
        }
        assert_eq!((last.active, numbers(&last)), (4, vec![4, 3, 2]));
        let back = last.rolled_back(2, Changed::now(What::RolledBack, "bob", "b"));
        assert_eq!((back.active, back.next, numbers(&back)), (2, 5, vec![4, 3, 2]));
        let again = deployed(Some(&back), "e");
        assert_eq!((again.active, numbers(&again)), (5, vec![5, 4, 3, 2]), "a rollback goes to 2");
    }

    /// The story: version 2 was bad and rolled back, version 3 was bad too, and `rollback` brought 2 to every host.
    #[test]
    fn a_rollback_goes_to_the_version_that_was_active_before_and_the_next_one_further() {
        let back = |from: &Desired| {
            let to = from.previous().unwrap().number;
            from.rolled_back(to, Changed::now(What::RolledBack, "bob", "b"))
        };
        let bad = deployed(Some(&deployed(None, "good")), "bad");
        let third = deployed(Some(&back(&bad)), "bad too");
        assert_eq!((third.active, third.version(3).unwrap().replaced), (3, Some(1)));
        let read = Desired::read("h", &third.to_json()).unwrap();
        assert_eq!(read.previous().unwrap().number, 1);
        assert_eq!(read.records().first().unwrap().replaced, Some(1), "a host records it");
        // Two that were good: the second rollback goes further back, and not forth again.
        let second = back(&deployed(Some(&bad), "c"));
        assert_eq!((second.active, second.previous().unwrap().number), (2, 1));
        assert_eq!((back(&second).active, back(&second).previous()), (1, None));
        // As an earlier host wrote it.
        let text = String::from_utf8(third.to_json()).unwrap().replace(",\"replaced\":1", "");
        let earlier = Desired::read("h", text.as_bytes()).unwrap();
        assert_eq!((earlier.version(3).unwrap().replaced, earlier.previous().unwrap().number), (None, 2));
    }

    #[test]
    fn it_comes_back_as_it_was_and_what_is_none_of_these_is_refused() {
        let desired = deployed(Some(&deployed(None, "a")), "b");
        assert_eq!(Desired::read("h", &desired.to_json()).unwrap(), desired);
        let text = String::from_utf8(desired.to_json()).unwrap();
        let rows = [
            (text.replace("\"layout\":1", "\"layout\":2"), "it has the layout 2, and this host knows 1"),
            (text.replace("\"active\":2", "\"active\":9"), "does not have the version 9"),
            (text.replace("\"digest\":\"", "\"digest\":\"../"), "is not a sha256"),
            ("{}".to_owned(), "missing field `layout`"),
            ("\u{0}".to_owned(), "expected value"),
        ];
        for (text, said) in rows {
            let error = Desired::read("h", text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_host_brings_what_it_ran() {
        let records = deployed(Some(&deployed(None, "a")), "b").records();
        let unsigned: Vec<_> = records.iter().cloned().map(|record| (record, None)).collect();
        let change = || Changed::now(What::Brought, "host", "a");
        let brought = Desired::brought(1, 7, &unsigned, None, change()).unwrap();
        assert_eq!((brought.active, brought.next, numbers(&brought)), (1, 7, vec![2, 1]));
        assert_eq!(brought.records(), records);
        assert!(Desired::brought(3, 7, &unsigned, None, change()).is_none());
        assert!(Desired::brought(1, 7, &[], None, change()).is_none());
    }
}
