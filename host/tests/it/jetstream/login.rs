//! Every way to prove who we are and to encrypt, on real servers, and the servers that are refused.

use nkeys::{KeyPair, KeyPairType};
use rcgen::CertificateParams;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tidegate::broker::jetstream::{Auth, ConnectError, JetStream, Options, Tls};
use tidegate::broker::{Broker as _, Status};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::{ack_all, connect, options, place_on, record};
use crate::broker_contract::{LONG_LEASE, receive};
use crate::support::authority::Authority;
use crate::support::nats::NatsServer;

/// A message goes through: published, received, acknowledged.
async fn works(options: Options) {
    let (broker, _folder) = connect(options).await;
    assert_eq!(broker.status(), Status::Connected);
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("login", &[">"], LONG_LEASE).await;
    place.publish("a", ["1"]).await;
    ack_all(&*source, &receive(&*source, 1).await).await;
    broker.close().await;
}

async fn refused(options: Options) -> ConnectError {
    let (record, _folder) = record();
    match JetStream::connect(options, record).await {
        Err(error) => error,
        Ok(broker) => panic!("it was let in: {:?}", broker.status()),
    }
}

fn with(server: &NatsServer, auth: Auth) -> Options {
    Options { auth, ..options(server) }
}

fn pair(kind: KeyPairType, seed: u8) -> KeyPair {
    KeyPair::new_from_raw(kind, [seed; 32]).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_lets_us_in_and_a_wrong_one_does_not() {
    let server = NatsServer::start_with("authorization { token: \"s3cret\" }").await;
    works(with(&server, Auth::Token("s3cret".to_owned()))).await;
    for wrong in [Auth::None, Auth::Token("wrong".to_owned())] {
        let error = refused(with(&server, wrong)).await;
        assert!(matches!(error, ConnectError::Unauthorized { .. }), "{error:?}");
        assert!(!error.to_string().contains("s3cret"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_and_password_let_us_in() {
    let server = NatsServer::start_with("authorization { user: ann, password: \"p4ss\" }").await;
    let auth = |password: &str| Auth::UserPassword { user: "ann".to_owned(), password: password.to_owned() };
    works(with(&server, auth("p4ss"))).await;
    assert!(matches!(refused(with(&server, auth("other"))).await, ConnectError::Unauthorized { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_nkey_lets_us_in() {
    let user = pair(KeyPairType::User, 1);
    let users = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", user.public_key());
    let server = NatsServer::start_with(&users).await;
    works(with(&server, Auth::Nkey(user.seed().unwrap()))).await;
    let stranger = pair(KeyPairType::User, 2);
    let error = refused(with(&server, Auth::Nkey(stranger.seed().unwrap()))).await;
    assert!(matches!(error, ConnectError::Unauthorized { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credentials_file_lets_us_in() {
    let operator = pair(KeyPairType::Operator, 1);
    let account = pair(KeyPairType::Account, 2);
    let system = pair(KeyPairType::Account, 3);
    let user = pair(KeyPairType::User, 4);
    let all = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1
    });
    let mut streams = all.clone();
    let more = json!({ "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1 });
    streams.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let account_claims = |limits: &Value| json!({ "type": "account", "version": 2, "limits": limits });
    let operator_claims = json!({ "type": "operator", "version": 2, "system_account": system.public_key() });
    let user_claims =
        json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {} });
    let server = NatsServer::start_with(&format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {}, {}: {} }}",
        jwt(&operator, &operator.public_key(), &operator_claims),
        system.public_key(),
        account.public_key(),
        jwt(&operator, &account.public_key(), &account_claims(&streams)),
        system.public_key(),
        jwt(&operator, &system.public_key(), &account_claims(&all)),
    ))
    .await;
    let credentials = format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        jwt(&account, &user.public_key(), &user_claims),
        user.seed().unwrap()
    );
    works(with(&server, Auth::Credentials(credentials))).await;
    assert!(matches!(refused(with(&server, Auth::None)).await, ConnectError::Unauthorized { .. }));
}

/// A token in the form of NATS.
fn jwt(issuer: &KeyPair, subject: &str, nats: &Value) -> String {
    let mut claims = json!({
        "iat": 1_700_000_000, "iss": issuer.public_key(), "name": "test", "sub": subject, "nats": nats
    });
    claims["jti"] = json!(hex::encode(Sha256::digest(claims.to_string())));
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let signed = format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", base64url(&signature))
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            text.push(char::from(DIGITS[(group >> (18 - 6 * place) & 63) as usize]));
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_agreed_on_with_both_sides_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let ca = Authority::new();
    std::fs::write(file("ca.pem"), &ca.pem).unwrap();
    std::fs::write(file("stranger.pem"), Authority::new().pem).unwrap();
    for name in ["server", "client"] {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &ca.issuer).unwrap();
        std::fs::write(file(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(file(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }
    let path = |name: &str| file(name).display().to_string();
    let server = NatsServer::start_with(&format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}",
        path("server.pem"),
        path("server.key"),
        path("ca.pem")
    ))
    .await;
    let tls =
        Tls { require: true, ca: Some(file("ca.pem")), cert: Some(file("client.pem")), key: Some(file("client.key")) };
    let with_tls = |tls: Tls| Options { tls, ..options(&server) };
    works(with_tls(tls.clone())).await;
    let stranger = Tls { ca: Some(file("stranger.pem")), ..tls.clone() };
    let missing = Tls { ca: Some(file("nowhere.pem")), ..tls.clone() };
    let no_key = Tls { key: None, ..tls };
    for wrong in [stranger, missing, no_key] {
        let error = refused(with_tls(wrong.clone())).await;
        assert!(matches!(error, ConnectError::Tls { .. }), "{wrong:?}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_server_is_refused_by_its_version() {
    for (version, taken) in [("2.9.10", false), ("2.10.22", false), ("2.10.23", true), ("garbage", false)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let greeting = json!({ "server_id": "x", "version": version, "max_payload": 1_048_576, "headers": true });
        let served = tokio::spawn(async move {
            // One client, until it goes: it greets, and answers pings.
            let (stream, _) = listener.accept().await.unwrap();
            let (read, mut write) = stream.into_split();
            write.write_all(format!("INFO {greeting}\r\n").as_bytes()).await.unwrap();
            let mut lines = BufReader::new(read).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if line.starts_with("PING") && write.write_all(b"PONG\r\n").await.is_err() {
                    return;
                }
            }
        });
        let (record, _folder) = record();
        let options = Options::new("test", vec![format!("nats://127.0.0.1:{port}")]);
        match JetStream::connect(options, record).await {
            Ok(broker) => {
                assert!(taken, "{version} was taken");
                broker.close().await;
            }
            Err(ConnectError::TooOld { detail, .. }) => {
                assert!(!taken && detail.contains(version) && detail.contains("2.10.23"), "{version}: {detail}");
            }
            Err(error) => panic!("{version}: {error}"),
        }
        served.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_cannot_be_used_are_told() {
    for servers in [vec![], vec!["nats://ann:s3cret@127.0.0.1:4222"], vec!["nats://[::"]] {
        let servers: Vec<String> = servers.into_iter().map(str::to_owned).collect();
        let error = refused(Options::new("test", servers.clone())).await;
        assert!(matches!(error, ConnectError::Address { .. }), "{servers:?}: {error:?}");
        assert!(!error.to_string().contains("s3cret"));
    }
}
