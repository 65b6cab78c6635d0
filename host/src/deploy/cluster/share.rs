//! Modules between this host's registry and the cluster's object store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::broker::jetstream::BucketError;
use crate::cluster::record::DesiredVersion;
use crate::cluster::{Cluster, ClusterError, CopyError};
use crate::deploy::{DeployError, Deployments};
use crate::registry::{Digest, Kept, RegistryError};

/// How long a module stays in the cluster that no version names: a deploy takes ten minutes at most, and puts a module
/// that has been there for half of this time anew.
const UNNAMED_KEPT: Duration = Duration::from_secs(24 * 3600);

impl Deployments {
    /// Sees to it that the cluster has a module of this host's registry, whole, and keeps it until it is named.
    pub(in crate::deploy) async fn share(&self, cluster: &Cluster, digest: &Digest) -> Result<(), DeployError> {
        let buckets = cluster.modules();
        let put_at = buckets.module_put_at(digest.as_str()).await.map_err(ClusterError::from)?;
        // By the server's clock, as whoever removes modules counts: a host's own clock may be wrong. While the server's is
        // not known the module is put anew.
        let age = put_at.zip(cluster.hosts().now()).map(|(at, now)| now.duration_since(at).unwrap_or_default());
        if age.is_some_and(|age| age < UNNAMED_KEPT / 2) && is_whole(cluster, digest).await? {
            return Ok(());
        }
        let bytes = self.registry.read(digest).await?;
        buckets.put_module(digest.as_str(), &bytes).await.map_err(ClusterError::from)?;
        Ok(())
    }

    /// The module of a version in this host's registry; fetched when it is not there.
    pub(super) async fn fetch(&self, cluster: &Cluster, version: &DesiredVersion) -> Result<Kept, DeployError> {
        let digest = &version.digest;
        match self.registry.read(digest).await {
            Ok(bytes) => return crate::deploy::keep(&self.registry, &bytes).await,
            Err(RegistryError::NoModule { .. } | RegistryError::Damaged { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let unusable = |source| ClusterError::Copy { digest: digest.clone(), source: Box::new(source) };
        let failed = |error: BucketError| match error {
            away @ (BucketError::Away(_) | BucketError::Refused(_)) => ClusterError::from(away),
            wrong @ (BucketError::NoModule(_) | BucketError::Damaged { .. }) => unusable(CopyError::Bucket(wrong)),
        };
        let refused = |error: RegistryError| match error {
            wrong @ (RegistryError::WrongDigest { .. } | RegistryError::TooLarge { .. }) => {
                DeployError::from(unusable(CopyError::Registry(wrong)))
            }
            other => other.into(),
        };
        let mut incoming = self.registry.receive(version.size).await?;
        let mut reader = cluster.modules().read_module(digest.as_str()).await.map_err(failed)?;
        while let Some(piece) = reader.next().await.map_err(failed)? {
            incoming.write(&piece).await.map_err(refused)?;
        }
        let kept = incoming.keep(Some(digest)).await.map_err(refused)?;
        tracing::info!(%digest, bytes = kept.size(), "a module was fetched from the cluster");
        Ok(kept)
    }

    /// The bytes of a version's module.
    pub(in crate::deploy) async fn fetched(
        &self,
        cluster: &Cluster,
        version: &DesiredVersion,
    ) -> Result<Vec<u8>, DeployError> {
        let _kept = self.fetch(cluster, version).await?;
        Ok(self.registry.read(&version.digest).await?)
    }

    /// Removes the modules from the cluster that no version of any handler names any more.
    pub(in crate::deploy) async fn collect_in_cluster(&self) {
        let Some(cluster) = self.cluster.clone() else { return };
        let Some(now) = cluster.hosts().now() else { return };
        let Some(before) = now.checked_sub(UNNAMED_KEPT) else { return };
        if let Err(error) = collect(&cluster, before).await {
            tracing::debug!(%error, "modules could not be removed from the cluster; the next deploy tries again");
        }
    }
}

/// Whether the cluster's copy of a module is the module.
async fn is_whole(cluster: &Cluster, digest: &Digest) -> Result<bool, ClusterError> {
    let read = async {
        let mut reader = cluster.modules().read_module(digest.as_str()).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = reader.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(Digest::of(&bytes) == *digest)
    };
    match read.await {
        Ok(is_whole) => Ok(is_whole),
        Err(BucketError::NoModule(_) | BucketError::Damaged { .. }) => Ok(false),
        // Pieces that do not come look like a server that does not answer: what is put anew is there.
        Err(BucketError::Away(detail)) => {
            tracing::debug!(%digest, detail, "the cluster's copy of a module could not be read, and is put anew");
            Ok(false)
        }
        Err(error @ BucketError::Refused(_)) => Err(error.into()),
    }
}

async fn collect(cluster: &Arc<Cluster>, before: SystemTime) -> Result<(), ClusterError> {
    let mut named = BTreeSet::new();
    // All handlers of the cluster, those among them that this host does not have.
    for handler in cluster.handlers().await? {
        let desired = cluster.basis(&handler).await?.desired;
        let versions = desired.into_iter().flat_map(|desired| desired.versions);
        named.extend(versions.map(|version| version.digest.to_string()));
    }
    cluster.modules().collect_modules(&named, before).await?;
    Ok(())
}
