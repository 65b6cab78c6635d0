//! Loading a module: each way that bytes can be wrong has its own answer, and the code cache never does harm.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidegate::handler::Handler as _;
use tidegate::outcome::Outcome;
use tidegate::sandbox::limits::Limits;
use tidegate::sandbox::{LoadError, Sandbox, SandboxOptions};
use wasmtime::Engine;

use crate::sandbox::{message, run, sandbox};
use crate::support::guests::guest;
use crate::support::modules::{answer, core_with_metadata, handler, handler_with_memory, plain};

/// What a handler exports.
const HANDLER: &str = "tidegate:events/handler@0.1.0";

/// A component that exports an interface with a `handle` without parameters, after some imports.
fn exports(interface: &str, imports: &str) -> Vec<u8> {
    plain(&format!(
        r#"(component {imports}
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f")))
            (instance $h (export "handle" (func $f)))
            (export "{interface}" (instance $h)))"#
    ))
}

/// A core module for WASI preview 1: it writes a line to stderr and completes.
const PREVIEW1: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (data (i32.const 16) "\20\00\00\00\0c\00\00\00")
    (data (i32.const 32) "preview one\0a")
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
    (func (export "tidegate:events/handler@0.1.0#handle") (param i32) (result i32)
        (drop (call $write (i32.const 2) (i32.const 16) (i32.const 1) (i32.const 8)))
        (i32.const 1024)))"#;

#[tokio::test]
async fn each_wrong_module_has_its_own_answer() {
    let honest = guest("order");
    let noise = {
        let mut random = fastrand::Rng::with_seed(7);
        std::iter::repeat_with(|| random.u8(..)).take(10 << 20).collect::<Vec<_>>()
    };
    let mut stuffed = honest.clone();
    stuffed.extend_from_slice(&[0xff; 64]);
    let newer = exports("tidegate:events/handler@0.2.0", r#"(import "tidegate:events/state@0.2.0" (instance))"#);
    let instances = (0..70).map(|n| format!("(core instance $i{n} (instantiate $m))")).collect::<String>();
    let rows: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", Vec::new(), "the module is empty"),
        ("text", b"fn main() {}".to_vec(), "this is text, not a WebAssembly binary"),
        ("WebAssembly text", b"(module)".to_vec(), "`wat2wasm`"),
        ("noise", noise, "this is not WebAssembly"),
        ("too large", vec![0; (64 << 20) + 1], "the limit is 67108864"),
        ("cut off", honest[..honest.len() / 2].to_vec(), "the module is cut off"),
        ("cut off in the header", honest[..6].to_vec(), "the module is cut off"),
        ("rubbish behind it", stuffed, "the module is damaged"),
        (
            "compiled code",
            Engine::default().precompile_component(&honest).unwrap(),
            "this is compiled code (a `.cwasm`)",
        ),
        ("core module", plain("(module)"), "this is a core module without component metadata"),
        (
            "core module whose metadata lies",
            core_with_metadata("(module)"),
            "no component can be made of this core module",
        ),
        ("nothing exported", plain("(component)"), "does not export `tidegate:events/handler@0.1.0`"),
        ("something else exported", exports("wasi:cli/run@0.2.0", ""), "it exports `wasi:cli/run@0.2.0`"),
        (
            "a newer contract",
            newer,
            "exports `tidegate:events/handler@0.2.0` and this host calls `tidegate:events/handler@0.1.0`",
        ),
        (
            "no function",
            plain(&format!(r#"(component (instance $i) (export "{HANDLER}" (instance $i)))"#)),
            "no function `handle`",
        ),
        ("another type", exports(HANDLER, ""), "is not of the type in `wit/`"),
        (
            "ungranted import",
            exports(HANDLER, r#"(import "wasi:http/types@0.2.0" (instance)) (import "my:own/thing" (instance))"#),
            "imports `wasi:http/types@0.2.0`, which its handler is not granted: it needs `hosts = [\"https://api.example.com\"]` \
             in the configuration; and `my:own/thing`, which this host does not grant to handlers: remove what uses it",
        ),
        (
            "ungranted buckets and values",
            exports(
                HANDLER,
                r#"(import "wasi:keyvalue/store@0.2.0-draft2" (instance)) (import "wasi:config/store@0.2.0-rc.1" (instance))
                   (import "wasi:keyvalue/atomics@0.2.0-draft2" (instance))"#,
            ),
            "imports `wasi:keyvalue/store@0.2.0-draft2`, `wasi:keyvalue/atomics@0.2.0-draft2`, which its handler is not granted: \
             it needs `buckets.NAME = { broker = \"BROKER\" }` in the configuration; and `wasi:config/store@0.2.0-rc.1`, which its \
             handler is not granted: it needs `config.NAME = \"value\"`, or `secrets.NAME = { env = \"VARIABLE\" }`, in the \
             configuration",
        ),
        (
            "granted import of another type",
            exports(HANDLER, r#"(import "tidegate:events/log@0.1.0" (instance (export "write" (func))))"#),
            "the module's imports do not fit this host",
        ),
        ("memory", handler_with_memory("2000", "", "(i32.const 1024)"), "raise `limits.memory`"),
        ("instances", plain(&format!("(component (core module $m) {instances})")), "too complex"),
        ("64-bit memory", plain("(component (core module $m (memory i64 1)))"), "a feature that is not enabled"),
    ];
    for (name, bytes, expected) in rows {
        let error = sandbox().load(bytes, name, &Limits::default()).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{name}: {error}: {error:?}");
    }
}

#[tokio::test]
async fn a_flipped_bit_is_refused_or_stays_in_the_sandbox() {
    let honest = guest("order");
    let seed = 20_260;
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    // Small fuel: a flipped bit may well make a loop.
    let limits = Limits { fuel: std::num::NonZeroU64::new(10_000_000), ..Limits::default() };
    let mut refused = 0;
    for _ in 0..24 {
        let mut bytes = honest.clone();
        let place = random.usize(..bytes.len());
        bytes[place] ^= 1 << random.u8(..8);
        // Without the cache: each is seen once.
        match plain_sandbox(None).load(bytes, "flipped", &limits).await {
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
            Ok(version) => drop(run(&version, &message("any", "{}")).await),
        }
    }
    assert!(refused > 0, "no flip was noticed");
}

/// A module of a hundred thousand functions, which takes the compiler long.
pub(crate) fn bomb() -> Vec<u8> {
    handler(&"(func (drop (i32.const 1)))".repeat(100_000), &answer(""))
}

#[tokio::test]
async fn a_hundred_thousand_functions_compile_or_run_out_of_time() {
    let bytes = bomb();
    let options = SandboxOptions { compile_timeout: Duration::from_millis(1), ..SandboxOptions::default() };
    let impatient = Sandbox::new(options).unwrap();
    let error = impatient.load(bytes.clone(), "bomb", &Limits::default()).await.unwrap_err();
    assert!(matches!(error, LoadError::CompileTimeout { .. }), "{error:?}");
    let version = sandbox().load(bytes, "bomb", &Limits::default()).await.unwrap();
    assert_eq!(run(&version, &message("any", "")).await.outcome, Outcome::Completed(Vec::new()));
}

fn plain_sandbox(cache_dir: Option<&Path>) -> Arc<Sandbox> {
    let cache_dir = cache_dir.map(Path::to_owned);
    Sandbox::new(SandboxOptions { cache_dir, ..SandboxOptions::default() }).unwrap()
}

/// The files under a directory that end so.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let all = entries.flat_map(|path| if path.is_dir() { files(&path, "") } else { vec![path] });
    all.filter(|path| path.to_str().unwrap().ends_with(ending)).collect()
}

async fn completes(sandbox: &Sandbox) {
    let version = sandbox.load(handler("", &answer("")), "cached", &Limits::default()).await.unwrap();
    assert_eq!(run(&version, &message("any", "")).await.outcome, Outcome::Completed(Vec::new()));
}

#[tokio::test]
async fn compiled_code_is_kept_and_a_damaged_entry_is_compiled_anew() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("code");
    completes(&plain_sandbox(Some(&cache))).await;
    assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
    let [code] = files(&cache, ".cwasm").try_into().unwrap();
    assert_eq!(files(&cache, ".tmp"), Vec::<PathBuf>::new());
    let written = fs::metadata(&code).unwrap().modified().unwrap();
    completes(&plain_sandbox(Some(&cache))).await;
    assert_eq!(fs::metadata(&code).unwrap().modified().unwrap(), written, "it was taken from the cache");

    let whole = fs::read(&code).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    for bytes in [damaged, whole[..100].to_vec(), Vec::new()] {
        fs::write(&code, bytes).unwrap();
        completes(&plain_sandbox(Some(&cache))).await;
        assert_eq!(fs::read(&code).unwrap().len(), whole.len(), "it was written anew");
    }
}

#[tokio::test]
async fn a_cache_that_others_can_enter_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("code");
    fs::create_dir(&cache).unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o750)).unwrap();
    completes(&plain_sandbox(Some(&cache))).await;
    assert_eq!(files(&cache, ""), Vec::<PathBuf>::new());

    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&cache, &link).unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o700)).unwrap();
    completes(&plain_sandbox(Some(&link))).await;
    assert_eq!(files(&cache, ""), Vec::<PathBuf>::new(), "a link is not followed");

    completes(&plain_sandbox(Some(&dir.path().join("a file/code")))).await;
}

#[tokio::test]
async fn the_digest_is_that_of_the_bytes() {
    use sha2::Digest as _;
    let bytes = guest("order");
    let expected = hex::encode(sha2::Sha256::digest(&bytes));
    let version = sandbox().load(bytes, "order", &Limits::default()).await.unwrap();
    assert_eq!(version.digest(), expected);
}

#[tokio::test]
async fn a_core_module_with_metadata_runs_as_the_component_it_is_wrapped_to() {
    use sha2::Digest as _;
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("code");
    let bytes = guest("order_core");
    assert_eq!(&bytes[4..8], [1, 0, 0, 0], "it is a core module");
    let digest = hex::encode(sha2::Sha256::digest(&bytes));
    let component = sandbox().load(guest("order"), "order", &Limits::default()).await.unwrap();
    let mut written = None;
    for _ in 0..2 {
        let version = plain_sandbox(Some(&cache)).load(bytes.clone(), "core", &Limits::default()).await.unwrap();
        assert_eq!((version.digest(), version.size()), (digest.as_str(), bytes.len()), "what was uploaded");
        for body in [r#"{"id":"1","customer":"c","currency":"EUR","lines":[],"total_cents":0}"#, "no order"] {
            let (one, other) =
                (run(&version, &message("any", body)).await, run(&component, &message("any", body)).await);
            assert_eq!(one.outcome, other.outcome);
        }
        let [code] = files(&cache, ".cwasm").try_into().unwrap();
        let modified = fs::metadata(&code).unwrap().modified().unwrap();
        assert_eq!(*written.get_or_insert(modified), modified, "the second time it was taken from the cache");
    }
}

#[tokio::test]
async fn a_core_module_for_preview_1_gets_the_adapter_and_no_more_than_others() {
    let version = sandbox().load(core_with_metadata(PREVIEW1), "preview1", &Limits::default()).await.unwrap();
    let ended = run(&version, &message("any", "")).await;
    assert_eq!(ended.outcome, Outcome::Completed(Vec::new()));
    let lines = ended.logs.iter().map(|line| line.text.as_str()).collect::<Vec<_>>();
    assert_eq!(lines, ["preview one"]);
    let imports = version.imports().filter(|import| !import.starts_with("tidegate:")).collect::<Vec<_>>();
    assert!(!imports.is_empty() && imports.iter().all(|import| import.contains("@0.2.")), "{imports:?}");

    let stranger = PREVIEW1.replace("fd_write", "fd_teleport");
    let error = sandbox().load(core_with_metadata(&stranger), "stranger", &Limits::default()).await.unwrap_err();
    assert!(matches!(error, LoadError::Wrap { .. }), "{error:?}");
    assert!(format!("{error:?}").contains("fd_teleport"), "{error:?}");
}

/// A sandbox whose one place to compile is held by a module that ran out of its time.
async fn with_its_one_compiler_at_work(cache_dir: Option<PathBuf>) -> Arc<Sandbox> {
    let options = SandboxOptions {
        cache_dir,
        compile_timeout: Duration::from_millis(1),
        compile_threads: std::num::NonZeroU32::MIN,
        ..SandboxOptions::default()
    };
    let sandbox = Sandbox::new(options).unwrap();
    let error = sandbox.load(bomb(), "bomb", &Limits::default()).await.unwrap_err();
    assert!(matches!(error, LoadError::CompileTimeout { .. }), "{error:?}");
    sandbox
}

/// The story: two slow modules were being compiled, and a rollback to a version that had been compiled long ago waited for them
/// for two minutes, and was refused.
#[tokio::test]
async fn what_was_compiled_before_waits_for_none_that_is_being_compiled() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("code");
    completes(&plain_sandbox(Some(&cache))).await;
    let sandbox = with_its_one_compiler_at_work(Some(cache)).await;
    completes(&sandbox).await;
    let error = sandbox.load(guest("order"), "order", &Limits::default()).await.unwrap_err();
    assert!(matches!(error, LoadError::CompilerBusy { .. }), "the place is still held: {error:?}");
}

/// One that ran out of its time cannot be stopped: it keeps its place, and who comes behind it is told so.
#[tokio::test]
async fn a_module_that_takes_too_long_to_compile_holds_one_place_at_the_most() {
    let sandbox = with_its_one_compiler_at_work(None).await;
    let error = sandbox.load(guest("order"), "order", &Limits::default()).await.unwrap_err();
    assert!(matches!(error, LoadError::CompilerBusy { .. }), "{error:?}");
}

/// The story: each save of a session of work left its compiled code, until the disk was full.
#[tokio::test]
async fn compiled_code_that_nobody_needs_goes_and_whoever_wants_it_compiles_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("code");
    let sandbox = plain_sandbox(Some(&cache));
    completes(&sandbox).await;
    let version = sandbox.load(handler("", &answer("")), "cached", &Limits::default()).await.unwrap();
    let [code] = files(&cache, ".cwasm").try_into().unwrap();
    let none = BTreeSet::new;
    sandbox.clean_cache(none(), none()).await;
    assert!(code.exists(), "it was used a moment ago, by whomever");
    // A day later. Whoever takes it uses it.
    let old = std::time::SystemTime::now() - Duration::from_secs(86_400);
    let age = || {
        for path in files(&cache, "") {
            fs::File::open(path).unwrap().set_modified(old).unwrap();
        }
    };
    age();
    sandbox.clean_cache([version.digest().to_owned()].into(), none()).await;
    assert!(code.exists(), "a version names it");
    completes(&plain_sandbox(Some(&cache))).await;
    sandbox.clean_cache(none(), none()).await;
    assert!(code.exists(), "it was taken from the cache just now");
    age();
    sandbox.clean_cache(none(), none()).await;
    assert_eq!(files(&cache, ""), Vec::<PathBuf>::new());
    assert_eq!(run(&version, &message("any", "")).await.outcome, Outcome::Completed(Vec::new()), "it still runs");
    completes(&sandbox).await;
    assert!(code.exists());
    // What was forgotten goes at once.
    sandbox.clean_cache(none(), [version.digest().to_owned()].into()).await;
    assert_eq!(files(&cache, ""), Vec::<PathBuf>::new());
    completes(&plain_sandbox(Some(&cache))).await;
}
