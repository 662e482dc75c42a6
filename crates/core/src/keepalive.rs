//! Keepalive: finding out by PING whether the peer of a quiet connection is still there (gRFC A8, and grpc's keepalive.md).
//!
//! Both ends use it alike. It asks for PINGs and says when the peer is lost; it sends nothing and reads no clock.

use std::time::{Duration, Instant};

/// What our PINGs carry; that anything comes is what counts.
pub(crate) const KEEPALIVE_PING: [u8; 8] = *b"oxgrpc\0\x02";

/// PINGs of ours are at least so far apart, as in grpcio.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);

/// How far apart they are once as many were sent as may be without content: a server takes more for an attack.
const THROTTLED_INTERVAL: Duration = Duration::from_secs(60);

/// How long the loop has, once the answer is late, to read what has come.
const LAST_LOOK: Duration = Duration::from_millis(100);

/// The knobs of keepalive, grpcio's `grpc.keepalive_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeepaliveOptions {
    /// How long nothing may come before a PING is sent.
    pub time: Duration,
    /// How long its answer, or anything else, may take.
    pub timeout: Duration,
    /// Whether a connection without calls is kept alive, too.
    pub permit_without_calls: bool,
    /// How many PINGs are sent without HEADERS or DATA between them before they become rare; 0 is any number.
    pub max_pings_without_data: u32,
}

impl KeepaliveOptions {
    /// The same half as often: what a client does that is told of `too_many_pings` (gRFC A8).
    pub fn calmer(self) -> Self {
        Self { time: self.time.saturating_mul(2), ..self }
    }
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probe {
    /// Nothing.
    Nothing,
    /// Send a PING.
    Ping,
    /// The peer is lost: end the connection.
    Lost,
}

/// Where the probing of a connection stands.
///
/// ```text
///              quiet for `time`, and a PING is allowed         `timeout`              `LAST_LOOK`
///   Quiet ──────────────────────────────────────────► Pinged ────────────► LastLook ───────────► Lost
///     ▲                                                 │                     │
///     └────────────────── anything comes ───────────────┴─────────────────────┘
/// ```
///
/// Where the program has kept the loop from running, the answer may have come long ago and only not been read: libuv serves
/// timers before sockets. So there is one more look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Quiet,
    Pinged,
    LastLook,
    Lost,
}

/// The keepalive of one connection.
#[derive(Debug)]
pub struct Keepalive {
    options: KeepaliveOptions,
    phase: Phase,
    /// When to look again. `None` until the peer has first said something.
    due: Option<Instant>,
    last_received: Option<Instant>,
    last_ping: Option<Instant>,
    pings_without_data: u32,
    /// What `content_frames` was at the last PING.
    content_frames: u64,
}

impl Keepalive {
    /// A connection that is quiet from the peer's first octets on.
    pub fn new(options: KeepaliveOptions) -> Self {
        Self {
            options,
            phase: Phase::Quiet,
            due: None,
            last_received: None,
            last_ping: None,
            pings_without_data: 0,
            content_frames: 0,
        }
    }

    /// Something has come from the peer. Cheap: the timer is not moved, but looks at this when it fires.
    #[inline]
    pub fn received(&mut self, now: Instant) {
        self.last_received = Some(now);
        match self.phase {
            Phase::Quiet if self.due.is_some() => {}
            Phase::Lost => {}
            Phase::Quiet | Phase::Pinged | Phase::LastLook => {
                self.phase = Phase::Quiet;
                self.due = Some(now + self.options.time);
            }
        }
    }

    /// When [`expire`](Self::expire) is due.
    #[inline]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Time has passed. `calls` are under way; `content_frames` of HEADERS and DATA have been sent since the beginning.
    pub fn expire(&mut self, now: Instant, calls: usize, content_frames: u64) -> Probe {
        if self.due.is_none_or(|due| due > now) {
            return Probe::Nothing;
        }
        match self.phase {
            Phase::Quiet => {
                let earliest = self.earliest_ping(now, calls, content_frames);
                if earliest > now {
                    self.due = Some(earliest);
                    return Probe::Nothing;
                }
                self.phase = Phase::Pinged;
                self.due = Some(now + self.options.timeout);
                self.last_ping = Some(now);
                self.pings_without_data += 1;
                self.content_frames = content_frames;
                Probe::Ping
            }
            Phase::Pinged => {
                self.phase = Phase::LastLook;
                self.due = Some(now + LAST_LOOK);
                Probe::Nothing
            }
            Phase::LastLook => {
                self.phase = Phase::Lost;
                self.due = None;
                Probe::Lost
            }
            Phase::Lost => Probe::Nothing,
        }
    }

    /// The earliest instant at which a quiet connection may be pinged, as far as is known now.
    fn earliest_ping(&mut self, now: Instant, calls: usize, content_frames: u64) -> Instant {
        if calls == 0 && !self.options.permit_without_calls {
            return now + self.options.time.max(LEAST_INTERVAL);
        }
        if content_frames != self.content_frames {
            self.pings_without_data = 0;
        }
        let max = self.options.max_pings_without_data;
        let interval = match max > 0 && self.pings_without_data >= max {
            true => THROTTLED_INTERVAL,
            false => LEAST_INTERVAL,
        };
        let quiet = self.last_received.map(|last| last + self.options.time);
        let allowed = self.last_ping.map(|last| last + interval);
        quiet.max(allowed).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPTIONS: KeepaliveOptions = KeepaliveOptions {
        time: Duration::from_secs(10),
        timeout: Duration::from_secs(5),
        permit_without_calls: false,
        max_pings_without_data: 2,
    };

    /// A connection, and a driver that looks when it is told to.
    struct Driver {
        keepalive: Keepalive,
        start: Instant,
        now: Instant,
        calls: usize,
        content_frames: u64,
        answers: bool,
    }

    impl Driver {
        fn new(options: KeepaliveOptions) -> Self {
            let now = Instant::now();
            let mut keepalive = Keepalive::new(options);
            assert_eq!(keepalive.due(), None);
            keepalive.received(now);
            Self { keepalive, start: now, now, calls: 1, content_frames: 1, answers: true }
        }

        /// What was asked for within the time, with the seconds since the start.
        fn run(&mut self, seconds: u64) -> Vec<(u64, Probe)> {
            let end = self.now + Duration::from_secs(seconds);
            let mut seen = Vec::new();
            while let Some(due) = self.keepalive.due().filter(|due| *due <= end) {
                self.now = self.now.max(due);
                match self.keepalive.expire(self.now, self.calls, self.content_frames) {
                    Probe::Nothing => {}
                    probe => {
                        seen.push(((self.now - self.start).as_secs(), probe));
                        if probe == Probe::Ping && self.answers {
                            self.keepalive.received(self.now);
                        }
                    }
                }
            }
            self.now = end;
            seen
        }
    }

    #[test]
    fn a_quiet_connection_is_pinged_twice_and_then_rarely() {
        let mut driver = Driver::new(OPTIONS);
        let pings = driver.run(190);
        let at: Vec<u64> = pings.iter().map(|(at, _)| *at).collect();
        assert_eq!(at, [10, 20, 80, 140]);
        assert!(pings.iter().all(|(_, probe)| *probe == Probe::Ping));
        // Content makes them as frequent as before.
        driver.content_frames += 1;
        let at: Vec<u64> = driver.run(30).iter().map(|(at, _)| *at).collect();
        assert_eq!(at, [200, 210]);
    }

    #[test]
    fn any_number_of_pings_may_be_allowed() {
        let mut driver = Driver::new(KeepaliveOptions { max_pings_without_data: 0, ..OPTIONS });
        assert_eq!(driver.run(60).len(), 6);
    }

    #[test]
    fn pings_are_a_second_apart() {
        let time = Duration::from_millis(100);
        let mut driver =
            Driver::new(KeepaliveOptions { time, max_pings_without_data: 0, ..OPTIONS });
        assert_eq!(driver.run(5).len(), 5);
    }

    #[test]
    fn a_peer_that_does_not_answer_is_lost() {
        let mut driver = Driver::new(OPTIONS);
        driver.answers = false;
        assert_eq!(driver.run(60), [(10, Probe::Ping), (15, Probe::Lost)]);
        driver.keepalive.received(driver.now);
        assert_eq!(driver.keepalive.due(), None);
    }

    #[test]
    fn what_is_read_in_the_last_moment_saves_the_connection() {
        let mut driver = Driver::new(OPTIONS);
        driver.answers = false;
        assert_eq!(driver.run(14), [(10, Probe::Ping)]);
        // The loop did not run for a minute; the timers are served before the socket is read.
        let now = driver.now + Duration::from_secs(60);
        assert_eq!(driver.keepalive.expire(now, 1, 1), Probe::Nothing);
        assert_eq!(driver.keepalive.expire(now, 1, 1), Probe::Nothing);
        driver.keepalive.received(now);
        assert_eq!(driver.keepalive.expire(now + LAST_LOOK, 1, 1), Probe::Nothing);
        assert_eq!(driver.keepalive.due(), Some(now + OPTIONS.time));
    }

    #[test]
    fn a_connection_without_calls_is_left_alone_unless_that_is_permitted() {
        let mut driver = Driver::new(OPTIONS);
        driver.calls = 0;
        assert_eq!(driver.run(100), []);
        driver.calls = 1;
        assert_eq!(driver.run(10).len(), 1);
        let mut driver = Driver::new(KeepaliveOptions { permit_without_calls: true, ..OPTIONS });
        driver.calls = 0;
        assert_eq!(driver.run(25).len(), 2);
    }

    #[test]
    fn a_connection_that_is_used_is_not_pinged() {
        let mut driver = Driver::new(OPTIONS);
        for _ in 0..20 {
            assert_eq!(driver.run(9), []);
            driver.keepalive.received(driver.now);
        }
        assert_eq!(driver.run(10).len(), 1);
    }

    #[test]
    fn calmer_is_half_as_often() {
        assert_eq!(OPTIONS.calmer().time, 2 * OPTIONS.time);
        let never = KeepaliveOptions { time: Duration::MAX, ..OPTIONS };
        assert_eq!(never.calmer().time, Duration::MAX);
    }

    proptest! {
        /// Whatever comes and goes: PINGs keep their distance, a peer that answers is never lost, and there is always a
        /// next look.
        #[test]
        fn pings_keep_their_distance(
            steps in prop::collection::vec((0u64..20_000, 0usize..3, any::<bool>()), 1..200),
        ) {
            let mut now = Instant::now();
            let mut keepalive = Keepalive::new(OPTIONS);
            keepalive.received(now);
            let (mut last, mut sent) = (None, 0);
            for (milliseconds, calls, content) in steps {
                now += Duration::from_millis(milliseconds);
                sent += u64::from(content);
                match keepalive.expire(now, calls, sent) {
                    Probe::Nothing => {}
                    Probe::Ping => {
                        prop_assert!(calls > 0);
                        prop_assert!(last.is_none_or(|last| now - last >= OPTIONS.time));
                        last = Some(now);
                        keepalive.received(now);
                    }
                    Probe::Lost => prop_assert!(false, "it has answered"),
                }
                prop_assert!(keepalive.due().is_some());
            }
        }
    }
}
