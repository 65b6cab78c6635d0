//! A profile in words, for people.

use std::fmt::Write as _;

use super::Report;
use super::graph::Function;
use crate::cli::table::{cut, harmless, number};

/// A name that is longer is cut: generic functions have names of several lines.
const NAME_WIDTH: usize = 100;
/// Above this share of fuel without names, in percent, there is something to do about it.
const MUCH: u64 = 20;

pub(super) fn of(report: &Report, top: usize) -> String {
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = write(report, top, &mut text);
    text
}

fn write(report: &Report, top: usize, out: &mut String) -> std::fmt::Result {
    let digest = report.digest.get(..12).unwrap_or(&report.digest);
    writeln!(out, "module    {} ({digest})", report.module)?;
    writeln!(out, "message   {}", harmless(&report.message))?;
    writeln!(out, "outcome   {}", report.outcome)?;
    if let Some(detail) = &report.detail {
        writeln!(out, "          {}", cut(detail, NAME_WIDTH))?;
    }
    let every = match report.interval {
        1 => "wherever it can be looked at".to_owned(),
        interval => format!("every {} or more", number(interval)),
    };
    writeln!(out, "fuel      {}, looked at {} times: {every}", number(report.fuel), number(report.looks))?;
    if report.fuel > 0 && report.nameless.saturating_mul(100) / report.fuel >= MUCH {
        writeln!(
            out,
            "\n{} of it went into functions without names: the module has none. Build it with them: for Rust\n\
             `strip = \"debuginfo\"` in the profile and not `strip = true`; for C no `-s` and no `--strip-all`; and no tool behind\n\
             the build that strips.",
            percent(report.nameless, report.fuel)
        )?;
    }
    let own: Vec<&Function> = report.functions.0.iter().collect();
    writeln!(out, "\nwhere it went\n{}", rows(&own, report.fuel, top))?;
    let inclusive = report.functions.by_inclusive();
    write!(out, "with what they called\n{}", rows(&inclusive, report.fuel, top))
}

fn rows(functions: &[&Function], fuel: u64, top: usize) -> String {
    let mut text = format!("{:>13} {:>6}  {:>13} {:>6}  FUNCTION\n", "OWN", "", "WITH CALLS", "");
    for function in functions.iter().take(top) {
        let (own, inclusive) = (number(function.own), number(function.inclusive));
        let (own_share, inclusive_share) = (percent(function.own, fuel), percent(function.inclusive, fuel));
        let name = cut(&function.name, NAME_WIDTH);
        let _ = writeln!(text, "{own:>13} {own_share:>6}  {inclusive:>13} {inclusive_share:>6}  {name}");
    }
    let more = functions.len().saturating_sub(top);
    if more > 0 {
        let _ = writeln!(text, "... and {more} more; --top shows more");
    }
    text
}

fn percent(part: u64, whole: u64) -> String {
    // In tenths, and by whole numbers: it is the same on every machine.
    let tenths = u128::from(part) * 1000 / u128::from(whole.max(1));
    format!("{}.{}%", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::graph::Functions;
    use super::*;

    fn report(nameless: u64) -> Report {
        let stack = |names: &str, fuel| (names.split('/').map(Into::into).collect::<Vec<_>>(), fuel);
        let stacks = [stack("handle", 1_000), stack("handle/parse", 9_000), stack("handle/function 7", nameless)];
        Report {
            module: "a.wasm".to_owned(),
            digest: "0123456789abcdef".to_owned(),
            message: "invoke-1 on a".to_owned(),
            outcome: "completed",
            detail: None,
            fuel: 10_000 + nameless,
            looks: 250,
            interval: 1,
            nameless,
            functions: Functions::of(&stacks),
        }
    }

    #[test]
    fn it_says_where_the_fuel_went() {
        expect![[r#"
            module    a.wasm (0123456789ab)
            message   invoke-1 on a
            outcome   completed
            fuel      10,100, looked at 250 times: wherever it can be looked at

            where it went
                      OWN            WITH CALLS         FUNCTION
                    9,000  89.1%          9,000  89.1%  parse
                    1,000   9.9%         10,100 100.0%  handle
            ... and 1 more; --top shows more

            with what they called
                      OWN            WITH CALLS         FUNCTION
                    1,000   9.9%         10,100 100.0%  handle
                    9,000  89.1%          9,000  89.1%  parse
            ... and 1 more; --top shows more
        "#]]
        .assert_eq(&of(&report(100), 2));
    }

    #[test]
    fn a_module_without_names_says_what_to_do() {
        let text = of(&report(40_000), 5);
        assert!(
            text.contains("80.0% of it went into functions without names") && text.contains("strip = \"debuginfo\""),
            "{text}"
        );
    }
}
