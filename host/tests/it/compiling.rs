//! Compiling in a process of its own: what comes of it is what this process would have made, and whatever becomes of it is
//! an answer.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidegate::outcome::Outcome;
use tidegate::sandbox::limits::Limits;
use tidegate::sandbox::{CompileIn, LoadError, Sandbox, SandboxOptions};

use crate::loading::bomb;
use crate::sandbox::{message, run};
use crate::support::guests::guest;
use crate::support::modules::{answer, core_with_metadata, handler};
use crate::support::{self, until};

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");
/// A line of a shell that is the compiler from there on.
const COMPILES: &str = concat!("exec ", env!("CARGO_BIN_EXE_tidegate"), " \"$@\"");

/// A sandbox with one place to compile.
fn apart(
    program: impl Into<PathBuf>,
    memory: Option<u64>,
    cache_dir: Option<PathBuf>,
    limit: Duration,
) -> Arc<Sandbox> {
    let options = SandboxOptions {
        cache_dir,
        compile_in: CompileIn::OwnProcess { program: program.into() },
        compile_memory: memory.and_then(NonZeroU64::new),
        compile_threads: NonZeroU32::MIN,
        compile_timeout: limit,
        ..SandboxOptions::default()
    };
    Sandbox::new(options).unwrap()
}

fn patient(program: impl Into<PathBuf>) -> Arc<Sandbox> {
    apart(program, None, None, SandboxOptions::default().compile_timeout)
}

/// A program in place of the compiler.
fn script(folder: &Path, lines: &str) -> PathBuf {
    let path = folder.join("program");
    support::script(&path, &format!("#!/bin/sh\n{lines}\n"));
    path
}

async fn refused(sandbox: &Sandbox, module: Vec<u8>) -> LoadError {
    sandbox.load(module, "refused", &Limits::default()).await.unwrap_err()
}

#[tokio::test]
async fn what_is_compiled_there_runs_here_and_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("code");
    let unmetered = Limits { fuel: None, ..Limits::default() };
    for (name, limits) in [("order", Limits::default()), ("order_core", Limits::default()), ("order", unmetered)] {
        let came_to = async |sandbox: Arc<Sandbox>| {
            let version = sandbox.load(guest(name), "order", &limits).await.unwrap();
            let body = r#"{"id":"1","customer":"c","currency":"EUR","lines":[],"total_cents":0}"#;
            let ended = run(&version, &message("any", body)).await;
            (ended.outcome, ended.usage.fuel)
        };
        // One after the other: each reserves terabytes of address space, and there is room for a few.
        let there =
            came_to(apart(TIDEGATE, None, Some(cache.clone()), SandboxOptions::default().compile_timeout)).await;
        assert_eq!(there, came_to(Sandbox::new(SandboxOptions::default()).unwrap()).await, "{name}");
        // Nobody compiles now: it comes out of the cache.
        let cached = apart("/nowhere/tidegate", None, Some(cache.clone()), Duration::from_secs(60));
        assert_eq!(there, came_to(cached).await, "{name}");
    }
}

#[tokio::test]
async fn what_cannot_be_compiled_has_the_same_answer_as_here() {
    let mut damaged = guest("order");
    damaged.extend_from_slice(&[0xff; 64]);
    let here = Sandbox::new(SandboxOptions::default()).unwrap();
    for module in [damaged, core_with_metadata("(module)")] {
        let there = anyhow::Error::from(refused(&patient(TIDEGATE), module.clone()).await);
        assert_eq!(format!("{there:#}"), format!("{:#}", anyhow::Error::from(refused(&here, module).await)));
    }
}

#[tokio::test]
async fn a_compilation_that_takes_more_memory_than_it_may_is_ended_and_the_next_one_goes_well() {
    let sandbox = apart(TIDEGATE, Some(96 << 20), None, SandboxOptions::default().compile_timeout);
    let error = refused(&sandbox, bomb()).await;
    assert!(matches!(error, LoadError::CompileMemory { limit } if limit == 96 << 20), "{error:?}");
    let version = sandbox.load(handler("", &answer("")), "small", &Limits::default()).await.unwrap();
    assert_eq!(run(&version, &message("any", "")).await.outcome, Outcome::Completed(Vec::new()));
}

/// Whether the process is there whose number is in the file.
fn lives(file: &Path) -> bool {
    let pid = std::fs::read_to_string(file).unwrap_or_default();
    !pid.trim().is_empty() && Path::new("/proc").join(pid.trim()).exists()
}

/// On threads, for one that waits for the end of a process keeps nobody from noticing that end.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_compilation_that_ran_out_of_time_or_is_not_wanted_any_more_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let hangs = script(folder.path(), &format!("echo $$ > {}; exec /bin/sleep 3600", pid.display()));
    let sandbox = apart(&hangs, None, None, Duration::from_millis(300));
    let error = refused(&sandbox, guest("order")).await;
    assert!(matches!(error, LoadError::CompileTimeout { .. }), "{error:?}");
    until("its process is gone", Duration::from_secs(30), || !lives(&pid));

    let sandbox = patient(&hangs);
    std::fs::write(&pid, "").unwrap();
    let dropped = tokio::spawn({
        let sandbox = Arc::clone(&sandbox);
        async move { sandbox.load(guest("order"), "dropped", &Limits::default()).await.map(drop) }
    });
    let begun = pid.clone();
    let waits = move || until("it compiles", Duration::from_secs(30), || lives(&begun));
    tokio::task::spawn_blocking(waits).await.unwrap();
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    until("its process is gone", Duration::from_secs(30), || !lives(&pid));
    // Its place is free: the next one waits for nobody.
    script(folder.path(), COMPILES);
    drop(sandbox.load(handler("", &answer("")), "next", &Limits::default()).await.unwrap());
}

#[tokio::test]
async fn however_the_process_ends_it_is_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [
        ("kill -9 $$", "the process that compiled the module was killed"),
        ("echo 'thread panicked: no such register' >&2; exit 101", "exit status: 101); this is a bug of the compiler"),
        ("kill -SEGV $$", "the compiler crashed over the module (signal: 11"),
        (
            "echo 'no threads left' >&2; exit 1",
            "see that the host may start its own program: exit status: 1: no threads left",
        ),
        ("echo '{\"Code\":7}'; echo short", "cannot be started or talked to"),
        ("echo '{\"Code\":1099511627776}'; cat /dev/zero", "1099511627776 bytes of machine code are more than"),
        ("cat /dev/zero", "cannot be started or talked to"),
        ("true", "cannot be started or talked to"),
        ("head -c 100000 /dev/zero >&2; echo 'no answer' ", "cannot be started or talked to"),
    ];
    for (lines, expected) in rows {
        let error = anyhow::Error::from(refused(&patient(script(folder.path(), lines)), guest("order")).await);
        assert!(format!("{error:#}").contains(expected), "{lines}: {error:#}");
    }
    let error = refused(&patient(folder.path().join("missing")), guest("order")).await;
    assert!(matches!(&error, LoadError::CompilerProcess { source } if source.raw_os_error() == Some(2)), "{error:?}");
}

/// The host may have secrets in its environment, and a module made to take the compiler over would find them.
#[tokio::test]
async fn the_process_gets_nothing_of_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let lines = format!("/usr/bin/env > {}; {COMPILES}", seen.display());
    drop(patient(script(folder.path(), &lines)).load(guest("order"), "order", &Limits::default()).await.unwrap());
    let seen = std::fs::read_to_string(seen).unwrap();
    // The shell adds its own.
    let of_the_shell = ["PWD", "OLDPWD", "SHLVL", "_"];
    let names = seen.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name);
    assert_eq!(names.filter(|name| !of_the_shell.contains(name)).collect::<Vec<_>>(), [""; 0], "{seen}");
}
