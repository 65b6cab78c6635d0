//! The TLS of the command line: whom it trusts, what it shows, and the cryptography that the rest of the host has.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsConfigBuilder};

use super::NotMet;
use crate::cli::exit::Failure;
use crate::cli::profile::TlsFiles;

/// How a host is met; `trusts_anyone`, where it is on this machine and certificates cannot name it.
pub(super) fn client(files: &TlsFiles, trusts_anyone: bool) -> Result<TlsConfig, Failure> {
    let builder = match (&files.ca, trusts_anyone) {
        (Some(ca), _) => {
            let certificates = certificates(ca).map_err(Failure::usage)?;
            builder().root_certs(RootCerts::from(certificates))
        }
        (None, true) => builder().disable_verification(true),
        (None, false) => builder().root_certs(RootCerts::from(of_system())),
    };
    let shown = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates(cert).map_err(Failure::usage)?;
            let reading = || format!("reading the private key in {}", key.display());
            let pem = std::fs::read(key).with_context(reading).map_err(Failure::usage)?;
            let key = PrivateKey::from_pem(&pem).with_context(reading).map_err(Failure::usage)?;
            Some(ClientCert::new_with_certs(&chain, key))
        }
        (None, _) | (_, None) => None,
    };
    Ok(builder.client_cert(shown).build())
}

/// The certificates in a PEM file.
fn certificates(path: &Path) -> anyhow::Result<Vec<Certificate<'static>>> {
    let reading = || format!("reading the certificates in {}", path.display());
    let pem = std::fs::read(path).with_context(reading)?;
    let items = ureq::tls::parse_pem(&pem).collect::<Result<Vec<_>, _>>().with_context(reading)?;
    let certificates = items.into_iter().filter_map(|item| match item {
        ureq::tls::PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<_> = certificates.collect();
    ensure!(!certificates.is_empty(), "there is no certificate in {}: it must be PEM", path.display());
    Ok(certificates)
}

/// What to do about a registry that is asked without TLS and has it.
pub(in crate::cli) const REGISTRY_WITH_TLS: &str = "where it speaks TLS, leave `--plain-http` out, and of one on this machine \
                                                    name its authority's certificate with `--registry-ca`";

/// Who is met.
#[derive(Debug, Clone, Copy)]
enum Party {
    Host,
    Registry,
}

/// How a registry is met: by the authorities that the system trusts, and those in a file.
pub(in crate::cli) fn registry(ca: Option<&Path>) -> Result<TlsConfig, Failure> {
    let mut trusted = of_system();
    if let Some(ca) = ca {
        trusted.extend(certificates(ca).map_err(Failure::usage)?);
    }
    Ok(builder().root_certs(RootCerts::from(trusted)).build())
}

/// Why a registry that answers cannot be asked, and what to do; `None`: it is for another reason.
pub(in crate::cli) fn why_no_registry(error: &ureq::Error) -> Option<String> {
    unfit(error, Party::Registry)
}

/// Why a host was not met, and what to do about it where that is known.
pub(super) fn not_met(error: &ureq::Error) -> NotMet {
    match unfit(error, Party::Host) {
        Some(why) => NotMet::Unfit(why),
        None => NotMet::Nobody(error.to_string()),
    }
}

/// The same for one that was met before.
pub(super) fn why(error: &ureq::Error) -> String {
    unfit(error, Party::Host).unwrap_or_else(|| error.to_string())
}

/// What to do when somebody answers and is not understood, or does not agree.
fn unfit(error: &ureq::Error, party: Party) -> Option<String> {
    let tls = match error {
        ureq::Error::Protocol(error) => {
            let hint = match party {
                Party::Host => "where it has TLS, its address begins with https://",
                Party::Registry => REGISTRY_WITH_TLS,
            };
            return Some(format!("it does not answer in HTTP; {hint} ({error})"));
        }
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(io) => io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()),
        _ => None,
    };
    tls.map(|error| hint(error, party).map_or_else(|| error.to_string(), |hint| format!("{hint} ({error})")))
}

/// What to do about a handshake that failed.
fn hint(error: &rustls::Error, party: Party) -> Option<&'static str> {
    use rustls::{AlertDescription as Alert, CertificateError as Bad, Error};
    let (host, registry) = match error {
        // By another authority of the same name, too.
        Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => (
            "its certificate is by an authority that is not trusted here: name that one's certificate with `--ca`",
            "its certificate is by an authority that is not trusted here: name that one's certificate with `--registry-ca`, \
             or have this machine trust it",
        ),
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => (
            "its certificate is for another name: say one that is in it, with `--host https://NAME:PORT`",
            "its certificate is for another name: say one that is in it, as oci://NAME:PORT/REPOSITORY",
        ),
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            let over = "its certificate is over: it needs a new one, or the clock of this machine is wrong";
            (over, over)
        }
        Error::InvalidMessage(_) => (
            "it does not answer in TLS; where it has none, on this machine, its address begins with http://",
            "it does not answer in TLS; where it has none, speak to it with `--plain-http`",
        ),
        Error::AlertReceived(Alert::CertificateRequired) => (
            "it asks for a client's certificate: show one with `--cert` and `--key`",
            "it asks for a client's certificate, and this command shows none to registries",
        ),
        _ => return None,
    };
    Some(match party {
        Party::Host => host,
        Party::Registry => registry,
    })
}

/// The authorities that the system trusts.
fn of_system() -> Vec<Certificate<'static>> {
    let found = rustls_native_certs::load_native_certs();
    found.certs.iter().map(|certificate| Certificate::from_der(certificate.as_ref()).to_owned()).collect()
}

pub(super) fn builder() -> TlsConfigBuilder {
    TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a test fails by panicking")]
    use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

    use super::NotMet;

    #[test]
    fn a_handshake_that_failed_says_what_to_do() {
        let io = |error: Error| ureq::Error::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, error));
        let unknown = super::why(&io(Error::InvalidCertificate(CertificateError::UnknownIssuer)));
        assert!(unknown.contains("`--ca`") && unknown.contains("UnknownIssuer"), "{unknown}");
        let hints = [
            (Error::InvalidCertificate(CertificateError::NotValidForName), "`--host https://NAME:PORT`"),
            (Error::AlertReceived(AlertDescription::CertificateRequired), "`--cert` and `--key`"),
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), "http://"),
        ];
        for (error, expected) in hints {
            // It answered: to start one would help nobody.
            let NotMet::Unfit(told) = super::not_met(&io(error.clone())) else { panic!("{error}: nobody answered") };
            assert!(told.contains(expected), "{told}");
        }
        let refused = ureq::Error::Io(std::io::ErrorKind::ConnectionRefused.into());
        assert_eq!(super::not_met(&refused), NotMet::Nobody(refused.to_string()));
    }
}
