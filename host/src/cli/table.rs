//! Tables and figures for people.

use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

/// A table with these columns; as wide as its content.
pub(super) fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(columns.to_vec());
    table
}

/// The table as text, without the space before the first column and those at the ends of its lines. An empty first cell
/// keeps its width.
pub(super) fn rendered(table: &Table) -> String {
    let lines: Vec<String> =
        table.lines().map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}

/// A number with its thousands apart: `1,000,000`.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A size in the largest unit that leaves a number above one.
pub(super) fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// A duration in three digits or so.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds >= 100.0 {
        humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
    } else if seconds >= 1.0 {
        format!("{seconds:.2} s")
    } else if seconds >= 0.001 {
        format!("{:.2} ms", seconds * 1e3)
    } else {
        format!("{:.1} us", seconds * 1e6)
    }
}

/// A text on one line, cut to a number of characters.
pub(super) fn cut(text: &str, characters: usize) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut shown: String = plain.clone().take(characters).collect();
    if plain.count() > characters {
        shown.pop();
        shown.push('…');
    }
    shown
}

/// A text that a stranger wrote, fit for a terminal: control characters but newlines and tabs are spelled out.
pub(super) fn harmless(text: &str) -> String {
    let spelled = |c: char| match c {
        '\n' | '\t' => c.to_string(),
        other if other.is_control() => other.escape_default().to_string(),
        other => other.to_string(),
    };
    text.chars().map(spelled).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second row of a handler that is tried beside another has no name, and its version stood under HANDLER.
    #[test]
    fn an_empty_first_cell_keeps_its_place() {
        let mut rows = table(&["HANDLER", "VERSION", "NOTE"]);
        rows.add_row(["ledger", "2", ""]).add_row(["", "3", "canary"]);
        assert_eq!(rendered(&rows), "HANDLER  VERSION  NOTE\nledger   2\n         3        canary\n");
    }

    #[test]
    fn figures_are_for_people() {
        for (value, shown) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(value), shown);
        }
        let durations =
            [(1_500, "1.5 us"), (2_500_000, "2.50 ms"), (1_250_000_000, "1.25 s"), (200_000_000_000, "3m 20s")];
        for (nanos, shown) in durations {
            assert_eq!(duration(Duration::from_nanos(nanos)), shown);
        }
        assert_eq!(size(1 << 20), "1.0 MiB");
        assert_eq!(cut("one\ntwo three", 8), "one two…");
        assert_eq!(harmless("a\n\u{1b}[31m"), "a\n\\u{1b}[31m");
    }
}
