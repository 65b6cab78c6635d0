//! `wasi:config/store`: values and secrets by their names.

use std::sync::Arc;

use tidegate::config::SecretSource;
use tidegate::outcome::Outcome;
use tidegate::sandbox::granted::{Granted, Value, Values};
use tidegate::sandbox::limits::Limits;
use tidegate::sandbox::{LoadError, Version};

use crate::sandbox::{message, run, sandbox};
use crate::support::guests::guest;

async fn load(values: Values, limits: &Limits) -> Result<Arc<Version>, LoadError> {
    let granted = Granted { values, ..Granted::default() };
    sandbox().load_granted(guest("values"), "values", limits, granted).await
}

/// A plain value, a secret, and one that could not be read.
fn values() -> Values {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "hunter2\n").unwrap();
    let secret = SecretSource::File(file).read().unwrap();
    let missing = "the secret `gone` could not be read: it is gone".to_owned();
    let all = [
        ("region", Value::Plain("eu".to_owned())),
        ("token", Value::Secret(secret)),
        ("gone", Value::Missing(missing)),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

async fn told(version: &Version, subject: &str, name: &'static str) -> String {
    let outcome = run(version, &message(subject, name)).await.outcome;
    let Outcome::Rejected(reason) = outcome else { panic!("{outcome:?}") };
    reason.detail.unwrap_or_default()
}

#[tokio::test]
async fn a_handler_reads_its_values_and_secrets_by_their_names() {
    let version = load(values(), &Limits::default()).await.unwrap();
    assert_eq!(told(&version, "get", "region").await, "eu");
    assert_eq!(told(&version, "get", "token").await, "hunter2", "without the newline that an editor leaves");
    assert_eq!(told(&version, "get", "other").await, "nothing");
    assert_eq!(told(&version, "get", "").await, "nothing");
    let gone = told(&version, "get", "gone").await;
    assert!(gone.contains("Upstream") && gone.contains("the secret `gone` could not be read: it is gone"), "{gone}");
    // One that is not there cannot be left out in silence.
    assert!(told(&version, "all", "").await.contains("Upstream"));
    let plain = [("a".to_owned(), Value::Plain("1".to_owned())), ("b".to_owned(), Value::Plain(String::new()))];
    let version = load(plain.into_iter().collect(), &Limits::default()).await.unwrap();
    assert_eq!(told(&version, "all", "").await, "a=1\nb=");
    let shown = format!("{:?}", values());
    assert!(!shown.contains("hunter2") && shown.contains("***"), "{shown}");
}

#[tokio::test]
async fn a_secret_that_is_read_anew_is_seen_by_the_next_look() {
    let version = load(values(), &Limits::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("token"), "correct horse").unwrap();
    let anew = SecretSource::File(directory.path().join("token")).read().unwrap();
    let held = &version.granted().values;
    assert!(held.has_other_secret("token", &anew) && held.has_other_secret("gone", &anew));
    assert!(!held.has_other_secret("region", &anew) && !held.has_other_secret("other", &anew));
    for name in ["token", "gone", "region", "other"] {
        held.renew(name, &anew);
    }
    for (name, expected) in
        [("token", "correct horse"), ("gone", "correct horse"), ("region", "eu"), ("other", "nothing")]
    {
        assert_eq!(told(&version, "get", name).await, expected);
    }
    assert!(!held.has_other_secret("token", &anew));
}

#[tokio::test]
async fn each_look_at_a_value_counts_as_a_call_into_the_host() {
    let limits = Limits { host_calls: 50, ..Limits::default() };
    let large = [("a".to_owned(), Value::Plain("x".repeat(64 << 10)))];
    let version = load(large.into_iter().collect(), &limits).await.unwrap();
    for subject in ["without-end", "all-without-end"] {
        let outcome = run(&version, &message(subject, "a")).await.outcome;
        let Outcome::Fault(fault) = outcome else { panic!("{outcome:?}") };
        assert_eq!(fault.detail, "more than 50 calls into the host", "{subject}");
    }
}

#[tokio::test]
async fn what_is_granted_goes_along_when_the_limits_of_a_version_are_others() {
    let version = load(values(), &Limits::default()).await.unwrap();
    let version = version.within(Limits { host_calls: 3, ..Limits::default() }).unwrap();
    assert_eq!(told(&version, "get", "region").await, "eu");
}

#[tokio::test]
async fn without_a_value_or_a_secret_the_import_is_refused_and_the_key_is_named() {
    let error = load(Values::default(), &Limits::default()).await.unwrap_err();
    let told = error.to_string();
    assert!(matches!(error, LoadError::UngrantedImport { .. }), "{error:?}");
    assert!(
        told.contains("`wasi:config/store@0.2.0-rc.1`, which its handler is not granted: it needs `config.NAME"),
        "{told}"
    );
    // A module alone, beside any configuration, is not held back.
    let granted = Granted::anything();
    let version = sandbox().load_granted(guest("values"), "values", &Limits::default(), granted).await;
    assert_eq!(self::told(&version.unwrap(), "get", "region").await, "nothing");
}
