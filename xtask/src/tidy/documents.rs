//! Documents that have to keep up with the code: invariants with their tests, a page for every reason code.

use std::collections::BTreeSet;

use super::Problem;
use super::source::Source;

/// Fewer invariants than this in ARCHITECTURE.md, and something that binds is not written down.
const INVARIANTS: usize = 8;

/// Typographer's characters, which do not belong into plain text: hyphens, colons and straight quotes do.
const TYPOGRAPHY: [char; 6] = ['\u{2014}', '\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}', '\u{a0}'];

/// Checks the documents against the code.
pub(super) fn check(sources: &[Source]) -> Vec<Problem> {
    let mut problems = invariants(sources);
    problems.extend(outcome_pages(sources));
    problems.extend(sources.iter().filter(|source| !source.is_generated()).flat_map(typography));
    problems
}

fn invariants(sources: &[Source]) -> Vec<Problem> {
    let path = "ARCHITECTURE.md";
    let missing = |text: String| Problem { path: path.to_owned(), line: 0, rule: "invariant", text };
    let Some(page) = sources.iter().find(|source| source.path == path) else {
        return vec![missing("there is no such file".to_owned())];
    };
    let tests: BTreeSet<&str> = sources.iter().flat_map(Source::test_functions).map(|(name, _)| name).collect();
    let paragraphs = paragraphs(&page.text);
    let invariants: Vec<_> = paragraphs.iter().filter(|(_, text)| is_invariant(text)).collect();
    let mut problems = Vec::new();
    if invariants.len() < INVARIANTS {
        problems.push(missing(format!(
            "{} lines begin with `Invariant:`, and {INVARIANTS} is the least",
            invariants.len()
        )));
    }
    for (line, text) in invariants {
        let named = text.split('`').skip(1).step_by(2).filter_map(|code| code.rsplit("::").next());
        if !named.into_iter().any(|name| tests.contains(name)) {
            let text = "this invariant names no test that exists (`module::test_name`)".to_owned();
            problems.push(Problem { path: path.to_owned(), line: *line, rule: "invariant", text });
        }
    }
    problems
}

fn is_invariant(paragraph: &str) -> bool {
    paragraph.trim_start_matches(['-', '*', ' ']).starts_with("Invariant:")
}

/// Paragraphs and list items with the line that they begin on.
fn paragraphs(text: &str) -> Vec<(usize, String)> {
    let mut paragraphs: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        let begins = !open || is_invariant(line) || line.starts_with("- ") || line.starts_with("* ");
        if line.trim().is_empty() {
            open = false;
        } else if let Some((_, paragraph)) = paragraphs.last_mut().filter(|_| !begins) {
            paragraph.push(' ');
            paragraph.push_str(line);
        } else {
            paragraphs.push((index + 1, line.to_owned()));
            open = true;
        }
    }
    paragraphs
}

fn outcome_pages(sources: &[Source]) -> Vec<Problem> {
    let Some(source) = sources.iter().find(|source| source.path == "host/src/outcome.rs") else { return Vec::new() };
    let mut problems = Vec::new();
    for code in reason_codes(source) {
        // A colon is no character for a file's name everywhere.
        let path = format!("docs/outcomes/{}.md", code.replace(':', "-"));
        match sources.iter().find(|source| source.path == path) {
            None => {
                let text = format!("reason code `{code}` has no page");
                problems.push(Problem { path, line: 0, rule: "outcome-page", text });
            }
            Some(page) if !page.text.starts_with(&format!("# `{code}`\n")) => {
                problems.push(page.whole("outcome-page", format!("the page does not begin with \"# `{code}`\"")));
            }
            Some(_) => {}
        }
    }
    problems
}

/// The codes that are made in `outcome.rs`: the literals in `ReasonCode(..)`, and in `Self(..)` of its constants.
fn reason_codes(source: &Source) -> BTreeSet<&str> {
    let mut codes = BTreeSet::new();
    for word in ["ReasonCode(", "Self("] {
        for place in source.words(word).filter(|place| !source.is_test(*place)) {
            let group = source.group(place + word.len() - 1);
            let quotes: Vec<usize> = source
                .code
                .get(group.clone())
                .unwrap_or_default()
                .match_indices('"')
                .map(|(at, _)| group.start + at)
                .collect();
            for pair in quotes.chunks_exact(2) {
                if let [open, close] = pair
                    && let Some(code) = source.text.get(open + 1..*close)
                {
                    codes.insert(code);
                }
            }
        }
    }
    codes
}

fn typography(source: &Source) -> Vec<Problem> {
    let lines = source.text.lines().enumerate();
    let found = lines.filter_map(|(index, line)| line.find(TYPOGRAPHY).map(|_| index + 1));
    found
        .map(|line| Problem {
            path: source.path.clone(),
            line,
            rule: "typography",
            text: "long dash, curly quote or hard space: write plain text".to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: impl Into<String>) -> Source {
        Source::new(path, text.into())
    }

    #[test]
    fn an_invariant_names_a_test_that_exists() {
        let tests = source("host/tests/it/a.rs", "#[test]\nfn nothing_is_lost() {}\nfn helper() {}");
        let good = "- Invariant: nothing is lost\n  (`a::nothing_is_lost`).\n".repeat(8);
        assert_eq!(invariants(&[source("ARCHITECTURE.md", good.clone()), tests]), []);
        let tests = source("host/tests/it/a.rs", "#[test]\nfn nothing_is_lost() {}\nfn helper() {}");
        let bad = format!("{good}\nInvariant: helped (`helper`).\n");
        let found = invariants(&[source("ARCHITECTURE.md", bad), tests]);
        assert_eq!(found.iter().map(|problem| problem.line).collect::<Vec<_>>(), [18]);
        assert_eq!(invariants(&[source("ARCHITECTURE.md", "Invariant: one")]).len(), 2);
        assert_eq!(invariants(&[]).len(), 1);
    }

    #[test]
    fn every_reason_code_has_its_page() {
        let code = r#"
            impl ReasonCode { pub const A: Self = Self("used-up"); }
            fn code() -> ReasonCode { ReasonCode(match x { A => "trap:other", B => "timeout" }) }
            fn name() -> &'static str { "no-code" }
        "#;
        let outcome = || source("host/src/outcome.rs", code);
        assert_eq!(reason_codes(&outcome()).into_iter().collect::<Vec<_>>(), ["timeout", "trap:other", "used-up"]);
        let page = |name: &str, code: &str| source(&format!("docs/outcomes/{name}.md"), format!("# `{code}`\n\nText."));
        let pages = [outcome(), page("timeout", "timeout"), page("trap-other", "trap:other"), page("used-up", "used")];
        let found: Vec<_> = outcome_pages(&pages).into_iter().map(|problem| problem.path).collect();
        assert_eq!(found, ["docs/outcomes/used-up.md"]);
        assert_eq!(outcome_pages(&[outcome()]).len(), 3);
    }

    #[test]
    fn typographers_characters_are_found() {
        let text = "plain - text\na \u{2014} dash\n\"straight\" \u{201c}curly\u{201d}\n";
        assert_eq!(typography(&source("a.md", text)).iter().map(|found| found.line).collect::<Vec<_>>(), [2, 3]);
    }
}
