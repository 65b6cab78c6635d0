//! Which imports a handler may have: our contract's and its own contract's, WASI with nothing behind it, and what its
//! configuration grants.

use super::contract::Contract;
use super::granted::{Granted, Kind};

/// Interfaces that are linked, without their version; the linker checks version and types.
const INTERFACES: [&str; 33] = [
    "tidegate:events/types",
    "tidegate:events/log",
    "tidegate:events/delivery",
    "tidegate:events/metrics",
    "tidegate:events/spans",
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:logging/logging",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// What a contract of others has for publishing in mid-run. It is granted to those alone who speak it: what one of
/// ours publishes, it returns.
const fn of_contract(contract: Contract) -> &'static [&'static str] {
    match contract {
        Contract::Tidegate01 => &[],
        Contract::WasiMessaging02Draft => {
            &["wasi:messaging/types", "wasi:messaging/producer", "wasi:messaging/request-reply"]
        }
        Contract::WasmcloudMessaging02 => &["wasmcloud:messaging/types", "wasmcloud:messaging/consumer"],
    }
}

/// What is there for those who are granted something behind it.
const BY_GRANT: [(&str, Kind); 6] = [
    ("wasi:config/store", Kind::Values),
    ("wasi:keyvalue/store", Kind::Buckets),
    ("wasi:keyvalue/atomics", Kind::Buckets),
    ("wasi:keyvalue/batch", Kind::Buckets),
    ("wasi:http/types", Kind::Hosts),
    ("wasi:http/outgoing-handler", Kind::Hosts),
];

/// Why an import is not there for a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// No handler has it.
    Everywhere,
    /// The configuration grants nothing behind it.
    Ungranted(Kind),
}

/// Why an import, by its full name, is not there for a handler of a contract; `None`: it is.
pub(super) fn missing(import: &str, contract: Contract, granted: &Granted) -> Option<Missing> {
    let interface = import.split_once('@').map_or(import, |(interface, _version)| interface);
    if INTERFACES.contains(&interface) || of_contract(contract).contains(&interface) {
        return None;
    }
    match BY_GRANT.iter().find(|(by_grant, _)| *by_grant == interface) {
        Some((_, kind)) => (!granted.has(*kind)).then_some(Missing::Ungranted(*kind)),
        None => Some(Missing::Everywhere),
    }
}

impl Missing {
    /// What is said of it, after the names of imports and `which`.
    pub(super) fn help(self) -> String {
        match self {
            Self::Everywhere => "this host does not grant to handlers: remove what uses it".to_owned(),
            Self::Ungranted(kind) => {
                format!("its handler is not granted: it needs {} in the configuration", kind.example())
            }
        }
    }
}
