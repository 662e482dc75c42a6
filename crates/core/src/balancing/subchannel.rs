//! A subchannel: one address, the attempts to connect to it, and its connections.
//!
//! There is one connection, or several once the server's limit of streams is reached (gRFC A105). What a failure means to
//! the channel, and when to try again, is the policy's to decide.

use super::backoff::Backoff;
use super::{Action, ConnectionId, Effects};
use crate::connectivity::Connectivity;
use std::time::Instant;

#[derive(Debug)]
struct Attempt {
    id: ConnectionId,
    /// When it has taken too long; `None` once that was said.
    gives_up_at: Option<Instant>,
    /// When the next may begin, should this one fail.
    next_at: Instant,
}

#[derive(Debug)]
struct Established {
    id: ConnectionId,
    since: Instant,
    /// It had no call when it was last looked at.
    was_unused: bool,
}

/// What the end of a connection, or of an attempt, was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// An attempt has failed.
    Attempt,
    /// A connection is lost, and others are left.
    Surplus,
    /// The last connection is lost.
    Last {
        /// It stood no longer than the first wait after a failure.
        was_short: bool,
    },
}

/// One address.
#[derive(Debug)]
pub(super) struct Subchannel<A> {
    pub(super) address: A,
    backoff: Backoff,
    attempt: Option<Attempt>,
    /// The one to be filled first is in front.
    connections: Vec<Established>,
    /// No attempt before this.
    retry_at: Option<Instant>,
    /// An attempt has failed since it was last connected: it counts as failing while it tries again.
    pub(super) is_failing: bool,
}

impl<A: Clone> Subchannel<A> {
    pub(super) fn new(address: A, effects: &Effects<A>) -> Self {
        Self {
            address,
            backoff: Backoff::new(effects.options.backoff),
            attempt: None,
            connections: Vec::new(),
            retry_at: None,
            is_failing: false,
        }
    }

    /// ```text
    ///   Idle ──connect──► Connecting ──established──► Ready
    ///    ▲ ▲                │                           │
    ///    │ └──back-off──TransientFailure ◄──failed      │ the last connection is lost
    ///    └──────────────────────────────────────────────┘
    /// ```
    pub(super) fn state(&self) -> Connectivity {
        if !self.connections.is_empty() {
            Connectivity::Ready
        } else if self.attempt.is_some() {
            Connectivity::Connecting
        } else if self.retry_at.is_some() {
            Connectivity::TransientFailure
        } else {
            Connectivity::Idle
        }
    }

    pub(super) fn connections(&self) -> impl ExactSizeIterator<Item = ConnectionId> {
        self.connections.iter().map(|connection| connection.id)
    }

    /// Begins an attempt, unless one is under way or must not be yet.
    pub(super) fn connect(&mut self, now: Instant, effects: &mut Effects<A>) {
        if self.attempt.is_some() || self.retry_at.is_some() {
            return;
        }
        let id = effects.next_id();
        let random = effects.random.next();
        self.attempt = Some(Attempt {
            id,
            gives_up_at: Some(now + effects.options.backoff.connect_timeout),
            next_at: self.backoff.next(now, random),
        });
        effects.push(Action::Connect { id, address: self.address.clone() });
    }

    /// Begins an attempt for one more connection, if there may be one.
    pub(super) fn connect_another(&mut self, now: Instant, effects: &mut Effects<A>) {
        if self.connections.len() < effects.options.max_connections_per_address {
            self.connect(now, effects);
        }
    }

    /// The attempt has succeeded. `false`: it is none of ours.
    pub(super) fn established(&mut self, id: ConnectionId, now: Instant) -> bool {
        if self.attempt.take_if(|attempt| attempt.id == id).is_none() {
            return false;
        }
        self.backoff.reset();
        self.is_failing = false;
        self.connections.push(Established { id, since: now, was_unused: false });
        true
    }

    /// An attempt has failed, or a connection takes no more calls. `None`: it is none of ours.
    pub(super) fn ended(
        &mut self,
        id: ConnectionId,
        now: Instant,
        effects: &Effects<A>,
    ) -> Option<Ended> {
        if let Some(attempt) = self.attempt.take_if(|attempt| attempt.id == id) {
            self.fail(attempt.next_at, now);
            return Some(Ended::Attempt);
        }
        let at = self.connections.iter().position(|connection| connection.id == id)?;
        let ended = self.connections.remove(at);
        if !self.connections.is_empty() {
            return Some(Ended::Surplus);
        }
        let was_short = now < ended.since + effects.options.backoff.initial;
        Some(Ended::Last { was_short })
    }

    fn fail(&mut self, retry_at: Instant, now: Instant) {
        // Where connections are left, this only keeps further ones from being tried for.
        self.is_failing = self.connections.is_empty();
        self.retry_at = Some(retry_at.max(now));
    }

    /// Waits as after a failed attempt: connecting at once would be knocking at a server that throws us out.
    pub(super) fn back_off(&mut self, now: Instant, effects: &mut Effects<A>) {
        let retry_at = self.backoff.next(now, effects.random.next());
        self.fail(retry_at, now);
    }

    /// Has an attempt given up that takes too long.
    pub(super) fn time_out(&mut self, now: Instant, effects: &mut Effects<A>) {
        if let Some(attempt) = &mut self.attempt
            && attempt.gives_up_at.take_if(|at| *at <= now).is_some()
        {
            effects.push(Action::TimeOut(attempt.id));
        }
    }

    /// `true`: the back-off has passed.
    pub(super) fn end_backoff(&mut self, now: Instant) -> bool {
        self.retry_at.take_if(|at| *at <= now).is_some()
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let gives_up_at = self.attempt.as_ref().and_then(|attempt| attempt.gives_up_at);
        [gives_up_at, self.retry_at].into_iter().flatten().min()
    }

    pub(super) fn has_surplus(&self) -> bool {
        self.connections.len() > 1
    }

    /// Closes connections beyond the first that had no call at two looks in succession. `true`: there were some.
    pub(super) fn close_surplus(
        &mut self,
        effects: &mut Effects<A>,
        is_used: &mut impl FnMut(ConnectionId) -> bool,
    ) -> bool {
        let count = self.connections.len();
        let mut at = 0;
        self.connections.retain_mut(|connection| {
            at += 1;
            let is_unused = at > 1 && !is_used(connection.id);
            let is_surplus = is_unused && connection.was_unused;
            connection.was_unused = is_unused;
            if is_surplus {
                effects.push(Action::Drain(connection.id));
            }
            !is_surplus
        });
        self.connections.len() < count
    }

    /// The address is no longer wanted.
    pub(super) fn retire(self, effects: &mut Effects<A>) {
        if let Some(attempt) = self.attempt {
            effects.push(Action::Close(attempt.id));
        }
        for connection in self.connections {
            effects.push(Action::Drain(connection.id));
        }
    }
}
