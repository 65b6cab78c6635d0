//! A host that cannot have its address, because another one or another program has it.

use std::io;

use super::client::Client;
use super::profile::TlsFiles;
use crate::config::HttpConfig;

/// The error with what can be done about it, where it is that the address is taken. `instead`: what else there is to do when a host
/// answers there, with its address in the place of `URL`.
pub(super) fn hinted(error: anyhow::Error, http: &HttpConfig, instead: &str) -> anyhow::Error {
    let is_taken = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::AddrInUse)
    };
    if http.listen.port() == 0 || !error.chain().any(is_taken) {
        return error;
    }
    let there = Client::local(http, None, &TlsFiles::default()).ok().filter(Client::is_there);
    let other = "give this one another port with TIDEGATE_HTTP__LISTEN=127.0.0.1:7172";
    match there {
        Some(there) => error.context(format!(
            "a host answers at {} already: end it, {other}{}",
            http.listen,
            instead.replace("URL", there.base())
        )),
        None => error.context(format!("another program has {}: end it, or {other}", http.listen)),
    }
}
