//! What a configuration says of the handlers, on a host of a cluster: nothing becomes a version but through the cluster.

use std::sync::Arc;

use super::{CONFIGURATION, Candidate, Change, Committed, Deployed, EndedTrial, Fate, Made, NamedModule, Plan};
use crate::cluster::{Basis, Cluster};
use crate::deploy::entry::{Entry, Terms};
use crate::deploy::{DeployError, Deployments};
use crate::registry::{Configured, HandlerRecord};

impl Deployments {
    /// A handler that comes: the version that was active here last runs until it is known what is to run; unless it has
    /// grants that the configuration does not give any more, which another version comes for as soon as the cluster is asked.
    pub(super) async fn make_in_cluster(
        &self,
        name: &str,
        terms: Terms,
        record: &HandlerRecord,
    ) -> Result<Made, DeployError> {
        let entry = Arc::new(Entry::new(name, terms.clone()));
        entry.set_unplanned(true);
        let module = self.file(name, &terms, true).await?.map(|file| file.digest);
        let fate = match record.active_version() {
            Some(active) => self.resume(&entry, &terms, active, None).await?,
            None => Fate::GoesOn,
        };
        let replaces = record.active;
        Ok(Made { entry, terms, module, replaces, configured: None, ends: None, withdrawn: None, fate, _busy: None })
    }

    /// Carries a change out. What becomes another version is sent to the cluster at its end, handler by handler; what
    /// could not be sent is told, and tried again by itself.
    pub(super) async fn commit_in_cluster(
        &self,
        cluster: &Arc<Cluster>,
        change: Change,
    ) -> Result<Committed, DeployError> {
        let Change { made, gone } = change;
        let notes = made.iter().filter(|one| !matches!(one.fate, Fate::Passed(..)));
        let notes = notes.filter_map(|one| Some((one.entry.name.clone(), one.configured.clone()?)));
        let notes: Vec<(String, Configured)> = notes.collect();
        if !notes.is_empty() {
            self.registry.deploy_all(Vec::new(), notes).await?;
        }
        let changed = made.iter().filter(|one| matches!(one.fate, Fate::Passed(..)));
        let changed: Vec<_> = changed.map(|one| (Arc::clone(&one.entry), one.replaces, one.ends.clone())).collect();
        for (entry, replaces, _) in &changed {
            entry.plan_over(*replaces);
        }
        // Not here from now on; and nowhere, as soon as the cluster is asked for it again.
        for (entry, on, why) in made.iter().filter_map(Made::tried_beyond) {
            entry.end_trial();
            tracing::warn!(
                handler = entry.name,
                version = on.record.number,
                why,
                "what was tried is not tried here any more"
            );
        }
        // Those that passed are not switched to: none has a record here yet.
        self.switch(made, &gone, Vec::new());
        drop(gone);
        self.resume_rollouts().await;
        let mut committed = Committed::default();
        for (entry, _, ends) in changed {
            match self.reconcile_soon(cluster, &entry).await {
                Ok(()) => {
                    let record = self.registry.handler(&entry.name).await?;
                    committed.deployed.extend(record.active_version().map(|active| Deployed {
                        handler: entry.name.clone(),
                        version: active.number,
                        digest: active.digest.clone(),
                        ends,
                    }));
                }
                Err(error) => {
                    self.tell(cluster, &entry.name, &error);
                    committed.waits.push((entry.name.clone(), error.chain()));
                }
            }
        }
        // What comes anew, and what could not be sent.
        cluster.look_again();
        Ok(committed)
    }

    /// Holds what the configuration says of a handler against what is to run in the cluster, and sends there what it
    /// changes. Whether that was anything.
    ///
    /// A host that never ran the handler takes what the cluster has: what its configuration says counts from its next
    /// change on.
    pub(in crate::deploy) async fn plan_in_cluster(
        &self,
        cluster: &Cluster,
        entry: &Arc<Entry>,
        basis: &Basis,
    ) -> Result<bool, DeployError> {
        let (name, terms) = (&entry.name, entry.terms());
        let local = self.registry.handler(name).await?;
        let is_first = local.configured.is_none() && basis.desired.is_some();
        let known = match &basis.desired {
            Some(desired) => {
                HandlerRecord { active: Some(desired.active), versions: desired.records(), ..local.clone() }
            }
            None => local.clone(),
        };
        let looked = self.look_at(name, &terms, known, false).await?;
        let plan = if is_first { Plan::Resume } else { looked.plan };
        let (what, source, module) = match (plan, looked.file, looked.record.active_version()) {
            (Plan::DeployConfigured, Some(module), _) => {
                let path = terms.module.as_ref().map_or_else(String::new, |path| path.display().to_string());
                (format!("the module that the configuration names, {path}"), path, module)
            }
            (Plan::DeployActive, _, Some(active)) => {
                let (bytes, signature) = match basis.desired.as_ref().and_then(|desired| desired.active_version()) {
                    Some(version) => (self.fetched(cluster, version).await?, version.signature()),
                    None => (self.registry.read(&active.digest).await?, None),
                };
                let module = NamedModule { digest: active.digest.clone(), bytes, signature };
                let what = "its module with the limits and grants that the configuration gives".to_owned();
                (what, active.source.clone(), module)
            }
            (Plan::Wait | Plan::DeployConfigured | Plan::DeployActive | Plan::Resume, _, _) => {
                let is_known = basis.desired.is_some() || local.active.is_some();
                if is_known && local.configured.as_ref() != Some(&looked.configured) {
                    self.registry.note_configured(name, looked.configured).await?;
                }
                entry.set_unplanned(false);
                return Ok(false);
            }
        };
        if let Some(desired) = basis.desired.as_ref().filter(|desired| !entry.may_replace(desired.active)) {
            // Whoever deployed meanwhile did so on purpose: the configuration counts again when it is applied again.
            return Err(DeployError::Overtaken { handler: name.clone(), by: desired.change.by.clone() });
        }
        let NamedModule { bytes, signature, .. } = module;
        let (bytes, source) = (bytes.as_slice(), source.as_str());
        let candidate = Candidate { bytes, signature, source, what, basis: Some(basis.clone()) };
        match self.check(entry, candidate, &terms).await? {
            Fate::Passed(passed, _held) => {
                let desired = self.propose(cluster, basis, &passed.new, None).await?;
                self.take_over(name, &desired, false, Some(looked.configured)).await?;
                let (version, digest) = (desired.active, passed.new.digest.clone());
                passed.switch(&self.metrics, entry, version);
                tracing::info!(handler = name, version, %digest, by = CONFIGURATION, "deployed to the cluster");
                let ends = EndedTrial::of(&local);
                let deployed = Deployed { handler: name.clone(), version, digest, ends };
                self.put_on_record(&[deployed.act()]).await;
            }
            Fate::GoesOn | Fate::Resumes(_) => self.registry.note_configured(name, looked.configured).await?,
        }
        entry.set_unplanned(false);
        Ok(true)
    }
}
