//! What was seen of the host's process over a soak, and whether it was flat.

use std::fmt::{Display, Formatter, Write};
use std::time::Duration;

use anyhow::{Result, bail, ensure};

/// The run is told in so many parts.
const PARTS: usize = 10;
/// The warm-up, in which caches fill up, is so many parts at the start,
const WARM_UP: usize = 2;
/// and for as long as the embedded queue's window of known ids is not full: it remembers a million, and every message
/// that is settled, an output among them, was published by an id. Twice as many, so that what is forgotten has begun too.
const WINDOW_FULL: u64 = 2_000_000;
/// Flat: the last part's median is above that of the first after the warm-up by no more than this part of it, or
const GROWTH_PART: u64 = 20;
/// than this much: what an allocator may hold back more one day than another.
const GROWTH_BYTES: u64 = 4 << 20;
/// And by no more than so many open files: connections of publishers come and go.
const GROWTH_FILES: u64 = 8;

/// The process at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Since the load began.
    pub(super) at: Duration,
    /// Bytes in memory, and those of them that no file backs.
    pub(super) resident: u64,
    pub(super) anonymous: u64,
    /// Open files, sockets among them.
    pub(super) files: u64,
    /// Bytes of memory that the record of what is done takes, which fills up to its bound with 8 million messages: on a slow
    /// machine after the rule begins to look.
    pub(super) record: u64,
    /// Bytes of its data directory.
    pub(super) disk: u64,
    /// Messages settled since the start.
    pub(super) settled: u64,
}

impl Display for Sample {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Self { at, resident, anonymous, files, record, disk, settled } = self;
        let (resident, anonymous, record) = (mib(*resident), mib(*anonymous), mib(*record));
        write!(
            f,
            "{:>5} s: {resident:.1} MiB resident, {anonymous:.1} anonymous ({record:.1} the record of what is done), {files} open files, \
             {} MiB of data, {settled} settled",
            at.as_secs(),
            disk >> 20
        )
    }
}

#[derive(Debug, Default)]
pub(super) struct Series(Vec<Sample>);

impl Series {
    pub(super) fn add(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// When the last sample was taken.
    pub(super) fn last(&self) -> Duration {
        self.0.last().map_or(Duration::ZERO, |sample| sample.at)
    }

    fn parts(&self) -> Vec<&[Sample]> {
        let count = self.0.len();
        (0..PARTS).filter_map(|part| self.0.get(part * count / PARTS..(part + 1) * count / PARTS)).collect()
    }

    /// The samples after the warm-up: none when the window was never full.
    fn warm(&self) -> &[Sample] {
        let full = self.0.iter().position(|sample| sample.settled >= WINDOW_FULL).unwrap_or(self.0.len());
        self.0.get(full.max(WARM_UP * self.0.len() / PARTS)..).unwrap_or_default()
    }

    /// A table for a page of documentation: a line for each part, and the slopes after the warm-up.
    pub(super) fn table(&self) -> String {
        let mut text = String::from(
            "| minutes | settled a second | resident MiB: min, median, max | anonymous MiB: median | \
             of them the record | open files: min, median, max | data MiB |\n|---|---|---|---|---|---|---|\n",
        );
        for part in self.parts() {
            let [Some(first), Some(last)] = [part.first(), part.last()] else { continue };
            let resident = Spread::of(part, |sample| sample.resident);
            let anonymous = Spread::of(part, |sample| sample.anonymous);
            let files = Spread::of(part, |sample| sample.files);
            let seconds = (last.at - first.at).as_secs_f64();
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "| {:.0} to {:.0} | {:.0} | {:.1}, {:.1}, {:.1} | {:.1} | {:.1} | {}, {}, {} | {} |",
                first.at.as_secs_f64() / 60.0,
                last.at.as_secs_f64() / 60.0,
                if seconds > 0.0 { (last.settled - first.settled) as f64 / seconds } else { 0.0 },
                mib(resident.least),
                mib(resident.median),
                mib(resident.most),
                mib(anonymous.median),
                mib(Spread::of(part, |sample| sample.record).median),
                files.least,
                files.median,
                files.most,
                last.disk >> 20,
            );
        }
        let _ = write!(
            text,
            "\nFrom minute {:.0}, when caches and the window of known ids were full: resident {:+.2} MiB an hour, anonymous {:+.2} MiB an hour, \
             open files {:+.1} an hour (least squares over {} samples).",
            self.warm().first().map_or(f64::NAN, |sample| sample.at.as_secs_f64() / 60.0),
            slope(self.warm(), |sample| mib(sample.resident)),
            slope(self.warm(), |sample| mib(sample.anonymous)),
            slope(self.warm(), |sample| sample.files as f64),
            self.warm().len()
        );
        text
    }

    /// An error that says what grew, beside the record.
    pub(super) fn check_flat(&self) -> Result<()> {
        let (warm, part) = (self.warm(), self.0.len() / PARTS);
        let (Some(first), Some(last)) = (warm.get(..part), warm.get(warm.len().saturating_sub(part)..)) else {
            bail!("it was too short to say anything: {}", self.how_far())
        };
        // Otherwise the two would be the same samples in part, and what is the same never grew.
        ensure!(part > 0 && warm.len() >= 3 * part, "it was too short to say anything: {}", self.how_far());
        for (what, value) in
            [("resident", (|sample| sample.resident) as fn(&Sample) -> u64), ("anonymous", |sample| sample.anonymous)]
        {
            let value = |sample: &Sample| value(sample).saturating_sub(sample.record);
            let (from, to) = (Spread::of(first, value).median, Spread::of(last, value).median);
            let allowed = (from / GROWTH_PART).max(GROWTH_BYTES);
            ensure!(to <= from + allowed, "{what} memory grew from {:.1} to {:.1} MiB", mib(from), mib(to));
        }
        let files = |part| Spread::of(part, |sample| sample.files).most;
        let (from, to) = (files(first), files(last));
        ensure!(to <= from + GROWTH_FILES, "open files grew from {from} to {to}");
        Ok(())
    }

    fn how_far(&self) -> String {
        let settled = self.0.last().map_or(0, |sample| sample.settled);
        format!("{settled} messages settled, and memory can be flat from {WINDOW_FULL} on; run it for more minutes")
    }
}

struct Spread {
    least: u64,
    median: u64,
    most: u64,
}

impl Spread {
    fn of(samples: &[Sample], value: impl Fn(&Sample) -> u64) -> Self {
        let mut values: Vec<u64> = samples.iter().map(value).collect();
        values.sort_unstable();
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        Self { least: at(0), median: at(values.len() / 2), most: at(values.len().saturating_sub(1)) }
    }
}

/// How much a value rises in an hour, by least squares.
fn slope(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    let count = samples.len() as f64;
    let hours = |sample: &Sample| sample.at.as_secs_f64() / 3600.0;
    let mean_at = samples.iter().map(hours).sum::<f64>() / count;
    let mean = samples.iter().map(&value).sum::<f64>() / count;
    let (mut both, mut own) = (0.0, 0.0);
    for sample in samples {
        let from_mean = hours(sample) - mean_at;
        both += from_mean * (value(sample) - mean);
        own += from_mean * from_mean;
    }
    if own > 0.0 { both / own } else { 0.0 }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An hour whose memory rises by so many KiB with each of 360 samples after the warm-up.
    fn hour(kib: u64, files: u64) -> Series {
        let sample = |index: u64| Sample {
            at: Duration::from_secs(index * 10),
            resident: (64 << 20) + index.saturating_sub(72) * (kib << 10),
            anonymous: 20 << 20,
            files: 30 + index * files / 360,
            record: 0,
            disk: 0,
            settled: index * 50_000,
        };
        Series((1..=360).map(sample).collect())
    }

    #[test]
    fn what_grows_is_found() {
        assert!(hour(0, 0).check_flat().is_ok());
        let grown = hour(20, 0).check_flat().err().map(|error| error.to_string());
        assert_eq!(grown.as_deref(), Some("resident memory grew from 64.4 to 69.3 MiB"));
        assert!(hour(0, 100).check_flat().is_err());
        let mut filling = hour(20, 0);
        for (index, sample) in (1..).zip(&mut filling.0) {
            sample.record = u64::saturating_sub(index, 72) * (20 << 10);
            sample.anonymous += sample.record;
        }
        assert!(filling.check_flat().is_ok(), "the record has a bound, and is no growth");
        assert!(Series::default().check_flat().is_err());
    }

    #[test]
    fn it_begins_when_the_window_is_full() {
        // Two million are settled after 53 minutes: what comes after is too little, and what was before says nothing.
        let mut slow = hour(0, 0);
        for (index, sample) in slow.0.iter_mut().enumerate() {
            sample.settled /= 8;
            sample.resident += (100 << 20) * index.min(320) as u64 / 320;
        }
        let error = slow.check_flat().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with("it was too short to say anything: 2250000 messages settled"), "{error}");
        assert_eq!(slow.warm().len(), 41);
        for sample in &mut slow.0 {
            sample.settled *= 2;
        }
        let error = slow.check_flat().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with("resident memory grew from"), "{error}");
        slow.0.iter_mut().for_each(|sample| sample.settled *= 64);
        for sample in slow.0.iter_mut().skip(72) {
            sample.resident = 164 << 20;
        }
        assert!(slow.check_flat().is_ok(), "what filled up before is no growth");
    }

    #[test]
    fn the_slope_is_told_by_the_hour() {
        let risen = slope(hour(10, 0).warm(), |sample| mib(sample.resident));
        assert!((risen - 3.515_625).abs() < 1e-6, "{risen}");
        let table = hour(10, 0).table();
        assert_eq!(table.lines().filter(|line| line.contains(" | 5000 | ")).count(), PARTS, "{table}");
    }
}
