//! A flame graph as one SVG file, to be opened in a browser: every function as wide as its fuel, above the one that called it.
//!
//! Names come out of a module that a stranger may have built: they are text here, and never markup or script.

use std::fmt::Write as _;

use super::graph::Tree;
use crate::cli::table::number;

/// The width of the whole, in pixels.
const WIDTH: f64 = 1200.0;
const ROW: f64 = 18.0;
/// Above the first row: title and a line of help.
const TOP: f64 = 52.0;
/// What is narrower is not drawn, in pixels: nobody sees it, and there are many.
const NARROWEST: f64 = 0.2;
/// A character of the font, in pixels, at the widest.
const CHARACTER: f64 = 7.2;
/// Rows of functions that are drawn at the most: 9,000 pixels.
const MOST_ROWS: usize = 500;

/// A click shows one function over the whole width, and another one on the lowest row all of them again.
const SCRIPT: &str = include_str!("flame.js");
const STYLE: &str = "text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#111}.f{cursor:pointer}.f text{pointer-events:none}\
.f:hover rect{stroke:#111}.f:focus rect{stroke:#111;stroke-width:2}.f:focus{outline:none}\
rect{stroke:#fff;stroke-width:.5}.bg{fill:#fff;stroke:none}#title{font-size:15px;font-weight:bold}#said{fill:#444}";

pub(super) fn of(tree: &Tree, name: &str) -> String {
    let rows = tree.depth().min(MOST_ROWS);
    #[expect(clippy::cast_precision_loss, reason = "some hundred rows")]
    let height = TOP + ROW * rows as f64 + 8.0;
    let mut out = String::new();
    // Writing into a string does not fail.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\n\
         <style>{STYLE}</style>\n<rect class=\"bg\" width=\"100%\" height=\"100%\"/>\n\
         <text id=\"title\" x=\"8\" y=\"20\">{}: {} fuel</text>\n\
         <text id=\"said\" x=\"8\" y=\"40\">as wide as its fuel; a click on a function shows it alone, one on the lowest row all</text>\n",
        escaped(name),
        number(tree.fuel)
    );
    let canvas = Canvas { whole: tree.fuel.max(1), rows };
    canvas.draw(&mut out, "all", tree, 0, 0);
    let _ = write!(out, "<script><![CDATA[\n{SCRIPT}]]></script>\n</svg>\n");
    out
}

struct Canvas {
    whole: u64,
    rows: usize,
}

impl Canvas {
    /// Draws a function and those that it called, which begin so much fuel from the left. The depth is bounded by the rows.
    fn draw(&self, out: &mut String, name: &str, tree: &Tree, left: u64, row: usize) {
        let width = self.pixels(tree.fuel);
        if width < NARROWEST || row >= self.rows {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "some hundred rows")]
        let (x, y) = (self.pixels(left), TOP + ROW * (self.rows - 1 - row) as f64);
        let below: u64 = tree.below.values().map(|below| below.fuel).sum();
        let own = tree.fuel.saturating_sub(below);
        let tenths = u128::from(tree.fuel) * 1000 / u128::from(self.whole);
        let (fuel, share) = (number(tree.fuel), format!("{}.{}%", tenths / 10, tenths % 10));
        let shown = escaped(name);
        let _ = writeln!(
            out,
            "<g class=\"f\" tabindex=\"0\" data-x=\"{x:.3}\" data-w=\"{width:.3}\" data-r=\"{row}\"><title>{shown}: {fuel} fuel \
             ({share}), own {}</title><rect x=\"{x:.2}\" y=\"{y}\" width=\"{width:.2}\" height=\"{ROW}\" rx=\"2\" fill=\"{}\"/>\
             <text x=\"{:.2}\" y=\"{}\" data-n=\"{shown}\">{}</text></g>",
            number(own),
            colour(name),
            x + 3.0,
            y + 13.0,
            escaped(&fitted(name, width))
        );
        let mut at = left;
        for (name, tree) in &tree.below {
            self.draw(out, name, tree, at, row + 1);
            at += tree.fuel;
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a part of a pixel")]
    fn pixels(&self, fuel: u64) -> f64 {
        WIDTH * (fuel as f64 / self.whole as f64)
    }
}

/// As much of a name as has room.
fn fitted(name: &str, width: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hundred characters at the most")]
    let room = ((width - 6.0).max(0.0) / CHARACTER) as usize;
    match name.chars().count() {
        count if count <= room => name.to_owned(),
        _ if room < 3 => String::new(),
        _ => name.chars().take(room - 1).chain(['…']).collect(),
    }
}

/// The same warm colour for the same name; text on it can be read.
fn colour(name: &str) -> String {
    let hash = name.bytes().fold(2_166_136_261_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
    format!("hsl({},{}%,{}%)", 12 + hash % 40, 75 + (hash >> 8) % 20, 66 + (hash >> 16) % 12)
}

/// Text in XML. What XML has no way to write becomes a question mark.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(stacks: &[(&[&str], u64)]) -> String {
        let stacks: Vec<_> = stacks
            .iter()
            .map(|(stack, fuel)| (stack.iter().map(|name| (*name).into()).collect::<Vec<_>>(), *fuel))
            .collect();
        of(&Tree::of(&stacks), "handler")
    }

    #[test]
    fn a_function_is_as_wide_as_its_fuel_and_stands_on_its_caller() {
        let svg = drawn(&[(&["main"], 100), (&["main", "parse"], 300)]);
        let boxes: Vec<&str> = svg.lines().filter(|line| line.starts_with("<g ")).collect();
        assert_eq!(boxes.len(), 3, "{svg}");
        for (name, x, y, width) in
            [("all", "0.00", 88, "1200.00"), ("main", "0.00", 70, "1200.00"), ("parse", "0.00", 52, "900.00")]
        {
            let place = format!("<rect x=\"{x}\" y=\"{y}\" width=\"{width}\"");
            assert!(
                boxes.iter().any(|line| line.contains(&place) && line.contains(&format!(">{name}</text>"))),
                "{name}: {svg}"
            );
        }
        assert!(svg.contains("<title>parse: 300 fuel (75.0%), own 300</title>"));
        assert!(svg.contains("<title>main: 400 fuel (100.0%), own 100</title>"));
    }

    #[test]
    fn a_hostile_name_is_text() {
        let svg = drawn(&[(&["</text><script>alert(1)</script>\" onload='x' ]]>\u{1}"], 1)]);
        assert_eq!(svg.matches("<script>").count(), 1, "our own: {svg}");
        assert!(!svg.contains("alert(1)</script>\"") && !svg.contains('\u{1}'));
        assert!(svg.contains("&lt;/text&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot; onload=&#39;x&#39; ]]&gt;?"));
    }

    #[test]
    fn what_nobody_sees_is_not_drawn() {
        let many: Vec<(Vec<std::sync::Arc<str>>, u64)> =
            (0..100_000).map(|number| (vec![format!("f{number}").into()], 1)).collect();
        assert!(of(&Tree::of(&many), "h").len() < 10_000);
        let deep: Vec<std::sync::Arc<str>> = (0..1_000).map(|number| format!("f{number}").into()).collect();
        let svg = of(&Tree::of(&[(deep, 1)]), "h");
        assert_eq!(svg.lines().filter(|line| line.starts_with("<g ")).count(), MOST_ROWS);
    }

    #[test]
    fn a_name_is_cut_to_its_room() {
        assert_eq!(fitted("parse_number", 100.0), "parse_number");
        assert_eq!(fitted("parse_number", 60.0), "parse_…");
        assert_eq!(fitted("parse_number", 12.0), "");
    }
}
