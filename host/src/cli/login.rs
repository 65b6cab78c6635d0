//! `tidegate login`, `logout` and `whoami`: profiles come and go, and what a host takes somebody for.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;

use super::client::{self, Client};
use super::exit::{Ended, Exit, Failure};
use super::host::{HostArguments, TlsArguments, address};
use super::profile::{self, DEFAULT, Profile, Profiles};
use super::say;
use crate::admin::wire::Whoami;

/// A token has 52 characters; a file with more than this is none.
const LONGEST_TOKEN: u64 = 4096;

#[derive(Debug, Args)]
pub(super) struct Login {
    /// The host's address, such as `https://tidegate.example:7171`
    #[arg(value_name = "URL")]
    url: String,
    /// The name to keep it under
    #[arg(long, value_name = "NAME", default_value = DEFAULT, value_parser = name)]
    profile: String,
    /// Read the token from a file; `-` is standard input [default: ask on the terminal; where there is none, standard input]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsArguments,
}

#[derive(Debug, Args)]
pub(super) struct Logout {
    /// The profile to forget
    #[arg(long, value_name = "NAME", default_value = DEFAULT)]
    profile: String,
}

#[derive(Debug, Args)]
pub(super) struct WhoamiArguments {
    #[command(flatten)]
    host: HostArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match !text.is_empty() && text.len() <= 64 && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err("use letters, digits, `-` and `_`".to_owned()),
    }
}

pub(super) fn login(arguments: &Login) -> Ended {
    let url = address(&arguments.url)?;
    let file = profile::file().map_err(Failure::usage)?;
    // Before the token is asked for: it would be typed in vain.
    let mut profiles = Profiles::load(&file).map_err(Failure::usage)?;
    let tls = arguments.tls.files()?;
    let token = token(arguments.token_file.as_deref())?;
    let profile = Profile { url, token: (!token.is_empty()).then_some(token), tls };
    let who = Client::remote(&profile)?.whoami().map_err(|failure| Failure {
        error: failure.error.context(format!("{} did not let you in, and nothing was kept", profile.url)),
        ..failure
    })?;
    say::talk(&format!("{}: {}; kept as the profile `{}`", profile.url, told(&who), arguments.profile));
    profiles.profiles.insert(arguments.profile.clone(), profile);
    profiles.save(&file)?;
    Ok(Exit::Done)
}

pub(super) fn logout(arguments: &Logout) -> Ended {
    let file = profile::file().map_err(Failure::usage)?;
    let mut profiles = Profiles::load(&file).map_err(Failure::usage)?;
    profiles.get(&arguments.profile).map_err(Failure::not_found)?;
    profiles.profiles.remove(&arguments.profile);
    profiles.save(&file)?;
    say::talk(&format!(
        "the profile `{}` is forgotten; the token is good until it is taken out of the host's configuration",
        arguments.profile
    ));
    Ok(Exit::Done)
}

pub(super) fn whoami(arguments: &WhoamiArguments) -> Ended {
    let who = client::of(&arguments.host)?.whoami()?;
    if arguments.json {
        say::json(&who)?;
    } else {
        say::data(&told(&who))?;
    }
    Ok(Exit::Done)
}

fn told(who: &Whoami) -> String {
    let handlers = match &who.handlers {
        None => String::new(),
        Some(handlers) => format!(", for the handlers {}", handlers.join(", ")),
    };
    format!("you are `{}` with the role `{}`{handlers}", who.name, who.role)
}

/// The token: out of a file, asked for without showing it, or read.
fn token(file: Option<&Path>) -> Result<String, Failure> {
    let read = |from: &mut dyn std::io::Read| {
        let mut text = String::new();
        from.take(LONGEST_TOKEN).read_to_string(&mut text).map(|_| text)
    };
    let text = match file {
        Some(path) if path != Path::new("-") => {
            let reading = || format!("reading the token from {}", path.display());
            let text = std::fs::File::open(path).and_then(|mut file| read(&mut file)).with_context(reading);
            text.map_err(Failure::usage)?
        }
        None if std::io::stdin().is_terminal() => {
            let terminal = console::Term::stderr();
            if !terminal.is_term() {
                return Err(Failure::usage(anyhow!("there is no terminal to ask for the token on: use --token-file")));
            }
            terminal.write_str("Token: ").and_then(|()| terminal.read_secure_line()).context("asking for the token")?
        }
        Some(_) | None => read(&mut std::io::stdin().lock()).context("reading the token from standard input")?,
    };
    Ok(text.trim().to_owned())
}
