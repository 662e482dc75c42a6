//! A channel's connectivity and its back-off (gRPC connectivity-semantics-and-api.md, connection-backoff.md).
//!
//! One deliberate difference: after a failed attempt's back-off has passed, the channel is idle again and connects when
//! it is next wanted, instead of knocking at a dead server for ever.

use std::time::{Duration, Instant};

/// The states of a channel.
///
/// ```text
///             wanted                 connected
///    Idle ─────────────► Connecting ───────────► Ready
///     ▲ ▲                  │     ▲                 │
///     │ │ back-off over    │     │                 │
///     │ └── TransientFailure ◄───┘ failed          │ lost, or the server goes away
///     └────────────────────────────────────────────┘
///                   any state ──close──► Shutdown
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Connectivity {
    /// No connection, and none wanted.
    Idle,
    /// An attempt is under way.
    Connecting,
    /// Connected.
    Ready,
    /// The last attempt failed; calls fail until the back-off has passed.
    TransientFailure,
    /// Closed for good.
    Shutdown,
}

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

/// The connectivity of one channel on one event loop.
#[derive(Debug)]
pub struct ChannelState {
    connectivity: Connectivity,
    backoff: BackoffOptions,
    /// The wait after the next failure, without jitter.
    wait: Duration,
    retry_at: Option<Instant>,
}

impl ChannelState {
    /// An idle channel.
    pub fn new(backoff: BackoffOptions) -> Self {
        let wait = backoff.initial;
        Self { connectivity: Connectivity::Idle, backoff, wait, retry_at: None }
    }

    /// The state at `now`.
    pub fn connectivity(&mut self, now: Instant) -> Connectivity {
        if self.connectivity == Connectivity::TransientFailure
            && self.retry_at.is_none_or(|at| at <= now)
        {
            self.connectivity = Connectivity::Idle;
        }
        self.connectivity
    }

    /// Whether calls can be started.
    pub fn is_ready(&self) -> bool {
        self.connectivity == Connectivity::Ready
    }

    /// A connection is wanted. `true`: start an attempt now.
    pub fn want(&mut self, now: Instant) -> bool {
        if self.connectivity(now) != Connectivity::Idle {
            return false;
        }
        self.connectivity = Connectivity::Connecting;
        true
    }

    /// The attempt has succeeded.
    pub fn connected(&mut self) {
        if self.connectivity == Connectivity::Connecting {
            self.connectivity = Connectivity::Ready;
            self.wait = self.backoff.initial;
            self.retry_at = None;
        }
    }

    /// The attempt has failed. `random` is uniform in 0..1. Returns when to try again.
    pub fn failed(&mut self, now: Instant, random: f64) -> Instant {
        let jitter = 1.0 + BackoffOptions::JITTER * (2.0 * random - 1.0);
        let retry_at = now + self.wait.mul_f64(jitter);
        self.wait = self.wait.mul_f64(BackoffOptions::MULTIPLIER).min(self.backoff.max);
        if self.connectivity == Connectivity::Connecting {
            self.connectivity = Connectivity::TransientFailure;
            self.retry_at = Some(retry_at);
        }
        retry_at
    }

    /// The back-off has passed, as the driver's timer says: an event loop's clock may be a little ahead of ours (uvloop's
    /// counts whole milliseconds), and nobody would ask again.
    pub fn backoff_passed(&mut self) {
        if self.connectivity == Connectivity::TransientFailure {
            self.connectivity = Connectivity::Idle;
        }
    }

    /// The connection is lost, or takes no more calls.
    pub fn lost(&mut self) {
        if self.connectivity == Connectivity::Ready {
            self.connectivity = Connectivity::Idle;
        }
    }

    /// The channel is closed.
    pub fn shut_down(&mut self) {
        self.connectivity = Connectivity::Shutdown;
    }

    /// How long an attempt may take.
    pub fn connect_timeout(&self) -> Duration {
        self.backoff.connect_timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxgrpc_testkit::clock::Clock;

    #[test]
    fn waits_grow_to_the_maximum_and_start_anew_after_success() {
        let mut clock = Clock::default();
        let mut state = ChannelState::new(BackoffOptions::default());
        let mut waits = Vec::new();
        for _ in 0..13 {
            assert!(state.want(clock.now()));
            let retry_at = state.failed(clock.now(), 0.5);
            assert_eq!(state.connectivity(clock.now()), Connectivity::TransientFailure);
            assert!(!state.want(clock.now()));
            let wait = retry_at - clock.now();
            waits.push(wait.as_secs_f64());
            clock.advance(wait.as_millis() as u64 + 1);
        }
        assert_eq!(waits[0], 1.0);
        assert!((waits[1] - 1.6).abs() < 1e-6);
        assert_eq!(waits[12], 120.0);
        assert!(state.want(clock.now()));
        state.connected();
        state.lost();
        assert!(state.want(clock.now()));
        assert_eq!(state.failed(clock.now(), 0.5) - clock.now(), Duration::from_secs(1));
    }

    #[test]
    fn a_timer_that_is_early_ends_the_backoff() {
        let now = Instant::now();
        let mut state = ChannelState::new(BackoffOptions::default());
        state.want(now);
        state.failed(now, 0.5);
        state.backoff_passed();
        assert!(state.want(now));
        state.backoff_passed();
        assert_eq!(state.connectivity(now), Connectivity::Connecting);
    }

    #[test]
    fn jitter_is_a_fifth_either_way() {
        let now = Instant::now();
        for (random, seconds) in [(0.0, 0.8), (1.0, 1.2)] {
            let mut state = ChannelState::new(BackoffOptions::default());
            state.want(now);
            assert_eq!((state.failed(now, random) - now).as_secs_f64(), seconds);
        }
    }

    #[test]
    fn nothing_leaves_shutdown() {
        let now = Instant::now();
        let mut state = ChannelState::new(BackoffOptions::default());
        state.want(now);
        state.shut_down();
        state.connected();
        state.failed(now, 0.5);
        assert!(!state.want(now + Duration::from_secs(500)));
        assert_eq!(state.connectivity(now), Connectivity::Shutdown);
    }
}
