//! `--fail-if 'p99>5ms'`: a limit that ends a bench with an exit code of its own.

use std::fmt;
use std::str::FromStr;

use super::tally::Tally;

/// A comparison that must not hold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Limit {
    text: String,
    metric: Metric,
    above: bool,
    value: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    /// In milliseconds.
    Percentile(f64),
    Mean,
    Max,
    /// Calls a second.
    Rate,
    /// Messages a second.
    Messages,
    Errors,
    ErrorPercent,
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is not METRIC>VALUE or METRIC<VALUE, such as p99>5ms or errors>1%")
        };
        let at = text.find(['<', '>']).ok_or_else(wrong)?;
        let (name, value) = (text[..at].trim(), text[at + 1..].trim());
        let latency = |metric| duration_ms(value).map(|value| (metric, value));
        let number = |metric| value.parse().ok().map(|value| (metric, value));
        let found = match name {
            "mean" => latency(Metric::Mean),
            "max" => latency(Metric::Max),
            "rate" => number(Metric::Rate),
            "messages" => number(Metric::Messages),
            "errors" => match value.strip_suffix('%') {
                Some(percent) => {
                    percent.trim().parse().ok().map(|value| (Metric::ErrorPercent, value))
                }
                None => number(Metric::Errors),
            },
            _ => name
                .strip_prefix('p')
                .and_then(|percent| percent.parse().ok())
                .filter(|percent| (0.0..=100.0).contains(percent))
                .and_then(|percent| latency(Metric::Percentile(percent))),
        };
        let (metric, value) = found.filter(|(_, value)| value.is_finite()).ok_or_else(wrong)?;
        Ok(Self { text: text.to_owned(), metric, above: text[at..].starts_with('>'), value })
    }
}

/// A duration with its unit.
fn duration_ms(text: &str) -> Option<f64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let factor = match text[split..].trim() {
        "us" | "µs" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        _ => return None,
    };
    Some(text[..split].parse::<f64>().ok()? * factor)
}

impl fmt::Display for Limit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Limit {
    fn measured(&self, tally: &Tally) -> f64 {
        match self.metric {
            Metric::Percentile(percent) => tally.percentile_ms(percent),
            Metric::Mean => tally.mean_ms(),
            Metric::Max => tally.max_ms(),
            Metric::Rate => tally.rate(),
            Metric::Messages => tally.message_rate(),
            Metric::Errors => tally.errors() as f64,
            Metric::ErrorPercent => tally.errors() as f64 * 100.0 / tally.calls.max(1) as f64,
        }
    }

    /// Returns true if the limit is broken.
    pub(crate) fn holds(&self, tally: &Tally) -> bool {
        let measured = self.measured(tally);
        if self.above { measured > self.value } else { measured < self.value }
    }

    /// What was measured instead.
    pub(crate) fn found(&self, tally: &Tally) -> String {
        let measured = self.measured(tally);
        match self.metric {
            Metric::Percentile(_) | Metric::Mean | Metric::Max => {
                format!("{measured:.3} ms measured")
            }
            Metric::ErrorPercent => format!("{measured:.3}% measured"),
            _ => format!("{measured:.1} measured"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Status;

    use super::*;

    #[test]
    fn limits_are_read_with_their_units() {
        for (text, metric, above, value) in [
            ("p99>5ms", Metric::Percentile(99.0), true, 5.0),
            ("p99.9 > 1.5s", Metric::Percentile(99.9), true, 1500.0),
            ("mean>250us", Metric::Mean, true, 0.25),
            ("max>1s", Metric::Max, true, 1000.0),
            ("rate<1000", Metric::Rate, false, 1000.0),
            ("errors>0", Metric::Errors, true, 0.0),
            ("errors>1%", Metric::ErrorPercent, true, 1.0),
        ] {
            let limit: Limit = text.parse().unwrap();
            assert_eq!((limit.metric, limit.above, limit.value), (metric, above, value), "{text}");
        }
        for text in ["p99", "p99>5", "p101>5ms", "foo>1", "rate<x", "p99=5ms", "errors>NaN"] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_limit_is_compared_with_what_was_measured() {
        let mut tally = Tally::new();
        for millis in 1..=100 {
            tally.count(Duration::from_millis(millis), &Ok(1));
        }
        tally.count(Duration::from_millis(1), &Err(Status::internal("")));
        tally.elapsed = Duration::from_secs(1);
        for (text, holds) in [
            ("p50>40ms", true),
            ("p50>60ms", false),
            ("max<101ms", true),
            ("errors>0", true),
            ("errors>1", false),
            ("errors>0.5%", true),
            ("rate<100", false),
            ("rate<102", true),
            ("messages<101", true),
        ] {
            assert_eq!(text.parse::<Limit>().unwrap().holds(&tally), holds, "{text}");
        }
    }
}
