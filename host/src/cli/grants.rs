//! What a version is granted, a line each, for people.

use super::table::{cut, harmless};
use crate::registry::Settings;

/// A value is shown so far: it may be a whole certificate.
const VALUE_CHARS: usize = 60;

/// The grants, in the order in which the configuration is described.
pub(super) fn lines(settings: &Settings) -> Vec<String> {
    let Settings { limits: _, outputs, config, secrets, buckets, hosts } = settings;
    let outputs = outputs.iter().map(|(name, to)| format!("output {name}: {} ({})", to.subject, to.broker));
    let values = config.iter().map(|(name, value)| format!("value {name} = {}", cut(value, VALUE_CHARS)));
    let secrets = secrets.iter().map(|(name, from)| format!("secret {name} from {from}"));
    let buckets =
        buckets.iter().map(|(name, to)| format!("bucket {name}: {} ({}), {}", to.bucket, to.broker, to.access.name()));
    let hosts = hosts.iter().map(|host| format!("host {host}"));
    let all = outputs.chain(values).chain(secrets).chain(buckets).chain(hosts);
    all.map(|line| harmless(&line).replace('\n', " ")).collect()
}
