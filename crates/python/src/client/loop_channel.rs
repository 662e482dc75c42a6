//! A channel on one event loop: its connection, how it comes about, and the calls that wait for it.
//!
//! One connection at a time, to the first address that answers (gRPC's pick_first). It counts as established when the
//! server's SETTINGS have come, so that a port which accepts and speaks something else is a failed attempt and not a lost
//! call.

use super::call::{CANCELLED_LOCALLY, Call, Place, Style};
use super::channel::Config;
use super::link::{CallRef, ClientLink};
use super::method::{Request, SharedMethod};
use crate::awaitable::{Awaitable, Operation, Polled};
use crate::gil::GilCell;
use crate::port::{Port, Ready};
use oxgrpc_core::{ChannelState, Code, Connectivity, StartError, Status, UsageError};
use oxgrpc_io::{Address, Socket};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

pub(super) struct State {
    pub(super) channel: ChannelState,
    /// The connection, established or about to be.
    pub(super) link: Option<Py<ClientLink>>,
    /// Connections whose servers go away: their calls go on.
    pub(super) draining: Vec<Py<ClientLink>>,
    /// The socket that is being connected.
    pub(super) connecting: Option<Socket>,
    /// Addresses that are yet to be tried.
    pub(super) addresses: VecDeque<Address>,
    pub(super) last_error: String,
    /// Gives up an attempt, or begins the next.
    pub(super) timer: Option<Py<PyAny>>,
    pub(super) pending: VecDeque<CallRef>,
    /// Calls that have left the line since it was last swept: some of `pending` are no more than their remains.
    left: usize,
    /// Who waits for another state.
    pub(super) watchers: Vec<Py<Awaitable>>,
    /// Who waits for the last call to end.
    pub(super) idlers: Vec<Py<Awaitable>>,
    pub(super) closed: bool,
    /// Nobody can start calls any more: the connection goes with the last one.
    pub(super) orphaned: bool,
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
        let state = State {
            channel: ChannelState::new(config.backoff),
            link: None,
            draining: Vec::new(),
            connecting: None,
            addresses: VecDeque::new(),
            last_error: String::new(),
            timer: None,
            pending: VecDeque::new(),
            left: 0,
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

    /// Starts a call: on the connection, or as soon as there is one.
    pub(crate) fn start<'py>(
        slf: &Bound<'py, Self>,
        request: Request,
        message: Option<&Bound<'py, PyBytes>>,
        style: Style,
    ) -> PyResult<Bound<'py, Call>> {
        let py = slf.py();
        let (method, deadline) = (request.method.clone_ref(py), request.deadline);
        if let Some(link) = slf.get().ready_link(py) {
            match link.get().start(py, &request, message) {
                Ok(id) => {
                    let place = Place::Active(link.clone().unbind(), id);
                    let call = Call::create(slf, method, deadline, place, style)?;
                    link.get().attach(py, id, CallRef::new(&call)?);
                    ClientLink::flush_call(&link);
                    return Ok(call);
                }
                Err(StartError::Failed(status)) => {
                    return Self::failed_call(slf, method, deadline, style, status);
                }
                Err(StartError::NotNow(reason)) => Self::not_now(slf, &link, &reason),
            }
        }
        let (in_backoff, error) = slf.get().state.with(py, |state| {
            let now = state.channel.connectivity(Instant::now());
            (now == Connectivity::TransientFailure, state.last_error.clone())
        });
        if in_backoff && !request.wait_for_ready {
            let status = Status::new(Code::Unavailable, error);
            return Self::failed_call(slf, method, deadline, style, status);
        }
        Self::enqueue(slf, request, message, style)
    }

    fn failed_call<'py>(
        slf: &Bound<'py, Self>,
        method: SharedMethod,
        deadline: Option<Instant>,
        style: Style,
        status: Status,
    ) -> PyResult<Bound<'py, Call>> {
        let call = Call::create(slf, method, deadline, Place::Over, style)?;
        Call::fail(&call, status);
        Ok(call)
    }

    fn enqueue<'py>(
        slf: &Bound<'py, Self>,
        request: Request,
        message: Option<&Bound<'py, PyBytes>>,
        style: Style,
    ) -> PyResult<Bound<'py, Call>> {
        let py = slf.py();
        let (method, deadline) = (request.method.clone_ref(py), request.deadline);
        let message = message.map(|message| message.clone().unbind());
        let place = Place::Pending { request: Box::new(request), message, timer: None };
        let call = Call::create(slf, method, deadline, place, style)?;
        Call::arm(&call)?;
        let reference = CallRef::new(&call)?;
        slf.get().state.with(py, |state| state.pending.push_back(reference));
        Self::connect(slf);
        Ok(call)
    }

    /// A connection takes no call. One that never will again, because its stream ids are used up or its end is still being
    /// told, makes way for the next.
    fn not_now(slf: &Bound<'_, Self>, link: &Bound<'_, ClientLink>, reason: &UsageError) {
        match reason {
            UsageError::GoingAway | UsageError::ConnectionClosed => Self::went_away(slf, link),
            _ => {}
        }
    }

    /// The connection, if it is established.
    fn ready_link<'py>(&self, py: Python<'py>) -> Option<Bound<'py, ClientLink>> {
        self.state.with(py, |state| {
            let link = state.link.as_ref()?;
            let ready = state.channel.is_ready();
            ready.then(|| link.bind(py).clone())
        })
    }

    /// Puts waiting calls on the connection, as many as it takes.
    pub(super) fn start_pending(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let Some(link) = slf.get().ready_link(py) else { return };
        loop {
            let next = slf.get().state.with(py, |state| state.pending.pop_front());
            let Some(reference) = next else { break };
            let Some(call) = reference.upgrade(py) else { continue };
            let waiting = call.get().state.with(py, |state| match &mut state.place {
                Place::Pending { .. } => Some(std::mem::replace(&mut state.place, Place::Over)),
                Place::Active(..) | Place::Over => None,
            });
            let Some(Place::Pending { request, message, timer }) = waiting else { continue };
            let message_bound = message.as_ref().map(|message| message.bind(py));
            match link.get().start(py, &request, message_bound) {
                Ok(id) => {
                    link.get().attach(py, id, reference);
                    let place = Place::Pending { request, message, timer };
                    call.get().state.with(py, |state| state.place = place);
                    call.get().on_started(py, link.clone().unbind(), id);
                    if call.get().state.with(py, |state| state.requests_ended) {
                        ClientLink::half_close(&link, id);
                    }
                    ClientLink::flush_call(&link);
                }
                Err(StartError::Failed(status)) => Call::fail(&call, status),
                Err(StartError::NotNow(reason)) => {
                    let place = Place::Pending { request, message, timer };
                    call.get().state.with(py, |state| state.place = place);
                    slf.get().state.with(py, |state| state.pending.push_front(reference));
                    Self::not_now(slf, &link, &reason);
                    break;
                }
            }
        }
    }

    /// A call is no longer in line. As soon as half of the line are such, it is swept: an outage may outlast many calls.
    pub(crate) fn left_line(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let me = slf.get();
        let line = me.state.with(py, |state| {
            state.left += 1;
            let is_due = 2 * state.left > state.pending.len();
            is_due.then(|| {
                state.left = 0;
                std::mem::take(&mut state.pending)
            })
        });
        if let Some(line) = line {
            let (waiting, left): (VecDeque<_>, VecDeque<_>) =
                line.into_iter().partition(|call| call.is_pending(py));
            me.state.with(py, |state| state.pending = waiting);
            drop(left);
        }
        Self::calls_changed(slf);
    }

    /// A call has ended, or is no longer in line.
    pub(crate) fn calls_changed(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let me = slf.get();
        if me.state.with(py, |state| !state.pending.is_empty()) {
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
                me.port.get().enqueue(py, Ready::Wake(idler));
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
    fn call_count(&self, py: Python<'_>) -> usize {
        self.state.with(py, |state| {
            let links = state.link.iter().chain(&state.draining);
            let active: usize = links.map(|link| link.get().call_count(py)).sum();
            active + state.pending.iter().filter(|call| call.is_pending(py)).count()
        })
    }
}

/// Connectivity, as the channel shows it, and the end.
impl LoopChannel {
    pub(crate) fn connectivity(&self, py: Python<'_>) -> Connectivity {
        self.state.with(py, |state| state.channel.connectivity(Instant::now()))
    }

    pub(super) fn state_changed(&self, py: Python<'_>) {
        for watcher in self.state.with(py, |state| std::mem::take(&mut state.watchers)) {
            self.port.get().enqueue(py, Ready::Wake(watcher));
        }
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
        let (links, pending, connecting) = me.state.with(py, |state| {
            state.closed = true;
            state.channel.shut_down();
            let links: Vec<Py<ClientLink>> =
                state.link.take().into_iter().chain(state.draining.drain(..)).collect();
            (links, std::mem::take(&mut state.pending), state.connecting.take())
        });
        me.cancel_timer(py);
        if let Some(socket) = connecting {
            me.unwatch_connecting(py, &socket);
        }
        for call in pending.iter().filter_map(|call| call.upgrade(py)) {
            Call::cancel_with(&call, CANCELLED_LOCALLY);
        }
        for link in links {
            for call in link.get().calls(py) {
                Call::cancel_with(&call, CANCELLED_LOCALLY);
            }
            ClientLink::close(link.bind(py));
        }
        me.state_changed(py);
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
                for link in state.link.iter().chain(&state.draining) {
                    link.get().shut_down(py);
                }
                if let Some(socket) = &state.connecting {
                    socket.shut_down();
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

    fn on_connected(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::connected(slf)?;
        slf.get().port.get().run(slf.py())
    }

    fn on_timer(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::timed_out(slf);
        slf.get().port.get().run(slf.py())
    }

    fn on_close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::close(slf);
        slf.get().port.get().run(slf.py())
    }

    fn on_retry(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::retry(slf);
        slf.get().port.get().run(slf.py())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.port)?;
        self.state.traverse(|state| {
            for link in state.link.iter().chain(&state.draining) {
                visit.call(link)?;
            }
            for awaitable in state.watchers.iter().chain(&state.idlers) {
                visit.call(awaitable)?;
            }
            if let Some(timer) = &state.timer {
                visit.call(timer)?;
            }
            state.pending.iter().try_for_each(|call| call.traverse(&visit))
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        let dropped = self.state.with(py, |state| {
            let links = (state.link.take(), std::mem::take(&mut state.draining));
            let waiters = (std::mem::take(&mut state.watchers), std::mem::take(&mut state.idlers));
            (links, waiters, std::mem::take(&mut state.pending), state.timer.take())
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
