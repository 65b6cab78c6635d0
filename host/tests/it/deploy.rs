//! Deploying to a host: what is refused changes nothing, what is replaced goes, and a start finds what was deployed.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tidegate::broker::lease::Lease;
use tidegate::config::Config;
use tidegate::deploy::report::{Done, Failed, Line, Step, VersionState};
use tidegate::deploy::{DeployError, Deployments, Provenance};
use tidegate::dispatch::Deployed;
use tidegate::handler::{Call, Effects, Run};
use tidegate::message::{Headers, Message};
use tidegate::outcome::Outcome;
use tidegate::registry::{Digest, RegistryError, RolloutPlan};
use tidegate::sandbox::{Sandbox, SandboxOptions};
use tidegate::telemetry::Metrics;
use tokio::time::Instant;

use crate::broker_contract::eventually;
use crate::chaos::ledger;
use crate::embedded_disk::SmallDisk;
use crate::sandbox::sandbox;
use crate::support::guests::guest;
use crate::support::modules::{answer, handler, handler_with_memory, plain};
use crate::warm::{mapped, slots_made_ready};

mod held;
mod secrets;

/// A host's data, and its handler `h`.
struct Place {
    directory: tempfile::TempDir,
    /// The handler's entry in the configuration.
    entry: String,
}

impl Place {
    fn new(entry: &str) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), entry: entry.to_owned() }
    }

    async fn try_open(&self) -> Result<Arc<Deployments>, DeployError> {
        open(&self.directory.path().join("data"), self.directory.path(), &self.entry).await
    }

    async fn open(&self) -> Arc<Deployments> {
        self.try_open().await.unwrap()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.directory.path().join(name), bytes).unwrap();
    }

    fn files(&self, folder: &str) -> Vec<String> {
        files(&self.directory.path().join("data"), folder)
    }
}

async fn open(data: &Path, beside: &Path, entry: &str) -> Result<Arc<Deployments>, DeployError> {
    let text = format!(
        "[host]\ndata_dir = \"{}\"\n[registry]\nkeep_versions = 4\n[brokers.q]\ntype = \"embedded\"\n[handlers.h]\n{entry}\n",
        data.display()
    );
    let config = Config::from_text(&beside.join("tidegate.toml"), text, &[]).unwrap();
    Deployments::open(&config, sandbox(), Arc::new(Metrics::new())).await
}

fn files(data: &Path, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(data.join("registry").join(folder)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

async fn try_deploy(host: &Arc<Deployments>, module: &[u8], expected: Option<&Digest>) -> Result<Line, DeployError> {
    let mut upload = host.upload("h", "me", Some(module.len() as u64)).await?;
    for piece in module.chunks(64 << 10) {
        upload.write(piece).await?;
    }
    let provenance = Provenance { by: "me".into(), source: "a test".into() };
    let mut lines = upload.deploy(provenance, expected).await?;
    let mut last = None;
    while let Some(line) = lines.recv().await {
        last = Some(line);
    }
    Ok(last.expect("a deploy says how it ended"))
}

async fn deploy(host: &Arc<Deployments>, module: &[u8]) -> Done {
    match try_deploy(host, module, None).await.unwrap() {
        Line::Done(done) => *done,
        other => panic!("{other:?}"),
    }
}

/// Deploys a canary.
async fn try_it(host: &Arc<Deployments>, module: &[u8]) {
    let plan = RolloutPlan::Canary { share: "5%".parse().unwrap(), promote_after: None };
    let mut upload = host.upload("h", "me", None).await.unwrap().tried(plan).unwrap();
    upload.write(module).await.unwrap();
    until_deployed(upload.deploy(Provenance { by: "me".into(), source: "a test".into() }, None).await.unwrap()).await;
}

async fn refused(host: &Arc<Deployments>, module: &[u8]) -> Failed {
    match try_deploy(host, module, None).await.unwrap() {
        Line::Failed(failed) => failed,
        other => panic!("{other:?}"),
    }
}

fn active(host: &Deployments) -> Arc<Deployed> {
    host.slot("h").unwrap().active().unwrap()
}

fn message(subject: &str, body: &str) -> Message {
    Message {
        id: "m-1".into(),
        subject: subject.into(),
        headers: Headers::default(),
        body: body.to_owned().into(),
        sequence: 1,
        published_at: SystemTime::now(),
    }
}

async fn run(version: &Deployed, message: &Message) -> Run {
    let lease = Lease::until(Instant::now() + Duration::from_secs(60));
    let (subscription, effects) = ("s", Effects::Real);
    let call = Call {
        message,
        subscription,
        attempt: 1,
        max_attempts: None,
        previous_failure: None,
        lease: &lease,
        effects,
        keeps_spans: false,
    };
    version.handler.handle(call).await
}

#[tokio::test]
async fn what_fails_any_step_changes_nothing() {
    let place = Place::new(
        "limits.fuel = 1_000_000\nlimits.memory = \"8MiB\"\ngolden = \"golden\"\noutputs.done = { broker = \"q\", subject = \"d\" }",
    );
    std::fs::create_dir(place.directory.path().join("golden")).unwrap();
    place.write(
        "golden/a.json",
        r#"{"subject":"a","id":"m-1","expect":{"outcome":"completed","outputs":[{"to":"done","body":"m-1"}]}}"#,
    );
    let host = place.open().await;
    assert_eq!(deploy(&host, &ledger(1)).await.version, 1);
    let before = (host.show("h").await.unwrap().versions, place.files("modules"), active(&host));
    let rows: Vec<(&str, Vec<u8>, Step, &str)> = vec![
        ("nothing", Vec::new(), Step::Validate, "the module is empty"),
        ("text", b"fn main() {}".to_vec(), Step::Validate, "not a WebAssembly binary"),
        ("compiled code", b"\x7fELF and more".to_vec(), Step::Validate, "WebAssembly"),
        ("cut off", ledger(1)[..10_000].to_vec(), Step::Validate, "cut off"),
        ("nothing exported", plain("(component)"), Step::Imports, "handler"),
        (
            "an import without a grant",
            plain(r#"(component (import "wasi:http/types@0.2.0" (instance)))"#),
            Step::Imports,
            "",
        ),
        ("too much memory", handler_with_memory("200", "", "(i32.const 1024)"), Step::Imports, "limits.memory"),
        (
            "a loop at its start",
            handler("(func $spin (loop $again (br $again))) (start $spin)", &answer("")),
            Step::Init,
            "out-of-fuel",
        ),
        (
            "a trap at its start",
            handler("(func $fall unreachable) (start $fall)", &answer("")),
            Step::Init,
            "trap:unreachable",
        ),
        ("other answers", guest("order"), Step::Golden, "1 of 1 golden messages"),
    ];
    for (name, module, step, said) in rows {
        let failed = refused(&host, &module).await;
        assert_eq!(failed.step, step, "{name}: {failed:?}");
        assert!(failed.message.contains(said), "{name}: {failed:?}");
        let history = host.show("h").await.unwrap().history;
        assert_eq!((history[0].event.as_str(), history[0].who.as_str()), ("refused", "me"), "{name}");
    }
    let view = host.show("h").await.unwrap();
    assert_eq!(view.versions, before.0);
    assert!(Arc::ptr_eq(&active(&host), &before.2));
    // The module that was refused last is collected when its deploy has ended.
    crate::support::until("what was refused is collected", Duration::from_secs(20), || {
        place.files("modules") == before.1
    });
    assert!(place.files("incoming").is_empty());
    assert_eq!(deploy(&host, &ledger(2)).await.version, 2, "and the next one is deployed");
}

#[tokio::test]
async fn one_deploys_to_a_handler_at_a_time() {
    let host = Place::new("");
    let host = (host.open().await, host);
    let (host, _place) = host;
    let first = host.upload("h", "ann", None).await.unwrap();
    let error = host.upload("h", "bob", None).await.err().unwrap();
    assert_eq!(error.code(), "deploy-in-progress");
    assert!(error.to_string().contains("`ann` deploys to handler `h` since"), "{error}");
    drop(first);
    // The same module twice at once: one of them is told, the other one runs.
    let module = ledger(1);
    let (one, two) = tokio::join!(try_deploy(&host, &module, None), try_deploy(&host, &module, None));
    let ended: Vec<_> = [one, two].into_iter().map(|ended| ended.map_err(|error| error.code())).collect();
    let done = ended.iter().filter(|ended| matches!(ended, Ok(Line::Done(_)))).count();
    let told = ended.iter().filter(|ended| matches!(ended, Err("deploy-in-progress"))).count();
    assert_eq!((done, told), (1, 1), "{ended:?}");
    let again = deploy(&host, &module).await;
    assert_eq!((again.unchanged, again.version), (true, 1));
    assert_eq!(host.show("h").await.unwrap().versions.len(), 1);
}

/// Going back was refused for as long as somebody sent or compiled a module, up to five minutes.
#[tokio::test]
async fn a_rollback_waits_for_no_deploy() {
    let place = Place::new("limits.fuel = \"unmetered\"\nlimits.timeout = \"60s\"\nlimits.max_run = \"60s\"");
    let host = place.open().await;
    deploy(&host, &ledger(1)).await;
    deploy(&host, &ledger(2)).await;
    // A module that is not whole yet: its deploy is refused when it is, for it began before.
    let mut slow = host.upload("h", "ann", None).await.unwrap();
    slow.write(&ledger(3)[..1000]).await.unwrap();
    assert_eq!(host.rollback("h", None, "ops").await.unwrap().to, 1);
    slow.write(&ledger(3)[1000..]).await.unwrap();
    let error = slow.deploy(Provenance::default(), None).await.unwrap_err();
    assert_eq!(error.code(), "superseded");
    assert!(error.to_string().contains("`ops` changed which version of handler `h` runs"), "{error}");
    // One that is whole, and spins at its start for a minute.
    let spinning = handler("(func $spin (loop $again (br $again))) (start $spin)", &answer(""));
    let mut upload = host.upload("h", "ann", None).await.unwrap();
    upload.write(&spinning).await.unwrap();
    let mut lines = upload.deploy(Provenance { by: "ann".to_owned(), ..Provenance::default() }, None).await.unwrap();
    loop {
        match lines.recv().await.unwrap() {
            Line::Step(step) if step.name == Step::Imports => break,
            Line::Step(_) => {}
            end @ (Line::Done(_) | Line::Failed(_)) => panic!("{end:?}"),
        }
    }
    assert_eq!(host.rollback("h", Some(2), "ops").await.unwrap().to, 2);
    let Some(Line::Failed(failed)) = lines.recv().await else { panic!("it was not ended") };
    assert_eq!(failed.code, "superseded", "{failed:?}");
    assert_eq!(active(&host).number, 2);
    // And the handler is free.
    assert_eq!(deploy(&host, &ledger(4)).await.version, 3);
}

#[tokio::test]
async fn a_wrong_digest_or_name_or_size_is_refused() {
    let place = Place::new("limits.module_size = \"100KiB\"");
    let host = place.open().await;
    let other = Digest::of(b"another module");
    let error = try_deploy(&host, &ledger(1), Some(&other)).await.unwrap_err();
    assert!(matches!(&error, DeployError::Registry(RegistryError::WrongDigest { expected, .. }) if *expected == other));
    let right = Digest::of(&ledger(1));
    assert!(matches!(try_deploy(&host, &ledger(1), Some(&right)).await.unwrap(), Line::Done(_)));
    for name in ["", "H", "../h", "h/../h", "h\0", "%2e%2e"] {
        assert_eq!(host.upload(name, "me", None).await.err().unwrap().code(), "no-such-handler", "{name}");
        assert_eq!(host.show(name).await.unwrap_err().code(), "no-such-handler", "{name}");
    }
    assert_eq!(host.upload("h", "me", Some(100_000_000)).await.err().unwrap().code(), "too-large");
    let mut upload = host.upload("h", "me", None).await.unwrap();
    assert_eq!(upload.write(&vec![0; 200 << 10]).await.unwrap_err().code(), "too-large");
    drop(upload);
    assert!(place.files("incoming").is_empty());
    assert_eq!(active(&host).number, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_version_is_given_back_after_its_last_run() {
    let place = Place::new("");
    let host = place.open().await;
    deploy(&host, &guest("behaviours")).await;
    let first = active(&host);
    let (gone, code) = (Arc::downgrade(&first), Arc::downgrade(&first.handler));
    let running = tokio::spawn(async move { run(&first, &message("probe.sleep", "5000")).await });
    // Two replaced versions stay ready; the first one is beyond them now.
    for number in 1..=3 {
        deploy(&host, &ledger(number)).await;
    }
    assert_eq!(gone.strong_count(), 1, "only the run keeps it");
    let Outcome::Rejected(reason) = running.await.unwrap().outcome else { panic!("the run on the old version") };
    assert_eq!(reason.detail.as_deref(), Some("slept"), "it ran to its end");
    assert!(gone.upgrade().is_none() && code.upgrade().is_none());
    let states: Vec<_> = host.show("h").await.unwrap().versions.iter().map(|version| version.state).collect();
    assert_eq!(states, [VersionState::Active, VersionState::Loaded, VersionState::Loaded, VersionState::Kept]);
}

#[tokio::test]
async fn a_version_is_ready_for_its_messages_before_it_is_live() {
    let place = Place::new("");
    let host = place.open().await;
    // Modules that no other test has.
    for number in [7001, 7002] {
        let module = ledger(number);
        deploy(&host, &module).await;
        let ready = mapped(Digest::of(&module).as_str());
        assert!(ready.slots >= slots_made_ready(), "{number}: {ready:?}");
    }
    drop(host);
    let first = Digest::of(&ledger(7001));
    eventually("the first host has given all back", || async { mapped(first.as_str()).slots == 0 }).await;
    // One that comes out of the cache again.
    let host = place.open().await;
    let rolled = host.rollback("h", None, "me").await.unwrap();
    assert_eq!(rolled.to, 1);
    let ready = mapped(first.as_str());
    assert!(ready.slots >= slots_made_ready(), "{ready:?}");
}

#[tokio::test]
async fn the_compiled_code_of_a_version_goes_with_it() {
    let place = Place::new("");
    let cache = place.directory.path().join("code");
    let options = SandboxOptions { cache_dir: Some(cache.clone()), ..SandboxOptions::default() };
    let text = format!("[host]\ndata_dir = \"{}\"\n[handlers.h]\n", place.directory.path().join("data").display());
    let mut config = Config::from_text(&place.directory.path().join("tidegate.toml"), text, &[]).unwrap();
    config.registry.keep_versions = 2;
    let host = Deployments::open(&config, Sandbox::new(options).unwrap(), Arc::new(Metrics::new())).await.unwrap();
    for number in 7201..=7204 {
        deploy(&host, &ledger(number)).await;
    }
    let kept = || {
        let folders = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path());
        let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()));
        let code = files.filter(|path| path.extension().is_some_and(|end| end == "cwasm"));
        code.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let expected: BTreeSet<String> = [7203, 7204].map(|number| Digest::of(&ledger(number)).to_string()).into();
    eventually("the code of the others is gone", || async { kept() == expected }).await;
    assert_eq!(host.rollback("h", None, "me").await.unwrap().to, 3);
}

/// The first rollback after a restart had to load, and waited for whatever was being compiled.
#[tokio::test]
async fn after_a_start_the_version_that_a_rollback_goes_to_comes_into_memory_by_itself() {
    let place = Place::new("");
    let host = place.open().await;
    for number in [7101, 7102, 7103] {
        deploy(&host, &ledger(number)).await;
    }
    assert_eq!(host.rollback("h", None, "me").await.unwrap().to, 2);
    drop(host);
    let host = place.open().await;
    assert_eq!(active(&host).number, 2, "the start waited for nothing else");
    let states = || async {
        let versions = host.show("h").await.unwrap().versions;
        versions.iter().map(|version| version.state).collect::<Vec<_>>()
    };
    let expected = [VersionState::Kept, VersionState::Active, VersionState::Loaded];
    eventually("it is in memory", || async { states().await == expected }).await;
    let rolled = host.rollback("h", None, "me").await.unwrap();
    assert!(rolled.was_loaded && rolled.to == 1);
    let first = Digest::of(&ledger(7101));
    let ready = mapped(first.as_str());
    assert!(ready.slots >= slots_made_ready(), "it is ready for its first messages too: {ready:?}");
}

#[tokio::test]
async fn an_instance_that_waits_for_the_next_message_goes_with_its_version() {
    let place = Place::new("instances.reuse = 1000");
    let host = place.open().await;
    deploy(&host, &guest("behaviours")).await;
    let runs_before = |run: Run| match run.outcome {
        Outcome::Rejected(reason) => reason.detail.unwrap(),
        other => panic!("{other:?}"),
    };
    let probe = message("probe.state", "");
    let first = active(&host);
    assert_eq!(runs_before(run(&first, &probe).await), "0");
    assert_eq!(runs_before(run(&first, &probe).await), "1", "the instance is used again");
    deploy(&host, &ledger(1)).await;
    assert_eq!(runs_before(run(&first, &probe).await), "0", "a run that came late has a fresh one");
    assert_eq!(runs_before(run(&first, &probe).await), "0", "and leaves none behind");
    let rolled = host.rollback("h", None, "me").await.unwrap();
    assert!(rolled.was_loaded && rolled.to == 1 && rolled.from == Some(2));
    assert!(Arc::ptr_eq(&first, &active(&host)));
    assert_eq!(runs_before(run(&first, &probe).await), "0");
    assert_eq!(runs_before(run(&first, &probe).await), "1");
}

#[tokio::test]
async fn a_start_finds_what_was_deployed_and_the_configuration_deploys_what_it_changes() {
    let mut place = Place::new("module = \"h.wasm\"\noutputs.done = { broker = \"q\", subject = \"d\" }");
    place.write("h.wasm", ledger(1));
    let number_and_digest = |host: &Deployments| (active(host).number, active(host).handler.digest().to_owned());
    let digest = |number| Digest::of(&ledger(number)).to_string();
    let host = place.open().await;
    assert_eq!(number_and_digest(&host), (1, digest(1)));
    assert_eq!(host.show("h").await.unwrap().versions[0].deployed_by, "configuration");
    deploy(&host, &ledger(2)).await;
    drop(host);
    let host = place.open().await;
    assert_eq!(number_and_digest(&host), (2, digest(2)), "an unchanged configuration changes nothing");
    drop(host);
    place.write("h.wasm", ledger(3));
    let host = place.open().await;
    assert_eq!(number_and_digest(&host), (3, digest(3)), "another file is another version");
    deploy(&host, &ledger(4)).await;
    drop(host);
    // No output is granted any more: another version of what runs, not of the file.
    place.entry = "module = \"h.wasm\"".to_owned();
    let host = place.open().await;
    assert_eq!(number_and_digest(&host), (5, digest(4)));
    assert!(active(&host).grants.is_empty());
    let error = host.rollback("h", Some(4), "me").await.unwrap_err();
    assert_eq!(error.code(), "not-granted", "{error}");
    assert!(error.to_string().contains("(output done)"), "{error}");
    drop(host);
    std::fs::remove_file(place.directory.path().join("h.wasm")).unwrap();
    let host = place.open().await;
    assert_eq!(number_and_digest(&host), (5, digest(4)), "a file that is gone is not missed");
    let kept: Vec<u64> = host.show("h").await.unwrap().versions.iter().map(|version| version.number).collect();
    assert_eq!(kept, [5, 4, 3, 2], "the newest four");
    assert_eq!(host.rollback("h", Some(1), "me").await.unwrap_err().code(), "no-such-version");
    drop(host);

    let empty = Place::new("module = \"h.wasm\"");
    let error = empty.try_open().await.err().unwrap();
    assert_eq!(error.code(), "module-unreadable", "{error}");
    empty.write("h.wasm", "not a module");
    let error = empty.try_open().await.err().unwrap();
    assert!(error.chain().contains("h.wasm: this is text"), "{}", error.chain());
}

/// One is prepared after the other: a deploy that ended meanwhile was looked at as it had been before.
#[tokio::test]
async fn what_is_prepared_is_held_against_what_was_deployed_meanwhile() {
    let place = Place::new("module = \"a.wasm\"");
    place.write("a.wasm", handler("", &answer("")));
    // As many as are prepared at once come before the one that is deployed to.
    let handlers = |limits: &str| -> String {
        let names = (0..8).map(|number| format!("before-{number}")).chain(["h".to_owned()]);
        names.map(|name| format!("[handlers.{name}]\nmodule = \"a.wasm\"\n{limits}\n")).collect()
    };
    let config = |limits: &str| {
        let directory = place.directory.path();
        let text = format!("[host]\ndata_dir = \"{}\"\n{}", directory.join("data").display(), handlers(limits));
        Config::from_text(&directory.join("tidegate.toml"), text, &[]).unwrap()
    };
    let host = Deployments::open(&config(""), sandbox(), Arc::new(Metrics::new())).await.unwrap();
    let after = config("limits.host_calls = 7777").handlers;
    let outlook = host.outlook(&after).await.unwrap();
    assert_eq!(outlook.replaces.len(), 9);
    let change = host.prepare(&after, "ann").await.unwrap();
    assert!(change.is_as_shown(&outlook));
    drop(change);

    let mut prepare = Box::pin(host.prepare(&after, "ann"));
    // From when the first is held the records have been read; nobody goes on with it while the deploy ends.
    while host.list().await.unwrap()[0].deploying.is_none() {
        let is_under_way = poll_fn(|context| Poll::Ready(prepare.as_mut().poll(context).is_pending())).await;
        assert!(is_under_way, "it is held until it is committed");
    }
    assert_eq!(deploy(&host, &handler("(func $other)", &answer(""))).await.version, 2);
    let change = prepare.await.unwrap();
    assert!(!change.is_as_shown(&outlook), "version 2 was not shown");
}

#[tokio::test]
async fn a_damaged_module_is_not_run_and_a_deploy_mends_it() {
    let place = Place::new("");
    let host = place.open().await;
    deploy(&host, &ledger(1)).await;
    drop(host);
    let [name] = <[String; 1]>::try_from(place.files("modules")).unwrap();
    let path = place.directory.path().join("data/registry/modules").join(&name);
    let mut bytes = ledger(1);
    bytes[5000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let host = place.open().await;
    assert!(host.slot("h").unwrap().active().is_none(), "nothing runs");
    let trouble = host.show("h").await.unwrap().trouble.unwrap();
    assert!(trouble.contains("is damaged") && trouble.contains(".damaged"), "{trouble}");
    let [listed] = host.list().await.unwrap().try_into().unwrap();
    assert_eq!((listed.active, listed.trouble), (None, Some(trouble)), "the list says what runs, too");
    assert_eq!(place.files("modules"), [format!("{name}.damaged")]);
    let done = deploy(&host, &ledger(1)).await;
    assert_eq!((done.unchanged, done.version), (false, 2));
    assert_eq!(active(&host).number, 2);
    assert_eq!(host.show("h").await.unwrap().trouble, None);
    // What is in memory of it is not asked for again; the version that names the same module is whole again too.
    assert_eq!(host.rollback("h", Some(1), "me").await.unwrap().to, 1);
}

#[tokio::test]
async fn a_full_disk_is_told_and_changes_nothing() {
    let disk = SmallDisk::mount();
    let place = Place::new("");
    let data = disk.mounted.join("data");
    let host = open(&data, place.directory.path(), "").await.unwrap();
    deploy(&host, &ledger(1)).await;
    let filler = disk.mounted.join("filler");
    fill(&filler);
    for _ in 0..2 {
        let error = try_deploy(&host, &guest("behaviours"), None).await.unwrap_err();
        assert_eq!(error.code(), "disk-full", "{}", error.chain());
        assert!(error.to_string().contains("make room"), "{error}");
    }
    assert_eq!((active(&host).number, files(&data, "incoming").len(), files(&data, "modules").len()), (1, 0, 1));
    std::fs::remove_file(&filler).unwrap();
    assert_eq!(deploy(&host, &guest("behaviours")).await.version, 2);
}

/// The end of a trial was recorded first: while the disk was full, the share went on running on what was to be aborted.
#[tokio::test]
async fn a_trial_is_aborted_at_once_though_the_disk_is_full_and_that_is_recorded_when_there_is_room() {
    let disk = SmallDisk::mount();
    let place = Place::new("");
    let data = disk.mounted.join("data");
    let host = open(&data, place.directory.path(), "").await.unwrap();
    deploy(&host, &ledger(1)).await;
    try_it(&host, &ledger(2)).await;
    let slot = host.slot("h").unwrap();
    assert!(slot.trial().is_some());
    let filler = disk.mounted.join("filler");
    fill(&filler);
    let aborted = host.abort("h", None, "ann").await.unwrap();
    assert_eq!((aborted.version, aborted.active), (2, 1));
    let why = aborted.unrecorded.expect("there is no room to record it");
    assert!(why.contains("make room"), "{why}");
    assert!(slot.trial().is_none(), "no message runs on it any more");
    assert_eq!(host.abort("h", None, "ann").await.unwrap_err().code(), "no-rollout");
    let events = async || {
        let history = host.show("h").await.unwrap().history;
        history.into_iter().map(|one| format!("{} {:?} {}", one.event, one.version, one.who)).collect::<Vec<_>>()
    };
    assert!(!events().await.iter().any(|one| one.starts_with("aborted")), "it is not recorded");
    std::fs::remove_file(&filler).unwrap();
    let aborted = || async { events().await.contains(&"aborted Some(2) ann".to_owned()) };
    eventually("it is recorded", aborted).await;
    // And the next one is tried as ever.
    try_it(&host, &ledger(3)).await;
    assert!(slot.trial().is_some());
}

/// A host with a handler that is granted a secret out of a file; its configuration.
async fn with_a_secret(place: &Place) -> (Arc<Deployments>, Config) {
    place.write("token", "old");
    let text = format!(
        "[host]\ndata_dir = \"{}\"\n[brokers.q]\ntype = \"embedded\"\n[handlers.h]\n{}\n",
        place.directory.path().join("data").display(),
        place.entry
    );
    let config = Config::from_text(&place.directory.path().join("tidegate.toml"), text, &[]).unwrap();
    let host = Deployments::open(&config, sandbox(), Arc::new(Metrics::new())).await.unwrap();
    (host, config)
}

/// Begins a deploy, and waits until a step of it is done.
async fn deploy_until(host: &Arc<Deployments>, module: &[u8], step: Step) -> tokio::sync::mpsc::Receiver<Line> {
    let mut upload = host.upload("h", "me", None).await.unwrap();
    upload.write(module).await.unwrap();
    let provenance = Provenance { by: "me".into(), source: "a test".into() };
    let mut lines = upload.deploy(provenance, None).await.unwrap();
    loop {
        match lines.recv().await.unwrap() {
            Line::Step(done) if done.name == step => return lines,
            Line::Step(_) => {}
            other => panic!("before {step:?}: {other:?}"),
        }
    }
}

async fn until_deployed(mut lines: tokio::sync::mpsc::Receiver<Line>) {
    while let Some(line) = lines.recv().await {
        assert!(!matches!(line, Line::Failed(_)), "{line:?}");
    }
}

/// The secret is a pipe from here on: who reads it waits for what is written there.
fn as_a_pipe(place: &Place) -> std::path::PathBuf {
    std::fs::remove_file(place.directory.path().join("token")).unwrap();
    pipe(place, "token")
}

/// Makes a pipe: what is read from it is what is written while somebody reads.
fn pipe(place: &Place, name: &str) -> std::path::PathBuf {
    let path = place.directory.path().join(name);
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

/// Writes until nothing more can be written.
pub(crate) fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    for size in [1 << 20, 4 << 10, 1] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
    let _ = file.sync_all();
}
