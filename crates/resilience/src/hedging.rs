//! Hedging (gRFC A6, "Hedging Policy"): further attempts begin before the ones before them have failed, and the first that is
//! answered wins.

use crate::attempt::{Codes, MAX_ATTEMPTS, Pushback};
use crate::throttle::Throttle;
use oxgrpc_core::Code;
use std::time::{Duration, Instant};

/// `hedgingPolicy` of a service config.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HedgingPolicy {
    /// `maxAttempts`, the first one included; at least 2. More than [`MAX_ATTEMPTS`] count as that.
    pub max_attempts: u32,
    /// `hedgingDelay` between the beginnings of two attempts; 0 begins all at once.
    pub delay: Duration,
    /// `nonFatalStatusCodes`: an attempt that ends with one of these leaves the others alone and lets the next begin at once.
    pub non_fatal: Codes,
}

/// What follows an attempt that has failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HedgingVerdict {
    /// Others are under way, or will be.
    GoOn,
    /// Its status is the call's; others that are under way are to be cancelled.
    Final,
}

/// The least time until an attempt is tried again that could not begin.
const LEAST_POSTPONEMENT: Duration = Duration::from_millis(10);

/// The attempts of a call, some of them at the same time. It is over when one is answered, which is not told to it.
#[derive(Clone, Debug)]
pub struct Hedging {
    begun: u32,
    live: u32,
    /// When the next attempt begins, if there is another.
    next: Option<Instant>,
    /// A server has asked for no more attempts, or too many calls fail.
    is_stopped: bool,
}

impl Hedging {
    /// A call whose first attempt is due.
    pub fn new(now: Instant) -> Self {
        Self { begun: 0, live: 0, next: Some(now), is_stopped: false }
    }

    /// When the next attempt begins, if there is another.
    pub fn next_due(&self) -> Option<Instant> {
        self.next
    }

    /// Attempts under way.
    pub fn live(&self) -> u32 {
        self.live
    }

    /// Attempts that have begun: what `grpc-previous-rpc-attempts` of the next one says.
    pub fn previous_attempts(&self) -> u32 {
        self.begun
    }

    /// Whether an attempt is to begin now: it is due and, but for the first, allowed. Once one is not, none will be.
    pub fn wants(&mut self, throttle: Option<&Throttle>, now: Instant) -> bool {
        let is_due = self.next.is_some_and(|due| due <= now);
        if is_due && self.begun > 0 && throttle.is_some_and(|throttle| !throttle.allows()) {
            self.stop();
            return false;
        }
        is_due
    }

    /// An attempt has begun.
    pub fn began(&mut self, policy: &HedgingPolicy, now: Instant) {
        self.begun += 1;
        self.live += 1;
        self.plan(policy, now.checked_add(policy.delay));
    }

    /// The attempt that is due cannot begin now: there is no connection for it.
    pub fn postpone(&mut self, policy: &HedgingPolicy, now: Instant) {
        self.plan(policy, now.checked_add(policy.delay.max(LEAST_POSTPONEMENT)));
    }

    /// An attempt under way has failed before anything of its response was given to the application.
    pub fn failed(
        &mut self,
        policy: &HedgingPolicy,
        code: Code,
        pushback: Pushback,
        throttle: Option<&mut Throttle>,
        now: Instant,
    ) -> HedgingVerdict {
        self.live = self.live.saturating_sub(1);
        let is_fatal = !policy.non_fatal.contains(code) || code == Code::Ok;
        if let Some(throttle) = throttle
            && (!is_fatal || pushback == Pushback::Never)
        {
            throttle.failed();
            if !throttle.allows() {
                self.stop();
            }
        }
        match pushback {
            Pushback::Never => self.stop(),
            Pushback::After(delay) => self.plan(policy, now.checked_add(delay)),
            Pushback::Unsaid => self.plan(policy, Some(now)),
        }
        match is_fatal || self.is_over() {
            true => HedgingVerdict::Final,
            false => HedgingVerdict::GoOn,
        }
    }

    /// An attempt under way was not seen by any application: another takes its place at once.
    pub fn unseen(&mut self, now: Instant) {
        self.live = self.live.saturating_sub(1);
        self.begun = self.begun.saturating_sub(1);
        self.next = Some(now);
    }

    /// Whether no attempt is under way and none will be.
    pub fn is_over(&self) -> bool {
        self.live == 0 && self.next.is_none()
    }

    fn stop(&mut self) {
        self.is_stopped = true;
        self.next = None;
    }

    fn plan(&mut self, policy: &HedgingPolicy, next: Option<Instant>) {
        let may_begin = self.begun < policy.max_attempts.min(MAX_ATTEMPTS) && !self.is_stopped;
        self.next = next.filter(|_| may_begin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::throttle::Throttling;
    use oxgrpc_testkit::clock::Clock;
    use proptest::prelude::*;

    fn policy(max_attempts: u32, delay_ms: u64) -> HedgingPolicy {
        HedgingPolicy {
            max_attempts,
            delay: Duration::from_millis(delay_ms),
            non_fatal: [Code::Unavailable].into_iter().collect(),
        }
    }

    /// Begins an attempt if one is wanted; how many there were before.
    fn begin(
        hedging: &mut Hedging,
        policy: &HedgingPolicy,
        throttle: Option<&Throttle>,
        now: Instant,
    ) -> Option<u32> {
        let before = hedging.previous_attempts();
        hedging.wants(throttle, now).then(|| hedging.began(policy, now)).map(|()| before)
    }

    #[test]
    fn an_attempt_that_cannot_begin_is_tried_a_delay_later() {
        for (delay, wait) in [(50, 50), (0, 10)] {
            let (policy, mut clock) = (policy(3, delay), Clock::default());
            let mut hedging = Hedging::new(clock.now());
            begin(&mut hedging, &policy, None, clock.now());
            clock.advance(delay);
            hedging.postpone(&policy, clock.now());
            clock.advance(wait - 1);
            assert_eq!(begin(&mut hedging, &policy, None, clock.now()), None);
            clock.advance(1);
            assert_eq!(begin(&mut hedging, &policy, None, clock.now()), Some(1));
        }
    }

    #[test]
    fn attempts_begin_a_delay_apart() {
        let (policy, mut clock) = (policy(3, 50), Clock::default());
        let mut hedging = Hedging::new(clock.now());
        assert_eq!(begin(&mut hedging, &policy, None, clock.now()), Some(0));
        assert_eq!(begin(&mut hedging, &policy, None, clock.now()), None);
        clock.advance(49);
        assert_eq!(begin(&mut hedging, &policy, None, clock.now()), None);
        clock.advance(1);
        assert_eq!(hedging.next_due(), Some(clock.now()));
        assert_eq!(begin(&mut hedging, &policy, None, clock.now()), Some(1));
        clock.advance(70);
        assert_eq!(begin(&mut hedging, &policy, None, clock.now()), Some(2));
        assert_eq!((hedging.next_due(), hedging.live()), (None, 3));
    }

    #[test]
    fn without_a_delay_all_begin_at_once() {
        let (policy, now) = (policy(9, 0), Instant::now());
        let mut hedging = Hedging::new(now);
        let begun = std::iter::from_fn(|| begin(&mut hedging, &policy, None, now)).count();
        assert_eq!(begun, 5);
    }

    #[test]
    fn a_failure_that_is_not_fatal_lets_the_next_begin_at_once() {
        let (policy, now) = (policy(3, 50), Instant::now());
        let mut hedging = Hedging::new(now);
        begin(&mut hedging, &policy, None, now);
        let verdict = hedging.failed(&policy, Code::Unavailable, Pushback::Unsaid, None, now);
        assert_eq!(verdict, HedgingVerdict::GoOn);
        assert_eq!(begin(&mut hedging, &policy, None, now), Some(1));
        assert_eq!(hedging.next_due(), Some(now + policy.delay));
    }

    #[test]
    fn the_last_failure_is_the_calls() {
        let (policy, now) = (policy(2, 0), Instant::now());
        let mut hedging = Hedging::new(now);
        while begin(&mut hedging, &policy, None, now).is_some() {}
        let mut fail = || hedging.failed(&policy, Code::Unavailable, Pushback::Unsaid, None, now);
        assert_eq!(fail(), HedgingVerdict::GoOn);
        assert_eq!(fail(), HedgingVerdict::Final);
    }

    #[test]
    fn other_codes_end_the_call_at_once() {
        let (policy, now) = (policy(3, 0), Instant::now());
        for code in Code::ALL {
            let mut hedging = Hedging::new(now);
            while begin(&mut hedging, &policy, None, now).is_some() {}
            let verdict = hedging.failed(&policy, code, Pushback::Unsaid, None, now);
            assert_eq!(verdict == HedgingVerdict::GoOn, code == Code::Unavailable, "{code}");
        }
    }

    #[test]
    fn pushback_moves_the_next_attempt_or_forbids_it() {
        let (policy, mut clock) = (policy(5, 10), Clock::default());
        let mut hedging = Hedging::new(clock.now());
        begin(&mut hedging, &policy, None, clock.now());
        let after = Pushback::After(Duration::from_millis(500));
        hedging.failed(&policy, Code::Unavailable, after, None, clock.now());
        clock.advance(499);
        assert_eq!(begin(&mut hedging, &policy, None, clock.now()), None);
        clock.advance(1);
        assert_eq!(begin(&mut hedging, &policy, None, clock.now()), Some(1));
        clock.advance(10);
        assert_eq!(begin(&mut hedging, &policy, None, clock.now()), Some(2));
        let now = clock.now();
        let verdict = hedging.failed(&policy, Code::Unavailable, Pushback::Never, None, now);
        assert_eq!((verdict, hedging.next_due()), (HedgingVerdict::GoOn, None));
        let verdict = hedging.failed(&policy, Code::Unavailable, Pushback::Unsaid, None, now);
        assert_eq!(verdict, HedgingVerdict::Final);
    }

    #[test]
    fn a_throttle_leaves_the_first_attempt_alone() {
        let (policy, now) = (policy(3, 0), Instant::now());
        let throttling = Throttling { max_milli_tokens: 2000, milli_token_ratio: 100 };
        let mut throttle = Throttle::new(throttling);
        throttle.failed();
        let mut hedging = Hedging::new(now);
        assert_eq!(begin(&mut hedging, &policy, Some(&throttle), now), Some(0));
        assert_eq!(begin(&mut hedging, &policy, Some(&throttle), now), None);
        assert_eq!(hedging.next_due(), None);
        let verdict =
            hedging.failed(&policy, Code::Unavailable, Pushback::Unsaid, Some(&mut throttle), now);
        assert_eq!(verdict, HedgingVerdict::Final);
    }

    #[test]
    fn an_attempt_that_nobody_saw_does_not_count() {
        let (policy, now) = (policy(2, 0), Instant::now());
        let mut hedging = Hedging::new(now);
        while begin(&mut hedging, &policy, None, now).is_some() {}
        hedging.unseen(now);
        assert_eq!(begin(&mut hedging, &policy, None, now), Some(1));
        assert_eq!(begin(&mut hedging, &policy, None, now), None);
    }

    proptest! {
        /// However attempts fail and time passes: never more than allowed, and the end is reached.
        #[test]
        fn attempts_are_bounded_and_come_to_an_end(
            max_attempts in 2u32..10, delay_ms in 0u64..20,
            steps in prop::collection::vec((0u64..30, any::<bool>(), 0u8..3), 0..60),
        ) {
            let (policy, mut clock) = (policy(max_attempts, delay_ms), Clock::default());
            let mut hedging = Hedging::new(clock.now());
            let (mut begun, mut live) = (0, 0);
            for (pause, fails, pushback) in steps {
                clock.advance(pause);
                while let Some(before) = begin(&mut hedging, &policy, None, clock.now()) {
                    prop_assert_eq!(before, begun);
                    begun += 1;
                    live += 1;
                }
                prop_assert!(begun <= max_attempts.min(MAX_ATTEMPTS));
                if fails && live > 0 {
                    live -= 1;
                    let pushback = match pushback {
                        0 => Pushback::Unsaid,
                        1 => Pushback::After(Duration::from_millis(pause)),
                        _ => Pushback::Never,
                    };
                    let now = clock.now();
                    let verdict =
                        hedging.failed(&policy, Code::Unavailable, pushback, None, now);
                    let is_over = live == 0 && hedging.next_due().is_none();
                    prop_assert_eq!(verdict == HedgingVerdict::Final, is_over);
                }
                prop_assert_eq!(hedging.live(), live);
            }
        }
    }
}
