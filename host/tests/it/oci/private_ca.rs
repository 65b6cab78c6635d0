//! A registry that speaks TLS with a certificate of an authority of one's own.

use serde_json::json;

use super::{Desk, host_in, pretending};
use crate::support::authority::Authority;
use crate::support::guests::guest;
use crate::support::registry::OciRegistry;

#[test]
fn a_registry_of_a_private_authority_is_trusted_when_that_is_named() {
    let authority = Authority::new();
    let (desk, registry) = (Desk::new(), OciRegistry::with_tls(&authority));
    std::fs::write(desk.path().join("ca.pem"), &authority.pem).unwrap();
    let reference = format!("oci://{}/team/order:1.0", registry.name());
    desk.json(&["push", "order.wasm", &reference, "--json", "--registry-ca", "ca.pem"]);
    desk.json(&["pull", &reference, "--json", "-o", "back.wasm", "--registry-ca", "ca.pem"]);
    assert!(std::fs::read(desk.path().join("back.wasm")).unwrap() == guest("order"));
    let host = host_in(&desk, "");
    let deploy = ["deploy", &reference, "--handler", "h", "--json", "--registry-ca", "ca.pem"];
    assert_eq!(desk.json(&deploy)["version"], json!(1));
    drop(host);

    // Not by its letters an address of this machine: it is spoken to with TLS, as any other registry is.
    let elsewhere = reference.replace("127.0.0.1", "0.0.0.0");
    let pull = ["pull", &elsewhere, "-o", "m.wasm"];
    let told = desk.refused(&pull, 1);
    for said in ["an authority that is not trusted here", "`--registry-ca`"] {
        assert!(told.contains(said) && !told.contains("is it running"), "{said}: {told}");
    }
    let trusting = desk.command(&pull).env("SSL_CERT_FILE", desk.path().join("ca.pem")).output().unwrap();
    assert!(trusting.status.success(), "{}", String::from_utf8_lossy(&trusting.stderr));
    std::fs::remove_file(desk.path().join("m.wasm")).unwrap();
    // Of another authority it is not taken, nor under a name that is not in its certificate.
    std::fs::write(desk.path().join("other.pem"), Authority::new().pem).unwrap();
    let other = ["pull", &reference, "-o", "m.wasm", "--registry-ca", "other.pem"];
    assert!(desk.refused(&other, 1).contains("an authority that is not trusted here"));
    let misnamed = reference.replace("127.0.0.1", "localhost");
    let told = desk.refused(&["pull", &misnamed, "-o", "m.wasm", "--registry-ca", "ca.pem"], 1);
    assert!(told.contains("its certificate is for another name"), "{told}");
    // What is no certificate is told before anything is asked.
    let wrong = ["pull", &reference, "-o", "m.wasm", "--registry-ca", "order.wasm"];
    assert!(desk.refused(&wrong, 2).contains("order.wasm"));
}

#[test]
fn what_speaks_tls_and_is_asked_without_says_what_to_do_and_the_other_way_round() {
    let authority = Authority::new();
    let (desk, encrypted, plain) = (Desk::new(), OciRegistry::with_tls(&authority), OciRegistry::open());
    std::fs::write(desk.path().join("ca.pem"), &authority.pem).unwrap();
    let told = desk.refused(&["pull", &format!("oci://{}/order", encrypted.name()), "-o", "m.wasm"], 1);
    assert!(told.contains("where it speaks TLS") && told.contains("`--registry-ca`"), "{told}");
    // A registry that speaks without, as it is asked to, and does not like what it is asked.
    let error = json!({"errors": [{"code": "MANIFEST_INVALID", "message": "no such tag"}]}).to_string();
    let (name, _) = pretending(move |_, _, _| (400, vec![], error.clone()));
    let told = desk.refused(&["pull", &format!("oci://{name}/order"), "-o", "m.wasm"], 1);
    assert!(
        told.contains("answered 400 Bad Request (MANIFEST_INVALID: no such tag)") && !told.contains("TLS"),
        "{told}"
    );
    let plain = format!("oci://{}/order", plain.name());
    let told = desk.refused(&["pull", &plain, "-o", "m.wasm", "--registry-ca", "ca.pem"], 1);
    assert!(told.contains("it does not answer in TLS") && told.contains("`--plain-http`"), "{told}");
}
