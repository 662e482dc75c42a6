//! How often a client may send PINGs (gRFC A8, "Server Enforcement"): one that probes a connection without need costs every
//! server that it talks to, and is told to be calm.
//!
//! It counts and decides; what is sent then is the connection's business.

use std::time::{Duration, Instant};

/// How far apart the PINGs of a client without calls are to be: TCP's own keepalive (RFC 1122 §4.2.3.6).
const INTERVAL_WITHOUT_CALLS: Duration = Duration::from_secs(2 * 60 * 60);

/// What a client may do, grpcio's `grpc.http2.min_ping_interval_without_data_ms` and `grpc.http2.max_ping_strikes`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PingRules {
    /// PINGs without HEADERS or DATA of ours between them are to be so far apart.
    pub min_interval: Duration,
    /// How many may come sooner; 0 is any number.
    pub max_strikes: u32,
    /// The same interval holds for a client that has no call under way; if not, it is two hours.
    pub permit_without_calls: bool,
}

impl Default for PingRules {
    fn default() -> Self {
        Self {
            min_interval: Duration::from_secs(5 * 60),
            max_strikes: 2,
            permit_without_calls: false,
        }
    }
}

/// The PINGs of one connection.
#[derive(Debug)]
pub(super) struct PingPolicy {
    rules: PingRules,
    last: Option<Instant>,
    strikes: u32,
    /// PINGs that have been looked at, and HEADERS and DATA that had been sent by then.
    pings: u64,
    content_frames: u64,
}

impl PingPolicy {
    pub(super) fn new(rules: PingRules) -> Self {
        Self { rules, last: None, strikes: 0, pings: 0, content_frames: 0 }
    }

    /// Whether there is one more PING to look at than `pings`.
    #[inline]
    pub(super) fn is_due(&self, pings: u64) -> bool {
        self.pings < pings
    }

    /// A PING has come. `false`: one too many.
    pub(super) fn permits(&mut self, now: Instant, has_calls: bool, content_frames: u64) -> bool {
        self.pings += 1;
        if self.content_frames != content_frames {
            self.content_frames = content_frames;
            (self.last, self.strikes) = (None, 0);
        }
        let interval = match has_calls || self.rules.permit_without_calls {
            true => self.rules.min_interval,
            false => INTERVAL_WITHOUT_CALLS,
        };
        let is_early = self.last.is_some_and(|last| now < last + interval);
        self.last = Some(now);
        self.strikes += u32::from(is_early);
        self.rules.max_strikes == 0 || self.strikes <= self.rules.max_strikes
    }
}
