//! The process that compiles one module, from its inside.
//!
//! Invariants:
//! - It ends when the host does: their pipe closes, however the host ended.
//! - What the system runs out of, it takes from this process first.

use std::io::{self, Read as _, Write as _};
use std::num::NonZeroUsize;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::here::{NICE, be_nice};
use super::machine_code;
use super::order::{self, Order};
use crate::sandbox::engine::for_compiling;

/// Cores that one compilation works on at the most. Each thread's stack counts as memory, and the host has the rest.
const THREADS_AT_MOST: usize = 8;
/// How the process ends whose host has gone. Nobody is there to see it.
const HOST_HAS_GONE: i32 = 1;

/// Compiles the one module that comes on standard input, and answers on standard output. Nothing else may be done in this
/// process: its priority is lowered, its memory limited, and it ends with the host that started it.
///
/// # Errors
/// When standard input and output are not those of a host that wants something compiled, or the system gives no threads.
pub fn compile_as_told() -> io::Result<()> {
    be_nice(NICE);
    be_the_first_to_go();
    let (order, module) = Order::read(&mut io::stdin().lock())?;
    end_with_the_host()?;
    limit_memory(order.memory);
    // By name, or the first who needs them would panic where the system has no thread left.
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(THREADS_AT_MOST);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(io::Error::other)?;
    let engine = for_compiling(order.kind).map_err(io::Error::other)?;
    order::answer(machine_code(&engine, order.form, &module), &mut io::stdout().lock())
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
