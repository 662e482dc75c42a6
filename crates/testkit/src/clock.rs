//! Time that passes when a test says so.

use std::time::{Duration, Instant};

/// A clock that stands still between two calls of [`advance`](Self::advance).
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Default for Clock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock {
    /// The time.
    pub fn now(&self) -> Instant {
        self.0
    }

    /// Lets `milliseconds` pass; returns the new time.
    pub fn advance(&mut self, milliseconds: u64) -> Instant {
        self.0 += Duration::from_millis(milliseconds);
        self.0
    }
}
