//! The user's credentials for a registry, from where docker, podman and their like keep them.
//!
//! Invariants:
//! - A place that cannot be read, or a helper that fails, is told of with its name; that something is not there says nothing, and
//!   the next place is looked into.
//! - So it is where this user may not read a usual place, as of an environment that is another user's: most registries ask nobody
//!   for a login. It is told of when the registry refuses.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use docker_credential::{CredentialRetrievalError as Missing, DockerCredential};
use serde::Deserialize;

/// What a helper says of its failure is a line.
const SAID_CHARS: usize = 300;

/// The part of a file that says who is asked for credentials.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Helpers {
    #[serde(default)]
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: Option<BTreeMap<String, String>>,
}

/// A file that credentials may be in.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Somebody says that they are there.
    Named(PathBuf),
    /// They usually are.
    Usual(PathBuf),
}

/// What was found for a registry.
#[derive(Default)]
pub(super) struct Found {
    /// `None`: there are none.
    pub(super) credentials: Option<DockerCredential>,
    /// Usual places that this user may not read.
    passed_over: Vec<PathBuf>,
}

impl Found {
    /// Where credentials may be that were not looked at; for whom a registry refuses.
    pub(super) fn not_looked_at(&self) -> Option<String> {
        let files: Vec<String> = self.passed_over.iter().map(|file| file.display().to_string()).collect();
        (!files.is_empty())
            .then(|| format!("credentials may be in {} too, which you may not read", files.join(" and ")))
    }
}

/// The credentials for a registry.
pub(super) fn credentials(registry: &str) -> anyhow::Result<Found> {
    let user = rustix::process::getuid().as_raw();
    let mut found = Found::default();
    for place in places(&|name| std::env::var_os(name), user) {
        let (Place::Named(file) | Place::Usual(file)) = &place;
        let bytes = match (fs::read(file), &place) {
            (Ok(bytes), _) => bytes,
            (Err(error), _) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
            (Err(error), Place::Usual(file)) if error.kind() == ErrorKind::PermissionDenied => {
                found.passed_over.push(file.clone());
                continue;
            }
            (Err(error), Place::Named(file) | Place::Usual(file)) => {
                return Err(error).with_context(|| reading(registry, file));
            }
        };
        found.credentials = in_file(&bytes, file, registry)?;
        if found.credentials.is_some() {
            break;
        }
    }
    Ok(found)
}

fn reading(registry: &str, file: &Path) -> String {
    format!("reading the credentials for {registry} in {}", file.display())
}

/// The files that podman and docker read, in this order: podman's own are the nearer ones, for it reads docker's too. A variable
/// that is of credentials alone names a place; the folders of a user are as they were inherited.
fn places(variable: &dyn Fn(&str) -> Option<OsString>, user: u32) -> Vec<Place> {
    let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut places = Vec::new();
    match path("REGISTRY_AUTH_FILE") {
        Some(named) => places.push(Place::Named(named)),
        None => {
            let run = path("XDG_RUNTIME_DIR").map(|run| run.join("containers/auth.json"));
            places.push(Place::Usual(run.unwrap_or_else(|| format!("/run/containers/{user}/auth.json").into())));
            let config = path("XDG_CONFIG_HOME").or_else(|| Some(path("HOME")?.join(".config")));
            places.extend(config.map(|config| Place::Usual(config.join("containers/auth.json"))));
        }
    }
    let docker = path("DOCKER_CONFIG").map(|named| Place::Named(named.join("config.json")));
    places.extend(docker.or_else(|| Some(Place::Usual(path("HOME")?.join(".docker/config.json")))));
    places
}

fn in_file(bytes: &[u8], file: &Path, registry: &str) -> anyhow::Result<Option<DockerCredential>> {
    let reading = || reading(registry, file);
    let helper = || {
        let helpers = serde_json::from_slice::<Helpers>(bytes).ok();
        let name = helpers.and_then(|helpers| {
            let of_registry = helpers.cred_helpers.and_then(|helpers| helpers.get(registry).cloned());
            of_registry.filter(|name| !name.is_empty()).or(helpers.creds_store)
        });
        format!("docker-credential-{}", name.unwrap_or_default())
    };
    match docker_credential::get_credential_from_reader(bytes, registry) {
        Ok(found) => Ok(Some(found)),
        Err(Missing::NoCredentialConfigured | Missing::ConfigNotFound) => Ok(None),
        // A helper that knows nothing of a registry says so by failing.
        Err(Missing::HelperFailure { stdout, stderr, .. })
            if format!("{stdout}{stderr}").to_ascii_lowercase().contains("not found") =>
        {
            Ok(None)
        }
        Err(Missing::HelperFailure { helper, stdout, stderr }) => {
            let said = said(&stdout, &stderr);
            Err(anyhow!("the credential helper `{helper}` failed and said: {said}")).with_context(reading)
        }
        Err(Missing::HelperCommunicationError) => {
            Err(anyhow!("the credential helper `{}` could not be run: is it on the PATH?", helper()))
                .with_context(reading)
        }
        Err(Missing::MalformedHelperResponse) => {
            Err(anyhow!("the credential helper `{}` gave no credentials, though it says that all went well", helper()))
                .with_context(reading)
        }
        Err(Missing::ConfigReadError) => {
            Err(anyhow!("this is not the JSON that `docker login` and `podman login` write")).with_context(reading)
        }
        Err(error @ (Missing::CredentialDecodingError | Missing::CredentialMismatchError)) => {
            let again =
                format!("what stands there cannot be read: log in anew with `docker login {registry}` or its like");
            Err(anyhow!("{error}")).context(again).with_context(reading)
        }
    }
}

/// What a helper said on its way out, on one line. By the protocol of helpers an error is on standard output.
fn said(stdout: &str, stderr: &str) -> String {
    let both = [stdout, stderr].map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    let told = both.iter().filter(|text| !text.is_empty()).map(String::as_str).collect::<Vec<_>>().join("; ");
    match told.is_empty() {
        true => "nothing".to_owned(),
        false => told.chars().take(SAID_CHARS).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_are_those_of_podman_and_docker() {
        type Set = &'static [(&'static str, &'static str)];
        let named = |file: &str| Place::Named(file.into());
        let usual = |file: &str| Place::Usual(file.into());
        let rows: [(Set, Vec<Place>); 5] = [
            (&[], vec![usual("/run/containers/7/auth.json")]),
            (
                &[("HOME", "/h")],
                ["/run/containers/7/auth.json", "/h/.config/containers/auth.json", "/h/.docker/config.json"]
                    .map(usual)
                    .into(),
            ),
            (
                &[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/run/user/7"), ("XDG_CONFIG_HOME", "/c")],
                ["/run/user/7/containers/auth.json", "/c/containers/auth.json", "/h/.docker/config.json"]
                    .map(usual)
                    .into(),
            ),
            (
                &[("HOME", "/h"), ("REGISTRY_AUTH_FILE", "/a.json"), ("XDG_RUNTIME_DIR", "/run/user/7")],
                vec![named("/a.json"), usual("/h/.docker/config.json")],
            ),
            (
                &[("HOME", "/h"), ("REGISTRY_AUTH_FILE", "/a.json"), ("DOCKER_CONFIG", "/d")],
                ["/a.json", "/d/config.json"].map(named).into(),
            ),
        ];
        for (set, expected) in rows {
            let variable = |name: &str| set.iter().find(|(set, _)| *set == name).map(|(_, value)| value.into());
            assert_eq!(places(&variable, 7), expected, "{set:?}");
        }
    }

    #[test]
    fn what_a_helper_said_is_one_line() {
        assert_eq!(said("the vault\nis locked\n", ""), "the vault is locked");
        assert_eq!(said("a", " b\n"), "a; b");
        assert_eq!(said(" ", "\n"), "nothing");
    }
}
