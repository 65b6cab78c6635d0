//! Which host a command speaks to: a flag before the environment, that before the default profile, and in the end the host
//! that the configuration of this folder describes.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;
use ureq::http::Uri;

use super::exit::Failure;
use super::profile::{self, DEFAULT, Profile, Profiles, TlsFiles};
use super::{ConfigArgument, say};
use crate::config::{Config, FILE_NAME};

/// Where the address of a host stands in the environment.
const HOST_VARIABLE: &str = "TIDEGATE_HOST";
/// Where the name of a profile stands.
const PROFILE_VARIABLE: &str = "TIDEGATE_PROFILE";
/// Where the token stands; never on the command line, which others on the machine can read.
const TOKEN_VARIABLE: &str = "TIDEGATE_TOKEN";

/// Which host.
#[derive(Debug, Args)]
pub(super) struct HostArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// The host's address, such as `https://tidegate.example:7171`; TIDEGATE_HOST in its place [default: that of the profile
    /// `default`; where there is none, the host that the configuration describes]
    #[arg(long, value_name = "URL", conflicts_with_all = ["profile", "config"])]
    host: Option<String>,
    /// A host by the name that `tidegate login` gave it; TIDEGATE_PROFILE in its place
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    profile: Option<String>,
    #[command(flatten)]
    tls: TlsArguments,
}

/// Which host, and how its answer is printed.
#[derive(Debug, Args)]
pub(super) struct Place {
    #[command(flatten)]
    pub(super) host: HostArguments,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Certificates.
#[derive(Debug, Clone, Args)]
pub(super) struct TlsArguments {
    /// Trust the authorities in this PEM file, and not the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Show this certificate, a PEM file, to a host that asks for one
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of --cert
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// A host to speak to.
#[derive(Debug)]
pub(super) enum Target {
    /// By its address.
    Remote(Profile),
    /// By a configuration of this machine.
    Local(Box<Config>, Option<String>, TlsFiles),
    /// Where one answers by default: there is no configuration.
    Loopback(Option<String>),
}

/// What a command line or an environment says.
#[derive(Debug, Clone, Default)]
struct Said {
    host: Option<String>,
    profile: Option<String>,
    config: bool,
}

/// Which of all that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Choice {
    Host(String),
    Profile(String),
    /// Nobody named it.
    DefaultProfile,
    Config,
}

impl HostArguments {
    /// The host that is meant.
    pub(super) fn target(&self) -> Result<Target, Failure> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let token = variable(TOKEN_VARIABLE);
        let flags =
            Said { host: self.host.clone(), profile: self.profile.clone(), config: self.config.config.is_some() };
        let environment = Said {
            host: variable(HOST_VARIABLE),
            profile: variable(PROFILE_VARIABLE),
            config: variable("TIDEGATE_CONFIG").is_some(),
        };
        // Only when it could matter: a file that others can read is no reason to fail for who names a configuration.
        let profiles = || profile::file().and_then(|file| Profiles::load(&file)).map_err(Failure::usage);
        let choice = match choose(&flags, &environment, false) {
            Choice::Config if !flags.config && !environment.config => {
                // Where nothing says where profiles are kept, there are none.
                let has_default = match profile::file() {
                    Ok(file) => Profiles::load(&file).map_err(Failure::usage)?.profiles.contains_key(DEFAULT),
                    Err(_) => false,
                };
                choose(&flags, &environment, has_default)
            }
            chosen => chosen,
        };
        let tls = self.tls.files()?;
        let over = |profile: &Profile| Profile {
            url: profile.url.clone(),
            token: token.clone().or_else(|| profile.token.clone()),
            tls: tls.clone().or(&profile.tls),
        };
        match choice {
            Choice::Host(url) => Ok(Target::Remote(Profile { url: address(&url)?, token, tls })),
            Choice::Profile(name) => Ok(Target::Remote(over(profiles()?.get(&name).map_err(Failure::usage)?))),
            Choice::DefaultProfile => {
                let profile = over(profiles()?.get(DEFAULT).map_err(Failure::usage)?);
                // Nobody named it in this command: what it does may be meant for another host.
                say::talk(&format!("on {}, by the profile `{DEFAULT}`", profile.url));
                Ok(Target::Remote(profile))
            }
            Choice::Config => {
                let named = flags.config || environment.config;
                if !named && !std::path::Path::new(FILE_NAME).exists() {
                    return Ok(Target::Loopback(token));
                }
                Ok(Target::Local(Box::new(self.config.load()?), token, tls))
            }
        }
    }

    /// Why there is no configuration.
    pub(super) fn no_config(&self) -> Failure {
        match self.config.load() {
            Err(failure) => failure,
            // It came just now.
            Ok(_) => Failure::usage(anyhow!("the configuration was not there a moment ago: try again")),
        }
    }
}

impl TlsArguments {
    /// The files, by paths that hold in any folder.
    pub(super) fn files(&self) -> Result<TlsFiles, Failure> {
        let absolute = |path: &Option<PathBuf>| {
            let path = path.as_ref().map(|path| {
                std::fs::canonicalize(path).with_context(|| format!("opening the PEM file {}", path.display()))
            });
            path.transpose().map_err(Failure::usage)
        };
        Ok(TlsFiles { ca: absolute(&self.ca)?, cert: absolute(&self.cert)?, key: absolute(&self.key)? })
    }
}

impl TlsFiles {
    /// These, and where there are none, others.
    fn or(self, other: &Self) -> Self {
        let (cert, key) = match (self.cert, self.key) {
            (Some(cert), Some(key)) => (Some(cert), Some(key)),
            _ => (other.cert.clone(), other.key.clone()),
        };
        Self { ca: self.ca.or_else(|| other.ca.clone()), cert, key }
    }
}

impl Target {
    /// Where a host answers by default.
    pub(super) const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7171);
}

/// A flag before the environment, that before the default profile, and that before the configuration.
fn choose(flags: &Said, environment: &Said, has_default_profile: bool) -> Choice {
    for said in [flags, environment] {
        if let Some(host) = &said.host {
            return Choice::Host(host.clone());
        }
        if let Some(profile) = &said.profile {
            return Choice::Profile(profile.clone());
        }
        if said.config {
            return Choice::Config;
        }
    }
    if has_default_profile { Choice::DefaultProfile } else { Choice::Config }
}

/// The host of an address, met with the token of the environment and the system's authorities.
pub(super) fn at(url: &str) -> Result<Profile, Failure> {
    let token = std::env::var(TOKEN_VARIABLE).ok().filter(|value| !value.is_empty());
    Ok(Profile { url: address(url)?, token, tls: TlsFiles::default() })
}

/// Checks the address of a host, and gives it back as requests begin with it.
pub(super) fn address(text: &str) -> Result<String, Failure> {
    let wrong = |why: &str| Failure::usage(anyhow!("`{text}` is no address of a host: {why}"));
    let expected = "expected one such as https://tidegate.example:7171";
    let uri: Uri = text.parse().map_err(|_| wrong(expected))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(wrong(expected)) };
    if authority.as_str().contains('@') || uri.query().is_some() {
        return Err(wrong("names, passwords and queries do not belong into it"));
    }
    let name = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_here = name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match scheme {
        "https" => {}
        "http" if is_here => {}
        "http" => {
            return Err(wrong("a token would cross the wire as text: without TLS only this machine is spoken to"));
        }
        _ => return Err(wrong(expected)),
    }
    Ok(format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_goes_before_the_environment_and_that_before_the_profile() {
        let said = |text: &str| Said {
            host: text.contains('h').then(|| format!("h-{}", text.len())),
            profile: text.contains('p').then(|| "p".to_owned()),
            config: text.contains('c'),
        };
        let host = |text: &str| Choice::Host(format!("h-{}", text.len()));
        let rows = [
            // Flags, the environment, whether there is a default profile.
            ("", "", false, Choice::Config),
            ("", "", true, Choice::DefaultProfile),
            ("c", "", true, Choice::Config),
            ("", "c", true, Choice::Config),
            ("", "p", true, Choice::Profile("p".to_owned())),
            ("", "h", true, host("h")),
            ("", "hpc", true, host("hpc")),
            ("c", "hp", true, Choice::Config),
            ("p", "h", true, Choice::Profile("p".to_owned())),
            ("h", "hp", false, host("h")),
        ];
        for (flags, environment, has_default, expected) in rows {
            assert_eq!(choose(&said(flags), &said(environment), has_default), expected, "{flags} {environment}");
        }
    }

    #[test]
    fn an_address_says_how_it_is_spoken_to() {
        let rows = [
            ("https://tidegate.example", Some("https://tidegate.example")),
            ("https://tidegate.example:7171/", Some("https://tidegate.example:7171")),
            ("https://proxy.example/tidegate/", Some("https://proxy.example/tidegate")),
            ("http://127.0.0.1:7171", Some("http://127.0.0.1:7171")),
            ("http://localhost:7171", Some("http://localhost:7171")),
            ("http://[::1]:7171", Some("http://[::1]:7171")),
            ("http://tidegate.example", None),
            ("http://127.0.0.1.evil.example", None),
            ("https://ann:secret@tidegate.example", None),
            ("https://tidegate.example?token=x", None),
            ("tidegate.example", None),
            ("/v1", None),
            ("ftp://tidegate.example", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(address(text).ok().as_deref(), expected, "{text}");
        }
    }
}
