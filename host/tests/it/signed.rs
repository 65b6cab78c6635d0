//! Signed modules: what is not signed with a trusted key is not run, wherever it comes from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate::config::Config;
use tidegate::deploy::report::{Done, Failed, Line, Step};
use tidegate::deploy::{DeployError, Deployments, Provenance};
use tidegate::signature::{Signature, Signer};
use tidegate::telemetry::Metrics;

use crate::sandbox::sandbox;

/// Modules, keys and signatures, made by hand: see the README beside them.
fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/signed");
    std::fs::read(folder.join(name)).unwrap()
}

fn signature(name: &str) -> Signature {
    Signature::read(&fixture(name), name).unwrap()
}

/// The line of a public key.
fn key(name: &str) -> String {
    String::from_utf8(fixture(&format!("{name}.pub"))).unwrap().lines().nth(1).unwrap().to_owned()
}

fn release() -> Signer {
    Signer { key: "BAF329C90B5C17E4".to_owned(), name: Some("release".to_owned()) }
}

/// A host's data, with the handler `h`.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn config(&self, trusted: &[&str], handler: &str) -> Config {
        let keys: String = trusted.iter().map(|name| format!("keys.{name} = \"{}\"\n", key(name))).collect();
        let text = format!("[signatures]\n{keys}[handlers.h]\n{handler}\n");
        Config::from_text(&self.path("tidegate.toml"), text, &[]).unwrap()
    }

    /// A host that trusts these keys.
    async fn try_open(&self, trusted: &[&str], handler: &str) -> Result<Arc<Deployments>, DeployError> {
        Deployments::open(&self.config(trusted, handler), sandbox(), Arc::new(Metrics::new())).await
    }

    async fn open(&self, trusted: &[&str]) -> Arc<Deployments> {
        self.try_open(trusted, "").await.unwrap()
    }

    fn modules(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("tidegate-data/registry/modules")).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

async fn end(host: &Arc<Deployments>, module: &str, signed: Option<&str>) -> Line {
    let mut upload = host.upload("h", "me", None).await.unwrap();
    upload.write(&fixture(module)).await.unwrap();
    if let Some(signed) = signed {
        upload = upload.signed(signature(signed));
    }
    let mut lines = upload.deploy(Provenance::default(), None).await.unwrap();
    let mut last = None;
    while let Some(line) = lines.recv().await {
        last = Some(line);
    }
    last.expect("a deploy says how it ended")
}

async fn done(host: &Arc<Deployments>, module: &str, signed: Option<&str>) -> Done {
    match end(host, module, signed).await {
        Line::Done(done) => *done,
        other => panic!("{other:?}"),
    }
}

async fn refused(host: &Arc<Deployments>, module: &str, signed: Option<&str>) -> Failed {
    match end(host, module, signed).await {
        Line::Failed(failed) => failed,
        other => panic!("{other:?}"),
    }
}

async fn trouble(host: &Deployments) -> String {
    assert!(host.slot("h").unwrap().active().is_none(), "nothing runs");
    let trouble = host.show("h").await.unwrap().trouble;
    // What `/ready` says of its subscriptions.
    assert_eq!(host.trouble("h"), trouble);
    trouble.unwrap()
}

#[tokio::test]
async fn only_what_is_signed_with_a_trusted_key_is_deployed() {
    let place = Place::new();
    let host = place.open(&["release"]).await;
    let rows = [
        ("module.wasm", None, "not-signed", "minisign -S"),
        ("module.wasm", Some("module.wasm.by-other.minisig"), "untrusted-key", "EEE0E91571024205"),
        ("module.wasm", Some("second.wasm.minisig"), "wrong-signature", "does not fit this module"),
    ];
    for (module, signed, code, said) in rows {
        let failed = refused(&host, module, signed).await;
        assert_eq!((failed.step, failed.code.as_str()), (Step::Signature, code), "{failed:?}");
        assert!(failed.message.contains(said) && failed.message.contains("BAF329C90B5C17E4"), "{failed:?}");
        assert_eq!(host.show("h").await.unwrap().history[0].event, "refused");
    }
    assert!(host.slot("h").unwrap().active().is_none(), "nothing was changed");
    assert_eq!(done(&host, "module.wasm", Some("module.wasm.minisig")).await.version, 1);
    assert_eq!(host.show("h").await.unwrap().versions[0].signed_by, Some(release()));
    assert_eq!(host.list().await.unwrap()[0].active.as_ref().unwrap().signed_by, Some(release()));
    // A core module is signed as the file that it is.
    assert_eq!(done(&host, "core.wasm", Some("core.wasm.minisig")).await.version, 2);
    // The signature of a module that the registry has is known; a wrong one is refused even so, and the right one stays.
    assert!(done(&host, "core.wasm", None).await.unchanged);
    assert_eq!(refused(&host, "core.wasm", Some("module.wasm.minisig")).await.code, "wrong-signature");
    assert!(done(&host, "core.wasm", None).await.unchanged);
    assert_eq!(host.rollback("h", None, "me").await.unwrap().to, 1);
}

#[tokio::test]
async fn it_is_checked_again_at_each_start() {
    let place = Place::new();
    // Nothing is checked, and what came is kept.
    let host = place.open(&[]).await;
    assert_eq!(done(&host, "module.wasm", None).await.version, 1);
    assert_eq!(done(&host, "second.wasm", Some("second.wasm.minisig")).await.version, 2);
    drop(host);
    let host = place.open(&["release", "other"]).await;
    assert_eq!(host.slot("h").unwrap().active().unwrap().number, 2, "its signature was kept");
    // The one before is not signed, and cannot come back.
    assert_eq!(host.rollback("h", None, "me").await.unwrap_err().code(), "not-signed");
    assert_eq!(done(&host, "module.wasm", Some("module.wasm.by-other.minisig")).await.version, 3);
    drop(host);
    // The key is not trusted any more.
    let host = place.open(&["release"]).await;
    let told = trouble(&host).await;
    assert!(told.contains("signed with the key EEE0E91571024205") && told.contains("release"), "{told}");
    let shown = &host.show("h").await.unwrap().versions[0].signed_by;
    assert_eq!(*shown, Some(Signer { key: "EEE0E91571024205".to_owned(), name: None }));
    assert_eq!(done(&host, "module.wasm", Some("module.wasm.minisig")).await.version, 4, "and a deploy mends it");
    drop(host);
    let host = place.open(&["release"]).await;
    assert_eq!(host.slot("h").unwrap().active().unwrap().number, 4);
    drop(host);
    // Somebody puts another signature there, or half of one, or none.
    let names = place.modules();
    let signed: Vec<&String> = names.iter().filter(|name| name.ends_with(".minisig")).collect();
    assert_eq!(signed.len(), 2, "{names:?}");
    let changes: [(&[u8], &str); 2] = [(&fixture("core.wasm.minisig"), "does not fit"), (b"half", "is not signed")];
    for (bytes, said) in changes {
        for name in &signed {
            std::fs::write(place.path("tidegate-data/registry/modules").join(name), bytes).unwrap();
        }
        let told = trouble(&place.open(&["release"]).await.clone()).await;
        assert!(told.contains(said), "{told}");
    }
}

#[tokio::test]
async fn a_module_of_the_configuration_has_its_signature_beside_it() {
    let place = Place::new();
    let entry = "module = \"h.wasm\"";
    place.write("h.wasm", &fixture("module.wasm"));
    let error = place.try_open(&["release"], entry).await.err().unwrap();
    assert!(error.chain().contains("h.wasm: the module is not signed"), "{}", error.chain());
    place.write("h.wasm.minisig", b"not one");
    let error = place.try_open(&["release"], entry).await.err().unwrap();
    assert!(error.chain().contains("h.wasm.minisig is no signature"), "{}", error.chain());
    place.write("h.wasm.minisig", &fixture("second.wasm.minisig"));
    let error = place.try_open(&["release"], entry).await.err().unwrap();
    assert!(error.chain().contains("does not fit this module"), "{}", error.chain());
    place.write("h.wasm.minisig", &fixture("module.wasm.minisig"));
    drop(place.try_open(&["release"], entry).await.unwrap());
    // From here on the registry has both, and the files are not missed.
    std::fs::remove_file(place.path("h.wasm.minisig")).unwrap();
    let host = place.try_open(&["release"], entry).await.unwrap();
    assert_eq!(host.slot("h").unwrap().active().unwrap().number, 1);
    drop(host);
    // The key is replaced: the signature beside the file is taken up, with no new version.
    place.write("h.wasm.minisig", &fixture("module.wasm.by-other.minisig"));
    let host = place.try_open(&["other"], entry).await.unwrap();
    assert_eq!(host.slot("h").unwrap().active().unwrap().number, 1);
    let signer = host.show("h").await.unwrap().versions[0].signed_by.clone().unwrap();
    assert_eq!(signer.to_string(), "other (EEE0E91571024205)");
    drop(host);
    // Limits that change make another version of the module that is not trusted any more: it waits, and says so.
    std::fs::remove_file(place.path("h.wasm.minisig")).unwrap();
    let host = place.try_open(&["release"], &format!("{entry}\nlimits.fuel = 1000000")).await.unwrap();
    assert!(trouble(&host).await.contains("EEE0E91571024205"));
}

#[tokio::test]
async fn a_signature_goes_with_its_module() {
    let place = Place::new();
    let open = async |handler| {
        let mut config = place.config(&["release"], handler);
        config.registry.keep_versions = 1;
        Deployments::open(&config, sandbox(), Arc::new(Metrics::new())).await.unwrap()
    };
    let host = open("").await;
    done(&host, "module.wasm", Some("module.wasm.minisig")).await;
    let first = place.modules();
    assert_eq!(first.len(), 2, "{first:?}");
    done(&host, "second.wasm", Some("second.wasm.minisig")).await;
    assert_eq!(place.modules().len(), 4, "a rollback goes to the first one");
    drop(host);
    // Other limits are another version of the second module, and a rollback goes to that.
    let host = open("limits.fuel = 1000000").await;
    assert_eq!(host.slot("h").unwrap().active().unwrap().number, 3);
    let second = place.modules();
    assert!(second.len() == 2 && second.iter().all(|name| !first.contains(name)), "{second:?}");
}
