//! A handler asks other hosts in mid-run: those alone that it is granted, and no longer than it runs.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use tidegate::broker::lease::Lease;
use tidegate::handler::{Call, Effect, Effects, Handler as _, Run};
use tidegate::outcome::Outcome;
use tidegate::sandbox::Version;
use tidegate::sandbox::granted::{Granted, HostPattern};
use tidegate::sandbox::limits::Limits;
use tokio::time::Instant;

use crate::sandbox::{call, message, run, sandbox};
use crate::support::guests::guest;
use crate::support::ports::free_port;
use crate::support::until;
use crate::support::web::Web;

async fn asker(limits: &Limits, hosts: &[&str]) -> Arc<Version> {
    let hosts = hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect();
    let granted = Granted { hosts, ..Granted::default() };
    sandbox().load_granted(guest("asker"), "asker", limits, granted).await.unwrap()
}

fn said(run: &Run) -> String {
    format!("{} {}", run.outcome.code(), run.outcome.detail().unwrap_or_default())
}

/// What a run told, and what the host said about it in the run's log.
async fn told(version: &Version, subject: &str, body: &str) -> (String, Vec<String>) {
    let run = run(version, &message(subject, body.to_owned())).await;
    let told = said(&run).strip_prefix("handler-rejected told: ").map(str::to_owned).unwrap_or_else(|| said(&run));
    (told, run.logs.into_iter().map(|line| line.text).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_granted_host_is_asked_and_answers() {
    let web = Web::start(None);
    let at = format!("http://127.0.0.1:{}", web.port);
    let version = asker(&Limits::default(), &[&at]).await;
    let host = format!("127.0.0.1:{}", web.port);
    let rows = [
        ("ask", format!("GET {at}/a?b=c"), format!("200 GET /a?b=c {host} []")),
        ("ask", format!("GET {at}"), format!("200 GET / {host} []")),
        ("ask", format!("GET {at}/no-body"), "200 ".to_owned()),
        ("ask", format!("HEAD {at}/no-body"), "200 ".to_owned()),
        ("ask", format!("PURGE {at}/a"), format!("200 PURGE /a {host} []")),
        ("ask", format!("GET {at}/hop-by-hop"), "200 told".to_owned()),
        ("ask", format!("GET {at}/closes"), "200 good bye".to_owned()),
        ("upload", format!("POST {at}/a"), format!("200 POST /a {host} [one two three]")),
        // The host follows nobody anywhere.
        ("ask", format!("GET {at}/redirect"), "302 not here".to_owned()),
    ];
    for (subject, body, expected) in rows {
        assert_eq!(told(&version, subject, &body).await, (expected, Vec::new()), "{subject} {body}");
    }
    assert!(web.asked().iter().all(|asked| asked.whole && !asked.line.contains("/elsewhere")), "{:?}", web.asked());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_not_granted_is_not_asked_and_the_log_says_so() {
    let (web, other) = (Web::start(None), Web::start(None));
    let at = format!("http://127.0.0.1:{}", web.port);
    let version = asker(&Limits::default(), &[&at]).await;
    let elsewhere = [
        format!("http://127.0.0.1:{}", other.port),
        format!("http://localhost:{}", web.port),
        format!("https://127.0.0.1:{}", web.port),
        format!("http://[::ffff:127.0.0.1]:{}", other.port),
        format!("http://2130706433:{}", web.port),
        "http://127.0.0.1".to_owned(),
    ];
    for host in elsewhere {
        let (told, log) = told(&version, "ask", &format!("GET {host}/a")).await;
        assert_eq!(told, "refused ErrorCode::HttpRequestDenied", "{host}");
        let expected = format!("a request to {host} was not sent: it is not among the handler's hosts");
        assert_eq!(log, [expected]);
    }
    let (_, log) = told(&version, "ask.often", &format!("GET http://127.0.0.1:{}/a", other.port)).await;
    assert_eq!(log.len(), 1, "once a run: {log:?}");
    // And it costs the handler none of its own.
    let terse = asker(&Limits { log_lines: 1, ..Limits::default() }, &[&at]).await;
    let (said, log) = told(&terse, "ask.and-log", &format!("GET http://127.0.0.1:{}/a", other.port)).await;
    assert_eq!((said.as_str(), log.len()), ("refused ErrorCode::HttpRequestDenied", 2), "{log:?}");
    // A tunnel through a host that is granted leads to one that is not; neither is a scheme that is none.
    let refused = [
        (format!("CONNECT {at}/"), "refused ErrorCode::HttpRequestMethodInvalid"),
        (format!("GET http://user:password@127.0.0.1:{}/", web.port), "refused ErrorCode::HttpRequestUriInvalid"),
        (
            format!("GET http://127.0.0.1:{}@localhost:{}/", web.port, other.port),
            "refused ErrorCode::HttpRequestUriInvalid",
        ),
        (format!("GET ftp://127.0.0.1:{}/", web.port), "refused ErrorCode::HttpProtocolError"),
        (format!("GET {at}/{}", "x".repeat(8180)), "refused ErrorCode::HttpRequestUriTooLong"),
    ];
    for (body, expected) in refused {
        assert_eq!(told(&version, "ask", &body).await.0, expected, "{body}");
    }
    assert_eq!(told(&version, "fields.forbidden", "").await.0, "5 refused");
    assert_eq!((web.connections(), other.connections()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_is_an_error_that_the_handler_sees() {
    let web = Web::start(None);
    let at = format!("http://127.0.0.1:{}", web.port);
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let no_tls = format!("https://127.0.0.1:{}", web.port);
    let unknown = "http://no-such-host.invalid";
    let version = asker(&Limits::default(), &[&at, &nobody, &no_tls, unknown]).await;
    let rows = [
        ("ask", format!("{nobody}/"), "ErrorCode::ConnectionRefused"),
        ("ask", format!("{unknown}/"), "ErrorCode::DnsError("),
        ("ask", format!("{at}/no-http"), "ErrorCode::HttpProtocolError"),
        ("ask", format!("{at}/huge-header"), "ErrorCode::HttpResponseHeaderSectionSize(None)"),
        ("ask", format!("{at}/many-headers"), "ErrorCode::HttpResponseHeaderSectionSize(None)"),
        ("ask", format!("{at}/cut"), "after 6 bytes Some(ErrorCode::HttpResponseIncomplete)"),
        ("ask.quickly", format!("{at}/hang"), "ErrorCode::ConnectionReadTimeout"),
        ("ask.quickly", format!("{at}/slow"), "after 6 bytes Some(ErrorCode::ConnectionReadTimeout)"),
        ("length", format!("{at}/a"), "refused ErrorCode::HttpRequestBodySize(Some(5))"),
    ];
    for (subject, url, expected) in rows {
        let (told, log) = told(&version, subject, &format!("GET {url}")).await;
        assert!(told.starts_with(expected), "{url}: {told}");
        assert!(log.is_empty(), "{log:?}");
    }
    // One that listens and speaks no TLS never ends the handshake or breaks it off, and is told apart from a certificate.
    let (told, _) = told(&version, "ask", &format!("GET {no_tls}/")).await;
    assert!(told.starts_with("ErrorCode::Tls") || told.starts_with("ErrorCode::Connection"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_ends_with_the_time_of_its_run_and_with_the_lease() {
    let web = Web::start(None);
    let at = format!("http://127.0.0.1:{}", web.port);
    let patient = asker(&Limits::default(), &[&at]).await;
    let hasty = asker(&Limits { timeout: Duration::from_millis(300), ..Limits::default() }, &[&at]).await;
    for path in ["hang", "slow"] {
        let (said_, _) = told(&hasty, "ask", &format!("GET {at}/{path}")).await;
        assert!(said_.starts_with("timeout ran longer than 300 ms"), "{said_}");
        let sent = message("ask", format!("GET {at}/{path}"));
        let lease = Lease::until(Instant::now() + Duration::from_millis(300));
        let over = said(&patient.handle(call(&sent, &lease)).await);
        assert!(over.starts_with("interrupted the lease on the message ended"), "{over}");
        web.until_all_are_gone();
    }
    // A run that nobody waits for any more.
    let (sent, lease) =
        (message("ask", format!("GET {at}/hang")), Lease::until(Instant::now() + Duration::from_secs(60)));
    let asked = web.asked().len();
    let dropped = patient.handle(call(&sent, &lease));
    let seen = async {
        while web.asked().len() == asked {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        run = dropped => panic!("{}", said(&run)),
        () = seen => {}
    }
    web.until_all_are_gone();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_without_an_end_ends_at_the_limits_of_the_run() {
    let web = Web::start(None);
    let at = format!("http://127.0.0.1:{}", web.port);
    let version = asker(&Limits { memory: 8 << 20, ..Limits::default() }, &[&at]).await;
    let (said, _) = told(&version, "ask", &format!("GET {at}/endless")).await;
    assert!(said.starts_with("memory-limit"), "{said}");
    let few = Limits { host_calls: 200, fuel: NonZeroU64::new(u64::MAX / 2), ..Limits::default() };
    let version = asker(&few, &[&at]).await;
    let (said, _) = told(&version, "ask", &format!("GET {at}/endless")).await;
    assert!(said.starts_with("output-limit more than 200 calls into the host"), "{said}");
    web.until_all_are_gone();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_run_holds_is_bounded() {
    let web = Web::start(None);
    let at = format!("http://127.0.0.1:{}", web.port);
    let version = asker(&Limits::default(), &[&at]).await;
    let (held, _) = told(&version, "hoard", &format!("GET {at}/hang")).await;
    assert_eq!(held, "8 are open, then ErrorCode::ConnectionLimitReached");
    let (taken, _) = told(&version, "long", "").await;
    assert_eq!(taken, "[true, false, true, false, true, false, true, false]");
    let (said, _) = told(&version, "fields", "").await;
    assert!(said.starts_with("invalid-result") && said.contains("total size of fields exceeds limit"), "{said}");
    web.until_all_are_gone();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_run_leaves_is_torn_off_and_never_looks_whole() {
    let web = Web::start(None);
    let at = format!("http://127.0.0.1:{}", web.port);
    let limits = Limits {
        timeout: Duration::from_millis(500),
        fuel: NonZeroU64::new(u64::MAX / 2),
        reuse: NonZeroU32::MAX,
        ..Limits::default()
    };
    let version = asker(&limits, &[&at]).await;
    for (subject, expected) in [("leave.in-the-middle", "timeout"), ("leave", "completed")] {
        let before = web.connections();
        let sent = message(subject, format!("POST {at}/a"));
        let run = run(&version, &sent).await;
        assert!(said(&run).starts_with(expected), "{subject}: {}", said(&run));
        assert_eq!(version.kept(), 0, "an instance that leaves a request goes with it");
        if subject == "leave.in-the-middle" {
            until("the request came", Duration::from_secs(30), || web.connections() > before);
        }
        web.until_all_are_gone();
    }
    let came = web.asked();
    assert!(!came.is_empty() && came.iter().all(|asked| !asked.whole), "{came:?}");
    // One that leaves nothing is kept.
    assert!(told(&version, "ask", &format!("GET {at}/a")).await.0.starts_with("200 "));
    assert_eq!(version.kept(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_used_again_by_its_version_alone() {
    let web = Web::start(None);
    let at = format!("http://127.0.0.1:{}", web.port);
    let version = asker(&Limits::default(), &[&at]).await;
    for _ in 0..2 {
        assert_eq!(told(&version, "ask.often", &format!("GET {at}/a")).await.0, "20 answered");
    }
    let used = web.connections();
    assert!(used < 40, "{used} connections for 40 requests");
    // What the server closes is made anew.
    for _ in 0..2 {
        assert_eq!(told(&version, "ask.often", &format!("GET {at}/closes")).await.0, "20 answered");
    }
    let others = asker(&Limits::default(), &[&at]).await;
    let before = web.connections();
    assert!(told(&others, "ask", &format!("GET {at}/a")).await.0.starts_with("200 "));
    assert_eq!(web.connections(), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_effects_are_suppressed_nothing_is_sent_and_what_would_have_been_is_told() {
    let web = Web::start(None);
    let at = format!("http://127.0.0.1:{}", web.port);
    let version = asker(&Limits::default(), &[&at]).await;
    let suppressed = async |subject: &str, body: String| {
        let (sent, lease) = (message(subject, body), Lease::until(Instant::now() + Duration::from_secs(60)));
        version.handle(Call { effects: Effects::Suppressed, ..call(&sent, &lease) }).await
    };
    let run = suppressed("ask", format!("POST {at}/hooks/1?token=secret")).await;
    assert_eq!(said(&run), "handler-rejected told: refused ErrorCode::HttpRequestDenied");
    let requested =
        |method: &str, path: &str| Effect::Requested { method: method.to_owned(), url: format!("{at}{path}") };
    assert_eq!(run.effects, [requested("POST", "/hooks/1")]);
    assert!(run.logs.is_empty(), "{:?}", run.logs);
    assert_eq!(suppressed("ask.often", format!("GET {at}/a")).await.effects, vec![requested("GET", "/a"); 20]);
    // What is not granted would not have been sent.
    let run = suppressed("ask", "GET http://127.0.0.2/".to_owned()).await;
    assert!(run.effects.is_empty() && run.logs.len() == 1, "{run:?}");
    assert_eq!(web.connections(), 0);
    let run = crate::sandbox::run(&version, &message("ask.output", format!("GET {at}/a"))).await;
    assert!(matches!(run.outcome, Outcome::Completed(_)) && run.effects.is_empty(), "{run:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_host_in_the_configuration_the_import_is_not_there() {
    let error = sandbox().load(guest("asker"), "asker", &Limits::default()).await.unwrap_err().to_string();
    assert!(error.contains("wasi:http/") && error.contains("hosts = [\"https://api.example.com\"]"), "{error}");
}
