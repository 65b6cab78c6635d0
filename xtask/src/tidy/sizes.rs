//! No file over 400 lines, no function over 70: past that there is a missing noun.

use super::Problem;
use super::source::Source;

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 70;

/// Checks the code of a file that is not test code.
pub(super) fn check(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    let lines = lines(source);
    if lines > FILE_LINES {
        problems
            .push(source.whole("file-size", format!("{lines} lines without its tests, and {FILE_LINES} is the limit")));
    }
    for (name, range) in source.functions() {
        let lines = source.line(range.end) - source.line(range.start) + 1;
        if lines > FUNCTION_LINES && !source.is_test(range.start) {
            let text = format!("`{name}` has {lines} lines, and {FUNCTION_LINES} is the limit");
            problems.push(source.problem(range.start, "function-size", text));
        }
    }
    problems
}

/// How many lines are not test code.
fn lines(source: &Source) -> usize {
    let mut start = 0;
    let mut count = 0;
    for line in source.text.split_inclusive('\n') {
        count += usize::from(!source.is_test(start));
        start += line.len();
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: String) -> Vec<String> {
        check(&Source::new(path, text)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_are_not_counted() {
        let code = "// a line\n".repeat(400);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "// a line\n".repeat(400));
        assert!(problems("a.rs", code.clone()).is_empty());
        assert!(problems("a.rs", format!("{code}{tests}")).is_empty());
        assert_eq!(
            problems("a.rs", format!("{code}// one more\n")),
            ["a.rs: 401 lines without its tests, and 400 is the limit (file-size)"]
        );
        assert!(problems("host/tests/it/a.rs", code.repeat(2)).is_empty());
    }

    #[test]
    fn a_long_function_is_found() {
        let function = |lines| format!("\nfn long() {{\n{}}}\n", "    step();\n".repeat(lines));
        assert!(problems("a.rs", function(68)).is_empty());
        assert_eq!(
            problems("a.rs", function(69)),
            ["a.rs:2: `long` has 71 lines, and 70 is the limit (function-size)"]
        );
    }
}
