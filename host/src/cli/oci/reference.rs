//! Names of modules in registries: `oci://registry.example:5000/team/invoice:1.2` and `...@sha256:<digest>`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// What an address begins with.
const SCHEME: &str = "oci://";
/// The tag of an address that has none.
const LATEST: &str = "latest";
const FORM: &str = "expected oci://REGISTRY/REPOSITORY[:TAG][@sha256:DIGEST]";

/// A module in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Reference {
    registry: String,
    repository: String,
    tag: String,
    digest: Option<String>,
}

impl Reference {
    /// Host and port.
    pub(super) fn registry(&self) -> &str {
        &self.registry
    }

    pub(super) fn repository(&self) -> &str {
        &self.repository
    }

    /// The digest, when one is asked for: it stands over the tag.
    pub(super) fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// What the registry is asked for: the digest, or the tag.
    pub(super) fn version(&self) -> &str {
        self.digest.as_deref().unwrap_or(&self.tag)
    }

    /// Whether the registry is on this machine, where it is spoken to without TLS.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.registry.rsplit_once(':').map_or(self.registry.as_str(), |(host, _port)| host);
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// The same module by its digest: `registry/repository@sha256:...`.
    pub(in super::super) fn pinned(&self, digest: &str) -> String {
        format!("{SCHEME}{}/{}@{digest}", self.registry, self.repository)
    }

    /// The last part of the repository: a name for a file.
    pub(in super::super) fn name(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or(&self.repository)
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix(SCHEME).ok_or(FORM)?;
        let (registry, rest) = rest.split_once('/').ok_or(FORM)?;
        let (rest, digest) = rest.split_once('@').map_or((rest, None), |(rest, digest)| (rest, Some(digest)));
        let (repository, tag) = rest.split_once(':').map_or((rest, LATEST), |(repository, tag)| (repository, tag));
        if !is_registry(registry) {
            return Err(format!("`{registry}` is no registry: give its host, and its port when it has one; {FORM}"));
        }
        if repository.len() > 255 || !repository.split('/').all(is_component) {
            return Err(format!(
                "`{repository}` is no repository: lower-case letters, digits, and `.`, `_`, `-` between"
            ));
        }
        if !is_tag(tag) {
            return Err(format!("`{tag}` is no tag: letters, digits, `.`, `_` and `-`, at most 128"));
        }
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return Err("the digest is not `sha256:` and 64 lower-case hexadecimal digits".to_owned());
        }
        Ok(Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            tag: tag.to_owned(),
            digest: digest.map(str::to_owned),
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.digest {
            Some(digest) => f.write_str(&self.pinned(digest)),
            None => write!(f, "{SCHEME}{}/{}:{}", self.registry, self.repository, self.tag),
        }
    }
}

fn is_registry(text: &str) -> bool {
    let host = text.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c));
    // A first part without either is a namespace of some default registry, and there is none here.
    host && (text == "localhost" || text.contains(['.', ':']))
}

fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(alphanumeric)
        && text.ends_with(alphanumeric)
        && text.chars().all(|c| alphanumeric(c) || ".-_".contains(c))
        && !text.contains("..")
}

fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// Whether a text is a digest of the kind that is checked here.
pub(super) fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    digits.len() == 64 && digits.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_reference_is_read_and_written() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let pinned = format!("oci://r.example/a@{digest}");
        let rows = [
            ("oci://r.example/a", "oci://r.example/a:latest", "latest"),
            ("oci://localhost/a/b-c:1.2", "oci://localhost/a/b-c:1.2", "1.2"),
            ("oci://127.0.0.1:5000/a_b:V_1", "oci://127.0.0.1:5000/a_b:V_1", "V_1"),
            (&pinned, &pinned, &digest),
        ];
        for (text, shown, version) in rows {
            let reference: Reference = text.parse().unwrap();
            assert_eq!((reference.to_string().as_str(), reference.version()), (shown, version));
        }
        let wrong = [
            "",
            "r.example/a",
            "oci://r.example",
            "oci://team/a",
            "oci:///a",
            "oci://r.example/",
            "oci://r.example/A",
            "oci://r.example/../a",
            "oci://r.example/a..b",
            "oci://r.example/a//b",
            "oci://r.example/a:",
            "oci://r.example/a:b/c",
            "oci://r.example/a@sha256:00",
            "oci://r.example/a@md5:00",
            "oci://u@r.example/a",
            "oci://r.example/a?b",
            "oci://r.example/a b",
        ];
        for text in wrong {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_this_machine_is_spoken_to_without_tls() {
        for (registry, expected) in [
            ("localhost", true),
            ("localhost:5", true),
            ("127.3.0.1:5", true),
            ("[::1]:5", true),
            ("10.0.0.1:5", false),
            ("localhost.example", false),
            ("r.example:5000", false),
        ] {
            let reference: Reference = format!("oci://{registry}/a").parse().unwrap();
            assert_eq!(reference.is_loopback(), expected, "{registry}");
        }
    }
}
