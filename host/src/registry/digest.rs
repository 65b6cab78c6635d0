//! The sha256 of a module: its name in the registry.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// 64 lowercase hex digits. Nothing else can be one, so that a digest is safe as the name of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[0-9a-f]{64}$"))]
pub struct Digest(String);

/// A text that is no digest.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a sha256: expected 64 hex digits, with or without `sha256:` before them")]
pub struct NotADigest(String);

impl Digest {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(hex::encode(Sha256::digest(bytes)))
    }

    /// What a hash came to.
    pub(super) fn finished(hash: Sha256) -> Self {
        Self(hex::encode(hash.finalize()))
    }

    /// The hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
        let is_digest = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_digest { Ok(Self(hex)) } else { Err(NotADigest(text.chars().take(80).collect())) }
    }
}

impl TryFrom<String> for Digest {
    type Error = NotADigest;

    fn try_from(text: String) -> Result<Self, NotADigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sha256_is_a_digest() {
        let hex = Digest::of(b"").to_string();
        assert_eq!(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for text in [hex.clone(), format!("sha256:{hex}"), hex.to_uppercase()] {
            assert!(text.parse::<Digest>().is_ok_and(|digest| digest.as_str() == hex), "{text}");
        }
        for text in ["", "sha256:", "../../etc/passwd", &hex[1..], &format!("{hex}0"), &format!("{}/", &hex[1..])] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
