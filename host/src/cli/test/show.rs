//! What came of cases: for people, and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::cases::{Case, Checked, Difference, Rewritten, Stopped};
use crate::cli::table::{duration, harmless, number};
use crate::handler::Effect;

/// So many lines of its log, and frames of a trap, are shown of a case that is not as expected.
const MOST_LINES: usize = 10;

/// All of them.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    cases: Vec<Shown>,
    passed: usize,
    pub(super) failed: usize,
    /// Nothing is expected of them.
    open: usize,
    updated: usize,
    fuel: u64,
    pub(super) seconds: f64,
    #[serde(skip)]
    pub(super) written: Vec<Rewritten>,
}

/// One case.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    handler: String,
    place: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    result: CaseResult,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    fuel: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<Difference>,
    /// How it was stopped under the fault `limits`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stopped: Vec<Stopped>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    effects: Vec<Effect>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    backtrace: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum CaseResult {
    Ok,
    Failed,
    /// Nothing is expected of it.
    Open,
    /// What came is expected from now on.
    Updated,
}

impl Report {
    pub(super) fn add(&mut self, shown: Shown) {
        *match shown.result {
            CaseResult::Ok => &mut self.passed,
            CaseResult::Failed => &mut self.failed,
            CaseResult::Open => &mut self.open,
            CaseResult::Updated => &mut self.updated,
        } += 1;
        self.fuel = self.fuel.saturating_add(shown.fuel);
        self.cases.push(shown);
    }

    pub(super) fn summary(&self) -> String {
        let mut text = String::new();
        for Rewritten { file, cases } in &self.written {
            let _ = writeln!(text, "wrote {}: {} expected from now on", file.display(), cases_of(*cases));
        }
        let _ = write!(text, "{}: {} as expected", cases_of(self.cases.len()), self.passed);
        for (count, said) in
            [(self.failed, "not"), (self.updated, "updated"), (self.open, "of which nothing is expected")]
        {
            if count > 0 {
                let _ = write!(text, ", {count} {said}");
            }
        }
        let took = duration(Duration::from_secs_f64(self.seconds));
        let _ = writeln!(text, "; {} fuel, in {took}", number(self.fuel));
        text
    }
}

fn cases_of(count: usize) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} case{plural}", number(u64::try_from(count).unwrap_or(u64::MAX)))
}

impl Shown {
    pub(super) fn new(handler: &str, case: &Case, checked: &Checked, updated: bool) -> Self {
        let Checked { run, differences, under_faults, stopped, ran: _ } = checked;
        // Of what is expected from now on, only what faults did is left to be told.
        let differences: Vec<Difference> =
            differences.iter().filter(|_| !updated).chain(under_faults).cloned().collect();
        let result = match (differences.is_empty(), updated, &case.expect) {
            (false, _, _) => CaseResult::Failed,
            (true, true, _) => CaseResult::Updated,
            (true, false, Some(_)) => CaseResult::Ok,
            (true, false, None) => CaseResult::Open,
        };
        let fault = if let crate::outcome::Outcome::Fault(fault) = &run.outcome { Some(fault) } else { None };
        Self {
            handler: handler.to_owned(),
            place: case.place.clone(),
            name: case.name.clone(),
            result,
            outcome: run.outcome.code().0,
            detail: run.outcome.detail(),
            fuel: run.usage.fuel,
            differences,
            stopped: stopped.clone(),
            effects: run.effects.clone(),
            logs: checked.logs(),
            backtrace: fault.map(|fault| fault.backtrace.clone()).unwrap_or_default(),
        }
    }

    pub(super) fn is_failure(&self) -> bool {
        self.result == CaseResult::Failed
    }

    pub(super) fn for_people(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let word = match self.result {
            CaseResult::Ok => "ok",
            CaseResult::Failed => "FAILED",
            CaseResult::Open => "open",
            CaseResult::Updated => "updated",
        };
        let name = self.name.as_deref().map(|name| format!(" {}", harmless(name))).unwrap_or_default();
        write!(out, "{word:<8}{}{name}", harmless(&self.place))?;
        match self.result {
            CaseResult::Ok => writeln!(out, " ({} fuel)", number(self.fuel))?,
            CaseResult::Open | CaseResult::Updated => {
                writeln!(out, ": {} ({} fuel)", self.outcome, number(self.fuel))?;
            }
            CaseResult::Failed => writeln!(out)?,
        }
        if !self.is_failure() {
            return Ok(());
        }
        for Difference { what, text, lines } in &self.differences {
            writeln!(out, "        {what}: {}", under(text))?;
            for line in lines {
                writeln!(out, "            {}", under(line))?;
            }
        }
        for frame in self.backtrace.iter().take(MOST_LINES) {
            writeln!(out, "        at {}", under(frame))?;
        }
        for effect in self.effects.iter().take(MOST_LINES) {
            writeln!(out, "        effect: {}", under(&effect.to_string()))?;
        }
        if self.effects.len() > MOST_LINES {
            writeln!(out, "        effect: ... and {} more", self.effects.len() - MOST_LINES)?;
        }
        for line in self.logs.iter().take(MOST_LINES) {
            writeln!(out, "        log: {}", under(line))?;
        }
        if self.logs.len() > MOST_LINES {
            writeln!(out, "        log: ... and {} lines more", self.logs.len() - MOST_LINES)?;
        }
        Ok(())
    }
}

/// A text of several lines, each under the first.
fn under(text: &str) -> String {
    harmless(text.trim_end()).replace('\n', "\n            ")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn shown(result: CaseResult, name: Option<&str>) -> Shown {
        let difference = Difference {
            what: "output 1".to_owned(),
            text: "expected the JSON `{\"a\":1}`, and it is `{\"a\":2}`".to_owned(),
            lines: vec!["- .a: 1".to_owned(), "+ .a: 2".to_owned()],
        };
        Shown {
            handler: "invoice".to_owned(),
            place: "orders.jsonl:2".to_owned(),
            name: name.map(str::to_owned),
            result,
            outcome: "completed",
            detail: None,
            fuel: 8250,
            differences: vec![difference],
            stopped: Vec::new(),
            effects: vec![Effect::Deleted { bucket: "seen".to_owned(), key: "7".to_owned() }],
            logs: vec!["info invoicing\u{1b} order 7".to_owned()],
            backtrace: vec!["invoice::run".to_owned()],
        }
    }

    #[test]
    fn what_is_not_as_expected_is_shown_with_what_helps() {
        let mut report = Report { seconds: 0.25, ..Report::default() };
        let mut text = String::new();
        for (result, name) in [
            (CaseResult::Ok, Some("an order")),
            (CaseResult::Failed, Some("a free order")),
            (CaseResult::Open, None),
            (CaseResult::Updated, None),
        ] {
            let one = shown(result, name);
            text += &one.for_people();
            report.add(one);
        }
        text += &report.summary();
        expect![[r#"
            ok      orders.jsonl:2 an order (8,250 fuel)
            FAILED  orders.jsonl:2 a free order
                    output 1: expected the JSON `{"a":1}`, and it is `{"a":2}`
                        - .a: 1
                        + .a: 2
                    at invoice::run
                    effect: would delete 7 in bucket seen
                    log: info invoicing\u{1b} order 7
            open    orders.jsonl:2: completed (8,250 fuel)
            updated orders.jsonl:2: completed (8,250 fuel)
            4 cases: 1 as expected, 1 not, 1 updated, 1 of which nothing is expected; 33,000 fuel, in 250.00 ms
        "#]]
        .assert_eq(&text);
    }
}
