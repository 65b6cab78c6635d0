//! What a session says, as lines of text: pure, but for the one place that writes them.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::Duration;

use super::rerun::Reran;
use crate::admin::wire::{EndedView, LogView, SentView};
use crate::cli::say;
use crate::cli::table::{cut, duration, harmless, number, size};
use crate::outcome::Outcome;

/// Of an output's body, so many characters are shown.
const START_CHARS: usize = 160;

/// How something went, by which it is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Well,
    Wait,
    Badly,
    Plain,
}

/// Where lines go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    colours: bool,
}

impl Screen {
    /// Standard output, with colours on a terminal unless `NO_COLOR` is set.
    pub(super) fn new() -> Self {
        Self { colours: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
    }

    /// Writes what is said.
    pub(super) fn say(self, text: &str) -> anyhow::Result<()> {
        say::data(text)
    }

    /// A text in the colour of its tone.
    pub(super) fn toned(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Well => "32",
            Tone::Wait => "33",
            Tone::Badly => "31",
            Tone::Plain => return text.to_owned(),
        };
        if self.colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// What became of a delivery, with what its run logged and published below it.
    pub(super) fn ended(self, ended: &EndedView) -> String {
        let mut text = format!("{} #{}", harmless(&ended.subject), ended.sequence);
        if let Some(version) = ended.version {
            text += &format!(" on @{version}");
        }
        let (tone, words) = came_to(ended);
        text += &format!(": {}", self.toned(tone, &words));
        if ended.version.is_some() {
            let took = duration(Duration::from_micros(ended.run_us));
            text += &format!(" in {took}, {} fuel", number(ended.fuel_used));
        }
        if let Some(detail) = &ended.detail {
            text += &format!(": {}", indented(detail));
        }
        if let Some(ms) = ended.again_in_ms {
            text += &format!(" (attempt {}, again in {})", ended.attempt, duration(Duration::from_millis(ms)));
        }
        text.push('\n');
        if let Some(id) = &ended.dead_letter {
            text += &format!("    tidegate dlq show {}\n", harmless(id));
        }
        self.below(&mut text, &ended.logs, &ended.outputs);
        text
    }

    /// What came of a message that was run again.
    pub(super) fn reran(self, reran: &Reran) -> String {
        let Reran { before, run, outputs } = reran;
        let code = run.outcome.code().0;
        let tone = match run.outcome {
            Outcome::Completed(_) | Outcome::Skipped(_) => Tone::Well,
            Outcome::Retry { .. } | Outcome::Defer { .. } => Tone::Wait,
            Outcome::Rejected(_) | Outcome::Fault(_) => Tone::Badly,
        };
        let mut text =
            format!("{} #{}: {}", harmless(&before.message.subject), before.message.sequence, self.toned(tone, code));
        if code != before.came_to {
            text += &format!(", was {}", before.came_to);
        }
        text += &format!(" in {}, {} fuel", duration(run.usage.duration), number(run.usage.fuel));
        if let Some(detail) = run.outcome.detail() {
            text += &format!(": {}", indented(&detail));
        }
        text.push('\n');
        let logs: Vec<LogView> = run.logs.iter().cloned().map(LogView::new).collect();
        let outputs: Vec<SentView> = outputs.iter().map(SentView::routed).collect();
        self.below(&mut text, &logs, &outputs);
        for effect in &run.effects {
            text += &format!("    => {}\n", harmless(&effect.to_string()));
        }
        text
    }

    fn below(self, text: &mut String, logs: &[LogView], outputs: &[SentView]) {
        for line in logs {
            let tone = match line.level.as_str() {
                "error" => Tone::Badly,
                "warn" => Tone::Wait,
                _ => Tone::Plain,
            };
            // Padded before it is coloured: the codes have no width.
            let level = self.toned(tone, &format!("{:<5}", line.level));
            // Writing into a string does not fail.
            let _ = write!(text, "    {level} {}", indented(&line.text));
            for (name, value) in &line.fields {
                let _ = write!(text, " {}={}", harmless(name), harmless(value));
            }
            text.push('\n');
        }
        for output in outputs {
            let (subject, start) = (harmless(&output.subject), cut(&output.start, START_CHARS));
            let _ = writeln!(text, "    -> {subject}, {}: {start}", size(output.size));
        }
    }
}

/// What a delivery came to, in words: what it was settled as, and when that is not all, why.
fn came_to(ended: &EndedView) -> (Tone, String) {
    let reason = harmless(&ended.reason);
    match ended.settled_as.as_str() {
        "completed" | "skipped" | "already-done" => (Tone::Well, ended.settled_as.clone()),
        "retried" | "returned" => (Tone::Wait, reason),
        other => (Tone::Badly, format!("{} as {reason}", harmless(other))),
    }
}

/// A text of several lines, each under the first.
fn indented(text: &str) -> String {
    harmless(text.trim_end()).replace('\n', "\n          ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const PLAIN: Screen = Screen { colours: false };

    fn ended(settled_as: &str, reason: &str, rest: serde_json::Value) -> EndedView {
        let mut value = serde_json::json!({
            "at": "", "broker": "b", "subscription": "s", "handler": "h", "version": 3, "message_id": "id-12",
            "sequence": 12, "subject": "orders.new", "attempt": 1, "settled_as": settled_as, "reason": reason,
            "fuel_used": 12345, "run_us": 310,
        });
        value.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn every_ending_is_told_with_what_the_run_did() {
        let log = |level: &str, text: &str| serde_json::json!({ "at_us": 1, "level": level, "text": text, "fields": [["cents", "120"]] });
        let output = serde_json::json!({ "broker": "b", "subject": "invoices", "size": 9, "start": "120 cents" });
        let all = [
            ended(
                "completed",
                "completed",
                serde_json::json!({ "logs": [log("info", "invoicing\norder \u{1b}[31m7")], "outputs": [output] }),
            ),
            ended("retried", "handler-retry", serde_json::json!({ "again_in_ms": 2500, "detail": "gateway: away" })),
            ended(
                "dead-lettered",
                "handler-rejected",
                serde_json::json!({ "detail": "free-order: costs nothing", "dead_letter": "01JD" }),
            ),
            EndedView { version: None, ..ended("dead-lettered", "expired", serde_json::json!({})) },
            ended("skipped", "skipped", serde_json::json!({ "logs": [log("warn", "a test order")] })),
        ];
        let text: String = all.iter().map(|ended| PLAIN.ended(ended)).collect();
        expect_test::expect![[r#"
            orders.new #12 on @3: completed in 310.0 us, 12,345 fuel
                info  invoicing
                      order \u{1b}[31m7 cents=120
                -> invoices, 9 B: 120 cents
            orders.new #12 on @3: handler-retry in 310.0 us, 12,345 fuel: gateway: away (attempt 1, again in 2.50 s)
            orders.new #12 on @3: dead-lettered as handler-rejected in 310.0 us, 12,345 fuel: free-order: costs nothing
                tidegate dlq show 01JD
            orders.new #12: dead-lettered as expired
            orders.new #12 on @3: skipped in 310.0 us, 12,345 fuel
                warn  a test order cents=120
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn colours_are_for_terminals() {
        let coloured = Screen { colours: true }.ended(&ended("completed", "completed", serde_json::json!({})));
        assert!(coloured.contains("\u{1b}[32mcompleted\u{1b}[0m"), "{coloured:?}");
        assert_eq!(PLAIN.toned(Tone::Badly, "x"), "x");
    }
}
