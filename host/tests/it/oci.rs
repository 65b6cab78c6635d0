//! Modules to and from OCI registries: a real one, with and without a password, and ones that do wrong.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::support::guests::guest;
use crate::support::registry::{OciRegistry, USER};

mod credentials;
mod private_ca;

/// A folder with a module, and a home without credentials.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        std::fs::write(desk.path().join("order.wasm"), guest("order")).unwrap();
        desk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes what `docker login` would.
    fn log_in(&self, registry: &str, (user, password): (&str, &str)) {
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let config = json!({"auths": {registry: {"auth": auth}}});
        std::fs::create_dir_all(self.path().join(".docker")).unwrap();
        std::fs::write(self.path().join(".docker/config.json"), config.to_string()).unwrap();
    }

    /// The command, with nothing in its environment that says where credentials or authorities are.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(arguments).current_dir(self.path()).env("HOME", self.path());
        let places = ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"];
        for variable in places.into_iter().chain(["TIDEGATE_CONFIG", "SSL_CERT_FILE", "SSL_CERT_DIR"]) {
            command.env_remove(variable);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// What is said of a failure with this code; and nothing is written.
    fn refused(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(!self.path().join("m.wasm").exists(), "{arguments:?}: a failed pull writes nothing");
        told
    }
}

#[test]
fn a_module_goes_to_a_registry_and_comes_back_the_same() {
    let (desk, registry) = (Desk::new(), OciRegistry::open());
    let reference = format!("oci://{}/team/order:1.0", registry.name());
    let pushed = desk.json(&["push", "order.wasm", &reference, "--json"]);
    let pinned = pushed["reference"].as_str().unwrap();
    assert_eq!(pinned, format!("oci://{}/team/order@{}", registry.name(), pushed["digest"].as_str().unwrap()));
    for wanted in [reference.as_str(), pinned] {
        let pulled = desk.json(&["pull", wanted, "--json", "--force"]);
        assert_eq!((&pulled["file"], &pulled["reference"]), (&json!("order.wasm"), &json!(pinned)));
    }
    desk.json(&["pull", &reference, "--json", "-o", "other.wasm"]);
    assert!(std::fs::read(desk.path().join("other.wasm")).unwrap() == guest("order"));

    // A second push to the same place names what is there already.
    let again = desk.json(&["push", "order.wasm", &reference, "--json"]);
    assert_eq!(again["size"], pushed["size"]);
    desk.json(&["pull", pinned, "--json", "--force"]);

    // What lies there is what the layout says.
    let manifest = manifest_of(&registry, "team/order", "1.0");
    assert_eq!(manifest["config"]["mediaType"], json!("application/vnd.wasm.config.v0+json"));
    assert_eq!(manifest["layers"][0]["mediaType"], json!("application/wasm"));

    assert!(desk.refused(&["pull", &reference], 2).contains("order.wasm is there already"));
    let small = ["pull", &reference, "-o", "m.wasm", "--limit", "1KiB"];
    assert!(desk.refused(&small, 1).contains("the limit is 1024"));
    let absent = format!("oci://{}/team/order:2.0", registry.name());
    assert!(desk.refused(&["pull", &absent, "-o", "m.wasm"], 3).contains("it is not there (MANIFEST_UNKNOWN"));
    std::fs::write(desk.path().join("text.wasm"), "no module").unwrap();
    assert!(desk.refused(&["push", "text.wasm", &reference], 1).contains("no host would run text.wasm"));
    assert!(desk.refused(&["push", "order.wasm", pinned], 2).contains("push to a tag"));
}

/// A manifest as anybody else sees it.
fn manifest_of(registry: &OciRegistry, repository: &str, tag: &str) -> Value {
    let mut stream = TcpStream::connect(registry.name()).unwrap();
    let accept = "application/vnd.oci.image.manifest.v1+json";
    write!(
        stream,
        "GET /v2/{repository}/manifests/{tag} HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n",
        registry.name()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

#[test]
fn a_registry_with_a_password_is_used_with_what_docker_keeps() {
    let (desk, registry) = (Desk::new(), OciRegistry::with_password());
    let reference = format!("oci://{}/order", registry.name());
    let push = ["push", "order.wasm", &reference];
    let told = desk.refused(&push, 1);
    assert!(told.contains("wants to know who you are") && told.contains("docker login"), "{told}");
    desk.log_in(&registry.name(), ("ada", "guessed"));
    let told = desk.refused(&push, 1);
    assert!(told.contains("refuses your credentials") && !told.contains("guessed"), "{told}");
    desk.log_in(&registry.name(), USER);
    assert!(desk.run(&push).status.success());
    assert!(desk.run(&["pull", &reference, "-o", "back.wasm"]).status.success());
    assert!(std::fs::read(desk.path().join("back.wasm")).unwrap() == guest("order"));
    desk.log_in("elsewhere.example", USER);
    assert!(desk.refused(&["pull", &reference, "-o", "m.wasm"], 1).contains("wants to know who you are"));
}

#[test]
fn what_a_registry_changed_is_not_taken() {
    let (desk, registry) = (Desk::new(), OciRegistry::open());
    let reference = format!("oci://{}/order:1", registry.name());
    desk.json(&["push", "order.wasm", &reference, "--json"]);
    let blobs = registry.store().join("docker/registry/v2/blobs/sha256");
    let data = |digest: &str| {
        let hex = digest.strip_prefix("sha256:").unwrap();
        blobs.join(&hex[..2]).join(hex).join("data")
    };
    let layer = manifest_of(&registry, "order", "1")["layers"][0]["digest"].as_str().unwrap().to_owned();
    let mut bytes = std::fs::read(data(&layer)).unwrap();
    bytes[100] ^= 1;
    std::fs::write(data(&layer), &bytes).unwrap();
    let told = desk.refused(&["pull", &reference, "-o", "m.wasm"], 1);
    assert!(told.contains("the registry gave other bytes than the manifest says"), "{told}");
    // Cut off.
    std::fs::write(data(&layer), &bytes[..1000]).unwrap();
    desk.refused(&["pull", &reference, "-o", "m.wasm"], 1);
}

#[test]
fn a_registry_that_is_down_is_named() {
    let desk = Desk::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let told = desk.refused(&["pull", &format!("oci://127.0.0.1:{port}/a"), "-o", "m.wasm"], 1);
    assert!(
        told.contains(&format!("the registry 127.0.0.1:{port} cannot be reached at http://127.0.0.1:{port}")),
        "{told}"
    );
    assert!(desk.refused(&["pull", "registry.example/a"], 2).contains("expected oci://REGISTRY"));
}

/// Status, headers and body.
type Answer = (u16, Vec<(&'static str, String)>, String);

/// A registry that answers as a test says, by method and path with the `Authorization` that came; kept until the program
/// ends, with the lines of the requests that it got.
fn pretending(
    answer: impl Fn(&str, Option<&str>, &str) -> Answer + Send + 'static,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = listener.local_addr().unwrap().to_string();
    let (seen, own) = (Arc::new(Mutex::new(Vec::new())), name.clone());
    let log = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let Some(first) = lines.next() else { continue };
            let headers: HashMap<String, String> = lines
                .take_while(|line| !line.is_empty())
                .filter_map(|line| {
                    line.split_once(": ").map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned()))
                })
                .collect();
            log.lock().unwrap().push(first.clone());
            let request = first.rsplit_once(' ').unwrap().0;
            let (status, headers, body) = answer(request, headers.get("authorization").map(String::as_str), &own);
            let headers: String = headers.iter().map(|(key, value)| format!("{key}: {value}\r\n")).collect();
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    (name, seen)
}

#[test]
fn a_token_is_asked_for_where_the_registry_says() {
    let desk = Desk::new();
    let (name, seen) = pretending(|request, authorization, own| match (request, authorization) {
        (token, Some("Basic YWRhOm9wZW4gc2VzYW1l")) if token.starts_with("GET /token?") => {
            (200, vec![], json!({"token": "t0"}).to_string())
        }
        ("GET /v2/a/manifests/latest", Some("Bearer t0")) => (404, vec![], "{}".to_owned()),
        _ => {
            let challenge = format!("Bearer realm=\"http://{own}/token\",service=\"r\",scope=\"repository:a:pull\"");
            (401, vec![("WWW-Authenticate", challenge)], "{}".to_owned())
        }
    });
    desk.log_in(&name, USER);
    let told = desk.refused(&["pull", &format!("oci://{name}/a"), "-o", "m.wasm"], 3);
    assert!(told.contains("getting a:latest: it is not there"), "{told}");
    let token = seen.lock().unwrap()[1].clone();
    assert!(token.contains("service=r") && token.contains("scope=repository"), "{token}");
}

#[test]
fn what_is_no_module_is_named_as_what_it_is() {
    let desk = Desk::new();
    let index = "application/vnd.oci.image.index.v1+json";
    let (name, _) = pretending(move |_, _, _| (200, vec![("Content-Type", index.to_owned())], "{}".to_owned()));
    let told = desk.refused(&["pull", &format!("oci://{name}/a:1"), "-o", "m.wasm"], 1);
    assert!(told.contains("is no module") && told.contains(index), "{told}");
    // A manifest under a digest that is not its own.
    let (name, _) = pretending(|_, _, _| (200, vec![], "{}".to_owned()));
    let pinned = format!("oci://{name}/a@sha256:{}", "0".repeat(64));
    let told = desk.refused(&["pull", &pinned, "-o", "m.wasm"], 1);
    assert!(told.contains("the registry gave another manifest than sha256:000"), "{told}");
}

/// What a registry has is not sent to it again: only the manifest is, which gives it the tag.
#[test]
fn a_second_push_sends_no_module() {
    let desk = Desk::new();
    let (name, seen) = pretending(|request, _, _| match request {
        there if there.starts_with("HEAD /v2/a/blobs/sha256:") => (200, vec![], String::new()),
        "PUT /v2/a/manifests/1" => (201, vec![], String::new()),
        other => (500, vec![], other.to_owned()),
    });
    desk.json(&["push", "order.wasm", &format!("oci://{name}/a:1"), "--json"]);
    let methods: Vec<String> =
        seen.lock().unwrap().iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(methods, ["HEAD", "HEAD", "PUT"], "the module and its config are asked for, and the manifest is stored");
}

/// A host with a handler `h` that waits for its first module.
fn host_in(desk: &Desk, more: &str) -> Killed {
    let port = crate::support::ports::free_port();
    let text = format!("[http]\nlisten = \"127.0.0.1:{port}\"\n[brokers.q]\ntype = \"embedded\"\n[handlers.h]\n{more}");
    std::fs::write(desk.path().join("tidegate.toml"), text).unwrap();
    let mut host = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    host.arg("run").current_dir(desk.path()).env_remove("TIDEGATE_CONFIG").stderr(std::process::Stdio::null());
    let host = Killed(host.spawn().unwrap());
    crate::support::until("the host listens", std::time::Duration::from_secs(60), || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    host
}

#[test]
fn a_module_is_deployed_out_of_a_registry() {
    let (desk, registry) = (Desk::new(), OciRegistry::open());
    let host = host_in(&desk, "");
    let reference = format!("oci://{}/team/order:1.0", registry.name());
    let pushed = desk.json(&["push", "order.wasm", &reference, "--json"]);
    let done = desk.json(&["deploy", &reference, "--handler", "h", "--json"]);
    assert_eq!((&done["version"], &done["unchanged"]), (&json!(1), &json!(false)));
    // Where it came from is kept with the digest of the manifest, whatever the tag says later.
    let shown = desk.json(&["handlers", "show", "h", "--json"]);
    assert_eq!(shown["versions"][0]["source"], pushed["reference"]);
    assert_eq!(shown["versions"][0]["digest"], done["digest"]);
    let audit = desk.json(&["audit", "--json"]);
    assert!(audit[0]["target"].as_str().unwrap().contains(done["digest"].as_str().unwrap()), "{audit}");
    let pinned = pushed["reference"].as_str().unwrap();
    assert_eq!(desk.json(&["deploy", pinned, "--handler", "h", "--json"])["unchanged"], json!(true));
    let absent = format!("oci://{}/team/order:2.0", registry.name());
    assert!(desk.refused(&["deploy", &absent, "--handler", "h"], 3).contains("it is not there"));
    assert!(
        desk.refused(&["deploy", &reference, "--handler", "h", "--limit", "1KiB"], 1).contains("the limit is 1024")
    );
    assert!(desk.refused(&["deploy", "oci://", "--handler", "h"], 2).contains("oci://REGISTRY"));
    drop(host);
}

#[test]
fn a_signature_goes_to_a_registry_with_its_module_and_comes_back_with_it() {
    let (desk, registry) = (Desk::new(), OciRegistry::open());
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/signed");
    let fixture = |name: &str| std::fs::read(fixtures.join(name)).unwrap();
    for name in ["module.wasm", "module.wasm.minisig", "second.wasm"] {
        std::fs::write(desk.path().join(name), fixture(name)).unwrap();
    }
    let [signed, unsigned, wrong] =
        ["signed", "unsigned", "wrong"].map(|tag| format!("oci://{}/team/module:{tag}", registry.name()));
    let pushed = desk.json(&["push", "module.wasm", &signed, "--json"]);
    assert_eq!(pushed["signed_with"], json!("BAF329C90B5C17E4"));
    assert_eq!(desk.json(&["push", "second.wasm", &unsigned, "--json"])["signed_with"], json!(null));
    desk.json(&["push", "second.wasm", &wrong, "--json", "--signature", "module.wasm.minisig"]);
    let manifest = manifest_of(&registry, "team/module", "signed");
    let annotated = manifest["annotations"]["dev.tidegate.module.minisig"].as_str().unwrap();
    assert_eq!(annotated.as_bytes(), fixture("module.wasm.minisig"));

    let pulled = desk.json(&["pull", &signed, "-o", "m.wasm", "--json"]);
    assert_eq!(pulled["signature"], json!("m.wasm.minisig"));
    let lies = |name: &str| std::fs::read(desk.path().join(name)).ok();
    assert!(lies("m.wasm").unwrap() == fixture("module.wasm"));
    assert!(lies("m.wasm.minisig").unwrap() == fixture("module.wasm.minisig"));
    // What lies there and would be taken for its signature is not written over, or left, unasked.
    std::fs::remove_file(desk.path().join("m.wasm")).unwrap();
    assert!(desk.refused(&["pull", &unsigned, "-o", "m.wasm"], 2).contains("m.wasm.minisig is there already"));
    assert_eq!(desk.json(&["pull", &unsigned, "-o", "m.wasm", "--json", "--force"])["signature"], json!(null));
    assert_eq!((lies("m.wasm").unwrap() == fixture("second.wasm"), lies("m.wasm.minisig")), (true, None));
    std::fs::remove_file(desk.path().join("m.wasm")).unwrap();

    let key = String::from_utf8(fixture("release.pub")).unwrap();
    let host = host_in(&desk, &format!("[signatures]\nkeys.release = \"{}\"\n", key.lines().nth(1).unwrap()));
    let deploy = |reference: &str| desk.run(&["deploy", reference, "--handler", "h"]);
    for (reference, code) in [(&unsigned, "the module is not signed"), (&wrong, "does not fit this module")] {
        let output = deploy(reference);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(code), "{reference}: {told}");
    }
    let output = deploy(&signed);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = desk.json(&["handlers", "show", "h", "--json"]);
    assert_eq!(shown["versions"][0]["signed_by"]["name"], json!("release"), "{shown}");
    drop(host);
}

/// A host that is killed when the test is over.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
