//! Modules of other contracts run unchanged: real guests that know nothing of Tidegate, under the same limits.

use std::num::NonZeroU64;

use tidegate::handler::LogLevel;
use tidegate::message::Headers;
use tidegate::outcome::{Outcome, Output, Reason};
use tidegate::sandbox::Contract;
use tidegate::sandbox::limits::Limits;

use crate::sandbox::{message, run, sandbox};
use crate::support::guests::guest;

const GUESTS: [(&str, Contract); 2] =
    [("wasi_messaging", Contract::WasiMessaging02Draft), ("wasmcloud_messaging", Contract::WasmcloudMessaging02)];

#[tokio::test]
async fn what_it_publishes_becomes_outputs_once_it_is_done() {
    for (name, contract) in GUESTS {
        let version = sandbox().load(guest(name), name, &Limits::default()).await.unwrap();
        assert_eq!(version.contract(), contract);
        assert_eq!(run(&version, &message("any", "")).await.outcome, Outcome::Completed(Vec::new()), "{name}");
        let mut sent = message("forward", "the body");
        sent.headers.push("Content-Type", "text/x");
        sent.headers.push("one", "1");
        let mut headers = Headers::default();
        let mut to = None;
        if contract == Contract::WasiMessaging02Draft {
            headers.push("seen", r#"Some([("one", "1")])"#);
            headers.push("Content-Type", "text/plain");
            to = Some("out".to_owned());
        }
        let subject = Some("out.forward".to_owned());
        let expected = Output { to, subject, id: None, headers, body: "the body".into() };
        assert_eq!(run(&version, &sent).await.outcome, Outcome::Completed(vec![expected]), "{name}");
    }
}

#[tokio::test]
async fn a_failure_is_a_retry_with_its_text_and_publishes_nothing() {
    for (name, contract) in GUESTS {
        let version = sandbox().load(guest(name), name, &Limits::default()).await.unwrap();
        let code = if contract == Contract::WasiMessaging02Draft { "other" } else { "error" };
        let reason = Reason { code: code.to_owned(), detail: Some("not today".to_owned()) };
        let ended = run(&version, &message("fail", "")).await.outcome;
        assert_eq!(ended, Outcome::Retry { after: None, reason }, "{name}");
        let asked = run(&version, &message("ask", "")).await.outcome;
        assert!(matches!(asked, Outcome::Retry { .. }), "{name}: {asked:?}");
        assert!(asked.detail().unwrap().contains("nobody waits for an answer"), "{name}: {asked:?}");
    }
}

#[tokio::test]
async fn what_it_logs_by_wasi_is_in_the_log_of_its_run() {
    for (name, _) in GUESTS {
        let version = sandbox().load(guest(name), name, &Limits::default()).await.unwrap();
        let ended = run(&version, &message("log", "")).await;
        assert_eq!(ended.outcome, Outcome::Completed(Vec::new()), "{name}");
        let [line] = ended.logs.try_into().unwrap();
        assert_eq!((line.level, line.text.as_str()), (LogLevel::Error, "it is bad"), "{name}");
        assert_eq!(line.fields, [("context".to_owned(), "billing".to_owned())], "{name}");
        let endless = run(&version, &message("chatter", "")).await.outcome;
        assert_eq!(endless.code().0, "output-limit", "{name}: {endless:?}");
    }
}

#[tokio::test]
async fn the_limits_hold_as_for_our_own_contract() {
    let limits = Limits { fuel: NonZeroU64::new(50_000_000), ..Limits::default() };
    for (name, contract) in GUESTS {
        let version = sandbox().load(guest(name), name, &limits).await.unwrap();
        let mut rows = vec![
            ("flood", "output-limit", "more than 256 outputs"),
            ("large", "output-limit", "4194304 bytes of outputs"),
            ("spin", "out-of-fuel", "50000000"),
            ("trap", "trap:unreachable", "unreachable"),
        ];
        if contract == Contract::WasiMessaging02Draft {
            rows.push(("hoard", "output-limit", "more than 1024 messages and clients held at once"));
        }
        for (subject, code, detail) in rows {
            let ended = run(&version, &message(subject, "")).await;
            let told = ended.outcome.detail().unwrap_or_default();
            assert!(ended.outcome.code().0 == code && told.contains(detail), "{name} {subject}: {:?}", ended.outcome);
            assert!(ended.usage.fuel > 0 && ended.usage.memory_peak > 0, "{name} {subject}: {:?}", ended.usage);
        }
    }
}
