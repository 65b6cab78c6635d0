//! The terminal while `tidegate top` has it: a screen of its own, without a cursor.
//!
//! Invariant: what was on the terminal is there again when this is left or dropped.

use std::io::{Write as _, stdout};

use anyhow::Context as _;
use console::Style;
use rustix::termios::tcgetwinsize;

use super::draw::{Line, Mark, Size};

/// A terminal that does not say its size has as much as terminals always had.
const SIZE: Size = Size { rows: 24, columns: 80 };
/// The alternate screen, no cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// From the upper left corner on; the rest of a line; the rest of the screen.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// A screen of its own.
pub(super) struct Screen {
    entered: bool,
}

impl Screen {
    pub(super) fn enter() -> anyhow::Result<Self> {
        write(ENTER)?;
        Ok(Self { entered: true })
    }

    pub(super) fn size() -> Size {
        let size =
            tcgetwinsize(stdout()).ok().map(|size| Size { rows: size.ws_row.into(), columns: size.ws_col.into() });
        size.filter(|size| size.rows > 0 && size.columns > 0).unwrap_or(SIZE)
    }

    /// Puts lines in the place of what is there. They are as many and as long as fit.
    pub(super) fn draw(&mut self, lines: &[Line]) -> anyhow::Result<()> {
        let lines: Vec<String> = lines.iter().map(|line| styled(line) + CLEAR_LINE).collect();
        write(&format!("{HOME}{}{CLEAR_BELOW}", lines.join("\r\n")))
    }

    /// Gives the terminal back.
    pub(super) fn leave(mut self) -> anyhow::Result<()> {
        self.entered = false;
        write(LEAVE)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.entered {
            // A terminal that is gone needs nothing back.
            let _ = write(LEAVE);
        }
    }
}

fn write(text: &str) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("writing to the terminal")
}

fn styled(line: &Line) -> String {
    let style = match line.mark {
        Mark::Plain => return line.text.clone(),
        Mark::Head => Style::new().bold(),
        Mark::Warn => Style::new().yellow(),
        Mark::Bad => Style::new().red(),
        Mark::Faint => Style::new().dim(),
    };
    style.apply_to(&line.text).to_string()
}
