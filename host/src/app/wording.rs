//! What a changed configuration is shown as, before it is applied. Pure.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::admin::{Material, Tls};
use crate::apply::report::{How, NewVersion, Step};
use crate::config::{Config, Difference};
use crate::deploy::report::Change;
use crate::deploy::{Deployed, EndedTrial, Outlook};

/// A key that differs.
pub(super) fn told(difference: &Difference) -> Change {
    Change {
        what: difference.path.join("."),
        before: difference.before.clone().unwrap_or_default(),
        after: difference.after.clone().unwrap_or_default(),
    }
}

/// A version that is not tried any more.
pub(super) fn ended(ends: &EndedTrial) -> Step {
    Step { what: ends.to_string(), how: How::Ended }
}

/// A handler that runs another version.
pub(super) fn new_version(deployed: Deployed) -> NewVersion {
    let Deployed { handler, version, digest, ends: _ } = deployed;
    NewVersion { handler, version, digest }
}

/// A handler whose other version could not be sent to the cluster yet.
pub(super) fn waits_for_cluster(handler: &str, why: &str) -> String {
    format!(
        "handler `{handler}` waits for the cluster, and runs with the module, limits and grants from before until then: {why}"
    )
}

/// How the files of the listener's TLS differ from what is used of them.
pub(super) fn renewed(tls: &Tls, material: &Material) -> Option<Change> {
    let short = |fingerprint: &str| fingerprint.get(..12).unwrap_or(fingerprint).to_owned();
    let (before, after) = (short(&tls.fingerprint()), short(material.fingerprint()));
    (before != after).then(|| Change { what: "http.tls (sha256 of the files)".to_owned(), before, after })
}

/// A secret that has another value: neither is shown.
pub(super) fn read_anew(handler: &str, secret: &str) -> Change {
    let what = format!("handlers.{handler}.secrets.{secret}");
    Change { what, before: "the value that runs".to_owned(), after: "what is there now".to_owned() }
}

/// Names the configuration that runs, what the file says, the modules and certificates that it names, the versions that are
/// replaced, and what is tried and ends.
pub(super) fn digest(before: &Config, after: &Config, outlook: &Outlook, material: Option<&Material>) -> String {
    let mut text = format!("{}\0{}", before.dump(), after.dump());
    for (handler, module) in &outlook.modules {
        let module = module.as_ref().map(ToString::to_string).unwrap_or_default();
        // Writing into a string does not fail.
        let _ = write!(text, "\0{handler} {module}");
    }
    for (handler, version) in &outlook.replaces {
        let _ = write!(text, "\0{handler}@{}", version.unwrap_or_default());
    }
    for ends in &outlook.ends {
        let _ = write!(text, "\0{ends}");
    }
    if let Some(material) = material {
        let _ = write!(text, "\0{}", material.fingerprint());
    }
    hex::encode(Sha256::digest(text))
}
