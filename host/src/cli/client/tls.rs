//! The TLS of the command line: the system's authorities, and the cryptography that the rest of the host has.

use std::sync::Arc;

use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsConfigBuilder};

/// How a host is met; `trusts_anyone`, where it is on this machine and certificates cannot name it.
pub(super) fn client(trusts_anyone: bool) -> TlsConfig {
    let builder = builder();
    if trusts_anyone { builder.disable_verification(true).build() } else { system(builder).build() }
}

/// The authorities that the system trusts.
pub(in crate::cli) fn system(builder: TlsConfigBuilder) -> TlsConfigBuilder {
    let found = rustls_native_certs::load_native_certs();
    let certificates: Vec<_> =
        found.certs.iter().map(|certificate| Certificate::from_der(certificate.as_ref()).to_owned()).collect();
    builder.root_certs(RootCerts::from(certificates))
}

pub(in crate::cli) fn builder() -> TlsConfigBuilder {
    TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
}
