//! Which imports a handler may have: our contract's and its own contract's, and WASI with nothing behind it.

use super::contract::Contract;

/// Interfaces that are linked, without their version; the linker checks version and types.
const INTERFACES: [&str; 31] = [
    "tidegate:events/types",
    "tidegate:events/log",
    "tidegate:events/delivery",
    "tidegate:events/metrics",
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

/// Whether an import, by its full name, is granted to handlers of a contract.
pub(super) fn is_granted(import: &str, contract: Contract) -> bool {
    let interface = import.split_once('@').map_or(import, |(interface, _version)| interface);
    INTERFACES.contains(&interface) || of_contract(contract).contains(&interface)
}
