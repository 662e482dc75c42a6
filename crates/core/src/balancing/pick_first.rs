//! pick_first: one address, the first that answers (gRFC A61 "Happy Eyeballs", A62 "pick_first: Sticky TRANSIENT_FAILURE").
//!
//! ```text
//!           wanted            established
//!   Idle ──────────► Trying ───────────────► Ready
//!    ▲                 │                     ▲  │
//!    │                 │ all have failed     │  │
//!    │                 └────────► Failing ───┘  │ lost, or the server goes away
//!    └──────────────────────────────────────────┘
//! ```
//!
//! One pass over the addresses is made in their order, each attempt a little after the one before (or as soon as that has
//! failed), and the others are given up when one succeeds. From then on each address has its own back-off; the channel
//! counts as failing until one answers.

use super::happy_eyeballs::interleave;
use super::subchannel::{Ended, Subchannel};
use super::{ConnectionId, Effects};
use crate::connectivity::Connectivity;
use std::time::Instant;

#[derive(Debug)]
pub(super) struct PickFirst<A> {
    /// In the order in which they are tried.
    addresses: Vec<A>,
    /// Those that are tried, or the one that is connected.
    pub(super) subchannels: Vec<Subchannel<A>>,
    /// The place of the next that this pass tries; `None` where no pass is under way.
    next: Option<usize>,
    /// When it is tried though the one before has not failed.
    next_at: Option<Instant>,
    is_failing: bool,
    /// Failures since the name was last looked up.
    failures: usize,
}

impl<A: Clone + PartialEq> PickFirst<A> {
    pub(super) fn new() -> Self {
        Self {
            addresses: Vec::new(),
            subchannels: Vec::new(),
            next: None,
            next_at: None,
            is_failing: false,
            failures: 0,
        }
    }

    pub(super) fn state(&self) -> Connectivity {
        if self.is_ready() {
            Connectivity::Ready
        } else if self.is_failing {
            Connectivity::TransientFailure
        } else if self.subchannels.is_empty() {
            Connectivity::Idle
        } else {
            Connectivity::Connecting
        }
    }

    fn is_ready(&self) -> bool {
        self.subchannels.iter().any(|subchannel| subchannel.state() == Connectivity::Ready)
    }

    /// Takes new addresses. Those that stay keep their connections and their back-off.
    pub(super) fn update(&mut self, addresses: Vec<A>, now: Instant, effects: &mut Effects<A>) {
        let mut addresses = interleave(addresses, effects.family);
        if effects.options.shuffles {
            effects.random.shuffle(&mut addresses);
        }
        if self.addresses == addresses {
            return;
        }
        self.addresses = addresses;
        if self.subchannels.is_empty() {
            return;
        }
        if self.is_ready() {
            let is_kept = |own: &Subchannel<A>| self.addresses.contains(&own.address);
            if !self.subchannels.iter().any(is_kept) {
                self.start(now, effects);
            }
            return;
        }
        self.start(now, effects);
    }

    /// A connection is wanted.
    pub(super) fn want(&mut self, now: Instant, effects: &mut Effects<A>) {
        if self.subchannels.is_empty() {
            self.start(now, effects);
        }
    }

    /// Begins a pass over all addresses.
    fn start(&mut self, now: Instant, effects: &mut Effects<A>) {
        let mut before = std::mem::take(&mut self.subchannels);
        for address in &self.addresses {
            let known = before.iter().position(|own| own.address == *address);
            self.subchannels.push(match known {
                Some(at) => before.swap_remove(at),
                None => Subchannel::new(address.clone(), effects),
            });
        }
        for gone in before {
            gone.retire(effects);
        }
        self.next = Some(0);
        self.step(now, effects);
    }

    /// Tries the next address of the pass.
    fn step(&mut self, now: Instant, effects: &mut Effects<A>) {
        self.next_at = None;
        while let Some(at) = self.next {
            let Some(subchannel) = self.subchannels.get_mut(at) else { break };
            self.next = Some(at + 1);
            if subchannel.state() == Connectivity::Idle {
                subchannel.connect(now, effects);
            }
            if subchannel.state() == Connectivity::Connecting {
                let is_last = at + 1 == self.subchannels.len();
                self.next_at = (!is_last).then(|| now + effects.options.attempt_delay);
                return;
            }
        }
        self.end_pass(now, effects);
    }

    /// Ends the pass if no attempt of it is left.
    fn end_pass(&mut self, now: Instant, effects: &mut Effects<A>) {
        let is_through = self.next.is_some_and(|next| next >= self.subchannels.len());
        let connecting = Connectivity::Connecting;
        if !is_through || self.subchannels.iter().any(|own| own.state() == connecting) {
            return;
        }
        self.next = None;
        self.is_failing = true;
        self.failures = 0;
        effects.wants_addresses = true;
        for subchannel in &mut self.subchannels {
            subchannel.connect(now, effects);
        }
    }

    pub(super) fn established(
        &mut self,
        id: ConnectionId,
        now: Instant,
        effects: &mut Effects<A>,
    ) -> bool {
        let Some(at) = self.subchannels.iter_mut().position(|own| own.established(id, now)) else {
            return false;
        };
        let chosen = self.subchannels.swap_remove(at);
        for other in std::mem::replace(&mut self.subchannels, vec![chosen]) {
            other.retire(effects);
        }
        self.next = None;
        self.next_at = None;
        self.is_failing = false;
        true
    }

    pub(super) fn ended(
        &mut self,
        id: ConnectionId,
        now: Instant,
        effects: &mut Effects<A>,
    ) -> Option<Ended> {
        let (at, ended) = self
            .subchannels
            .iter_mut()
            .enumerate()
            .find_map(|(at, own)| Some((at, own.ended(id, now, effects)?)))?;
        match ended {
            Ended::Attempt => self.attempt_failed(at, now, effects),
            Ended::Surplus => {}
            Ended::Last { .. } => {
                for subchannel in std::mem::take(&mut self.subchannels) {
                    subchannel.retire(effects);
                }
                effects.wants_addresses = true;
            }
        }
        Some(ended)
    }

    fn attempt_failed(&mut self, at: usize, now: Instant, effects: &mut Effects<A>) {
        match self.next {
            // The last that was begun.
            Some(next) if next == at + 1 => self.step(now, effects),
            Some(_) => self.end_pass(now, effects),
            None if self.is_failing => {
                self.failures += 1;
                if self.failures >= self.subchannels.len() {
                    self.failures = 0;
                    effects.wants_addresses = true;
                }
            }
            None => {}
        }
    }

    /// Time has passed.
    pub(super) fn expire(&mut self, now: Instant, effects: &mut Effects<A>) {
        if self.next_at.is_some_and(|at| at <= now) {
            self.step(now, effects);
        }
        for subchannel in &mut self.subchannels {
            subchannel.time_out(now, effects);
            // In the middle of a pass it waits for that to end.
            if subchannel.end_backoff(now)
                && self.next.is_none()
                && subchannel.state() != Connectivity::Ready
            {
                subchannel.connect(now, effects);
            }
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.next_at
    }
}
