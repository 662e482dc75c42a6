//! How long a server keeps a connection: until its client has begun, while it is used, and not for ever (gRFC A9, "Server-side
//! Connection Management").
//!
//! It says when to look again and what is to be done then. It counts no calls and closes nothing.

use std::time::{Duration, Instant};

/// How far a connection's age is from what was asked for, either way: clients of one deployment are not to come back all at
/// once.
const AGE_JITTER: f64 = 0.1;

/// How long the answer to the PING between the two GOAWAYs of a graceful end may take.
const FAREWELL: Duration = Duration::from_secs(20);

/// The knobs of connections' lives, grpcio's `grpc.max_connection_*` and `grpc.server_handshake_timeout_ms`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LifetimeOptions {
    /// How long a client may take to begin.
    pub handshake_timeout: Duration,
    /// How long a connection may be without calls; `None` is for ever.
    pub max_idle: Option<Duration>,
    /// How old it may be; `None` is any age.
    pub max_age: Option<Duration>,
    /// How long its calls may then go on; `None` is to their ends.
    pub max_age_grace: Option<Duration>,
}

impl Default for LifetimeOptions {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(120),
            max_idle: None,
            max_age: None,
            max_age_grace: None,
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    Nothing,
    /// The client has not begun: close.
    Close,
    /// Announce the end.
    Drain,
    /// Take no further calls, whether or not the client has heard.
    Refuse,
    /// End the calls that are left.
    End,
}

/// ```text
///             begun            idle, or old          FAREWELL
///   Greeting ───────► Serving ──────────────► Drained ───────► Refusing ──┐ grace
///       └─── handshake_timeout ───► Over ◄───────────────┴────────────────┘
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Greeting,
    Serving,
    Drained,
    Refusing,
    Over,
}

/// The life of one connection.
#[derive(Debug)]
pub(super) struct Lifetime {
    options: LifetimeOptions,
    phase: Phase,
    /// When the client has to have begun, and then, when the announced end is to be carried out.
    phase_ends: Option<Instant>,
    old_at: Option<Instant>,
    /// Since when there is no call.
    idle_since: Option<Instant>,
    /// When to look whether there is one.
    look_at: Option<Instant>,
    /// When calls are ended that go on beyond the age.
    grace_ends: Option<Instant>,
}

impl Lifetime {
    /// A connection that has come now. `random` is uniform in 0..1.
    pub(super) fn new(options: LifetimeOptions, now: Instant, random: f64) -> Self {
        let jitter = 1.0 + AGE_JITTER * (2.0 * random - 1.0);
        let after = |wait: Duration| now.checked_add(wait);
        Self {
            options,
            phase: Phase::Greeting,
            phase_ends: after(options.handshake_timeout),
            old_at: options.max_age.and_then(|age| after(age.mul_f64(jitter))),
            idle_since: None,
            look_at: None,
            grace_ends: None,
        }
    }

    /// Whether anybody asks when there are no calls.
    #[inline]
    pub(super) fn watches_calls(&self) -> bool {
        self.options.max_idle.is_some()
    }

    /// Notes whether there are calls.
    pub(super) fn note(&mut self, calls: usize, now: Instant) {
        self.idle_since = match calls {
            0 => Some(self.idle_since.unwrap_or(now)),
            _ => None,
        };
    }

    /// When [`expire`](Self::expire) is due.
    #[inline]
    pub(super) fn due(&self) -> Option<Instant> {
        let (one, other) = match self.phase {
            Phase::Greeting => (self.phase_ends, None),
            Phase::Serving => (self.old_at, self.look_at),
            Phase::Drained => (self.phase_ends, self.grace_ends),
            Phase::Refusing => (self.grace_ends, None),
            Phase::Over => (None, None),
        };
        match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// The client has begun.
    pub(super) fn begun(&mut self, now: Instant) {
        if self.phase == Phase::Greeting {
            self.phase = Phase::Serving;
            self.phase_ends = None;
            self.idle_since = Some(now);
            self.look_at = self.options.max_idle.and_then(|idle| now.checked_add(idle));
        }
    }

    /// Time has passed, with so many calls under way.
    pub(super) fn expire(&mut self, calls: usize, now: Instant) -> Due {
        let is_past = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        match self.phase {
            Phase::Greeting if is_past(self.phase_ends) => {
                self.phase = Phase::Over;
                Due::Close
            }
            Phase::Serving if is_past(self.old_at) => {
                let grace = self.options.max_age_grace;
                self.grace_ends = grace.and_then(|grace| now.checked_add(grace));
                self.drain(now)
            }
            Phase::Serving if is_past(self.look_at) => self.look(calls, now),
            Phase::Drained | Phase::Refusing if is_past(self.grace_ends) => {
                self.phase = Phase::Over;
                Due::End
            }
            Phase::Drained if is_past(self.phase_ends) => {
                self.phase = Phase::Refusing;
                Due::Refuse
            }
            _ => Due::Nothing,
        }
    }

    fn look(&mut self, calls: usize, now: Instant) -> Due {
        let Some(max_idle) = self.options.max_idle else { return Due::Nothing };
        self.note(calls, now);
        let since = self.idle_since.unwrap_or(now);
        self.look_at = since.checked_add(max_idle);
        match self.idle_since.is_some() && self.look_at.is_some_and(|at| at <= now) {
            true => self.drain(now),
            false => Due::Nothing,
        }
    }

    fn drain(&mut self, now: Instant) -> Due {
        self.phase = Phase::Drained;
        self.phase_ends = now.checked_add(FAREWELL);
        Due::Drain
    }
}
