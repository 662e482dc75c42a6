//! Where the time of a command went: a mark at the end of each step, printed at once with `-v`.

use std::io::Write as _;
use std::sync::Mutex;
use std::time::Instant;

use serde_json::{Map, Value};

use crate::failure::DIM;

/// The steps of one command so far.
#[derive(Debug)]
pub(crate) struct Trace {
    started: Instant,
    verbose: bool,
    marks: Mutex<Vec<(&'static str, f64)>>,
}

impl Trace {
    pub(crate) fn new(verbose: bool) -> Self {
        Self { started: Instant::now(), verbose, marks: Mutex::default() }
    }

    /// A step has ended. `detail` says with what, for `-v`.
    pub(crate) fn mark(&self, step: &'static str, detail: impl FnOnce() -> String) {
        let elapsed_ms = self.started.elapsed().as_secs_f64() * 1e3;
        self.marks.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((step, elapsed_ms));
        if self.verbose {
            self.print(&format!("{elapsed_ms:9.3} ms  {step:<14} {}", detail()));
        }
    }

    /// Says something with `-v`.
    pub(crate) fn note(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            self.print(&text());
        }
    }

    fn print(&self, line: &str) {
        // A closed standard error leaves nowhere to report to.
        let _ = writeln!(anstream::stderr().lock(), "{DIM}* {line}{DIM:#}");
    }

    /// `{"STEP_ms": …}`: milliseconds from the start of the command to the end of each step.
    pub(crate) fn to_json(&self) -> Value {
        let marks = self.marks.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut object = Map::new();
        for (step, elapsed_ms) in marks.iter() {
            object.insert(format!("{}_ms", step.replace(' ', "_")), round(*elapsed_ms).into());
        }
        object.insert("total_ms".into(), round(self.started.elapsed().as_secs_f64() * 1e3).into());
        Value::Object(object)
    }
}

/// Three digits after the point: microseconds of a figure in milliseconds.
pub(crate) fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
