//! What a channel's balancer decides upon, carried out: attempts begun and given up, connections drained, watchers told,
//! calls in line started or failed.

use super::call::Call;
use super::connecting::Attempt;
use super::link::ClientLink;
use super::loop_channel::LoopChannel;
use super::picker::{Connections, Picker};
use oxgrpc_core::{Action, Activity, Code, ConnectionId, Connectivity, Status};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A connection, or what is to become one.
pub(super) enum Connection {
    /// The socket is being connected.
    Attempt(Py<Attempt>),
    /// The server is to send its SETTINGS, or has.
    Link(Py<ClientLink>),
}

impl Connection {
    pub(super) fn link(&self) -> Option<&Py<ClientLink>> {
        match self {
            Self::Attempt(_) => None,
            Self::Link(link) => Some(link),
        }
    }

    /// What an attempt waits for in vain.
    fn delay(&self, py: Python<'_>) -> String {
        match self {
            Self::Attempt(attempt) => format!("{}: connection timed out", attempt.get().peer(py)),
            Self::Link(link) => format!("{}: no SETTINGS from the server", link.get().peer(py)),
        }
    }

    /// Gives it up.
    pub(super) fn close(self, py: Python<'_>) {
        match self {
            Self::Attempt(attempt) => attempt.get().give_up(py),
            Self::Link(link) => ClientLink::close(link.bind(py)),
        }
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Attempt(attempt) => visit.call(attempt),
            Self::Link(link) => visit.call(link),
        }
    }
}

impl LoopChannel {
    /// A connection is wanted.
    pub(crate) fn connect(slf: &Bound<'_, Self>) {
        slf.get().state.with(slf.py(), |state| state.balancer.want(Instant::now()));
        Self::act(slf);
    }

    /// Does what the balancer says, until it says nothing more.
    pub(super) fn act(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let me = slf.get();
        // What is done here may come back here: who came first goes on.
        if me.state.with(py, |state| std::mem::replace(&mut state.is_acting, true)) {
            return;
        }
        while let Some(action) = me.state.with(py, |state| state.balancer.next_action()) {
            match action {
                Action::Resolve => Self::resolve(slf),
                Action::Connect { id, address } => {
                    if let Err(error) = Attempt::begin(slf, id, &address) {
                        let error = format!("{address}: {}", error.value(py));
                        let now = Instant::now();
                        me.state.with(py, |state| state.balancer.ended(id, &error, now));
                    }
                }
                Action::TimeOut(id) => {
                    if let Some(connection) = me.take(py, id) {
                        let error = connection.delay(py);
                        connection.close(py);
                        let now = Instant::now();
                        me.state.with(py, |state| state.balancer.ended(id, &error, now));
                    }
                }
                Action::Close(id) => {
                    if let Some(connection) = me.take(py, id) {
                        connection.close(py);
                    }
                }
                Action::Drain(id) => {
                    if let Some(Connection::Link(link)) = me.take(py, id) {
                        me.state.with(py, |state| state.draining.push(link));
                    }
                    Self::calls_changed(slf);
                }
                Action::Picker => {
                    me.renew_picker(py);
                    Self::start_pending(slf);
                }
                Action::State => Self::on_state(slf),
            }
        }
        me.state.with(py, |state| state.is_acting = false);
        Self::update_timer(slf);
    }

    /// Takes a connection off the list.
    pub(super) fn take(&self, py: Python<'_>, id: ConnectionId) -> Option<Connection> {
        self.state.with(py, |state| {
            let at = state.connections.iter().position(|(own, _)| *own == id)?;
            Some(state.connections.swap_remove(at).1)
        })
    }

    fn renew_picker(&self, py: Python<'_>) {
        let before = self.state.with(py, |state| {
            let connections = &state.connections;
            let link = |id| {
                let (_, connection) = connections.iter().find(|(own, _)| *own == id)?;
                Some(connection.link()?.clone_ref(py))
            };
            let ready = state.balancer.ready();
            let addresses: SmallVec<[Connections; 1]> =
                ready.map(|ids| ids.filter_map(link).collect()).collect();
            let first = state.balancer.random_below(addresses.len());
            std::mem::replace(&mut state.picker, Picker::new(addresses, first))
        });
        drop(before);
    }

    /// The state is another. Calls in line that do not want to wait fail with the channel; others keep it from being idle.
    fn on_state(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let me = slf.get();
        for watcher in me.state.with(py, |state| std::mem::take(&mut state.watchers)) {
            me.wake(py, watcher);
        }
        let (connectivity, error) = me.state.with(py, |state| {
            (state.balancer.connectivity(), state.balancer.failure().map(str::to_owned))
        });
        if connectivity == Connectivity::Idle
            && me.state.with(py, |state| !state.line.waiting.is_empty())
        {
            me.state.with(py, |state| state.balancer.want(Instant::now()));
        }
        let Some(error) = error else { return };
        let waiting = me.state.with(py, |state| std::mem::take(&mut state.line.waiting));
        let mut kept = VecDeque::new();
        for reference in waiting {
            let Some(call) = reference.upgrade(py) else { continue };
            match call.get().waits_for_ready(py) {
                Some(true) => kept.push_back(reference),
                Some(false) => {
                    Call::attempt_failed(&call, Status::new(Code::Unavailable, error.clone()));
                }
                None => {}
            }
        }
        me.state.with(py, |state| {
            kept.append(&mut state.line.waiting);
            state.line.waiting = kept;
        });
    }

    /// The server's SETTINGS have come, for the first time or anew.
    pub(crate) fn established(slf: &Bound<'_, Self>, link: &Bound<'_, ClientLink>) {
        let py = slf.py();
        if Self::is_over(slf) {
            return;
        }
        let id = link.get().id;
        slf.get().state.with(py, |state| state.balancer.established(id, Instant::now()));
        Self::act(slf);
        // The server may allow more calls than before.
        Self::start_pending(slf);
    }

    /// A connection has ended. Its calls have been told.
    pub(crate) fn lost(slf: &Bound<'_, Self>, link: &Bound<'_, ClientLink>, error: &str) {
        let py = slf.py();
        let me = slf.get();
        let drained = me.state.with(py, |state| {
            let at = state.draining.iter().position(|other| other.is(link))?;
            Some(state.draining.swap_remove(at))
        });
        if drained.is_some() || me.take(py, link.get().id).is_none() || Self::is_over(slf) {
            return;
        }
        let id = link.get().id;
        me.state.with(py, |state| state.balancer.ended(id, error, Instant::now()));
        Self::act(slf);
    }

    /// The server takes no more calls on a connection: those that it has taken go on.
    pub(crate) fn went_away(slf: &Bound<'_, Self>, link: &Bound<'_, ClientLink>) {
        let py = slf.py();
        let me = slf.get();
        let id = link.get().id;
        let Some(Connection::Link(link)) = me.take(py, id) else { return };
        me.state.with(py, |state| {
            state.draining.push(link);
            state.balancer.went_away(id, Instant::now());
        });
        Self::act(slf);
        Self::calls_changed(slf);
    }

    /// What the balancer waits for may be due.
    pub(super) fn timer(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let me = slf.get();
        let fired = me.state.with(py, |state| state.timer.take());
        drop(fired);
        if Self::is_over(slf) {
            return;
        }
        let under_way = me.call_count(py);
        me.state.with(py, |state| {
            let connections = &state.connections;
            let links = || connections.iter().filter_map(|(id, own)| Some((*id, own.link()?)));
            let started = links().map(|(_, link)| u64::from(link.get().started(py))).sum();
            let is_used =
                |id| links().any(|(own, link)| own == id && link.get().call_count(py) > 0);
            let activity = Activity { under_way, started };
            state.balancer.expire(Instant::now(), activity, is_used);
        });
        Self::act(slf);
    }

    /// Makes sure that the balancer is asked in time. A timer that is set for earlier stays.
    fn update_timer(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let me = slf.get();
        let due = me.state.with(py, |state| {
            let due = state.balancer.next_timer()?;
            let is_new = state.timer.as_ref().is_none_or(|(set, _)| due < *set);
            (is_new && !state.closed).then_some(due)
        });
        let Some(due) = due else { return };
        let delay = due.saturating_duration_since(Instant::now());
        // A loop that is closed refuses: its channel does nothing any more.
        let Ok(callback) = slf.getattr(intern!(py, "on_timer")) else { return };
        let Ok(handle) = me.call_later(py, delay, &callback) else { return };
        let before = me.state.with(py, |state| state.timer.replace((due, handle)));
        if let Some((_, handle)) = before {
            let _ = handle.call_method0(py, intern!(py, "cancel"));
        }
    }

    pub(super) fn cancel_timer(&self, py: Python<'_>) {
        if let Some((_, timer)) = self.state.with(py, |state| state.timer.take()) {
            let _ = timer.call_method0(py, intern!(py, "cancel"));
        }
    }

    pub(crate) fn call_later(
        &self,
        py: Python<'_>,
        delay: Duration,
        callback: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        let event_loop = &self.port.get().event_loop;
        event_loop.call_method1(py, intern!(py, "call_later"), (delay.as_secs_f64(), callback))
    }
}
