//! When a name is looked up: at the beginning, again when connections are lost, never too often (gRPC naming.md, and
//! grpcio's `grpc.dns_min_time_between_resolutions_ms`).

use super::backoff::{Backoff, BackoffOptions};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Resolution {
    interval: Option<Duration>,
    backoff: Backoff,
    under_way: bool,
    last: Option<Instant>,
    /// When a look-up that is wanted may begin.
    due: Option<Instant>,
}

impl Resolution {
    /// Look-ups that are `interval` apart; `None` where another look-up would not tell anything new.
    pub(super) fn new(interval: Option<Duration>, backoff: BackoffOptions) -> Self {
        Self { interval, backoff: Backoff::new(backoff), under_way: false, last: None, due: None }
    }

    /// The first look-up is wanted, or that after an idle time. `true`: begin it.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        if self.under_way || self.due.is_some() {
            return false;
        }
        self.start(now)
    }

    /// What is known may be out of date. `true`: begin a look-up.
    pub(super) fn again(&mut self, now: Instant) -> bool {
        let Some(interval) = self.interval else { return false };
        if self.under_way || self.due.is_some() {
            return false;
        }
        match self.last.map(|last| last + interval) {
            Some(due) if due > now => {
                self.due = Some(due);
                false
            }
            _ => self.start(now),
        }
    }

    /// Time has passed. `true`: begin a look-up.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        self.due.take_if(|due| *due <= now).is_some() && self.start(now)
    }

    fn start(&mut self, now: Instant) -> bool {
        self.under_way = true;
        self.last = Some(now);
        true
    }

    pub(super) fn succeeded(&mut self) {
        self.under_way = false;
        self.backoff.reset();
    }

    /// A failed look-up is repeated, whoever wants it.
    pub(super) fn failed(&mut self, now: Instant, random: f64) {
        self.under_way = false;
        self.due = Some(self.backoff.next(now, random));
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    #[test]
    fn look_ups_are_an_interval_apart() {
        let now = Instant::now();
        let mut resolution = Resolution::new(Some(INTERVAL), BackoffOptions::default());
        assert!(resolution.begin(now));
        // One at a time.
        assert!(!resolution.again(now));
        resolution.succeeded();
        assert!(!resolution.again(now + INTERVAL / 2));
        assert_eq!(resolution.due(), Some(now + INTERVAL));
        assert!(!resolution.expire(now + INTERVAL / 2));
        assert!(resolution.expire(now + INTERVAL));
        assert!(!resolution.expire(now + INTERVAL));
        resolution.succeeded();
        assert!(resolution.again(now + 2 * INTERVAL));
    }

    #[test]
    fn a_failed_look_up_is_repeated_after_a_while() {
        let now = Instant::now();
        let mut resolution = Resolution::new(Some(INTERVAL), BackoffOptions::default());
        resolution.begin(now);
        resolution.failed(now, 0.5);
        assert!(!resolution.begin(now) && !resolution.again(now));
        assert!(resolution.expire(now + Duration::from_secs(1)));
    }

    #[test]
    fn what_never_changes_is_not_looked_up_again() {
        let now = Instant::now();
        let mut resolution = Resolution::new(None, BackoffOptions::default());
        assert!(resolution.begin(now));
        resolution.succeeded();
        assert!(!resolution.again(now + 10 * INTERVAL));
        assert!(resolution.begin(now));
    }
}
