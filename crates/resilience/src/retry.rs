//! Retries (gRFC A6, "Retry Policy" and "Transparent Retries"): whether an attempt that failed is followed by another, and when.

use crate::attempt::{Codes, MAX_ATTEMPTS, Pushback};
use crate::throttle::Throttle;
use oxgrpc_core::Code;
use std::time::Duration;

/// How far the time between attempts is from what the policy says, at most and in both directions.
const JITTER: f64 = 0.2;

/// `retryPolicy` of a service config.
#[derive(Clone, PartialEq, Debug)]
pub struct RetryPolicy {
    /// `maxAttempts`, the first one included; at least 2. More than [`MAX_ATTEMPTS`] count as that.
    pub max_attempts: u32,
    /// `initialBackoff`, before the first retry.
    pub initial_backoff: Duration,
    /// `maxBackoff`, which the back-off does not exceed (but for the jitter).
    pub max_backoff: Duration,
    /// `backoffMultiplier`: how much longer each back-off is than the one before.
    pub backoff_multiplier: f64,
    /// `retryableStatusCodes`.
    pub retryable: Codes,
}

/// What follows a failed attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RetryVerdict {
    /// Another, after this time.
    Again(Duration),
    /// None: its status is the call's.
    Final,
}

/// A call's attempts, one after the other.
#[derive(Clone, Debug)]
pub struct Retry {
    failed: u32,
    /// The next back-off without jitter.
    backoff: Duration,
}

impl Retry {
    /// A call that begins its first attempt.
    pub fn new(policy: &RetryPolicy) -> Self {
        Self { failed: 0, backoff: policy.initial_backoff.min(policy.max_backoff) }
    }

    /// Attempts that have failed: what `grpc-previous-rpc-attempts` says.
    pub fn previous_attempts(&self) -> u32 {
        self.failed
    }

    /// An attempt has failed before anything of its response was given to the application. `random` lies between 0 and 1.
    pub fn failed(
        &mut self,
        policy: &RetryPolicy,
        code: Code,
        pushback: Pushback,
        throttle: Option<&mut Throttle>,
        random: f64,
    ) -> RetryVerdict {
        let is_retryable = policy.retryable.contains(code) && code != Code::Ok;
        let mut allowed = is_retryable && pushback != Pushback::Never;
        if let Some(throttle) = throttle
            && (is_retryable || pushback == Pushback::Never)
        {
            throttle.failed();
            allowed &= throttle.allows();
        }
        if !allowed || self.failed + 1 >= policy.max_attempts.min(MAX_ATTEMPTS) {
            return RetryVerdict::Final;
        }
        self.failed += 1;
        if let Pushback::After(delay) = pushback {
            // The back-off begins anew behind it.
            self.backoff = policy.initial_backoff.min(policy.max_backoff);
            return RetryVerdict::Again(delay);
        }
        let jitter = 1.0 + JITTER * (2.0 * random.clamp(0.0, 1.0) - 1.0);
        let delay = scaled(self.backoff, jitter);
        self.backoff = scaled(self.backoff, policy.backoff_multiplier).min(policy.max_backoff);
        RetryVerdict::Again(delay)
    }
}

/// A duration times a factor; what is too long to be told counts as the longest there is.
fn scaled(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

/// Transparent retries of a call that no application has seen: no policy is needed for them, and no policy forbids them.
///
/// What never left the client is tried again as often as it takes. What a server has refused is tried again once: two
/// refusals are no accident, and the call's policy decides then.
#[derive(Clone, Copy, Default, Debug)]
pub struct Refusals {
    refused: bool,
}

impl Refusals {
    /// A server has refused the call unseen. Whether it is tried again, at once.
    pub fn is_first(&mut self) -> bool {
        !std::mem::replace(&mut self.refused, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::throttle::Throttling;
    use proptest::prelude::*;

    fn policy(max_attempts: u32) -> RetryPolicy {
        RetryPolicy {
            max_attempts,
            initial_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(1),
            backoff_multiplier: 3.0,
            retryable: [Code::Unavailable, Code::Ok].into_iter().collect(),
        }
    }

    fn fail(retry: &mut Retry, policy: &RetryPolicy, pushback: Pushback) -> RetryVerdict {
        retry.failed(policy, Code::Unavailable, pushback, None, 0.5)
    }

    fn again(milliseconds: u64) -> RetryVerdict {
        RetryVerdict::Again(Duration::from_millis(milliseconds))
    }

    #[test]
    fn the_backoff_grows_up_to_its_bound() {
        let policy = policy(5);
        let mut retry = Retry::new(&policy);
        let verdicts: Vec<_> =
            (0..5).map(|_| fail(&mut retry, &policy, Pushback::Unsaid)).collect();
        assert_eq!(
            verdicts,
            [again(100), again(300), again(900), again(1000), RetryVerdict::Final]
        );
        assert_eq!(retry.previous_attempts(), 4);
    }

    #[test]
    fn no_policy_allows_more_than_five_attempts() {
        let policy = policy(100);
        let mut retry = Retry::new(&policy);
        let attempts = std::iter::repeat_with(|| fail(&mut retry, &policy, Pushback::Unsaid));
        assert_eq!(attempts.take_while(|verdict| *verdict != RetryVerdict::Final).count(), 4);
    }

    #[test]
    fn other_codes_and_success_are_final() {
        let policy = policy(5);
        for code in Code::ALL {
            let verdict = Retry::new(&policy).failed(&policy, code, Pushback::Unsaid, None, 0.5);
            assert_eq!(verdict != RetryVerdict::Final, code == Code::Unavailable, "{code}");
        }
    }

    #[test]
    fn pushback_takes_the_backoffs_place_and_begins_it_anew() {
        let policy = policy(5);
        let mut retry = Retry::new(&policy);
        assert_eq!(fail(&mut retry, &policy, Pushback::Unsaid), again(100));
        let after = Pushback::After(Duration::from_millis(7));
        assert_eq!(fail(&mut retry, &policy, after), again(7));
        assert_eq!(fail(&mut retry, &policy, Pushback::Unsaid), again(100));
        assert_eq!(fail(&mut retry, &policy, Pushback::Never), RetryVerdict::Final);
    }

    #[test]
    fn a_pushback_does_not_make_other_codes_retryable() {
        let policy = policy(5);
        let after = Pushback::After(Duration::ZERO);
        let verdict = Retry::new(&policy).failed(&policy, Code::NotFound, after, None, 0.5);
        assert_eq!(verdict, RetryVerdict::Final);
    }

    #[test]
    fn throttled_attempts_are_final_and_count() {
        let policy = policy(5);
        let throttling = Throttling { max_milli_tokens: 4000, milli_token_ratio: 100 };
        let mut throttle = Throttle::new(throttling);
        let mut retry = Retry::new(&policy);
        let mut fail = |code, pushback, throttle: &mut Throttle| {
            retry.failed(&policy, code, pushback, Some(throttle), 0.5)
        };
        assert_eq!(fail(Code::Unavailable, Pushback::Unsaid, &mut throttle), again(100));
        // A status that nobody would retry says nothing about the server's load.
        assert_eq!(fail(Code::NotFound, Pushback::Unsaid, &mut throttle), RetryVerdict::Final);
        assert!(throttle.allows());
        assert_eq!(fail(Code::Unavailable, Pushback::Unsaid, &mut throttle), RetryVerdict::Final);
        assert!(!throttle.allows());
        // A server that asks not to be asked again does.
        (0..3).for_each(|_| (0..10).for_each(|_| throttle.succeeded()));
        assert!(throttle.allows());
        for _ in 0..2 {
            assert_eq!(fail(Code::NotFound, Pushback::Never, &mut throttle), RetryVerdict::Final);
        }
        assert!(!throttle.allows());
    }

    #[test]
    fn the_last_attempt_counts_for_the_throttle_too() {
        let policy = policy(2);
        let throttling = Throttling { max_milli_tokens: 4000, milli_token_ratio: 100 };
        let mut throttle = Throttle::new(throttling);
        let mut retry = Retry::new(&policy);
        for expected in [again(100), RetryVerdict::Final] {
            let verdict = retry.failed(
                &policy,
                Code::Unavailable,
                Pushback::Unsaid,
                Some(&mut throttle),
                0.5,
            );
            assert_eq!(verdict, expected);
        }
        assert!(!throttle.allows());
    }

    #[test]
    fn a_refusal_is_forgiven_once() {
        let mut refusals = Refusals::default();
        assert!(refusals.is_first());
        assert!(!refusals.is_first());
    }

    proptest! {
        #[test]
        fn the_wait_is_within_a_fifth_of_what_the_policy_says(
            initial_ms in 1u64..100_000, max_ms in 1u64..100_000, multiplier in 0.1f64..100.0,
            max_attempts in 2u32..10, randoms in prop::collection::vec(0.0f64..=1.0, 10),
        ) {
            let policy = RetryPolicy {
                max_attempts,
                initial_backoff: Duration::from_millis(initial_ms),
                max_backoff: Duration::from_millis(max_ms),
                backoff_multiplier: multiplier,
                retryable: [Code::Unavailable].into_iter().collect(),
            };
            let mut retry = Retry::new(&policy);
            let mut expected = initial_ms.min(max_ms) as f64;
            let mut attempts = 1;
            for random in randoms {
                let verdict =
                    retry.failed(&policy, Code::Unavailable, Pushback::Unsaid, None, random);
                let RetryVerdict::Again(delay) = verdict else { break };
                let delay = delay.as_secs_f64() * 1000.0;
                prop_assert!((0.8 * expected - 1e-3..=1.2 * expected + 1e-3).contains(&delay));
                expected = (expected * multiplier).min(max_ms as f64);
                attempts += 1;
            }
            prop_assert_eq!(attempts, max_attempts.min(MAX_ATTEMPTS));
        }

        #[test]
        fn no_policy_and_no_time_make_it_panic(
            seconds in any::<u64>(), multiplier in any::<f64>(), random in any::<f64>(),
        ) {
            let policy = RetryPolicy {
                max_attempts: 5,
                initial_backoff: Duration::from_secs(seconds),
                max_backoff: Duration::MAX,
                backoff_multiplier: multiplier,
                retryable: [Code::Unavailable].into_iter().collect(),
            };
            let mut retry = Retry::new(&policy);
            while let RetryVerdict::Again(_) =
                retry.failed(&policy, Code::Unavailable, Pushback::Unsaid, None, random)
            {}
        }
    }
}
