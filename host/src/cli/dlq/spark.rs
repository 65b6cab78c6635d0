//! Counts over time on one line, by eight characters of growing height.

use std::time::Duration;

use crate::admin::wire::DeathsOverTime;
use crate::cli::table::number;

const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// When they died. A step without any is a blank, so that one death among thousands is seen.
pub(super) fn line(deaths: &DeathsOverTime) -> String {
    let most = deaths.letters.iter().copied().max().unwrap_or(0);
    let line: String = deaths.letters.iter().map(|count| height(*count, most)).collect();
    let step = humantime::format_duration(Duration::from_secs(deaths.step_seconds));
    format!("{line}  a step is {step}, from {} on; the highest has {}\n", deaths.from, number(most))
}

fn height(count: u64, most: u64) -> char {
    if count == 0 {
        return ' ';
    }
    // From one to eight: rounded up, so that the highest alone fills its place.
    let eighths = (u128::from(count) * 8).div_ceil(u128::from(most.max(1)));
    let place = usize::try_from(eighths).unwrap_or(8).clamp(1, 8) - 1;
    HEIGHTS.get(place).copied().unwrap_or('█')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_as_high_as_they_are_many_and_none_is_hidden() {
        let deaths = DeathsOverTime {
            from: "2026-11-28T22:00:00.000Z".to_owned(),
            step_seconds: 900,
            letters: vec![1, 0, 100, 500, 501, 1000, 1],
        };
        assert_eq!(line(&deaths), "▁ ▁▄▅█▁  a step is 15m, from 2026-11-28T22:00:00.000Z on; the highest has 1,000\n");
        assert_eq!(height(u64::MAX, u64::MAX), '█');
    }
}
