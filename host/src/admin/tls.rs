//! TLS of the listener: its certificate, and the clients that it lets in.
//!
//! Invariants:
//! - Files that cannot be used change nothing: what was read before goes on, and the error names the file.
//! - Connections that are open keep the certificate that they began with; the next ones have what was read last.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsAcceptor;

use crate::config::HttpTlsConfig;

/// The TLS of a listener.
#[derive(Debug)]
pub struct Tls {
    files: HttpTlsConfig,
    current: ArcSwap<Material>,
}

/// What the files have, read and found to fit together. Nothing uses it until it is handed to [`Tls::renew`].
#[derive(Debug, Clone)]
#[must_use = "it is not used until it is handed to the listener"]
pub struct Material {
    server: Arc<ServerConfig>,
    fingerprint: String,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("could not read {} (`{key}` in [http.tls])", path.display())]
    Unreadable {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is nothing of the kind in a file.
    #[error("there is no {what} in {} (`{key}` in [http.tls]): it must be PEM, as text that begins with `-----BEGIN`", path.display())]
    Empty {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// What is in a file cannot be used.
    #[error("{} (`{key}` in [http.tls]) cannot be used: {why}", path.display())]
    Unusable {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The key is another certificate's.
    #[error("the private key {} does not belong to the certificate {}, the first one in its file", key.display(), certificate.display())]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
}

impl TlsError {
    /// The key of `[http.tls]` that is to be looked at.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Unreadable { key, .. } | Self::Empty { key, .. } | Self::Unusable { key, .. } => key,
            Self::Mismatch { .. } => "key",
        }
    }

    /// The error with its cause, on one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let cause = std::error::Error::source(self).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{self}{cause}")
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one is missing, cannot be used, or does not fit the others.
    pub fn open(files: &HttpTlsConfig) -> Result<Arc<Self>, TlsError> {
        let material = Material::read(files)?;
        Ok(Arc::new(Self { files: files.clone(), current: ArcSwap::from_pointee(material) }))
    }

    /// Reads the files anew, and changes nothing yet.
    ///
    /// # Errors
    /// As for [`Tls::open`].
    pub fn read(&self) -> Result<Material, TlsError> {
        Material::read(&self.files)
    }

    /// Connections that come from here on have this.
    pub fn renew(&self, material: Material) {
        self.current.store(Arc::new(material));
    }

    /// Names what is in the files that are used: another text when any of them differs.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.current.load().fingerprint.clone()
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.load().server))
    }
}

impl Material {
    /// Reads the files of a configuration.
    ///
    /// # Errors
    /// As for [`Tls::open`].
    pub fn read(files: &HttpTlsConfig) -> Result<Self, TlsError> {
        let HttpTlsConfig { certificate, key, client_ca } = files;
        let mut hash = Sha256::new();
        let mut file = |name, path: &Path| {
            let read = std::fs::read(path);
            let bytes = read.map_err(|source| TlsError::Unreadable { key: name, path: path.to_owned(), source })?;
            hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(&bytes);
            Ok::<_, TlsError>(bytes)
        };
        let chain = certificates("certificate", certificate, &file("certificate", certificate)?)?;
        let private = PrivateKeyDer::from_pem_slice(&file("key", key)?);
        let private = private.map_err(|_| TlsError::Empty { key: "key", path: key.clone(), what: "private key" })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let unusable = |key, path: &Path, why: String| TlsError::Unusable { key, path: path.to_owned(), why };
        let builder = builder
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("certificate", certificate, error.to_string()))?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for one in certificates("client_ca", path, &file("client_ca", path)?)? {
                    roots.add(one).map_err(|error| unusable("client_ca", path, error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                let verifier = verifier.map_err(|error| unusable("client_ca", path, error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let server = builder.with_single_cert(chain, private).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatch { key: key.clone(), certificate: certificate.clone() }
            }
            rustls::Error::InvalidCertificate(_) => unusable("certificate", certificate, error.to_string()),
            other => unusable("key", key, other.to_string()),
        });
        let mut server = server?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { server: Arc::new(server), fingerprint: hex::encode(hash.finalize()) })
    }

    /// As [`Tls::fingerprint`].
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

fn certificates(key: &'static str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| TlsError::Unusable { key, path: path.to_owned(), why: error.to_string() })?;
    if found.is_empty() {
        return Err(TlsError::Empty { key, path: path.to_owned(), what: "certificate" });
    }
    Ok(found)
}
