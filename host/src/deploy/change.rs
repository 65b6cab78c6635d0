//! What a configuration says of the handlers, brought onto the host: at its start, and whenever it is applied.
//!
//! ```text
//! look (files, records) -> prepare: compile, link, init, golden (nothing has changed until here)
//!      -> commit: all versions in one transaction, then the slots
//! ```
//!
//! Invariants:
//! - A handler that cannot be prepared changes nothing, for itself or for any other.
//! - A handler of which the configuration says what it said before is not touched.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt as _, TryStreamExt as _};

use super::entry::{Entry, Loaded, Terms};
use super::pipeline::{self, Checked, Passed, Uploaded};
use super::plan::{Plan, decided, plan};
use super::report::Change as Difference;
use super::rollout::HOST;
use super::say::Say;
use super::turn::Busy;
use super::{DeployError, Deployments, Provenance};
use crate::cluster::Basis;
use crate::config::HandlerConfig;
use crate::registry::{Configured, Digest, HandlerRecord};
use crate::signature::Signature;

mod ends;
mod file;
mod in_cluster;
mod resume;
mod shown;
mod told;

pub use ends::EndedTrial;
use ends::withdrawn;
use file::NamedModule;
use resume::wait;
pub use shown::Outlook;
use told::{difference, say_decided, say_loaded, unused};

/// Handlers that are prepared at once: each waits for the disk and for the compiler in turn.
const AT_ONCE: usize = 8;

/// Who deploys what the configuration names.
const CONFIGURATION: &str = "configuration";

/// Everything that is to be done to the handlers, with all of it done that can fail. Dropped, it changes nothing.
#[must_use = "nothing changes until it is committed"]
pub struct Change {
    made: Vec<Made>,
    /// Handlers that are not configured any more: nobody deploys to them from here on.
    gone: Vec<Busy>,
}

/// A handler that is to be another one, or the same.
struct Made {
    entry: Arc<Entry>,
    /// What the configuration says of it.
    terms: Terms,
    /// The module that the configuration names; `None`: none, or its file is gone.
    module: Option<Digest>,
    /// The version that was to run when nobody else could change that any more; in a cluster, there.
    replaces: Option<u64>,
    /// To be noted in the records, where it differs from what is noted.
    configured: Option<Configured>,
    /// What is tried of it, and is not any more when another version comes, or when it may not have what it was given.
    ends: Option<EndedTrial>,
    /// Why it ends though no other version comes.
    withdrawn: Option<DeployError>,
    fate: Fate,
    _busy: Option<Busy>,
}

enum Fate {
    /// What runs of it goes on; or it waits for a version, as before.
    GoesOn,
    /// The version that was active last runs again.
    Resumes(Box<Loaded>),
    /// A version that has passed every step.
    Passed(Box<Passed>, Box<Uploaded>),
}

/// What a look at a handler found.
struct Looked {
    plan: Plan,
    record: HandlerRecord,
    /// The file that the configuration names.
    file: Option<NamedModule>,
    module: Option<Digest>,
    configured: Configured,
}

/// A module that is to become a version.
struct Candidate<'a> {
    bytes: &'a [u8],
    signature: Option<Signature>,
    /// Where it came from, for people.
    source: &'a str,
    /// What it is, for people.
    what: String,
    /// What was to run in the cluster.
    basis: Option<Basis>,
}

/// What became of a handler by a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// The handler.
    pub handler: String,
    /// The version that runs now.
    pub version: u64,
    /// Its module.
    pub digest: Digest,
    /// What was tried of the handler until then.
    pub ends: Option<EndedTrial>,
}

/// What became of the handlers by a commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Committed {
    /// Those that run another version now.
    pub deployed: Vec<Deployed>,
    /// Those that are to, in a cluster, and whose version from before runs on until the cluster can be told; with why.
    pub waits: Vec<(String, String)>,
}

impl Deployments {
    /// What the files of modules make of the handlers of a configuration.
    ///
    /// # Errors
    /// When a module's file or the records cannot be read.
    pub async fn outlook(&self, handlers: &BTreeMap<String, HandlerConfig>) -> Result<Outlook, DeployError> {
        let mut records = self.records().await?;
        let mut outlook = Outlook::default();
        let before = self.handlers.load_full();
        for (name, config) in handlers {
            let terms = Terms::of(config);
            let is_down = before.get(name).is_some_and(|entry| self.is_down(entry));
            let looked = self.look_at(name, &terms, take(&mut records, name), is_down).await?;
            outlook.differences.extend(difference(name, &looked, is_down));
            outlook.unused.extend(unused(name, &looked));
            if looked.plan.deploys() {
                outlook.replaces.insert(name.clone(), self.to_run(name).or(looked.record.active));
            }
            let ends = looked.plan.deploys() || withdrawn(&looked.record, &terms).is_some();
            outlook.ends.extend(EndedTrial::of(&looked.record).filter(|_| ends));
            outlook.modules.insert(name.clone(), looked.module);
        }
        Ok(outlook)
    }

    /// Prepares what a configuration says of all handlers: what it says differently from before is compiled, linked,
    /// started and tried. Until the change is dropped nobody else deploys to the handlers that it concerns.
    ///
    /// # Errors
    /// With the first handler that cannot be as the configuration says, or to which somebody deploys just now.
    pub async fn prepare(&self, handlers: &BTreeMap<String, HandlerConfig>, by: &str) -> Result<Change, DeployError> {
        let before = self.handlers.load_full();
        let gone = before.iter().filter(|(name, _)| !handlers.contains_key(*name));
        let gone = gone.map(|(_, entry)| entry.busy(by)).collect::<Result<Vec<_>, _>>()?;
        let mut records = self.records().await?;
        let makings = handlers.iter().map(|(name, config)| {
            let (known, record) = (before.get(name).cloned(), take(&mut records, name));
            self.make(name, Terms::of(config), known, record, by)
        });
        let makings: Vec<_> = makings.collect();
        let mut made: Vec<Made> = futures_util::stream::iter(makings).buffer_unordered(AT_ONCE).try_collect().await?;
        made.sort_by(|one, other| one.entry.name.cmp(&other.entry.name));
        Ok(Change { made, gone })
    }

    async fn make(
        &self,
        name: &str,
        terms: Terms,
        known: Option<Arc<Entry>>,
        record: HandlerRecord,
        by: &str,
    ) -> Result<Made, DeployError> {
        let begun = Instant::now();
        if known.is_none() && self.cluster.is_some() {
            return self.make_in_cluster(name, terms, &record).await;
        }
        let is_down = known.as_ref().is_some_and(|entry| self.is_down(entry));
        let mut looked = self.look_at(name, &terms, record, is_down).await?;
        let is_new = known.is_none();
        let runs = known.as_ref().is_some_and(|entry| !self.is_down(entry));
        let entry = known.unwrap_or_else(|| Arc::new(Entry::new(name, terms.clone())));
        let is_same = *entry.terms() == terms;
        let busy = if is_new || is_same && looked.goes_on(runs) { None } else { Some(entry.busy(by)?) };
        if busy.is_some() {
            // A deploy that ended while others were prepared is not undone by what was recorded before it.
            let record = self.registry.handler(name).await?;
            if record != looked.record {
                looked = self.look_at(name, &terms, record, is_down).await?;
            }
        }
        let is_noted = looked.plan == Plan::Wait || looked.record.configured.as_ref() == Some(&looked.configured);
        let configured = (!is_noted).then(|| looked.configured.clone());
        let (module, ends) = (looked.module.clone(), EndedTrial::of(&looked.record));
        let withdrawn = withdrawn(&looked.record, &terms);
        let (mut replaces, goes_on) = (looked.record.active, looked.goes_on(runs));
        let fate = if goes_on { Fate::GoesOn } else { self.fate(&entry, looked, &terms, runs).await? };
        if let (Fate::Passed(..), Some(cluster)) = (&fate, &self.cluster) {
            // What becomes a version there is sent when everything else can no longer fail.
            replaces = cluster.basis(name).await?.desired.map(|desired| desired.active).or(replaces);
        }
        if is_new {
            say_loaded(&entry, &fate, begun);
        }
        // What could not be as the configuration says is tried again when it is looked at next.
        let waits = matches!(fate, Fate::GoesOn) && self.is_down(&entry);
        let configured = configured.filter(|_| !waits);
        Ok(Made { entry, terms, module, replaces, configured, ends, withdrawn, fate, _busy: busy })
    }

    /// Brings a version as far as it gets without a change; `runs`: one of before runs meanwhile.
    async fn fate(&self, entry: &Arc<Entry>, looked: Looked, terms: &Terms, runs: bool) -> Result<Fate, DeployError> {
        let Looked { plan, record, file, .. } = looked;
        let fate = match (plan, file, record.active_version()) {
            (Plan::DeployConfigured, Some(module), _) => {
                let path = terms.module.as_ref().map_or_else(String::new, |path| path.display().to_string());
                let what = format!("the module that the configuration names, {path}");
                let candidate =
                    Candidate { bytes: &module.bytes, signature: module.signature, source: &path, what, basis: None };
                self.check(entry, candidate, terms).await
            }
            (Plan::DeployActive, _, Some(active)) => match self.admit(&active.digest, None).await {
                Ok(admitted) => {
                    let what = "its module with the limits and grants that the configuration gives".to_owned();
                    let (bytes, source) = (&admitted.bytes, &active.source);
                    let candidate = Candidate { bytes, signature: None, source, what, basis: None };
                    self.check(entry, candidate, terms).await
                }
                Err(error) => Err(error),
            },
            (Plan::Resume, file, Some(active)) => {
                let module = file.filter(|module| module.digest == active.digest);
                self.resume(entry, terms, active, module).await
            }
            // The plan names what there is.
            (Plan::Wait | Plan::DeployConfigured | Plan::DeployActive | Plan::Resume, _, _) => Ok(Fate::GoesOn),
        };
        match fate {
            Err(error) if !runs => wait(entry, error),
            fate => fate,
        }
    }

    /// Whether a handler has no version that runs, and the configuration is what brings it one: in a cluster that is what is
    /// to run there.
    fn is_down(&self, entry: &Entry) -> bool {
        self.cluster.is_none() && entry.active().is_none()
    }

    /// Takes a module through the steps of a deploy up to the switch.
    async fn check(&self, entry: &Arc<Entry>, candidate: Candidate<'_>, terms: &Terms) -> Result<Fate, DeployError> {
        let begun = Instant::now();
        let Candidate { bytes, signature, source, what, basis } = candidate;
        let refused = |error| DeployError::Configured { handler: entry.name.clone(), what, source: Box::new(error) };
        let kept = match super::keep(&self.registry, bytes).await {
            Ok(kept) => kept,
            Err(error) => return Err(refused(error)),
        };
        let provenance = Provenance { by: CONFIGURATION.to_owned(), source: source.to_owned() };
        let uploaded = Uploaded { kept, took: begun.elapsed(), signature, provenance, plan: None, basis };
        match pipeline::check(self, entry, &uploaded, terms, &Say::nothing()).await {
            Ok(Checked::Same(_)) => Ok(Fate::GoesOn),
            Ok(Checked::New(passed)) => Ok(Fate::Passed(passed, Box::new(uploaded))),
            Err(stopped) => Err(refused(stopped.error)),
        }
    }

    /// Carries a change out: the records of all versions in one transaction, then everything that runs.
    ///
    /// # Errors
    /// When the records could not be written; nothing has changed then.
    pub async fn commit(&self, change: Change) -> Result<Committed, DeployError> {
        if let Some(cluster) = self.cluster.clone() {
            return Box::pin(self.commit_in_cluster(&cluster, change)).await;
        }
        let Change { made, gone } = change;
        let mut versions = Vec::new();
        let mut notes = Vec::new();
        for one in &made {
            match &one.fate {
                Fate::Passed(passed, _) => versions.push((passed.new.clone(), one.configured.clone())),
                Fate::GoesOn | Fate::Resumes(_) => {
                    notes.extend(one.configured.clone().map(|configured| (one.entry.name.clone(), configured)));
                }
            }
        }
        let nothing = versions.is_empty() && notes.is_empty();
        let recorded = if nothing { Vec::new() } else { self.registry.deploy_all(versions, notes).await? };
        for (entry, on, why) in made.iter().filter_map(Made::tried_beyond) {
            // What is not recorded is not gone on with either, at the next start: it has a grant that is withdrawn.
            let _unrecorded = self.abort_now(entry, &on, HOST, &why).await;
        }
        let deployed = self.switch(made, &gone, recorded);
        self.resume_rollouts().await;
        let acts: Vec<_> = deployed.iter().map(Deployed::act).collect();
        self.put_on_record(&acts).await;
        Ok(Committed { deployed, waits: Vec::new() })
    }

    /// What cannot fail and takes no time.
    fn switch(&self, made: Vec<Made>, gone: &[Busy], recorded: Vec<crate::registry::VersionRecord>) -> Vec<Deployed> {
        let mut recorded = recorded.into_iter();
        let mut deployed = Vec::new();
        let mut handlers = BTreeMap::new();
        for Made { entry, terms, ends, fate, _busy, .. } in made {
            entry.set_terms(terms);
            match fate {
                Fate::GoesOn => {}
                Fate::Resumes(loaded) => entry.switch(*loaded),
                Fate::Passed(passed, _uploaded) => {
                    if let Some(record) = recorded.next() {
                        let (handler, version, digest) = (entry.name.clone(), record.number, record.digest.clone());
                        tracing::info!(handler, version, %digest, by = CONFIGURATION, "deployed");
                        passed.switch(&self.metrics, &entry, record.number);
                        deployed.push(Deployed { handler, version, digest, ends });
                    }
                }
            }
            handlers.insert(entry.name.clone(), entry);
        }
        for busy in gone {
            tracing::info!(handler = busy.entry.name, "the handler is not configured any more; its versions are kept");
        }
        self.handlers.store(Arc::new(handlers));
        deployed
    }

    /// `is_down`: nothing of it runs, and that is not for being new.
    async fn look_at(
        &self,
        name: &str,
        terms: &Terms,
        record: HandlerRecord,
        is_down: bool,
    ) -> Result<Looked, DeployError> {
        let file = self.file(name, terms, record.active.is_some()).await?;
        let module = file.as_ref().map(|file| file.digest.clone());
        let plan = plan(&record, module.as_ref(), &terms.settings, is_down);
        say_decided(name, &record, module.as_ref());
        // A file that is gone, and comes back as it was, has not changed.
        let known = record.configured.as_ref().and_then(|configured| configured.module.clone());
        let configured = Configured { module: module.clone().or(known), settings: terms.settings.hash() };
        Ok(Looked { plan, record, file, module, configured })
    }

    pub(super) async fn records(&self) -> Result<BTreeMap<String, HandlerRecord>, DeployError> {
        let records = self.registry.handlers().await?;
        Ok(records.into_iter().map(|record| (record.name.clone(), record)).collect())
    }
}

impl Looked {
    /// Whether what runs of it goes on, or it waits for a version; `runs`: one does.
    fn goes_on(&self, runs: bool) -> bool {
        self.plan == Plan::Wait || self.plan == Plan::Resume && runs
    }
}

fn take(records: &mut BTreeMap<String, HandlerRecord>, name: &str) -> HandlerRecord {
    records.remove(name).unwrap_or_else(|| HandlerRecord::empty(name))
}
