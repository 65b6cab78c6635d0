//! The process that compiles one module, from its inside.
//!
//! Invariants:
//! - It ends when the host does: their pipe closes, however the host ended.
//! - What the system runs out of, it takes from this process first.

use std::io::{self, Read as _, Write as _};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::here::{NICE, be_nice};
use super::machine_code;
use super::order::{self, Order};
use crate::sandbox::engine::for_compiling;
use crate::sandbox::error::LoadError;

/// How the process ends whose host has gone. Nobody is there to see it.
const HOST_HAS_GONE: i32 = 1;

/// Compiles the one module that comes on standard input, and answers on standard output. Nothing else may be done in this
/// process: its priority is lowered, its memory limited, and it ends with the host that started it.
///
/// # Errors
/// When standard input and output are not those of a host that wants something compiled.
pub fn compile_as_told() -> io::Result<()> {
    be_nice(NICE);
    be_the_first_to_go();
    let (order, module) = Order::read(&mut io::stdin().lock())?;
    end_with_the_host()?;
    limit_memory(order.memory);
    let engine = for_compiling(order.kind).map_err(|source| LoadError::Invalid { source });
    let made = engine.and_then(|engine| machine_code(&engine, order.form, &module));
    order::answer(made, &mut io::stdout().lock())
}

/// Ends this process when the host's end of standard input is closed. The host closes it last.
fn end_with_the_host() -> io::Result<()> {
    let waits = || {
        let _ = io::stdin().lock().read(&mut [0]);
        std::process::exit(HOST_HAS_GONE);
    };
    std::thread::Builder::new().name("host".into()).spawn(waits).map(drop)
}

/// Where the machine has no memory left, the kernel ends this process and not the host.
fn be_the_first_to_go() {
    let tell = || std::fs::OpenOptions::new().write(true).open("/proc/self/oom_score_adj")?.write_all(b"1000");
    // There is no such file elsewhere than on Linux; the limit holds without it.
    let _: io::Result<()> = tell();
}

fn limit_memory(bytes: u64) {
    let now = getrlimit(Resource::Data);
    let most = now.maximum.map_or(bytes, |most| most.min(bytes));
    // A limit may be lowered by anybody.
    let _ = setrlimit(Resource::Data, Rlimit { current: Some(most), maximum: Some(most) });
}
