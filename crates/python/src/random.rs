//! Chance, where clients are not to do the same at the same time.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A number in 0..1. std seeds its hash maps from the system's entropy, and gives each another seed: that is enough here.
pub(crate) fn random() -> f64 {
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}
