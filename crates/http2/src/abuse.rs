//! Bounds on what costs us more than it costs the peer.
//!
//! HTTP/2 has frames that are free of flow control and make the receiver work: PING and SETTINGS want an answer, a
//! reset throws away what a request began (CVE-2023-44487), a frame that makes *us* reset does the same
//! (CVE-2025-8671), empty DATA and CONTINUATION are pure overhead (CVE-2019-9518). Each takes a token; honest peers
//! never run out.

use std::time::Instant;

/// A token bucket. Tokens come back with time and with useful work.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: u32,
    capacity: u32,
    per_second: u32,
    refilled: Option<Instant>,
}

impl Bucket {
    /// A full bucket of `capacity` tokens that gains `per_second` a second.
    pub(crate) fn new(capacity: u32, per_second: u32) -> Self {
        Self { tokens: capacity, capacity, per_second, refilled: None }
    }

    /// Takes a token; false where none is left.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        if self.tokens == 0 {
            self.refill(now);
        } else if self.refilled.is_none() {
            self.refilled = Some(now);
        }
        match self.tokens.checked_sub(1) {
            Some(rest) => {
                self.tokens = rest;
                true
            }
            None => false,
        }
    }

    /// Gives a token back: the peer did something useful.
    #[inline]
    pub(crate) fn credit(&mut self) {
        self.tokens = self.capacity.min(self.tokens + 1);
    }

    fn refill(&mut self, now: Instant) {
        let since = self.refilled.map_or(0, |then| now.saturating_duration_since(then).as_millis());
        let gained = since * u128::from(self.per_second) / 1000;
        if gained > 0 {
            self.tokens = gained.min(u128::from(self.capacity)) as u32;
            self.refilled = Some(now);
        }
    }
}

/// The buckets of one connection.
#[derive(Debug)]
pub(crate) struct Floods {
    /// PING, SETTINGS, PRIORITY, empty DATA and CONTINUATION.
    pub(crate) control: Bucket,
    /// Streams that end before their time, whoever resets them.
    pub(crate) resets: Bucket,
}

impl Default for Floods {
    fn default() -> Self {
        Self { control: Bucket::new(4096, 1024), resets: Bucket::new(8192, 2048) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn tokens_come_back_with_time_and_work() {
        let start = Instant::now();
        let mut bucket = Bucket::new(2, 10);
        assert!(bucket.take(start));
        assert!(bucket.take(start));
        assert!(!bucket.take(start));
        assert!(!bucket.take(start + Duration::from_millis(99)));
        assert!(bucket.take(start + Duration::from_millis(100)));
        assert!(!bucket.take(start + Duration::from_millis(100)));
        bucket.credit();
        assert!(bucket.take(start + Duration::from_millis(100)));
        assert!(bucket.take(start + Duration::from_secs(60)));
        assert!(bucket.take(start + Duration::from_secs(60)));
        assert!(!bucket.take(start + Duration::from_secs(60)));
    }
}
