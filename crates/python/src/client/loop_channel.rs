//! A channel on one event loop: its connections, the calls that wait for one, and who waits for another state.
//!
//! Which connections there are is the balancer's to decide (`subchannel.rs` carries it out). One counts as established when
//! the server's SETTINGS have come, so that a port which accepts and speaks something else is a failed attempt and not a
//! lost call.

use super::call::{CANCELLED_LOCALLY, Call};
use super::channel::Config;
use super::line::Line;
use super::link::ClientLink;
use super::picker::{Pick, Picker};
use super::subchannel::Connection;
use crate::awaitable::{Awaitable, Operation, Polled};
use crate::gil::GilCell;
use crate::port::{Port, Ready};
use oxgrpc_core::{Balancer, ConnectionId, Connectivity, KeepaliveOptions, UsageError};
use oxgrpc_io::Address;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

pub(super) struct State {
    /// What decides upon connections.
    pub(super) balancer: Balancer<Address>,
    /// What it is about to say is being done.
    pub(super) is_acting: bool,
    /// Attempts, and connections that the balancer knows of.
    pub(super) connections: Vec<(ConnectionId, Connection)>,
    /// The established ones, as calls find them.
    pub(super) picker: Picker,
    /// Connections that take no more calls: those that they have go on.
    pub(super) draining: Vec<Py<ClientLink>>,
    /// How connections are kept alive: more rarely than the channel says, once a server has complained.
    pub(super) keepalive: Option<KeepaliveOptions>,
    /// The look-up that is under way.
    pub(super) lookup: Option<Py<PyAny>>,
    /// When the balancer is asked again.
    pub(super) timer: Option<(Instant, Py<PyAny>)>,
    /// Calls that have no connection.
    pub(super) line: Line,
    /// Who waits for another state.
    pub(super) watchers: Vec<Py<Awaitable>>,
    /// Who waits for the last call to end.
    pub(super) idlers: Vec<Py<Awaitable>>,
    pub(super) closed: bool,
    /// Nobody can start calls any more: the connections go with the last one.
    pub(super) orphaned: bool,
}

impl State {
    /// All connections, the draining ones included.
    fn links(&self) -> impl Iterator<Item = &Py<ClientLink>> {
        let known = self.connections.iter().filter_map(|(_, connection)| connection.link());
        known.chain(&self.draining)
    }
}

/// Tells addresses apart that take turns where several are tried (gRFC A61).
fn family(address: &Address) -> u8 {
    match address {
        Address::Tcp(SocketAddr::V4(_)) => 4,
        Address::Tcp(SocketAddr::V6(_)) => 6,
        _ => 0,
    }
}

/// A channel on one event loop.
#[pyclass(frozen, module = "oxgrpc._native", name = "LoopChannel")]
pub(crate) struct LoopChannel {
    pub(super) port: Py<Port>,
    pub(super) config: Arc<Config>,
    pub(super) state: GilCell<State>,
}

impl LoopChannel {
    pub(crate) fn new(py: Python<'_>, port: Py<Port>, config: Arc<Config>) -> PyResult<Py<Self>> {
        let seed = RandomState::new().build_hasher().finish();
        let state = State {
            balancer: Balancer::new(config.balancer.clone(), family, seed),
            is_acting: false,
            connections: Vec::new(),
            picker: Picker::default(),
            draining: Vec::new(),
            keepalive: config.client.keepalive,
            lookup: None,
            timer: None,
            line: Line::default(),
            watchers: Vec::new(),
            idlers: Vec::new(),
            closed: false,
            orphaned: false,
        };
        Py::new(py, Self { port, config, state: GilCell::new(state) })
    }

    pub(crate) fn port(&self) -> &Py<Port> {
        &self.port
    }

    /// A connection takes no call. One that never will again, because its stream ids are used up or its end is still being
    /// told, makes way for others.
    pub(super) fn not_now(
        slf: &Bound<'_, Self>,
        link: &Bound<'_, ClientLink>,
        reason: &UsageError,
    ) {
        match reason {
            UsageError::GoingAway | UsageError::ConnectionClosed => Self::went_away(slf, link),
            _ => {}
        }
    }

    /// The connection whose turn it is, if there is one. It may have as many calls as its server allows.
    #[inline]
    pub(super) fn next_link<'py>(&self, py: Python<'py>) -> Option<Bound<'py, ClientLink>> {
        self.state.with(py, |state| Some(state.picker.next()?.bind(py).clone()))
    }

    /// A connection that takes a call. Where all have as many as their servers allow, another one is sought.
    pub(super) fn link_with_room<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, ClientLink>> {
        let py = slf.py();
        let me = slf.get();
        loop {
            match me.state.with(py, |state| state.picker.with_room(py)) {
                Pick::Link(link) => return Some(link),
                Pick::None => return None,
                Pick::Full => {
                    me.state.with(py, |state| state.balancer.at_limit(Instant::now()));
                    Self::act(slf);
                    return None;
                }
                Pick::Dead(link, reason) => {
                    Self::not_now(slf, &link, &reason);
                    // While a change is under way the picker is renewed at its end.
                    if me.state.with(py, |state| state.is_acting) {
                        return None;
                    }
                }
            }
        }
    }

    /// A call has ended, or is no longer in line.
    pub(crate) fn calls_changed(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let me = slf.get();
        if me.state.with(py, |state| !state.line.waiting.is_empty()) {
            Self::start_pending(slf);
        }
        let watched = me.state.with(py, |state| {
            !state.draining.is_empty() || !state.idlers.is_empty() || state.orphaned
        });
        if !watched {
            return;
        }
        let drained: Vec<Py<ClientLink>> = me.state.with(py, |state| {
            let is_done = |link: &mut Py<ClientLink>| link.get().call_count(py) == 0;
            state.draining.extract_if(.., is_done).collect()
        });
        for link in drained {
            ClientLink::close(link.bind(py));
        }
        if me.call_count(py) == 0 {
            for idler in me.state.with(py, |state| std::mem::take(&mut state.idlers)) {
                me.wake(py, idler);
            }
            Self::is_over(slf);
        }
    }

    /// Whether the loop channel is closed. One whose channel is gone closes with its last call, and whatever is under way to
    /// a connection asks here before it goes on.
    pub(super) fn is_over(slf: &Bound<'_, Self>) -> bool {
        let py = slf.py();
        let me = slf.get();
        let (closed, orphaned) = me.state.with(py, |state| (state.closed, state.orphaned));
        let is_over = closed || orphaned && me.call_count(py) == 0;
        if is_over && !closed {
            Self::close(slf);
        }
        is_over
    }

    /// Calls that have not ended.
    pub(super) fn call_count(&self, py: Python<'_>) -> usize {
        self.state.with(py, |state| {
            let active: usize = state.links().map(|link| link.get().call_count(py)).sum();
            active + state.line.len(py)
        })
    }
}

/// Connectivity, as the channel shows it, and the end.
impl LoopChannel {
    pub(crate) fn connectivity(&self, py: Python<'_>) -> Connectivity {
        self.state.with(py, |state| state.balancer.connectivity())
    }

    /// A server has been pinged too often: connections that come are pinged half as often.
    pub(crate) fn calm_down(&self, py: Python<'_>) {
        self.state.with(py, |state| {
            state.keepalive = state.keepalive.map(KeepaliveOptions::calmer);
        });
    }

    pub(super) fn wake(&self, py: Python<'_>, awaitable: Py<Awaitable>) {
        self.port.get().enqueue(py, Ready::Wake(awaitable));
    }

    pub(crate) fn loop_is(&self, event_loop: &Bound<'_, PyAny>) -> bool {
        self.port.get().event_loop.is(event_loop)
    }

    /// An awaitable that is done when the state is another than `last`.
    pub(crate) fn wait_for_change(
        slf: &Bound<'_, Self>,
        last: Connectivity,
    ) -> PyResult<Py<Awaitable>> {
        let operation = Change { loop_channel: slf.clone().unbind(), last };
        Awaitable::new(slf.py(), &slf.get().port, operation)
    }

    /// An awaitable that is done when no call is under way.
    pub(crate) fn wait_for_idle(slf: &Bound<'_, Self>) -> PyResult<Py<Awaitable>> {
        Awaitable::new(slf.py(), &slf.get().port, Idle(slf.clone().unbind()))
    }

    /// Cancels all calls and closes the connections. To be called on the loop channel's loop.
    pub(crate) fn close(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let me = slf.get();
        let (connections, draining, picker, line) = me.state.with(py, |state| {
            state.closed = true;
            state.balancer.shut_down();
            let connections = std::mem::take(&mut state.connections);
            let draining = std::mem::take(&mut state.draining);
            let picker = std::mem::take(&mut state.picker);
            (connections, draining, picker, std::mem::take(&mut state.line))
        });
        drop(picker);
        me.cancel_timer(py);
        if let Some(lookup) = me.state.with(py, |state| state.lookup.take()) {
            let _ = lookup.call_method0(py, intern!(py, "cancel"));
        }
        for call in line.calls() {
            if let Some(call) = call.upgrade(py) {
                Call::cancel_with(&call, CANCELLED_LOCALLY);
            }
        }
        let drained = draining.into_iter().map(Connection::Link);
        for connection in connections.into_iter().map(|(_, own)| own).chain(drained) {
            for call in connection.link().into_iter().flat_map(|link| link.get().calls(py)) {
                Call::cancel_with(&call, CANCELLED_LOCALLY);
            }
            connection.close(py);
        }
        for watcher in me.state.with(py, |state| std::mem::take(&mut state.watchers)) {
            me.wake(py, watcher);
        }
        Self::calls_changed(slf);
    }

    /// Closes a loop channel of another loop, which may be another thread's.
    pub(crate) fn close_soon(slf: &Bound<'_, Self>) {
        let py = slf.py();
        slf.get().abandon(py);
        let event_loop = slf.get().port.get().event_loop.bind(py);
        // A loop that is closed refuses: it runs no calls any more.
        let _ = slf.getattr(intern!(py, "on_close")).and_then(|close| {
            event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (close,))
        });
    }

    /// Leaves a loop channel to itself whose channel is gone. It closes with its last call; where there is none, its loop,
    /// which may be another thread's, sees the connections' end.
    pub(crate) fn abandon(&self, py: Python<'_>) {
        let has_calls = self.call_count(py) > 0;
        self.state.with(py, |state| {
            state.orphaned = true;
            if !has_calls {
                for (_, connection) in &state.connections {
                    match connection {
                        Connection::Attempt(attempt) => attempt.get().shut_down(py),
                        Connection::Link(link) => link.get().shut_down(py),
                    }
                }
                for link in &state.draining {
                    link.get().shut_down(py);
                }
            }
        });
    }
}

/// What the loop calls.
#[pymethods]
impl LoopChannel {
    fn on_resolved(slf: &Bound<'_, Self>, lookup: &Bound<'_, PyAny>) {
        Self::resolved(slf, lookup);
    }

    fn on_timer(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::timer(slf);
        slf.get().port.get().run(slf.py())
    }

    fn on_close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::close(slf);
        slf.get().port.get().run(slf.py())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.port)?;
        self.state.traverse(|state| {
            for (_, connection) in &state.connections {
                connection.traverse(&visit)?;
            }
            state.picker.traverse(&visit)?;
            for link in &state.draining {
                visit.call(link)?;
            }
            for awaitable in state.watchers.iter().chain(&state.idlers) {
                visit.call(awaitable)?;
            }
            if let Some(lookup) = &state.lookup {
                visit.call(lookup)?;
            }
            if let Some((_, timer)) = &state.timer {
                visit.call(timer)?;
            }
            state.line.traverse(&visit)
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        let dropped = self.state.with(py, |state| {
            let connections = std::mem::take(&mut state.connections);
            let picker = std::mem::take(&mut state.picker);
            let links = (connections, picker, std::mem::take(&mut state.draining));
            let waiters = (std::mem::take(&mut state.watchers), std::mem::take(&mut state.idlers));
            let lookup = state.lookup.take();
            (links, lookup, waiters, std::mem::take(&mut state.line), state.timer.take())
        });
        drop(dropped);
    }
}

/// Waits for another state.
struct Change {
    loop_channel: Py<LoopChannel>,
    last: Connectivity,
}

impl Operation for Change {
    fn poll(&mut self, py: Python<'_>, me: &Bound<'_, Awaitable>) -> PyResult<Polled> {
        let loop_channel = self.loop_channel.get();
        if loop_channel.connectivity(py) != self.last {
            return Ok(Polled::Ready(py.None()));
        }
        let watcher = me.clone().unbind();
        loop_channel.state.with(py, |state| state.watchers.push(watcher));
        Ok(Polled::Wait)
    }

    fn cancelled(&mut self, _py: Python<'_>) {}

    fn forget(&mut self, py: Python<'_>, me: &Bound<'_, Awaitable>) {
        let forgotten = self.loop_channel.get().state.with(py, |state| {
            let at = state.watchers.iter().position(|watcher| watcher.is(me))?;
            Some(state.watchers.swap_remove(at))
        });
        drop(forgotten);
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.loop_channel)
    }
}

/// Waits for the last call's end.
struct Idle(Py<LoopChannel>);

impl Operation for Idle {
    fn poll(&mut self, py: Python<'_>, me: &Bound<'_, Awaitable>) -> PyResult<Polled> {
        if self.0.get().call_count(py) == 0 {
            return Ok(Polled::Ready(py.None()));
        }
        let idler = me.clone().unbind();
        self.0.get().state.with(py, |state| state.idlers.push(idler));
        Ok(Polled::Wait)
    }

    fn cancelled(&mut self, _py: Python<'_>) {}

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}
