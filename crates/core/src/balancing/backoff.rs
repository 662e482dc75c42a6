//! How long to wait between attempts to connect (gRPC connection-backoff.md).

use std::time::{Duration, Instant};

/// How long to wait between attempts to connect.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BackoffOptions {
    /// The wait after the first failure.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
    /// How long an attempt may take.
    pub connect_timeout: Duration,
}

impl BackoffOptions {
    /// What each wait is longer than the one before.
    const MULTIPLIER: f64 = 1.6;
    /// What a wait may be longer or shorter by, so that clients do not knock in step.
    const JITTER: f64 = 0.2;
}

impl Default for BackoffOptions {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(120),
            connect_timeout: Duration::from_secs(20),
        }
    }
}

/// The waits of one address, or of the look-ups of one name.
#[derive(Debug)]
pub(super) struct Backoff {
    options: BackoffOptions,
    /// The wait after the next failure, without jitter.
    wait: Duration,
}

impl Backoff {
    pub(super) fn new(options: BackoffOptions) -> Self {
        Self { options, wait: options.initial.min(options.max) }
    }

    /// When the attempt after this one, which begins at `now`, may begin. `random` is uniform in 0..1.
    pub(super) fn next(&mut self, now: Instant, random: f64) -> Instant {
        let jitter = 1.0 + BackoffOptions::JITTER * (2.0 * random - 1.0);
        let next = now + self.wait.mul_f64(jitter);
        self.wait = self.wait.mul_f64(BackoffOptions::MULTIPLIER).min(self.options.max);
        next
    }

    /// An attempt has succeeded: the next failure is a first one.
    pub(super) fn reset(&mut self) {
        self.wait = self.options.initial.min(self.options.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_maximum_and_start_anew_after_success() {
        let now = Instant::now();
        let mut backoff = Backoff::new(BackoffOptions::default());
        let waits: Vec<f64> =
            (0..13).map(|_| (backoff.next(now, 0.5) - now).as_secs_f64()).collect();
        assert_eq!(waits[0], 1.0);
        assert!((waits[1] - 1.6).abs() < 1e-6);
        assert_eq!(waits[12], 120.0);
        backoff.reset();
        assert_eq!(backoff.next(now, 0.5) - now, Duration::from_secs(1));
    }

    #[test]
    fn jitter_is_a_fifth_either_way() {
        let now = Instant::now();
        for (random, seconds) in [(0.0, 0.8), (1.0, 1.2)] {
            let mut backoff = Backoff::new(BackoffOptions::default());
            assert_eq!((backoff.next(now, random) - now).as_secs_f64(), seconds);
        }
    }

    #[test]
    fn the_first_wait_is_no_longer_than_the_longest() {
        let now = Instant::now();
        let options =
            BackoffOptions { max: Duration::from_millis(10), ..BackoffOptions::default() };
        assert_eq!(Backoff::new(options).next(now, 0.5) - now, options.max);
    }
}
