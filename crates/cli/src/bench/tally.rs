//! What has been measured: latencies in an HDR histogram, statuses, messages.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::trace::round;
use oxgrpc_schema::code_name;

/// Latencies are kept from 1 µs to 10 minutes with three digits.
const HIGHEST_US: u64 = 600_000_000;
/// The percentiles that are printed.
const PERCENTILES: [f64; 6] = [50.0, 75.0, 90.0, 99.0, 99.9, 99.99];

/// The measured calls.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    latencies_us: Histogram<u64>,
    statuses: BTreeMap<i32, u64>,
    pub(crate) calls: u64,
    pub(crate) messages: u64,
    pub(crate) elapsed: Duration,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let latencies_us = Histogram::new_with_bounds(1, HIGHEST_US, 3)
            .unwrap_or_else(|_| unreachable!("the bounds and the digits are valid"));
        Self {
            latencies_us,
            statuses: BTreeMap::new(),
            calls: 0,
            messages: 0,
            elapsed: Duration::ZERO,
        }
    }

    /// Counts a call with its latency and the number of its responses, or its status.
    pub(crate) fn count(&mut self, latency: Duration, result: &Result<u64, Status>) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(HIGHEST_US);
        self.latencies_us.saturating_record(micros.max(1));
        self.calls += 1;
        let code = match result {
            Ok(messages) => {
                self.messages += messages;
                Code::Ok
            }
            Err(status) => status.code(),
        };
        *self.statuses.entry(code as i32).or_default() += 1;
    }

    /// Adds another worker's calls.
    pub(crate) fn add(&mut self, other: Self) {
        // Histograms with the same bounds can be added.
        let _ = self.latencies_us.add(&other.latencies_us);
        self.calls += other.calls;
        self.messages += other.messages;
        for (code, count) in other.statuses {
            *self.statuses.entry(code).or_default() += count;
        }
    }

    /// Calls with a status other than OK.
    pub(crate) fn errors(&self) -> u64 {
        self.calls - self.statuses.get(&0).copied().unwrap_or(0)
    }

    /// Calls a second.
    pub(crate) fn rate(&self) -> f64 {
        self.calls as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Responses a second.
    pub(crate) fn message_rate(&self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The latency, in milliseconds, that `percent` of the calls do not exceed.
    pub(crate) fn percentile_ms(&self, percent: f64) -> f64 {
        self.latencies_us.value_at_percentile(percent) as f64 / 1e3
    }

    /// The mean latency in milliseconds.
    pub(crate) fn mean_ms(&self) -> f64 {
        self.latencies_us.mean() / 1e3
    }

    /// The longest latency in milliseconds.
    pub(crate) fn max_ms(&self) -> f64 {
        self.latencies_us.max() as f64 / 1e3
    }

    fn statuses(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.statuses.iter().map(|(code, count)| (code_name(Code::from(*code)), *count))
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut latency = json!({
            "min": round(self.latencies_us.min() as f64 / 1e3),
            "mean": round(self.mean_ms()),
            "max": round(self.max_ms()),
        });
        for percent in PERCENTILES {
            latency[format!("p{percent}")] = json!(self.percentile_ms(percent));
        }
        let statuses: BTreeMap<_, _> = self.statuses().collect();
        json!({
            "calls": self.calls,
            "errors": self.errors(),
            "messages": self.messages,
            "elapsed_s": round(self.elapsed.as_secs_f64()),
            "calls_per_s": round(self.rate()),
            "messages_per_s": round(self.message_rate()),
            "latency_ms": latency,
            "statuses": statuses,
        })
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = format!(
            "{} calls in {:.2} s: {:.1} calls/s, {:.1} messages/s, {} errors\nlatency  mean {:.3} ms",
            self.calls,
            self.elapsed.as_secs_f64(),
            self.rate(),
            self.message_rate(),
            self.errors(),
            self.mean_ms(),
        );
        for percent in PERCENTILES {
            text.push_str(&format!("  p{percent} {:.3}", self.percentile_ms(percent)));
        }
        text.push_str(&format!("  max {:.3}", self.max_ms()));
        for (name, count) in self.statuses() {
            text.push_str(&format!("\n  {name:<20} {count}"));
        }
        text
    }
}
