//! round_robin: a connection to each address, and calls to each in turn (gRPC load-balancing.md, "round_robin").
//!
//! A connection that is lost is sought again at once, one that fails after its own back-off. The channel is ready if one
//! address is; it counts as connecting as long as one has not failed yet, and as failing otherwise.

use super::subchannel::{Ended, Subchannel};
use super::{ConnectionId, Effects};
use crate::connectivity::Connectivity;
use std::time::Instant;

#[derive(Debug)]
pub(super) struct RoundRobin<A> {
    pub(super) subchannels: Vec<Subchannel<A>>,
}

impl<A: Clone + PartialEq> RoundRobin<A> {
    pub(super) fn new() -> Self {
        Self { subchannels: Vec::new() }
    }

    pub(super) fn state(&self) -> Connectivity {
        let mut state = Connectivity::TransientFailure;
        for subchannel in &self.subchannels {
            match subchannel.state() {
                Connectivity::Ready => return Connectivity::Ready,
                _ if subchannel.is_failing => {}
                _ => state = Connectivity::Connecting,
            }
        }
        state
    }

    /// Takes new addresses. Connections to those that stay stay; those to others drain.
    pub(super) fn update(&mut self, addresses: Vec<A>, now: Instant, effects: &mut Effects<A>) {
        let mut before = std::mem::take(&mut self.subchannels);
        for address in addresses {
            self.subchannels.push(match before.iter().position(|own| own.address == address) {
                Some(at) => before.swap_remove(at),
                None => {
                    let mut subchannel = Subchannel::new(address, effects);
                    subchannel.connect(now, effects);
                    subchannel
                }
            });
        }
        for gone in before {
            gone.retire(effects);
        }
    }

    pub(super) fn established(&mut self, id: ConnectionId, now: Instant) -> bool {
        self.subchannels.iter_mut().any(|own| own.established(id, now))
    }

    pub(super) fn ended(
        &mut self,
        id: ConnectionId,
        now: Instant,
        effects: &mut Effects<A>,
    ) -> Option<Ended> {
        for subchannel in &mut self.subchannels {
            let Some(ended) = subchannel.ended(id, now, effects) else { continue };
            match ended {
                Ended::Attempt => effects.wants_addresses = true,
                Ended::Surplus => {}
                Ended::Last { was_short } => {
                    effects.wants_addresses = true;
                    match was_short && effects.was_lost {
                        true => subchannel.back_off(now, effects),
                        false => subchannel.connect(now, effects),
                    }
                }
            }
            return Some(ended);
        }
        None
    }

    pub(super) fn expire(&mut self, now: Instant, effects: &mut Effects<A>) {
        for subchannel in &mut self.subchannels {
            subchannel.time_out(now, effects);
            if subchannel.end_backoff(now) && subchannel.state() != Connectivity::Ready {
                subchannel.connect(now, effects);
            }
        }
    }
}
