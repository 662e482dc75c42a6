//! Retry throttling (gRFC A6, "Throttling Retry Attempts and Hedged RPCs"): a channel whose calls mostly fail makes no further
//! attempts, so that retries do not keep a server down.

/// What a service config says about throttling. In thousandths, as the smallest ratio is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Throttling {
    /// `maxTokens`, more than 0.
    pub max_milli_tokens: u32,
    /// `tokenRatio`: what a success gives back, more than 0.
    pub milli_token_ratio: u32,
}

/// A channel's bucket of tokens. It begins full; a failure takes one out, a success puts a part of one back, and while it is
/// not more than half full there are no further attempts.
#[derive(Clone, Debug)]
pub struct Throttle {
    throttling: Throttling,
    milli_tokens: u32,
}

impl Throttle {
    /// A full bucket.
    pub fn new(throttling: Throttling) -> Self {
        Self { throttling, milli_tokens: throttling.max_milli_tokens }
    }

    /// A call has succeeded.
    pub fn succeeded(&mut self) {
        let more = self.milli_tokens.saturating_add(self.throttling.milli_token_ratio);
        self.milli_tokens = more.min(self.throttling.max_milli_tokens);
    }

    /// An attempt has failed in a way that asks for another, or its server wants no other.
    pub fn failed(&mut self) {
        self.milli_tokens = self.milli_tokens.saturating_sub(1000);
    }

    /// Whether there may be further attempts.
    pub fn allows(&self) -> bool {
        self.milli_tokens > self.throttling.max_milli_tokens / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bucket(max_milli_tokens: u32, milli_token_ratio: u32) -> Throttle {
        Throttle::new(Throttling { max_milli_tokens, milli_token_ratio })
    }

    #[test]
    fn half_a_bucket_is_not_enough() {
        let mut throttle = bucket(10_000, 100);
        for _ in 0..4 {
            throttle.failed();
            assert!(throttle.allows());
        }
        throttle.failed();
        assert!(!throttle.allows());
        throttle.succeeded();
        assert!(throttle.allows());
    }

    #[test]
    fn an_empty_bucket_takes_half_its_size_in_successes_to_recover() {
        let mut throttle = bucket(4_000, 500);
        (0..100).for_each(|_| throttle.failed());
        for _ in 0..4 {
            throttle.succeeded();
            assert!(!throttle.allows());
        }
        throttle.succeeded();
        assert!(throttle.allows());
    }

    proptest! {
        #[test]
        fn the_bucket_counts_as_the_proposal_says(
            max in 1u32..1000, ratio in 1u32..5000, events in prop::collection::vec(any::<bool>(), 0..500),
        ) {
            let mut throttle = bucket(max * 1000, ratio);
            let (most, mut tokens) = (f64::from(max), f64::from(max));
            for success in events {
                if success {
                    throttle.succeeded();
                    tokens = (tokens + f64::from(ratio) / 1000.0).min(most);
                } else {
                    throttle.failed();
                    tokens = (tokens - 1.0).max(0.0);
                }
                // Where doubles cannot tell it either way there is nothing to compare.
                if (tokens - most / 2.0).abs() > 1e-6 {
                    prop_assert_eq!(throttle.allows(), tokens > most / 2.0);
                }
            }
        }
    }
}
