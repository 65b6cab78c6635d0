//! Dead letters as people see them.

use std::fmt::Write as _;

use super::body;
use crate::admin::wire::DeadLetterView;
use crate::cli::table::{cut, duration, harmless, number, rendered, size, table};

/// What a caller is told who may see that a message died, and not what was in it.
pub(super) const WITHHELD: &str = "the log lines, the headers and the body are payload, and need the role `operate`";

/// A line a dead letter.
pub(super) fn list(letters: &[DeadLetterView]) -> String {
    let mut table = table(&["ID", "DEAD AT", "SUBSCRIPTION", "REASON", "ATTEMPTS", "SUBJECT", "ERROR"]);
    for letter in letters {
        let reason =
            if letter.redriven_at.is_some() { format!("{} (redriven)", letter.reason) } else { letter.reason.clone() };
        table.add_row(vec![
            cut(&letter.id, 64),
            letter.dead_at.clone(),
            letter.subscription.clone(),
            reason,
            letter.attempts.to_string(),
            cut(&letter.subject, 32),
            cut(&letter.error, 48),
        ]);
    }
    rendered(&table)
}

/// All of one.
pub(super) fn one(letter: &DeadLetterView, as_hex: bool) -> String {
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = write_one(&mut text, letter, as_hex);
    text
}

fn write_one(out: &mut String, letter: &DeadLetterView, as_hex: bool) -> std::fmt::Result {
    writeln!(out, "id            {}", harmless(&letter.id))?;
    writeln!(out, "reason        {}", harmless(&letter.reason))?;
    writeln!(out, "error         {}", harmless(&letter.error).replace('\n', "\n              "))?;
    writeln!(out, "fingerprint   {}", harmless(&letter.fingerprint))?;
    let stream = letter.stream.as_deref().map(|stream| format!(", stream {stream}")).unwrap_or_default();
    writeln!(out, "message       {}", harmless(&letter.message_id))?;
    writeln!(out, "subject       {}", harmless(&letter.subject))?;
    writeln!(out, "place         broker {}{}, sequence {}", letter.broker, harmless(&stream), letter.sequence)?;
    writeln!(out, "subscription  {}", harmless(&letter.subscription))?;
    let digest = letter.digest.get(..12).unwrap_or(&letter.digest);
    let version = letter.version.map(|version| format!("@{version}")).unwrap_or_default();
    writeln!(out, "handler       {}{version} ({})", harmless(&letter.handler), harmless(digest))?;
    if letter.same_version {
        writeln!(out, "              this version still runs: sent back, the message may fail again")?;
    }
    if let Some(trace) = &letter.trace_id {
        writeln!(out, "trace         {}", harmless(trace))?;
    }
    writeln!(out, "host          {}", harmless(&letter.host))?;
    writeln!(out, "published     {}", letter.published_at)?;
    writeln!(out, "first seen    {}", letter.first_seen)?;
    writeln!(out, "dead          {}", letter.dead_at)?;
    if let Some(at) = &letter.redriven_at {
        writeln!(out, "redriven      {at}")?;
    }
    writeln!(
        out,
        "attempts      {} of {} deliveries, {} deferred, {} timed out, {} redriven before",
        letter.attempts, letter.deliveries, letter.defers, letter.timeouts, letter.redrives
    )?;
    // The record counts whole milliseconds, and most handlers take less than one.
    let took = match letter.run_ms {
        0 => "under 1 ms".to_owned(),
        run_ms => duration(std::time::Duration::from_millis(run_ms)),
    };
    let (fuel, limit) = (number(letter.fuel_used), number(letter.fuel_limit));
    writeln!(out, "last run      {took}, fuel {fuel} of {limit}, memory {}", size(letter.memory_peak_bytes))?;
    for frame in &letter.backtrace {
        writeln!(out, "              at {}", harmless(frame))?;
    }
    for line in &letter.logs {
        writeln!(out, "log           {}", harmless(line).replace('\n', "\n              "))?;
    }
    for failure in &letter.history {
        let (at, error) = (&failure.at, cut(&failure.error, 80));
        writeln!(out, "failure {:<5} {at} {} {error}", failure.attempt, harmless(&failure.reason))?;
    }
    for (name, value) in &letter.headers {
        writeln!(out, "header        {}: {}", harmless(name), harmless(value))?;
    }
    writeln!(out, "body          {}", size(letter.body_size))?;
    match body::bytes(letter) {
        Ok(bytes) if bytes.is_empty() => Ok(()),
        Ok(bytes) => writeln!(out, "\n{}", body::shown(&bytes, as_hex)),
        Err(why) => writeln!(out, "\n{why:#}"),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::admin::wire::FailureView;

    fn letter() -> DeadLetterView {
        let at = "2026-11-23T21:00:00.000Z".to_owned();
        DeadLetterView {
            id: "01JX".to_owned(),
            broker: "local".to_owned(),
            subscription: "webhooks".to_owned(),
            reason: "trap:unreachable".to_owned(),
            error: "panicked at src/lib.rs:9:\n\u{1b}[31mno such order".to_owned(),
            fingerprint: "0123456789abcdef".to_owned(),
            subject: "github.push".to_owned(),
            message_id: "d1".to_owned(),
            stream: None,
            sequence: 7,
            published_at: at.clone(),
            first_seen: at.clone(),
            dead_at: at.clone(),
            redriven_at: Some(at.clone()),
            attempts: 2,
            max_attempts: Some(10),
            deliveries: 3,
            defers: 1,
            timeouts: 0,
            redrives: 0,
            handler: "triage".to_owned(),
            digest: "ab".repeat(32),
            version: Some(7),
            same_version: false,
            trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned()),
            host: "host-1".to_owned(),
            fuel_used: 12_345,
            fuel_limit: 1_000_000_000,
            memory_peak_bytes: 1 << 20,
            run_ms: 3,
            backtrace: vec!["triage::handle".to_owned()],
            logs: vec!["warn no order\u{1b} here".to_owned()],
            history: vec![FailureView {
                attempt: 1,
                at,
                run_ms: 3,
                reason: "trap:unreachable".to_owned(),
                error: "panicked".to_owned(),
            }],
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            raw_headers: Vec::new(),
            payload_withheld: false,
            body_size: 7,
            body: Some("{\"n\":1}".to_owned()),
            body_base64: None,
        }
    }

    #[test]
    fn a_list_has_a_line_a_dead_letter() {
        let other = DeadLetterView { redriven_at: None, error: "x".repeat(60), ..letter() };
        expect![[r#"
            ID    DEAD AT                   SUBSCRIPTION  REASON                       ATTEMPTS  SUBJECT      ERROR
            01JX  2026-11-23T21:00:00.000Z  webhooks      trap:unreachable (redriven)  2         github.push  panicked at src/lib.rs:9:  [31mno such order
            01JX  2026-11-23T21:00:00.000Z  webhooks      trap:unreachable             2         github.push  xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
        "#]].assert_eq(&list(&[letter(), other]));
    }

    #[test]
    fn one_is_shown_whole_and_cannot_play_with_the_terminal() {
        let shown = one(&letter(), false);
        assert!(!shown.contains('\u{1b}'), "{shown}");
        expect![[r#"
            id            01JX
            reason        trap:unreachable
            error         panicked at src/lib.rs:9:
                          \u{1b}[31mno such order
            fingerprint   0123456789abcdef
            message       d1
            subject       github.push
            place         broker local, sequence 7
            subscription  webhooks
            handler       triage@7 (abababababab)
            trace         4bf92f3577b34da6a3ce929d0e0e4736
            host          host-1
            published     2026-11-23T21:00:00.000Z
            first seen    2026-11-23T21:00:00.000Z
            dead          2026-11-23T21:00:00.000Z
            redriven      2026-11-23T21:00:00.000Z
            attempts      2 of 3 deliveries, 1 deferred, 0 timed out, 0 redriven before
            last run      3.00 ms, fuel 12,345 of 1,000,000,000, memory 1.0 MiB
                          at triage::handle
            log           warn no order\u{1b} here
            failure 1     2026-11-23T21:00:00.000Z trap:unreachable panicked
            header        Content-Type: application/json
            body          7 B

            {
              "n": 1
            }
        "#]]
        .assert_eq(&shown);
    }
}
