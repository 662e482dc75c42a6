//! Deadlines of many calls under one timer.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// The deadlines of things named by `K`, soonest first.
///
/// A call that ends before its deadline is not searched for: its entry is dropped when it comes up, or when such
/// entries outnumber the others. Calls mostly have the same timeout, so that adding one is an append.
#[derive(Debug)]
pub struct Deadlines<K> {
    heap: BinaryHeap<Reverse<(Instant, K)>>,
    /// Sweep when the heap has grown to this.
    sweep_at: usize,
}

impl<K: Ord + Copy> Default for Deadlines<K> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), sweep_at: Self::MIN_SWEEP }
    }
}

impl<K: Ord + Copy> Deadlines<K> {
    const MIN_SWEEP: usize = 256;

    /// Adds a deadline. `is_live` tells which keys still matter.
    pub fn push(&mut self, deadline: Instant, key: K, is_live: impl Fn(K) -> bool) {
        if self.heap.len() >= self.sweep_at {
            self.heap.retain(|Reverse((_, key))| is_live(*key));
            self.sweep_at = Self::MIN_SWEEP.max(self.heap.len() * 2);
        }
        self.heap.push(Reverse((deadline, key)));
    }

    /// When to look again; it may be for a key that no longer matters.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((deadline, _))| *deadline)
    }

    /// Takes a key whose deadline has passed.
    pub fn expired(&mut self, now: Instant) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, key))| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_soonest_comes_first() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut deadlines = Deadlines::default();
        for (ms, key) in [(30, 'c'), (10, 'a'), (20, 'b')] {
            deadlines.push(at(ms), key, |_| true);
        }
        assert_eq!(deadlines.next(), Some(at(10)));
        assert_eq!(deadlines.expired(at(9)), None);
        assert_eq!(deadlines.expired(at(20)), Some('a'));
        assert_eq!(deadlines.expired(at(20)), Some('b'));
        assert_eq!(deadlines.expired(at(20)), None);
    }

    #[test]
    fn ended_calls_do_not_pile_up() {
        let start = Instant::now();
        let mut deadlines = Deadlines::default();
        for key in 0..100_000u32 {
            deadlines.push(start, key, |other| other + 100 > key);
        }
        assert!(deadlines.heap.len() <= 512);
    }
}
