//! Bounds on what costs us more than it costs the peer.
//!
//! HTTP/2 has frames that are free of flow control and make the receiver work: PING and SETTINGS want an answer, a
//! reset throws away what a request began (CVE-2023-44487), a frame that makes *us* reset does the same
//! (CVE-2025-8671), empty DATA and CONTINUATION are pure overhead (CVE-2019-9518). Each takes tokens; honest peers
//! never run out. The layer above has rules of its own whose breach ends a stream: it counts those streams, too
//! ([`Connection::count_early_end`](crate::Connection::count_early_end)).

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

    /// Takes `cost` tokens; false where fewer are left.
    pub(crate) fn take(&mut self, cost: u32, now: Instant) -> bool {
        if self.tokens < cost {
            self.refill(now);
        } else if self.refilled.is_none() {
            self.refilled = Some(now);
        }
        match self.tokens.checked_sub(cost) {
            Some(rest) => {
                self.tokens = rest;
                true
            }
            None => false,
        }
    }

    /// Gives tokens back: the peer did something useful.
    #[inline]
    pub(crate) fn credit(&mut self, tokens: u32) {
        self.tokens = self.capacity.min(self.tokens + tokens);
    }

    fn refill(&mut self, now: Instant) {
        let since = self.refilled.map_or(0, |then| now.saturating_duration_since(then).as_millis());
        let gained = since * u128::from(self.per_second) / 1000;
        if gained > 0 {
            self.tokens = (u128::from(self.tokens) + gained).min(self.capacity.into()) as u32;
            self.refilled = Some(now);
        }
    }
}

/// A stream that ends before its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EarlyEnd {
    /// The peer has reset it, broken a rule, or left it no time: what was done for it is thrown away.
    Fault,
    /// There is no room for it. Little is thrown away, and clients of a server that is at its limits are honest.
    Refused,
}

impl EarlyEnd {
    /// Tokens of [`Floods::resets`].
    pub(crate) const fn cost(self) -> u32 {
        match self {
            Self::Fault => 4,
            Self::Refused => 1,
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
        let fault = EarlyEnd::Fault.cost();
        Self { control: Bucket::new(4096, 1024), resets: Bucket::new(8192 * fault, 2048 * fault) }
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
        assert!(bucket.take(1, start));
        assert!(bucket.take(1, start));
        assert!(!bucket.take(1, start));
        assert!(!bucket.take(1, start + Duration::from_millis(99)));
        assert!(bucket.take(1, start + Duration::from_millis(100)));
        assert!(!bucket.take(1, start + Duration::from_millis(100)));
        bucket.credit(1);
        assert!(bucket.take(1, start + Duration::from_millis(100)));
        assert!(bucket.take(1, start + Duration::from_secs(60)));
        assert!(bucket.take(1, start + Duration::from_secs(60)));
        assert!(!bucket.take(1, start + Duration::from_secs(60)));
    }

    #[test]
    fn what_costs_more_finds_what_is_left_and_what_has_come_back() {
        let start = Instant::now();
        let mut bucket = Bucket::new(8, 10);
        assert!(bucket.take(4, start));
        assert!(bucket.take(1, start));
        assert!(!bucket.take(4, start));
        assert!(bucket.take(4, start + Duration::from_millis(100)));
        assert!(!bucket.take(1, start + Duration::from_millis(100)));
        bucket.credit(100);
        assert!(bucket.take(8, start + Duration::from_millis(100)));
    }
}
