//! Requests over TLS, as a handler on a host sends them.

use std::process::Stdio;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};

use crate::command_line::{Desk, Running, until};
use crate::support::authority::Authority;
use crate::support::guests::guest;
use crate::support::web::Web;

/// A server for `localhost`, and the authority behind it in PEM.
fn server() -> (Web, String) {
    let Authority { issuer, pem } = Authority::new();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    (Web::start(Some(Arc::new(config))), pem)
}

/// A host that trusts the authorities in a file.
fn host(desk: &Desk, trusted: &str) -> Running {
    let mut command = desk.command(&["run"]);
    command.env("SSL_CERT_FILE", desk.path().join(trusted)).env_remove("SSL_CERT_DIR");
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    desk.until_listening(child, String::new)
}

/// The dead letter of a message to `asker`.
fn asked(desk: &Desk, url: &str) -> Value {
    desk.expect(&["publish", "--subject", "ask"], &format!("GET {url}"), 0);
    let mut letters = json!([]);
    until("what was answered", || {
        letters = desk.json(&["dlq", "ls", "--json"], "", 0);
        !letters.as_array().unwrap().is_empty()
    });
    let letter = desk.json(&["dlq", "show", letters[0]["id"].as_str().unwrap(), "--json"], "", 0);
    desk.expect(&["dlq", "discard", "--all", "--count", "1"], "", 0);
    letter
}

#[test]
fn over_tls_a_host_is_asked_by_whom_the_system_trusts() {
    let ((web, authority), (_other, others)) = (server(), server());
    let at = format!("https://localhost:{}", web.port);
    let desk = Desk::new();
    std::fs::write(desk.path().join("asker.wasm"), guest("asker")).unwrap();
    desk.write("trusted.pem", &authority);
    desk.write("others.pem", &others);
    let mut text = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    text += &format!("[handlers.ask]\nmodule = \"asker.wasm\"\nhosts = [\"{at}\"]\n");
    text += "[subscriptions.all]\nbroker = \"local\"\nsubjects = [\">\"]\nhandler = \"ask\"\n";
    desk.write("tidegate.toml", &text);

    let running = host(&desk, "trusted.pem");
    let answered = asked(&desk, &format!("{at}/a"));
    assert!(answered.to_string().contains(&format!("200 GET /a localhost:{} []", web.port)), "{answered}");
    // What was not granted is in the dead letter, as the host says it.
    let refused = asked(&desk, &format!("https://localhost:{}/", web.port + 1)).to_string();
    assert!(
        refused.contains("HttpRequestDenied") && refused.contains("it is not among the handler's hosts"),
        "{refused}"
    );
    drop(running);

    let _running = host(&desk, "others.pem");
    let refused = asked(&desk, &format!("{at}/b")).to_string();
    assert!(refused.contains("TlsCertificateError"), "{refused}");
    assert!(web.asked().iter().all(|asked| !asked.line.contains("/b")), "{:?}", web.asked());
}
