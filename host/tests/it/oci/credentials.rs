//! Credentials out of the places where docker and podman keep them.

use std::path::PathBuf;

use base64::Engine as _;
use serde_json::{Value, json};

use super::Desk;
use crate::support;
use crate::support::registry::{OciRegistry, USER};

/// What `docker login` and `podman login` write.
fn logged_in(registry: &str, (user, password): (&str, &str)) -> Value {
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    json!({"auths": {registry: {"auth": auth}}})
}

/// A desk and a registry with a password, of which a module is asked that it does not have: whoever is let in is told that.
struct Asked {
    desk: Desk,
    registry: OciRegistry,
}

impl Asked {
    fn new() -> Self {
        Self { desk: Desk::new(), registry: OciRegistry::with_password() }
    }

    fn write(&self, file: &str, text: impl ToString) -> PathBuf {
        let file = self.desk.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text.to_string()).unwrap();
        file
    }

    /// A helper of docker's on the path, which does as a shell script says.
    fn helper(&self, name: &str, script: &str) {
        let folder = self.desk.path().join("bin");
        std::fs::create_dir_all(&folder).unwrap();
        support::script(&folder.join(format!("docker-credential-{name}")), &format!("#!/bin/sh\n{script}\n"));
    }

    /// What is told of a pull, with this in the environment; its code.
    fn pull(&self, environment: &[(&str, &str)]) -> (i32, String) {
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", self.desk.path().join("bin").display());
        let mut command = self.desk.command(&["pull", &format!("oci://{}/absent", self.registry.name())]);
        for (name, value) in environment {
            command.env(name, self.desk.path().join(value));
        }
        let output = command.env("PATH", path).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn is_let_in(&self, environment: &[(&str, &str)], what: &str) {
        let (code, told) = self.pull(environment);
        assert!(code == 3 && told.contains("it is not there"), "{what}: {code}: {told}");
    }

    fn is_told(&self, environment: &[(&str, &str)], said: &[&str]) {
        let (code, told) = self.pull(environment);
        assert_eq!(code, 1, "{told}");
        for said in said {
            assert!(told.contains(said), "{said}: {told}");
        }
    }
}

#[test]
fn credentials_are_found_where_podman_and_docker_keep_them() {
    let rows: [(&str, &[(&str, &str)]); 6] = [
        ("elsewhere/auth.json", &[("REGISTRY_AUTH_FILE", "elsewhere/auth.json")]),
        ("run/containers/auth.json", &[("XDG_RUNTIME_DIR", "run")]),
        ("config/containers/auth.json", &[("XDG_RUNTIME_DIR", "run"), ("XDG_CONFIG_HOME", "config")]),
        (".config/containers/auth.json", &[]),
        ("docker/config.json", &[("DOCKER_CONFIG", "docker")]),
        (".docker/config.json", &[("REGISTRY_AUTH_FILE", "absent.json"), ("XDG_RUNTIME_DIR", "run")]),
    ];
    let asked = Asked::new();
    for (file, environment) in rows {
        asked.is_told(environment, &["wants to know who you are"]);
        let written = asked.write(file, logged_in(&asked.registry.name(), USER));
        asked.is_let_in(environment, file);
        // Credentials for another registry are none for this one.
        std::fs::write(&written, logged_in("elsewhere.example", USER).to_string()).unwrap();
        asked.is_told(environment, &["wants to know who you are"]);
        std::fs::remove_file(written).unwrap();
    }
    // Of two, podman's are taken.
    let name = asked.registry.name();
    asked.write("auth.json", logged_in(&name, USER));
    asked.write(".docker/config.json", logged_in(&name, ("ada", "guessed")));
    asked.is_let_in(&[("REGISTRY_AUTH_FILE", "auth.json")], "podman's before docker's");
    asked.is_told(&[], &["refuses your credentials"]);
}

/// Gives the credentials for the registry that it is asked for, and knows no other.
fn knows(registry: &str, (user, password): (&str, &str)) -> String {
    let secret = json!({"ServerURL": registry, "Username": user, "Secret": password});
    format!(
        "test \"$1\" = get || exit 2\nread -r asked || true\n\
         if test \"$asked\" = '{registry}'; then echo '{secret}'; exit 0; fi\n\
         echo 'credentials not found in native keychain'; exit 1"
    )
}

#[test]
fn credentials_come_from_the_helpers_that_docker_asks() {
    let asked = Asked::new();
    let name = asked.registry.name();
    asked.helper("vault", &knows(&name, USER));
    asked.helper("other", &knows("elsewhere.example", USER));
    let rows = [
        ("a helper of this registry", json!({"credHelpers": {&name: "vault"}, "credsStore": "other"})),
        // `docker login` leaves an entry without credentials beside it.
        ("a store of all", json!({"credsStore": "vault", "auths": {&name: {}}})),
    ];
    for (what, config) in rows {
        let file = asked.write(".docker/config.json", config.clone());
        asked.is_let_in(&[], what);
        std::fs::remove_file(file).unwrap();
        // Podman has them too.
        let file = asked.write("auth.json", config);
        asked.is_let_in(&[("REGISTRY_AUTH_FILE", "auth.json")], what);
        std::fs::remove_file(file).unwrap();
    }
    // One that does not know this registry: there are no credentials, as where nobody has logged in.
    asked.write(".docker/config.json", json!({"credsStore": "other"}));
    asked.is_told(&[], &["wants to know who you are", "docker login"]);
}

#[test]
fn what_keeps_credentials_from_being_read_is_named() {
    let asked = Asked::new();
    let name = asked.registry.name();
    asked.helper("locked", "cat > /dev/null\necho 'the vault is locked'\necho 'unlock it first' >&2\nexit 1");
    asked.helper("confused", "cat > /dev/null\necho 'hello'");
    let file = asked.write(".docker/config.json", json!({"credHelpers": {&name: "locked"}}));
    let place = format!("reading the credentials for {name} in {}", file.display());
    let rows = [
        (
            json!({"credHelpers": {&name: "locked"}}).to_string(),
            "`docker-credential-locked` failed and said: the vault is locked; unlock it first",
        ),
        (
            json!({"credsStore": "absent"}).to_string(),
            "`docker-credential-absent` could not be run: is it on the PATH?",
        ),
        (json!({"credsStore": "confused"}).to_string(), "`docker-credential-confused` gave no credentials"),
        ("{\"auths\": ".to_owned(), "this is not the JSON that `docker login` and `podman login` write"),
        (json!({"auths": {&name: {"auth": "%%%"}}}).to_string(), "log in anew"),
    ];
    for (config, said) in rows {
        asked.write(".docker/config.json", config);
        asked.is_told(&[], &[&place, said]);
    }
}

/// Pulls that need no login ended where the environment was another user's, or the folder of podman is root's alone.
#[test]
fn a_usual_place_that_may_not_be_read_is_passed_over_and_told_of_when_the_registry_refuses() {
    let asked = Asked::new();
    let name = asked.registry.name();
    // Nobody may read this one, root no more than others.
    let forbidden = std::path::Path::new("/proc/sys/vm/compact_memory");
    assert_eq!(std::fs::read(forbidden).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    let folder = asked.desk.path().join(".config/containers");
    std::fs::create_dir_all(&folder).unwrap();
    let place = folder.join("auth.json");
    std::os::unix::fs::symlink(forbidden, &place).unwrap();
    let told = format!("credentials may be in {} too, which you may not read", place.display());
    asked.is_told(&[], &["wants to know who you are", &told]);
    asked.write(".docker/config.json", logged_in(&name, ("ada", "guessed")));
    asked.is_told(&[], &["refuses your credentials", &told]);
    asked.write(".docker/config.json", logged_in(&name, USER));
    asked.is_let_in(&[], "of the next place");
    // Who names it wants it to be read.
    let reading = format!("reading the credentials for {name} in {}", place.display());
    asked.is_told(&[("REGISTRY_AUTH_FILE", ".config/containers/auth.json")], &[&reading, "ermission denied"]);
}
