//! What the file says of whom to trust: keys of modules, certificates of the listener. A part of [`super::raw`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// TLS of the HTTP listener. The files are read again whenever the configuration is applied.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHttpTls {
    /// The host's certificate and those between it and its authority, a PEM file relative to this one.
    #[schemars(required)]
    pub(super) certificate: Option<PathBuf>,
    /// The private key of the certificate, a PEM file.
    #[schemars(required)]
    pub(super) key: Option<PathBuf>,
    /// Let only clients in that have a certificate by one of these authorities, a PEM file; beside a token, not in its
    /// place. Default: clients need no certificate.
    pub(super) client_ca: Option<PathBuf>,
}

/// Who may sign the modules that run. Without it nothing is checked.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSignatures {
    /// Run only modules that one of the keys signed. Default: true where keys are listed. When false, a module that has no
    /// signature may run; one that has a wrong signature may not.
    pub(super) required: Option<bool>,
    /// The public keys that are trusted, by a name of your choice: the second line of a `minisign.pub`.
    pub(super) keys: BTreeMap<String, String>,
}
