//! What `/metrics` shows, read again: what is pushed is what is shown, guests' own metrics among it, and neither has a list of
//! its own.
//!
//! It reads what [`Metrics::render`](crate::telemetry::Metrics::render) writes, and of the format no more than that has.

/// The metrics of one name.
#[derive(Debug, PartialEq)]
pub(super) struct Family {
    /// Its name in Prometheus, without what kinds put behind it.
    pub(super) name: String,
    pub(super) help: String,
    pub(super) kind: Kind,
    pub(super) series: Vec<Series>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It grows.
    Counter,
    /// It goes up and down.
    Gauge,
    Histogram,
}

/// One set of labels, and its value.
#[derive(Debug, PartialEq)]
pub(super) struct Series {
    pub(super) labels: Vec<(String, String)>,
    pub(super) value: Value,
}

#[derive(Debug, PartialEq)]
pub(super) enum Value {
    Whole(i64),
    Fraction(f64),
    /// Counts up to each of some bounds, and one above the last.
    Distribution {
        bounds: Vec<f64>,
        counts: Vec<u64>,
        sum: f64,
        count: u64,
    },
}

/// All families of a text; those that have no series are left out, and so is what cannot be read.
pub(super) fn families(text: &str) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    let mut help = String::new();
    for line in text.lines() {
        if let Some(said) = line.strip_prefix("# HELP ") {
            help = said.split_once(' ').map(|(_, help)| help.trim_end_matches('.').to_owned()).unwrap_or_default();
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|said| said.split_once(' ')) {
            let kind = match kind {
                "counter" => Kind::Counter,
                "histogram" => Kind::Histogram,
                _ => Kind::Gauge,
            };
            families.push(Family { name: name.to_owned(), help: std::mem::take(&mut help), kind, series: Vec::new() });
        } else if let (Some(family), Some(sample)) = (families.last_mut(), sample(line)) {
            family.take(sample);
        }
    }
    for family in &mut families {
        family.series.iter_mut().for_each(Series::apart);
    }
    families.retain(|family| !family.series.is_empty());
    families
}

/// A line with a value.
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(String, String)>,
    value: &'a str,
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at_checked(end)?;
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    // An exemplar or a time may be behind it.
    let value = value.split_whitespace().next()?;
    (!name.starts_with('#')).then_some(Sample { name, labels, value })
}

/// Labels up to their closing brace, and what is behind it.
fn labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(behind) = rest.strip_prefix('}') {
            return Some((labels, behind));
        }
        let (name, behind) = rest.split_once("=\"")?;
        let (mut value, mut escaped, mut end) = (String::new(), false, None);
        for (at, c) in behind.char_indices() {
            match (escaped, c) {
                (false, '\\') => escaped = true,
                (false, '"') => {
                    end = Some(at);
                    break;
                }
                (true, 'n') => (value, escaped) = (value + "\n", false),
                (true | false, c) => {
                    value.push(c);
                    escaped = false;
                }
            }
        }
        labels.push((name.to_owned(), value));
        rest = behind.get(end? + 1..)?;
    }
}

impl Family {
    fn take(&mut self, sample: Sample<'_>) {
        let Some(part) = sample.name.strip_prefix(self.name.as_str()) else { return };
        match self.kind {
            Kind::Counter | Kind::Gauge => {
                let value = match (sample.value.parse(), sample.value.parse()) {
                    (Ok(whole), _) => Value::Whole(whole),
                    (Err(_), Ok(fraction)) => Value::Fraction(fraction),
                    (Err(_), Err(_)) => return,
                };
                self.series.push(Series { labels: sample.labels, value });
            }
            Kind::Histogram => self.take_part(part, sample),
        }
    }

    /// A histogram has many lines, one behind the other.
    fn take_part(&mut self, part: &str, sample: Sample<'_>) {
        let mut labels = sample.labels;
        let at = labels.iter().position(|(name, _)| name == "le");
        let bound: Option<f64> = at.and_then(|at| labels.remove(at).1.parse().ok());
        if self.series.last().is_none_or(|last| last.labels != labels) {
            let value = Value::Distribution { bounds: Vec::new(), counts: Vec::new(), sum: 0.0, count: 0 };
            self.series.push(Series { labels, value });
        }
        let Some(Series { value: Value::Distribution { bounds, counts, sum, count }, .. }) = self.series.last_mut()
        else {
            return;
        };
        match part {
            "_sum" => *sum = sample.value.parse().unwrap_or_default(),
            "_count" => *count = sample.value.parse().unwrap_or_default(),
            "_bucket" => {
                bounds.extend(bound.filter(|bound| bound.is_finite()));
                counts.push(sample.value.parse().unwrap_or_default());
            }
            _ => {}
        }
    }
}

impl Series {
    /// Makes of counts up to each bound counts between two.
    fn apart(&mut self) {
        let Value::Distribution { counts, .. } = &mut self.value else { return };
        let mut below = 0;
        for count in counts {
            let up_to = *count;
            *count = up_to.saturating_sub(below);
            below = up_to;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = "# HELP a_b Things that are.\n# TYPE a_b counter\na_b_total{x=\"1\",y=\"a\\\"b\\\\c\\nd,}\"} 7\na_b_total 2\n\
                    # HELP g Up.\n# TYPE g gauge\ng{x=\"ü\"} -1.5\n\
                    # HELP none Nothing.\n# TYPE none counter\n\
                    # HELP h_seconds Time.\n# TYPE h_seconds histogram\nh_seconds_sum{x=\"1\"} 3.5\nh_seconds_count{x=\"1\"} 4\n\
                    h_seconds_bucket{le=\"0.1\",x=\"1\"} 1\nh_seconds_bucket{le=\"1.0\",x=\"1\"} 3\n\
                    h_seconds_bucket{le=\"+Inf\",x=\"1\"} 4\nh_seconds_sum{x=\"2\"} 0.0\nh_seconds_count{x=\"2\"} 0\n\
                    h_seconds_bucket{le=\"+Inf\",x=\"2\"} 0\n# EOF\n";
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let family = |name: &str, help: &str, kind, series| Family {
            name: name.to_owned(),
            help: help.to_owned(),
            kind,
            series,
        };
        let distribution = |bounds: &[f64], counts: &[u64], sum, count| Value::Distribution {
            bounds: bounds.to_vec(),
            counts: counts.to_vec(),
            sum,
            count,
        };
        let expected = vec![
            family(
                "a_b",
                "Things that are",
                Kind::Counter,
                vec![
                    Series { labels: vec![label("x", "1"), label("y", "a\"b\\c\nd,}")], value: Value::Whole(7) },
                    Series { labels: vec![], value: Value::Whole(2) },
                ],
            ),
            family(
                "g",
                "Up",
                Kind::Gauge,
                vec![Series { labels: vec![label("x", "ü")], value: Value::Fraction(-1.5) }],
            ),
            family(
                "h_seconds",
                "Time",
                Kind::Histogram,
                vec![
                    Series { labels: vec![label("x", "1")], value: distribution(&[0.1, 1.0], &[1, 2, 1], 3.5, 4) },
                    Series { labels: vec![label("x", "2")], value: distribution(&[], &[0], 0.0, 0) },
                ],
            ),
        ];
        assert_eq!(families(text), expected);
    }

    #[test]
    fn nonsense_is_left_out() {
        assert_eq!(families("a{x=\"1} 1\nb 1\n# TYPE c counter\nc_total{x=1} 1\nc_total x\nd_total 1\n\n"), []);
    }
}
