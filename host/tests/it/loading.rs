//! Loading a module: each way that bytes can be wrong has its own answer, and the code cache never does harm.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidegate::handler::Handler as _;
use tidegate::outcome::Outcome;
use tidegate::sandbox::limits::Limits;
use tidegate::sandbox::{LoadError, Sandbox, SandboxOptions};

use crate::sandbox::{message, run, sandbox};
use crate::support::guests::guest;
use crate::support::modules::{answer, core_with_metadata, handler, handler_with_memory, plain};

/// A component that exports `handle` without parameters.
const WRONG_TYPE: &str = r#"(component
    (core module $m (func (export "f")))
    (core instance $i (instantiate $m))
    (func $f (canon lift (core func $i "f")))
    (instance $h (export "handle" (func $f)))
    (export "tidegate:events/handler@0.1.0" (instance $h)))"#;

const CORE: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
    (func (export "tidegate:events/handler@0.1.0#handle") (param i32) (result i32) (i32.const 0)))"#;

#[tokio::test]
async fn each_wrong_module_has_its_own_answer() {
    let honest = guest("order");
    let noise = {
        let mut random = fastrand::Rng::with_seed(7);
        std::iter::repeat_with(|| random.u8(..)).take(10 << 20).collect::<Vec<_>>()
    };
    let mut stuffed = honest.clone();
    stuffed.extend_from_slice(&[0xff; 64]);
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
        ("core module", plain("(module)"), "this is a core module, not a component"),
        ("core module with metadata", core_with_metadata(CORE), "core module with component metadata"),
        ("nothing exported", plain("(component)"), "does not export `tidegate:events/handler@0.1.0`"),
        ("another type", plain(WRONG_TYPE), "is not of the type in `wit/`"),
        (
            "ungranted import",
            plain(r#"(component (import "wasi:http/types@0.2.0" (instance)) (import "my:own/thing" (instance)))"#),
            "imports `wasi:http/types@0.2.0`, which this host does not grant to handlers: remove what uses it; also my:own/thing",
        ),
        (
            "granted import of another type",
            plain(r#"(component (import "tidegate:events/log@0.1.0" (instance (export "write" (func)))))"#),
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

#[tokio::test]
async fn a_hundred_thousand_functions_compile_or_run_out_of_time() {
    let functions = "(func (drop (i32.const 1)))".repeat(100_000);
    let bytes = handler(&functions, &answer(""));
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
