//! Profiles: hosts that somebody logged in to, by name, each with its token, in a file that nobody else reads.
//!
//! Invariant: a file that others could read is not used, and none that they could is ever written.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use serde::{Deserialize, Serialize};

/// The profile that is meant when none is named.
pub(super) const DEFAULT: &str = "default";

/// A host, and how to come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Profile {
    /// Where it answers.
    pub(super) url: String,
    /// The token; none for a host that asks nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
    #[serde(flatten)]
    pub(super) tls: TlsFiles,
}

/// Certificates that a host is met with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TlsFiles {
    /// Authorities to trust; none: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<PathBuf>,
    /// The client's certificate, with `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cert: Option<PathBuf>,
    /// The private key of the client's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<PathBuf>,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Profiles {
    #[serde(default)]
    pub(super) profiles: BTreeMap<String, Profile>,
}

/// Where they are kept, by the XDG base directories.
pub(super) fn file() -> anyhow::Result<PathBuf> {
    // The specification takes a path that is not absolute for none.
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    let folder = folder.ok_or_else(|| anyhow!("neither XDG_CONFIG_HOME nor HOME says where profiles are kept"))?;
    Ok(folder.join("tidegate").join("profiles.toml"))
}

impl Profiles {
    /// Reads them; none when there is no file.
    pub(super) fn load(file: &Path) -> anyhow::Result<Self> {
        let metadata = match fs::metadata(file) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(|| format!("reading the profiles, {}", file.display())),
        };
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let file = file.display();
            bail!(
                "{file} has tokens, and others on this machine can read it (its mode is {mode:03o}): `chmod 600 {file}`, \
                 and make new tokens if somebody may have read these"
            );
        }
        let text = fs::read_to_string(file).with_context(|| format!("reading the profiles, {}", file.display()))?;
        // What is wrong is told without the text, which has tokens.
        let read = toml::from_str(&text).map_err(|error: toml::de::Error| anyhow!("{}", error.message().to_owned()));
        read.with_context(|| format!("{} is no file of profiles; `tidegate login` writes one", file.display()))
    }

    /// Writes them, so that whoever reads never sees half of them.
    pub(super) fn save(&self, file: &Path) -> anyhow::Result<()> {
        let folder = file.parent().unwrap_or_else(|| Path::new("."));
        let writing = || format!("writing the profiles, {}", file.display());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(writing)?;
        let half = folder.join(format!(".profiles.{}", std::process::id()));
        let text = toml::to_string(self).context("writing the profiles as TOML")?;
        let write = || {
            // One that was left behind may have another mode.
            let _ = fs::remove_file(&half);
            let mut opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
            opened.write_all(text.as_bytes())?;
            opened.sync_all()?;
            fs::rename(&half, file)
        };
        let written = write();
        if written.is_err() {
            let _ = fs::remove_file(&half);
        }
        written.with_context(writing)
    }

    /// The one of a name.
    pub(super) fn get(&self, name: &str) -> anyhow::Result<&Profile> {
        self.profiles.get(name).ok_or_else(|| match self.profiles.is_empty() {
            true => {
                anyhow!("there is no profile `{name}`, nor any other: `tidegate login URL --profile {name}` makes it")
            }
            false => {
                let known: Vec<&str> = self.profiles.keys().map(String::as_str).collect();
                anyhow!("there is no profile `{name}`; there is: {}", known.join(", "))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn profile(token: &str) -> Profile {
        let tls = TlsFiles { ca: Some("/ca.pem".into()), ..TlsFiles::default() };
        Profile { url: "https://h.example:7171".to_owned(), token: Some(token.to_owned()), tls }
    }

    #[test]
    fn profiles_come_back_as_they_were_and_nobody_else_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a/tidegate/profiles.toml");
        assert_eq!(Profiles::load(&file).unwrap(), Profiles::default());
        let mut profiles = Profiles::default();
        profiles.profiles.insert(DEFAULT.to_owned(), profile("one"));
        profiles.profiles.insert("ops".to_owned(), profile("two"));
        for _ in 0..2 {
            profiles.save(&file).unwrap();
            assert_eq!(Profiles::load(&file).unwrap(), profiles);
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        assert!(profiles.get("none").unwrap_err().to_string().contains("there is: default, ops"));
        for open in [0o640, 0o604, 0o660, 0o644] {
            fs::set_permissions(&file, fs::Permissions::from_mode(open)).unwrap();
            let error = Profiles::load(&file).unwrap_err().to_string();
            assert!(error.contains("chmod 600") && error.contains(&format!("{open:03o}")), "{error}");
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, "[profiles.default]\ntoken = \"tidegate_secret\"\n").unwrap();
        let error = format!("{:#}", Profiles::load(&file).unwrap_err());
        assert!(error.contains("missing field `url`") && !error.contains("tidegate_secret"), "{error}");
    }
}
