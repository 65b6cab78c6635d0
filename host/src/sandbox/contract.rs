//! The contracts that a handler may be written against, and which one a module speaks.

use super::error::LoadError;

/// A contract between host and module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contract {
    /// `tidegate:events@0.1.0`, the contract in `wit/`.
    Tidegate01,
    /// `wasi:messaging@0.2.0-draft`, through an adapter.
    WasiMessaging02Draft,
    /// `wasmcloud:messaging@0.2.0`, through an adapter.
    WasmcloudMessaging02,
}

impl Contract {
    /// Every contract, the one first that is taken of a module which speaks several.
    pub const ALL: [Self; 3] = [Self::Tidegate01, Self::WasiMessaging02Draft, Self::WasmcloudMessaging02];

    /// The interface that a module exports to handle messages.
    #[must_use]
    pub const fn export(self) -> &'static str {
        match self {
            Self::Tidegate01 => "tidegate:events/handler@0.1.0",
            Self::WasiMessaging02Draft => "wasi:messaging/incoming-handler@0.2.0-draft",
            Self::WasmcloudMessaging02 => "wasmcloud:messaging/handler@0.2.0",
        }
    }

    /// The function of that interface that is called with a message.
    #[must_use]
    pub const fn function(self) -> &'static str {
        match self {
            Self::Tidegate01 | Self::WasiMessaging02Draft => "handle",
            Self::WasmcloudMessaging02 => "handle-message",
        }
    }

    /// The contract that a module speaks, by the names of its exports.
    pub(super) fn of(exports: &[String]) -> Result<Self, LoadError> {
        let spoken = |contract: &Self| exports.iter().any(|export| export == contract.export());
        if let Some(contract) = Self::ALL.into_iter().find(spoken) {
            return Ok(contract);
        }
        for contract in Self::ALL {
            let accepted = contract.export();
            if let Some(export) = exports.iter().find(|export| without_version(export) == without_version(accepted)) {
                return Err(LoadError::OtherVersion { export: shortened(export), accepted });
            }
        }
        let accepted = Self::ALL.map(|contract| format!("`{}`", contract.export())).join(" or ");
        Err(LoadError::MissingExport { accepted, exports: named(exports) })
    }
}

fn without_version(name: &str) -> &str {
    name.split_once('@').map_or(name, |(interface, _version)| interface)
}

/// Names of exports or imports as a phrase. A module chooses how many there are, and how long each is.
pub(super) fn named(names: &[String]) -> String {
    const NAMES: usize = 8;
    let shown = names.iter().take(NAMES).map(|name| format!("`{}`", shortened(name))).collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "nothing".to_owned(),
        count if count > NAMES => format!("{shown} and {} more", count - NAMES),
        _ => shown,
    }
}

fn shortened(name: &str) -> String {
    const CHARS: usize = 100;
    name.chars().take(CHARS).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_module_that_speaks_no_contract_is_told_what_it_exports() {
        let said = |exports: &[&str]| {
            let exports = exports.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
            Contract::of(&exports).unwrap_err().to_string()
        };
        assert!(said(&[]).contains("it exports nothing"));
        assert!(said(&["wasi:cli/run@0.2.0", "a"]).contains("it exports `wasi:cli/run@0.2.0`, `a`:"));
        assert!(said(&["a"; 12]).contains("`a` and 4 more"));
        assert!(said(&[&"x".repeat(100_000)]).len() < 1000);
        let newer = said(&["tidegate:events/handler@0.2.0"]);
        assert!(newer.contains("`tidegate:events/handler@0.2.0` and this host calls"), "{newer}");
    }
}
