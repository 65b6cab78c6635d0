//! Who may sign what runs: signatures of modules in the form of minisign, and the keys that are trusted.
//!
//! Invariants:
//! - What is checked are the bytes whose digest names the module: of a core module the file as it was given, not the
//!   component that is made of it.
//! - A signature that is there and wrong refuses its module, whether or not one is required.
//! - Checking is pure; [`read`] alone touches a file.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The largest signature that is read. minisign writes two lines of 140 characters and two comments, the longer one of at
/// most 8 KiB.
pub const LARGEST: usize = 16 << 10;
/// Which header of an upload has the signature: the file that minisign writes, in base64.
pub const HEADER: &str = "tidegate-signature";
/// What the name of a signature's file has behind that of its module.
const ENDING: &str = ".minisig";

/// The name of a key: what minisign shows of it, 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(u64);

/// A signature that has the right form; whether it is one of a module, and by whom, [`Policy::check`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    text: Arc<str>,
    key: KeyId,
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    text: String,
    id: KeyId,
    key: minisign_verify::PublicKey,
}

/// Which keys are trusted, and whether a module without a signature by one of them may run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    required: bool,
    keys: BTreeMap<String, PublicKey>,
}

/// Who signed a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Signer {
    /// The key, by the 16 hex digits that minisign shows.
    pub key: String,
    /// Its name in the configuration; `None`: it is not listed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Why a module is not let in.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// It has no signature, and must have one.
    #[error(
        "the module is not signed, and this host runs only what was signed with one of: {trusted}; sign it with \
         `minisign -S -m FILE`, which writes FILE.minisig, and give that with the module"
    )]
    Missing {
        /// The keys that are trusted.
        trusted: String,
    },
    /// It is signed with a key that is not trusted.
    #[error("the module is signed with the key {key}, which this host does not trust; it trusts: {trusted}")]
    Untrusted {
        /// The key.
        key: KeyId,
        /// The keys that are trusted.
        trusted: String,
    },
    /// The signature does not fit the bytes.
    #[error(
        "the signature with the key {key} (`{name}`) does not fit this module: it was made of other bytes, or the module \
         or the signature was changed since; sign this very file anew"
    )]
    OtherBytes {
        /// The key.
        key: KeyId,
        /// Its name in the configuration.
        name: String,
    },
    /// It is no signature at all.
    #[error("{place} is no signature as minisign writes it: four lines, a comment before each of two lines in base64")]
    Malformed {
        /// What was read.
        place: String,
    },
    /// The file of a signature cannot be read.
    #[error("could not read the signature {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl SignatureError {
    /// A stable word for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "not-signed",
            Self::Untrusted { .. } => "untrusted-key",
            Self::OtherBytes { .. } => "wrong-signature",
            Self::Malformed { .. } | Self::Unreadable { .. } => "invalid-signature",
        }
    }
}

impl Policy {
    /// A policy with keys by their names.
    #[must_use]
    pub const fn new(required: bool, keys: BTreeMap<String, PublicKey>) -> Self {
        Self { required, keys }
    }

    /// Whether a module must be signed.
    #[must_use]
    pub const fn required(&self) -> bool {
        self.required
    }

    /// The keys that are trusted, by name.
    #[must_use]
    pub const fn keys(&self) -> &BTreeMap<String, PublicKey> {
        &self.keys
    }

    /// Whether nothing is checked: no key is listed.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.keys.is_empty() && !self.required
    }

    /// Checks the signature of a module. Gives back who signed it; `None`: nobody did, and nobody needs to. Where nothing
    /// is checked a signature's key is named as it says itself.
    ///
    /// # Errors
    /// When there must be a signature and is none, or when there is one that is not by a trusted key or not of these bytes.
    pub fn check(&self, module: &[u8], signature: Option<&Signature>) -> Result<Option<Signer>, SignatureError> {
        let Some(signature) = signature else {
            return if self.required { Err(SignatureError::Missing { trusted: self.trusted() }) } else { Ok(None) };
        };
        if self.is_off() {
            return Ok(Some(self.signer(signature)));
        }
        let known = self.keys.iter().find(|(_, key)| key.id == signature.key);
        let Some((name, key)) = known else {
            return Err(SignatureError::Untrusted { key: signature.key, trusted: self.trusted() });
        };
        // minisign signed the module itself before 2021, and signs its BLAKE2b since: both are whole signatures.
        const OLD_FORM_TOO: bool = true;
        let fits = signature.decoded().is_some_and(|decoded| key.key.verify(module, &decoded, OLD_FORM_TOO).is_ok());
        if fits {
            Ok(Some(Signer { key: key.id.to_string(), name: Some(name.clone()) }))
        } else {
            Err(SignatureError::OtherBytes { key: key.id, name: name.clone() })
        }
    }

    /// Whose signature it says that it is. It is not checked by this.
    #[must_use]
    pub fn signer(&self, signature: &Signature) -> Signer {
        let known = self.keys.iter().find(|(_, key)| key.id == signature.key);
        Signer { key: signature.key.to_string(), name: known.map(|(name, _)| name.clone()) }
    }

    fn trusted(&self) -> String {
        self.keys.iter().map(|(name, key)| format!("{name} ({})", key.id)).collect::<Vec<_>>().join(", ")
    }
}

impl Signature {
    /// The text, as it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The key that it says it was made with.
    #[must_use]
    pub const fn key(&self) -> KeyId {
        self.key
    }

    /// Reads a signature; `place` is said of one that is none.
    ///
    /// # Errors
    /// When it is none, or longer than one can be.
    pub fn read(bytes: &[u8], place: &str) -> Result<Self, SignatureError> {
        let malformed = || SignatureError::Malformed { place: place.to_owned() };
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= LARGEST).ok_or_else(malformed)?;
        minisign_verify::Signature::decode(text).map_err(|_| malformed())?;
        let key = text.lines().nth(1).and_then(key_id).ok_or_else(malformed)?;
        Ok(Self { text: text.into(), key })
    }

    fn decoded(&self) -> Option<minisign_verify::Signature> {
        minisign_verify::Signature::decode(&self.text).ok()
    }
}

impl PublicKey {
    /// The key's name.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// As minisign writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for PublicKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "this is no public key of minisign";
        let text = text.trim();
        let key = minisign_verify::PublicKey::from_base64(text).map_err(|_| EXPECTED)?;
        let id = key_id(text).ok_or(EXPECTED)?;
        Ok(Self { text: text.to_owned(), id, key })
    }
}

/// The key's name in a line of a key or of a signature: two bytes say the algorithm, the next eight are it.
fn key_id(line: &str) -> Option<KeyId> {
    let bytes = STANDARD.decode(line.trim()).ok()?;
    let id: [u8; 8] = bytes.get(2..10)?.try_into().ok()?;
    Some(KeyId(u64::from_le_bytes(id)))
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.key),
            None => write!(f, "{} (not listed)", self.key),
        }
    }
}

/// Reads the signature that lies beside a module: `m.wasm.minisig` beside `m.wasm`. `None`: there is none.
///
/// # Errors
/// When there is one that cannot be read, or that is none.
pub fn beside(module: &Path) -> Result<Option<Signature>, SignatureError> {
    match read(&file_beside(module)) {
        Err(SignatureError::Unreadable { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Where the signature of a module lies: `m.wasm.minisig` for `m.wasm`.
#[must_use]
pub fn file_beside(module: &Path) -> PathBuf {
    let mut name = module.as_os_str().to_owned();
    name.push(ENDING);
    PathBuf::from(name)
}

/// Reads the signature that a person named, or else the one that lies beside the module. `None`: there is neither.
///
/// # Errors
/// When the one that was named cannot be read, or when either is none.
pub fn given_or_beside(given: Option<&Path>, module: &Path) -> Result<Option<Signature>, SignatureError> {
    match given {
        Some(given) => read(given).map(Some),
        None => beside(module),
    }
}

/// Reads a signature from a file.
///
/// # Errors
/// When it cannot be read, or is none.
pub fn read(path: &Path) -> Result<Signature, SignatureError> {
    let unreadable = |source| SignatureError::Unreadable { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    // One byte more than the longest, so that a file that is longer is seen to be.
    file.take(LARGEST as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Signature::read(&bytes, &path.display().to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
    use super::*;

    const MODULE: &[u8] = include_bytes!("../tests/fixtures/signed/module.txt");
    const SIGNED: &str = include_str!("../tests/fixtures/signed/module.txt.minisig");
    const OLD_FORM: &str = include_str!("../tests/fixtures/signed/module.txt.legacy.minisig");
    const BY_OTHER: &str = include_str!("../tests/fixtures/signed/module.txt.by-other.minisig");
    const RELEASE: &str = include_str!("../tests/fixtures/signed/release.pub");
    const OTHER: &str = include_str!("../tests/fixtures/signed/other.pub");

    fn key(file: &str) -> PublicKey {
        file.lines().nth(1).unwrap().parse().unwrap()
    }

    fn signature(text: &str) -> Signature {
        Signature::read(text.as_bytes(), "it").unwrap()
    }

    fn policy(required: bool) -> Policy {
        Policy::new(required, BTreeMap::from([("release".to_owned(), key(RELEASE))]))
    }

    #[test]
    fn a_key_has_the_name_that_minisign_shows() {
        for file in [RELEASE, OTHER] {
            let shown = file.lines().next().unwrap().rsplit(' ').next().unwrap();
            assert_eq!(key(file).id().to_string(), shown);
        }
        assert_eq!(signature(SIGNED).key(), key(RELEASE).id());
        for text in ["", "RWQ", RELEASE, "RUTkF1wLySnzutaKKrXUnhcP"] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_what_a_trusted_key_signed_is_let_in() {
        let mut changed = MODULE.to_vec();
        changed[3] ^= 1;
        let rows = [
            (true, MODULE, Some(SIGNED), Ok(Some("release"))),
            (true, MODULE, Some(OLD_FORM), Ok(Some("release"))),
            (true, MODULE, Some(BY_OTHER), Err("untrusted-key")),
            (true, &changed, Some(SIGNED), Err("wrong-signature")),
            (true, b"", Some(SIGNED), Err("wrong-signature")),
            (true, MODULE, None, Err("not-signed")),
            // Not required: what is signed wrongly is refused all the same.
            (false, MODULE, Some(SIGNED), Ok(Some("release"))),
            (false, MODULE, None, Ok(None)),
            (false, MODULE, Some(BY_OTHER), Err("untrusted-key")),
            (false, &changed, Some(SIGNED), Err("wrong-signature")),
        ];
        for (required, module, signed, expected) in rows {
            let checked = policy(required).check(module, signed.map(signature).as_ref());
            let found = checked.as_ref().map(|signer| signer.as_ref().and_then(|signer| signer.name.as_deref()));
            assert_eq!(found.map_err(SignatureError::code), expected, "{required} {signed:?}");
        }
    }

    #[test]
    fn every_byte_of_a_signature_counts() {
        let mut refused = 0;
        for place in SIGNED.match_indices('\n').next().unwrap().0 + 1..SIGNED.len() {
            let mut bytes = SIGNED.as_bytes().to_vec();
            bytes[place] ^= 1;
            let Ok(changed) = Signature::read(&bytes, "it") else { continue };
            // What comes behind the fourth line is no part of it.
            if changed.text.lines().take(4).eq(SIGNED.lines().take(4)) {
                continue;
            }
            assert!(policy(true).check(MODULE, Some(&changed)).is_err(), "byte {place}: {}", changed.text);
            refused += 1;
        }
        assert!(refused > 100, "{refused}");
    }

    #[test]
    fn a_refusal_names_the_keys() {
        let told = |signed: Option<&str>| policy(true).check(MODULE, signed.map(signature).as_ref()).unwrap_err();
        let untrusted = told(Some(BY_OTHER)).to_string();
        assert!(untrusted.contains("the key EEE0E91571024205"), "{untrusted}");
        assert!(untrusted.contains("it trusts: release (BAF329C90B5C17E4)"), "{untrusted}");
        assert!(told(None).to_string().contains("release (BAF329C90B5C17E4)"));
        // Where no keys are listed nothing is checked, and the key is shown as what it is.
        let signer = Policy::default().check(b"anything", Some(&signature(SIGNED))).unwrap().unwrap();
        assert_eq!(signer.to_string(), "BAF329C90B5C17E4 (not listed)");
    }

    #[test]
    fn what_is_no_signature_is_told_from_one_that_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let module = directory.path().join("m.wasm");
        assert_eq!(beside(&module).unwrap(), None);
        let file = directory.path().join("m.wasm.minisig");
        std::fs::write(&file, SIGNED).unwrap();
        assert_eq!(beside(&module).unwrap().unwrap(), signature(SIGNED));
        let long = format!("{SIGNED}{}", "x".repeat(LARGEST));
        for wrong in ["", "hello", RELEASE, SIGNED.lines().next().unwrap(), &long] {
            std::fs::write(&file, wrong).unwrap();
            let error = beside(&module).unwrap_err();
            assert_eq!(error.code(), "invalid-signature");
            assert!(error.to_string().contains("m.wasm.minisig"), "{error}");
        }
    }
}
