//! The steps of a deploy, one after the other, each told of when it is done.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::compare::{Traits, changes};
use super::entry::{Entry, Loaded, Terms};
use super::report::{Done, Failed, GoldenRun, Line, Step};
use super::say::Say;
use super::signed::Admitted;
use super::turn::Busy;
use super::witness::Witnessed;
use super::{DeployError, Deployments, Provenance, golden};
use crate::cluster::Basis;
use crate::cluster::record::DesiredRollout;
use crate::registry::{Kept, NewVersion, RolloutPlan, Settings};
use crate::sandbox::{Stage, Version};
use crate::signature::Signature;
use crate::telemetry::Metrics;

/// A module that has arrived.
pub(super) struct Uploaded {
    pub(super) kept: Kept,
    pub(super) took: Duration,
    /// The signature that came with it.
    pub(super) signature: Option<Signature>,
    pub(super) provenance: Provenance,
    /// How it is tried; `None`: it becomes the active version.
    pub(super) plan: Option<RolloutPlan>,
    /// What was to run in the cluster when it began; `None`: this host runs by itself.
    pub(super) basis: Option<Basis>,
}

impl Uploaded {
    /// Whether a version that runs here is the one that is to run, as far as anybody else has a say in it.
    fn is_wanted(&self, number: u64) -> bool {
        let desired = self.basis.as_ref().map(|basis| basis.desired.as_ref().map(|desired| desired.active));
        desired.is_none_or(|active| active == Some(number))
    }
}

/// Why a step did not go well.
pub(super) struct Stopped {
    step: Step,
    pub(super) error: DeployError,
    golden: Vec<GoldenRun>,
}

impl Stopped {
    fn at(step: Step, error: DeployError) -> Self {
        Self { step, error, golden: Vec::new() }
    }
}

/// What a module has come to, with nothing changed yet.
pub(super) enum Checked {
    /// It runs already, with these very settings.
    Same(Done),
    /// It has passed every step.
    New(Box<Passed>),
}

/// A version that has passed every step, and is not recorded yet.
pub(super) struct Passed {
    pub(super) new: NewVersion,
    version: Arc<Version>,
    golden: Vec<GoldenRun>,
}

impl Passed {
    /// Makes it the version that runs, under the number that it was recorded with.
    pub(super) fn switch(self, metrics: &Metrics, entry: &Entry, number: u64) -> Done {
        let (loaded, done) = self.loaded(metrics, entry, number);
        entry.switch(loaded);
        done
    }

    /// Ready to run, and what is told of it beside what runs.
    pub(super) fn loaded(self, metrics: &Metrics, entry: &Entry, number: u64) -> (Loaded, Done) {
        let Self { new, version, golden } = self;
        let loaded = Loaded::new(number, version, &new.settings, metrics);
        let changes = entry.active().map_or_else(Vec::new, |active| changes(&traits(&active), &traits(&loaded)));
        let done = Done {
            handler: entry.name.clone(),
            version: number,
            rollout: None,
            digest: new.digest,
            unchanged: false,
            changes,
            golden,
            ms: 0.0,
        };
        (loaded, done)
    }
}

/// Deploys what has arrived, and tells how it ended.
pub(super) async fn run(
    deployments: Arc<Deployments>,
    busy: Busy,
    uploaded: Uploaded,
    say: Arc<Say>,
    witnessed: Witnessed,
) {
    let entry = Arc::clone(&busy.entry);
    let begun = Instant::now().checked_sub(uploaded.took).unwrap_or_else(Instant::now);
    let deployed = tokio::select! {
        biased;
        // It has changed nothing until it commits, wherever it is dropped; from there on it is not overtaken.
        error = busy.overtaken() => Err(Stopped::at(say.step(), error)),
        deployed = deploy(&deployments, &busy, &uploaded, &say) => deployed,
    };
    // Whoever reads the last line may deploy again.
    drop(busy);
    let (handler, by) = (&entry.name, &uploaded.provenance.by);
    let last = match deployed {
        Ok(mut done) => {
            done.ms = begun.elapsed().as_secs_f64() * 1e3;
            let (version, digest, unchanged) = (done.version, &done.digest, done.unchanged);
            let rollout = done.rollout.as_ref().map_or("none", |plan| plan.kind.name());
            tracing::info!(handler, version, %digest, unchanged, by, rollout, "deployed");
            Line::Done(Box::new(done))
        }
        Err(Stopped { step, error, golden }) => {
            let (code, message) = (error.code().to_owned(), error.chain());
            tracing::warn!(
                handler,
                step = step.name(),
                by,
                error = message,
                "a deploy was refused; nothing has changed"
            );
            let detail = format!("{}: {message}", step.name());
            if let Err(error) = deployments.registry.note_refused(handler, by, &detail).await {
                tracing::warn!(handler, %error, "the refusal could not be noted in the history");
            }
            Line::Failed(Failed { step, code, message, golden })
        }
    };
    // On record before it is told: whoever reads the last line finds it there.
    witnessed.ended(&last).await;
    say.end(last);
    drop(uploaded);
    if let Err(error) = deployments.collect().await {
        tracing::warn!(%error, "old versions could not be removed; the next deploy tries again");
    }
    deployments.collect_in_cluster().await;
}

/// From a module in the registry to the active version, or to one that is tried.
async fn deploy(deployments: &Deployments, busy: &Busy, uploaded: &Uploaded, say: &Arc<Say>) -> Result<Done, Stopped> {
    let entry = &busy.entry;
    let passed = match check(deployments, entry, uploaded, &entry.terms(), say).await? {
        Checked::Same(done) => {
            if let Some(cluster) = &deployments.cluster {
                // The cluster's copy may have been damaged since: this mends it.
                let shared = deployments.share(cluster, &done.digest).await;
                shared.map_err(|error| Stopped::at(Step::Cluster, error))?;
            }
            return Ok(done);
        }
        Checked::New(passed) => passed,
    };
    crate::failpoint::reached("checked");
    busy.commit().map_err(|error| Stopped::at(say.step(), error))?;
    if let Some(plan) = uploaded.plan {
        return begin_trial(deployments, entry, *passed, plan, uploaded.basis.as_ref(), say).await;
    }
    let number = match (&deployments.cluster, &uploaded.basis) {
        (Some(cluster), Some(basis)) => {
            say.begin(Step::Cluster);
            let changed = deployments.propose(cluster, basis, &passed.new, None).await;
            let desired = changed.map_err(|error| Stopped::at(Step::Cluster, error))?;
            say.done(format!("version {} is to run on every host", desired.active));
            say.begin(Step::Switch);
            let recorded = deployments.take_over(&entry.name, &desired, false, None).await;
            recorded.map_err(|error| Stopped::at(Step::Switch, error))?;
            desired.active
        }
        (_, _) => {
            say.begin(Step::Switch);
            let recorded = deployments.registry.deploy(passed.new.clone(), None).await;
            recorded.map_err(|error| Stopped::at(Step::Switch, error.into()))?.number
        }
    };
    crate::failpoint::reached("recorded");
    let done = passed.switch(&deployments.metrics, entry, number);
    crate::failpoint::reached("switched");
    say.done(format!("version {number}"));
    Ok(done)
}

/// Tries what has passed beside the active version.
async fn begin_trial(
    deployments: &Deployments,
    entry: &Arc<Entry>,
    passed: Passed,
    plan: RolloutPlan,
    basis: Option<&Basis>,
    say: &Arc<Say>,
) -> Result<Done, Stopped> {
    let step = match plan {
        RolloutPlan::Canary { .. } => Step::Canary,
        RolloutPlan::Shadow { .. } => Step::Shadow,
    };
    let rollout = match (&deployments.cluster, basis) {
        (Some(cluster), Some(basis)) => {
            say.begin(Step::Cluster);
            let changed = deployments.propose(cluster, basis, &passed.new, Some(&plan)).await;
            let desired = changed.map_err(|error| Stopped::at(Step::Cluster, error))?;
            let rollout = desired.rollout.as_ref().map(DesiredRollout::record);
            let rollout = rollout.ok_or_else(|| {
                let handler = entry.name.clone();
                Stopped::at(Step::Cluster, DeployError::NoRollout { handler })
            })?;
            say.done(format!("version {} is to be tried on every host", rollout.number));
            say.begin(step);
            let recorded = deployments.take_over(&entry.name, &desired, true, None).await;
            recorded.map_err(|error| Stopped::at(step, error))?;
            rollout
        }
        (_, _) => {
            say.begin(step);
            // One at a time is recorded.
            deployments.record_what_ended(entry).await.map_err(|error| Stopped::at(step, error))?;
            let recorded = deployments.registry.begin_rollout(passed.new.clone(), plan).await;
            recorded.map_err(|error| Stopped::at(step, error.into()))?.1
        }
    };
    crate::failpoint::reached("recorded");
    let (number, digest) = (rollout.number, passed.new.digest.clone());
    let (loaded, done) = passed.loaded(&deployments.metrics, entry, number);
    deployments.begin_trial(entry, loaded, digest, rollout);
    crate::failpoint::reached("switched");
    let sees = match plan {
        RolloutPlan::Canary { .. } => "gets",
        RolloutPlan::Shadow { .. } => "sees copies of",
    };
    say.done(format!("version {number} {sees} {} of the messages", plan.share()));
    Ok(Done { rollout: Some(super::rollout::plan_view(&plan)), ..done })
}

/// Takes a module in the registry through every step but the switch. Nothing has changed after it.
pub(super) async fn check(
    deployments: &Deployments,
    entry: &Entry,
    uploaded: &Uploaded,
    terms: &Terms,
    say: &Arc<Say>,
) -> Result<Checked, Stopped> {
    let (kept, settings) = (&uploaded.kept, &terms.settings);
    say.done_in(uploaded.took, format!("{} bytes, sha256:{}", kept.size(), kept.digest()));
    let bytes = admit(deployments, uploaded, say).await?;
    let active = entry.active();
    let is_what_runs = |active: &&Loaded| is_same(active, kept, settings) && uploaded.is_wanted(active.deployed.number);
    if let Some(active) = active.as_ref().filter(is_what_runs) {
        return Ok(Checked::Same(Done {
            handler: entry.name.clone(),
            version: active.deployed.number,
            rollout: None,
            digest: kept.digest().clone(),
            unchanged: true,
            changes: Vec::new(),
            golden: Vec::new(),
            ms: 0.0,
        }));
    }
    let version = load(deployments, entry, bytes, terms, say).await?;
    say.begin(Step::Init);
    let used = version
        .init()
        .await
        .map_err(|fault| DeployError::Init { kind: fault.kind, detail: fault.detail })
        .map_err(|error| Stopped::at(Step::Init, error))?;
    say.done(format!("{} fuel, {} bytes of memory", used.fuel, used.memory_peak));
    crate::failpoint::reached("initialized");
    let golden = try_golden(deployments, terms, &version, active.as_ref(), say).await?;
    // Last, so that nothing pushes it out again before its first message.
    deployments.sandbox.warm(&version, active.as_ref().map(|active| active.version.as_ref())).await;
    let new = NewVersion {
        handler: entry.name.clone(),
        digest: kept.digest().clone(),
        settings: settings.clone(),
        size: kept.size(),
        contract: version.contract().export().to_owned(),
        source: uploaded.provenance.source.clone(),
        deployed_by: uploaded.provenance.by.clone(),
    };
    Ok(Checked::New(Box::new(Passed { new, version, golden })))
}

fn is_same(active: &Loaded, kept: &Kept, settings: &Settings) -> bool {
    active.deployed.handler.digest() == kept.digest().as_str() && active.settings == *settings
}

/// Checks who signed the module. Nothing is told where nothing is checked and nothing came.
async fn admit(deployments: &Deployments, uploaded: &Uploaded, say: &Arc<Say>) -> Result<Vec<u8>, Stopped> {
    let begun = Instant::now();
    let admitted = deployments.admit(uploaded.kept.digest(), uploaded.signature.as_ref()).await;
    let Admitted { bytes, signer } = admitted.map_err(|error| match error {
        wrong @ DeployError::Signature(_) => Stopped::at(Step::Signature, wrong),
        other => Stopped::at(Step::Validate, other),
    })?;
    let detail = match signer {
        Some(signer) if deployments.policy.is_off() => {
            format!("kept and not checked, for no keys are listed: {signer}")
        }
        Some(signer) => format!("by {signer}"),
        None if deployments.policy.is_off() => return Ok(bytes),
        None => "none, and none is required".to_owned(),
    };
    say.begin(Step::Signature);
    say.done_in(begun.elapsed(), detail);
    Ok(bytes)
}

/// Validates, compiles and links.
async fn load(
    deployments: &Deployments,
    entry: &Entry,
    bytes: Vec<u8>,
    terms: &Terms,
    say: &Arc<Say>,
) -> Result<Arc<Version>, Stopped> {
    let settings = &terms.settings;
    let granted = deployments.granted(&entry.name, terms, settings).await;
    let granted = granted.map_err(|error| Stopped::at(Step::Imports, error))?;
    let teller = Arc::clone(say);
    let tell = move |stage| {
        teller.begin(match stage {
            Stage::Validate => Step::Validate,
            Stage::Compile => Step::Compile,
            Stage::Imports => {
                crate::failpoint::reached("compiled");
                Step::Imports
            }
        });
    };
    let loaded = deployments.sandbox.load_in_stages(bytes, &entry.name, &settings.limits, granted, tell).await;
    let step = say.step();
    let version = loaded.map_err(|source| Stopped::at(step, DeployError::Refused(source)))?;
    deployments.hand_secrets(&entry.name, terms, settings, &version).await;
    say.done(format!("{} imports, {}", version.imports().count(), version.contract().export()));
    Ok(version)
}

/// Tries the golden messages, beside the version that runs.
async fn try_golden(
    deployments: &Deployments,
    terms: &Terms,
    version: &Arc<Version>,
    active: Option<&Loaded>,
    say: &Arc<Say>,
) -> Result<Vec<GoldenRun>, Stopped> {
    let Some(folder) = terms.golden.clone() else { return Ok(Vec::new()) };
    say.begin(Step::Golden);
    let stopped = |error, golden| Stopped { step: Step::Golden, error, golden };
    let read = tokio::task::spawn_blocking(move || golden::read(&folder)).await;
    let messages = read.map_err(|error| error.to_string()).and_then(|read| read);
    let messages = messages.map_err(|error| stopped(DeployError::Golden(error), Vec::new()))?;
    let candidate = Loaded::new(0, Arc::clone(version), &terms.settings, &deployments.metrics);
    let runs = golden::run(&messages, &candidate, active).await;
    let unexpected: Vec<_> = runs.iter().filter(|run| run.unexpected.is_some()).collect();
    if let Some(first) = unexpected.first() {
        let first = format!("{}: {}", first.place, first.unexpected.as_deref().unwrap_or_default());
        let (failed, count) = (unexpected.len(), runs.len());
        let all_stopped = unexpected.iter().all(|run| golden::was_stopped(run));
        let error = DeployError::Unexpected { failed, count, first, stopped: all_stopped };
        return Err(stopped(error, runs));
    }
    say.done(format!("{} messages", runs.len()));
    crate::failpoint::reached("tried");
    Ok(runs)
}

fn traits(loaded: &Loaded) -> Traits {
    let version = &loaded.version;
    Traits {
        size: u64::try_from(version.size()).unwrap_or(u64::MAX),
        contract: version.contract().export().to_owned(),
        imports: version.imports().map(str::to_owned).collect::<BTreeSet<_>>(),
        settings: loaded.settings.clone(),
    }
}
