//! Spans that handlers make, as the sandbox keeps them and `invoke` shows them. What becomes of them in traces is in
//! `telemetry/spans.rs`.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::broker::lease::Lease;
use tidegate::handler::{Call, Effects, Handler as _, Run, Span, SpanEnd, Spans};
use tidegate::sandbox::limits::Limits;
use tokio::time::Instant;

use crate::sandbox::{call, message, run, sandbox};
use crate::support::guests::guest;

async fn ran(subject: &str, limits: &Limits) -> Run {
    let version = sandbox().load(guest("behaviours"), "behaviours", limits).await.unwrap();
    run(&version, &message(subject, "")).await
}

fn named<'a>(run: &'a Run, name: &str) -> &'a Span {
    run.spans.kept.iter().find(|span| span.name == name).unwrap()
}

#[tokio::test]
async fn the_steps_of_a_handler_are_spans_with_its_lines_in_them() {
    let run = ran("steps.end", &Limits::default()).await;
    assert_eq!(run.outcome.code().0, "completed");
    let nested: Vec<_> = run.spans.kept.iter().map(|span| (span.name.as_str(), span.parent)).collect();
    let expected = [("order", None), ("parse", Some(0)), ("price", Some(0)), ("rate", Some(2)), ("store", Some(0))];
    assert_eq!(nested, expected);
    let lines: Vec<_> = run.logs.iter().map(|line| (line.text.as_str(), line.span)).collect();
    assert_eq!(
        lines,
        [("before", None), ("parsed", Some(1)), ("no rate", Some(3)), ("storing", Some(4)), ("after", None)]
    );
    assert_eq!((run.spans.dropped, run.spans.stray_ends), (0, 5));
    let SpanEnd::Failed(failure) = &named(&run, "price").end else { panic!("{run:?}") };
    assert!(failure.starts_with("no rate for NO") && failure.len() == 256, "{failure}");
    let ends = ["order", "parse", "rate", "store"].map(|name| named(&run, name).end.clone());
    assert_eq!(ends, [SpanEnd::Ended, SpanEnd::Ended, SpanEnd::WithOuter, SpanEnd::WithOuter]);
    let left_open = ran("steps.leave", &Limits::default()).await;
    for run in [run, left_open] {
        for span in &run.spans.kept {
            let outer = span.parent.map_or((Duration::ZERO, run.usage.duration), |at| {
                let outer = &run.spans.kept[at];
                (outer.at, outer.at + outer.took)
            });
            assert!(span.at >= outer.0 && span.at + span.took <= outer.1, "{span:?} in {outer:?}");
        }
    }
}

#[tokio::test]
async fn what_is_open_when_a_run_ends_in_a_trap_ends_with_it() {
    let run = ran("steps.panic", &Limits::default()).await;
    assert_eq!(run.outcome.code().0, "trap:unreachable");
    let open: Vec<_> = run.spans.kept.iter().filter(|span| span.end == SpanEnd::WithRun).collect();
    assert_eq!(open.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["order", "store"]);
}

#[tokio::test]
async fn a_handler_that_floods_the_host_with_spans_is_done_all_the_same_and_128_are_kept() {
    let run = ran("hostile.spans", &Limits { timeout: Duration::from_secs(60), ..Limits::default() }).await;
    assert_eq!((run.outcome.code().0, run.outcome.detail().as_deref()), ("handler-rejected", Some("told: made")));
    assert_eq!((run.spans.kept.len(), run.spans.dropped), (128, 1_000_000 - 128));
    assert_eq!(run.spans.kept[127].parent, Some(126));

    let run = ran("hostile.span-texts", &Limits { timeout: Duration::from_secs(60), ..Limits::default() }).await;
    assert_eq!(run.outcome.code().0, "handler-rejected", "{:?}", run.outcome);
    let bytes = |span: &Span| span.name.len() + span.attributes.iter().map(|(a, b)| a.len() + b.len()).sum::<usize>();
    let kept: usize = run.spans.kept.iter().map(bytes).sum();
    assert!(kept > 32 << 10 && kept <= 64 << 10, "{kept}");
    assert_eq!(run.spans.kept.len() as u64 + run.spans.dropped, 200);

    // Reading takes none of its fuel: of 200 MiB of names four are read, and of what is larger than an attribute may be nothing.
    let run = ran("hostile.span-huge-texts", &Limits { timeout: Duration::from_secs(60), ..Limits::default() }).await;
    assert_eq!(run.outcome.code().0, "handler-rejected", "{:?}", run.outcome);
    assert_eq!((run.spans.kept.len(), run.spans.dropped), (4, 196));
    assert!(run.spans.kept.iter().all(|span| span.name.len() == 256 && span.attributes_dropped == 2));

    // One that does nothing else is ended: 256 of these are one of the calls that a run has.
    let limits = Limits { timeout: Duration::from_secs(60), host_calls: 300, ..Limits::default() };
    let run = ran("hostile.span-calls", &limits).await;
    assert_eq!(run.outcome.code().0, "output-limit", "{:?}", run.outcome);
    assert!(run.outcome.detail().unwrap().contains("calls into the host"), "{:?}", run.outcome);
}

#[tokio::test]
async fn where_nobody_looks_none_is_kept_and_the_handler_sees_no_difference() {
    let version = sandbox().load(guest("behaviours"), "behaviours", &Limits::default()).await.unwrap();
    for subject in ["steps.end", "steps.reject", "steps.cut"] {
        let message = message(subject, "");
        let lease = Lease::until(Instant::now() + Duration::from_secs(60));
        let looked_at = version.handle(call(&message, &lease)).await;
        let run = version.handle(Call { keeps_spans: false, ..call(&message, &lease) }).await;
        assert_eq!(run.spans, Spans::default());
        assert!(run.logs.iter().all(|line| line.span.is_none()));
        assert_eq!((run.outcome, run.usage.fuel), (looked_at.outcome, looked_at.usage.fuel));
    }
}

#[tokio::test]
async fn a_text_that_is_none_fails_nothing_and_a_number_tells_nothing_of_whether_it_was_kept() {
    let limits = Limits { reuse: std::num::NonZeroU32::new(10).unwrap(), ..Limits::default() };
    let version = sandbox().load(guest("behaviours"), "behaviours", &limits).await.unwrap();
    let message = message("steps.cut", "");
    let lease = Lease::until(Instant::now() + Duration::from_secs(60));
    let call = || call(&message, &lease);
    let runs = [
        version.handle(call()).await,
        version.handle(Call { keeps_spans: false, ..call() }).await,
        version.handle(call()).await,
        version.handle(Call { effects: Effects::Suppressed, keeps_spans: false, ..call() }).await,
    ];
    for run in &runs {
        assert_eq!(run.outcome.detail().as_deref(), Some("told: spans 1 and 2"), "{run:?}");
    }
    let cut = &runs[2].spans.kept[0];
    let attributes = [("\u{fffd}", "x"), ("order", "7")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!((cut.name.as_str(), &cut.attributes[..], cut.attributes_dropped), ("\u{fffd}", &attributes[..], 1));
    assert_eq!(cut.end, SpanEnd::Failed("\u{fffd}".to_owned()));
}

#[tokio::test]
async fn more_than_may_be_handed_over_in_one_call_is_a_fault_whether_spans_are_kept_or_not() {
    let limits = Limits { output_bytes: 1024, ..Limits::default() };
    let version = sandbox().load(guest("behaviours"), "behaviours", &limits).await.unwrap();
    let message = message("hostile.span-huge-texts", "");
    let lease = Lease::until(Instant::now() + Duration::from_secs(60));
    for keeps_spans in [true, false] {
        let run = version.handle(Call { keeps_spans, ..call(&message, &lease) }).await;
        assert_eq!(run.outcome.code().0, "output-limit", "{:?}", run.outcome);
    }
}

#[tokio::test]
async fn an_instance_that_is_reused_keeps_the_spans_of_each_message_apart() {
    let limits = Limits { reuse: std::num::NonZeroU32::new(10).unwrap(), ..Limits::default() };
    let version = sandbox().load(guest("behaviours"), "behaviours", &limits).await.unwrap();
    for _message in 0..3 {
        let run = run(&version, &message("steps.leave", "")).await;
        assert_eq!((run.outcome.code().0, run.spans.kept.len(), run.spans.stray_ends), ("completed", 5, 5));
        assert_eq!(named(&run, "order").parent, None, "what the one before left open is not around it");
    }
}

fn invoked(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("behaviours.wasm"), guest("behaviours")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["invoke", "behaviours.wasm"]).args(arguments).current_dir(folder.path()).stdin(Stdio::null());
    command.env_remove("TIDEGATE_CONFIG").output().unwrap()
}

#[test]
fn invoke_shows_spans_nested_with_how_they_ended() {
    let json: Value = serde_json::from_slice(&invoked(&["-s", "steps.leave", "--json"]).stdout).unwrap();
    let spans = json["spans"].as_array().unwrap();
    let names: Vec<_> = spans.iter().map(|span| span["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["order", "parse", "price", "rate", "store"]);
    assert_eq!((&spans[3]["parent"], &spans[3]["ended_by"]), (&json!(2), &json!("outer")));
    assert_eq!((&spans[4]["parent"], &spans[4]["ended_by"]), (&json!(0), &json!("run")));
    assert_eq!(spans[3]["attributes"], json!([["country", "NO"]]));
    assert!(spans[2]["failure"].as_str().unwrap().starts_with("no rate for NO"), "{json:#}");
    assert!(spans[0]["took_us"].as_u64().unwrap() >= spans[2]["took_us"].as_u64().unwrap(), "{json:#}");
    assert_eq!((&json["stray_span_ends"], &json["spans_dropped"]), (&json!(5), &Value::Null));
    assert_eq!((&json["logs"][1]["span"], &json["logs"][0]["span"]), (&json!(1), &Value::Null));

    let output = invoked(&["-s", "steps.leave"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = shown.lines().filter(|line| line.starts_with("span ")).collect();
    let starts =
        ["span      order ", "span        parse ", "span        price ", "span          rate ", "span        store "];
    assert_eq!(lines.len(), starts.len(), "{shown}");
    assert!(lines.iter().zip(starts).all(|(line, start)| line.starts_with(start)), "{shown}");
    assert!(lines[0].ends_with("order.id=7 messaging.system=ours order.id=8, open to the end of the run"), "{shown}");
    assert!(lines[2].contains(", failed: no rate for NO") && lines[3].ends_with("ended with the one around it"));
    assert!(shown.contains("spans that were not open were ended 5 times"), "{shown}");
}
