//! Calls: what a stub returns. One state for all four kinds; the classes differ in what they offer.

use super::attempts::{Attempts, Replay};
use super::classes::{StreamStreamCall, StreamUnaryCall, UnaryStreamCall, UnaryUnaryCall};
use super::link::ClientLink;
use super::loop_channel::LoopChannel;
use super::method::{Kind, Request, SharedMethod};
use super::operation::{CallOperation, What};
use crate::awaitable::Awaitable;
use crate::gil::GilCell;
use crate::message::Message;
use crate::names::log;
use crate::port::{Port, Ready};
use crate::waiters::Waiters;
use oxgrpc_core::{CallId, Code, Metadata, Next, Outcome, Status};
use pyo3::PyClassInitializer;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::time::Instant;

/// The details of a call that this side has cancelled, as grpcio words them.
pub(crate) const CANCELLED_LOCALLY: &str = "Locally cancelled by application!";

/// Where a call is. Its outcome is known from its end on, which a stream that is still read comes to while it is `Active`.
///
/// ```text
///                     ┌─ failed, to be made again ─┐
///                     ▼                            │
///   (created) ──► Pending ──── a connection ────► Active ──► Over
///       │            │                              ▲  end of a unary response; all read; cancelled
///       │            └─ deadline, cancel, no way ───┼───► Over
///       ├── a connection is there ──────────────────┘
///       └── fails at once ──────────────────────────────► Over
/// ```
pub(crate) enum Place {
    /// It is in line for a connection, or parked until it may be. The timer ends it at its deadline.
    Pending { timer: Option<Py<PyAny>>, parked: bool },
    /// It runs, or what has come is not read yet.
    Active(Py<ClientLink>, CallId),
    /// Nothing of it is anywhere else.
    Over,
}

/// What somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// For a connection.
    Started,
    /// For the initial metadata.
    Headers,
    /// For the next message.
    Readable,
    /// For what is queued to be within the windows.
    Writable,
    /// For the end.
    Ended,
}

/// The only response of a call.
pub(super) enum Response {
    None,
    Raw(Message),
    Read(Py<PyAny>),
}

/// Whether a stream is iterated or read and written by hand: not both (grpcio's rule).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    Unknown,
    Iterator,
    ReadWrite,
}

pub(crate) struct State {
    pub(super) place: Place,
    /// It is on a connection, or was.
    pub(super) was_started: bool,
    /// What starts it on a connection.
    pub(super) request: Request,
    /// What of it can be sent again.
    pub(super) replay: Replay,
    /// What its method's policy needs to make it more than once; `None` where there is no policy.
    pub(super) attempts: Option<Box<Attempts>>,
    pub(super) initial: Option<Metadata>,
    pub(super) outcome: Option<Outcome>,
    pub(super) response: Response,
    /// Cancelled by this side: awaiting raises CancelledError instead of AioRpcError.
    pub(super) locally_cancelled: bool,
    pub(super) waiters: Waiters<Wait>,
    pub(super) done_callbacks: Vec<Py<PyAny>>,
    pub(super) request_style: Style,
    pub(super) response_style: Style,
    pub(super) requests_ended: bool,
    /// The task that sends the request iterator's messages.
    pub(super) request_task: Option<Py<PyAny>>,
    /// What drives the call where it is used as a coroutine.
    pub(super) coroutine: Option<Py<Awaitable>>,
}

impl State {
    fn is_done(&self) -> bool {
        self.outcome.is_some() && matches!(self.place, Place::Over)
    }
}

/// A call. It ends with the server's status, at its deadline, or when it is cancelled; the call of a stream that nobody
/// keeps any more is cancelled.
#[pyclass(frozen, subclass, weakref, module = "oxgrpc._native", name = "Call")]
pub(crate) struct Call {
    pub(crate) port: Py<Port>,
    pub(super) loop_channel: Py<LoopChannel>,
    pub(crate) method: SharedMethod,
    pub(super) deadline: Option<Instant>,
    pub(crate) state: GilCell<State>,
}

impl Call {
    /// A call of the class that its method's kind has.
    pub(crate) fn create<'py>(
        loop_channel: &Bound<'py, LoopChannel>,
        request: Request,
        message: Option<&Bound<'py, PyBytes>>,
        place: Place,
        request_style: Style,
    ) -> PyResult<Bound<'py, Self>> {
        let py = loop_channel.py();
        let kind = request.method.kind;
        let replay = Replay::new(message);
        let attempts = Attempts::new(&request.method.rules, &loop_channel.get().config, &replay);
        let call = Self {
            port: loop_channel.get().port().clone_ref(py),
            loop_channel: loop_channel.clone().unbind(),
            method: request.method.clone_ref(py),
            deadline: request.deadline,
            state: GilCell::new(State {
                was_started: matches!(place, Place::Active(..)),
                place,
                request,
                replay,
                attempts,
                initial: None,
                outcome: None,
                response: Response::None,
                locally_cancelled: false,
                waiters: Waiters::default(),
                done_callbacks: Vec::new(),
                request_style,
                response_style: Style::Unknown,
                requests_ended: false,
                request_task: None,
                coroutine: None,
            }),
        };
        let base = PyClassInitializer::from(call);
        Ok(match kind {
            Kind::UnaryUnary => Bound::new(py, base.add_subclass(UnaryUnaryCall))?.into_super(),
            Kind::UnaryStream => Bound::new(py, base.add_subclass(UnaryStreamCall))?.into_super(),
            Kind::StreamUnary => Bound::new(py, base.add_subclass(StreamUnaryCall))?.into_super(),
            Kind::StreamStream => Bound::new(py, base.add_subclass(StreamStreamCall))?.into_super(),
        })
    }

    pub(crate) fn has_unary_response(&self) -> bool {
        matches!(self.method.kind, Kind::UnaryUnary | Kind::StreamUnary)
    }

    /// What tells it from other calls as long as it lives.
    pub(super) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    pub(crate) fn set_request_task(&self, py: Python<'_>, task: Py<PyAny>) {
        self.state.with(py, |state| state.request_task = Some(task));
    }

    /// Its connection and its name there, while it has one.
    pub(crate) fn active(&self, py: Python<'_>) -> Option<(Py<ClientLink>, CallId)> {
        self.state.with(py, |state| match &state.place {
            Place::Active(link, id) => Some((link.clone_ref(py), *id)),
            Place::Pending { .. } | Place::Over => None,
        })
    }

    /// Whether a call that is in line for a connection waits for it however long it takes; `None` if it is not in line.
    pub(crate) fn waits_for_ready(&self, py: Python<'_>) -> Option<bool> {
        self.state.with(py, |state| match &state.place {
            Place::Pending { .. } => Some(state.request.wait_for_ready),
            Place::Active(..) | Place::Over => None,
        })
    }

    /// Lets somebody wait.
    pub(crate) fn wait(&self, py: Python<'_>, wait: Wait, awaitable: &Bound<'_, Awaitable>) {
        let awaitable = awaitable.clone().unbind();
        self.state.with(py, |state| state.waiters.push(wait, awaitable));
    }

    /// Somebody no longer waits.
    pub(super) fn forget(&self, py: Python<'_>, awaitable: &Bound<'_, Awaitable>) {
        let forgotten = self.state.with(py, |state| state.waiters.remove(awaitable));
        drop(forgotten);
    }

    pub(super) fn wake(&self, py: Python<'_>, wakes: impl Fn(Wait) -> bool) {
        let woken = self.state.with(py, |state| state.waiters.take(wakes));
        woken.enqueue(py, self.port.get());
    }

    /// A connection has been found and the request is on it.
    pub(crate) fn on_started(&self, py: Python<'_>, link: Py<ClientLink>, id: CallId) {
        let before = self.state.with(py, |state| {
            state.was_started = true;
            std::mem::replace(&mut state.place, Place::Active(link, id))
        });
        drop(before);
        self.wake(py, |wait| wait == Wait::Started);
    }

    pub(crate) fn on_headers(&self, link: &Bound<'_, ClientLink>, id: CallId, metadata: Metadata) {
        let py = link.py();
        let kept = self.state.with(py, |state| {
            state.choose(link, id).then(|| {
                state.initial = Some(metadata);
                state.commit()
            })
        });
        let Some(kept) = kept else { return };
        // Who reads waits for what was the foremost attempt till now.
        let had_rivals = kept.release(py);
        self.wake(py, |wait| wait == Wait::Headers || had_rivals);
    }

    pub(crate) fn on_readable(&self, py: Python<'_>) {
        self.wake(py, |wait| wait == Wait::Readable);
    }

    pub(crate) fn on_writable(&self, py: Python<'_>) {
        self.wake(py, |wait| wait == Wait::Writable);
    }

    /// The call has ended on its connection. A unary response has been taken off it, and nothing is left there.
    pub(crate) fn on_ended(
        slf: &Bound<'_, Self>,
        (link, id): (&Bound<'_, ClientLink>, CallId),
        initial: Option<Metadata>,
        mut outcome: Outcome,
        response: Option<Next<Message>>,
    ) {
        let py = slf.py();
        if !slf.get().state.with(py, |state| state.has_attempt(link, id)) {
            return;
        }
        if slf.get().has_ended(py) {
            // Its deadline has passed while responses were unread.
            return Self::replace_outcome(slf, outcome.status);
        }
        if outcome.lost_details {
            log(py, "details_lost", (link.get().peer(py),));
        }
        slf.get().account(py, &outcome);
        if !outcome.status.is_ok() {
            match Self::try_again(slf, Some((link, id)), outcome) {
                Some(final_one) => outcome = final_one,
                None => return,
            }
        }
        let mut message = Response::None;
        match response {
            Some(Next::Message(raw)) if outcome.status.is_ok() => message = Response::Raw(raw),
            Some(Next::Failed(status)) if outcome.status.is_ok() => outcome.status = status,
            _ => {}
        }
        let unary = slf.get().has_unary_response();
        let dropped = slf.get().state.with(py, |state| {
            state.choose(link, id);
            if state.initial.is_none() {
                state.initial = initial;
            }
            let place = unary.then(|| std::mem::replace(&mut state.place, Place::Over));
            (place, std::mem::replace(&mut state.response, message))
        });
        drop(dropped);
        // A stream whose responses are not all read is not done yet: they can be read, or cancelled.
        if let Some((link, id)) = slf.get().active(py)
            && !link.get().has_message(py, id)
        {
            Self::leave(slf);
        }
        Self::end(slf, outcome, false);
    }

    /// Ends the call with a status of our own; it is told to its server by resetting the stream.
    pub(crate) fn fail(slf: &Bound<'_, Self>, status: Status) {
        let outcome = Outcome::local(status);
        Self::leave(slf);
        Self::end(slf, outcome, false);
    }

    /// Ends the call as its last attempt has ended.
    pub(super) fn end_with(slf: &Bound<'_, Self>, outcome: Outcome) {
        Self::leave(slf);
        Self::end(slf, outcome, false);
    }

    /// Cancels the call. `false`: it had ended.
    pub(crate) fn cancel_with(slf: &Bound<'_, Self>, details: &'static str) -> bool {
        let py = slf.py();
        if slf.get().is_done(py) {
            return false;
        }
        let unread = slf.get().state.with(py, |state| state.outcome.take());
        drop(unread);
        let status = Status::new(Code::Cancelled, details);
        let outcome = Outcome::local(status);
        Self::leave(slf);
        Self::end(slf, outcome, true);
        true
    }

    /// Takes the call off its connection, or out of the line for one.
    pub(crate) fn leave(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let (place, kept) = slf
            .get()
            .state
            .with(py, |state| (std::mem::replace(&mut state.place, Place::Over), state.commit()));
        kept.release(py);
        match place {
            Place::Active(link, id) => ClientLink::forget(link.bind(py), id),
            Place::Pending { timer, parked } => {
                cancel_timer(py, timer);
                LoopChannel::left_line(slf.get().loop_channel.bind(py), slf.get(), parked);
            }
            Place::Over => {}
        }
        Self::settle(slf);
    }

    fn end(slf: &Bound<'_, Self>, outcome: Outcome, locally_cancelled: bool) {
        let py = slf.py();
        let me = slf.get();
        let ended = me.state.with(py, |state| {
            if state.outcome.is_some() {
                return None;
            }
            state.outcome = Some(outcome);
            state.locally_cancelled = locally_cancelled;
            Some((state.request_task.take(), state.commit()))
        });
        let Some((request_task, kept)) = ended else { return };
        kept.release(py);
        if let Some(task) = request_task {
            // It may be about to send: cancelling a task that is done does nothing.
            let _ = task.call_method0(py, intern!(py, "cancel"));
        }
        // The callbacks come before who awaits the call, as in grpcio.
        Self::settle(slf);
        me.wake(py, |_| true);
    }

    /// Calls the done callbacks, once the call is done.
    fn settle(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let callbacks = slf.get().state.with(py, |state| match state.is_done() {
            true => std::mem::take(&mut state.done_callbacks),
            false => Vec::new(),
        });
        for callback in callbacks {
            let argument = slf.clone().into_any().unbind();
            slf.get().port.get().enqueue(py, Ready::Call(callback, argument));
        }
    }

    /// Whether the call has ended and all its responses are read, or dropped.
    pub(crate) fn is_done(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.is_done())
    }

    /// Returns true if its deadline has passed, whether or not the call has ended at it yet.
    pub(super) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Whether the status is known.
    pub(crate) fn has_ended(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.outcome.is_some())
    }

    pub(super) fn operation(slf: &Bound<'_, Self>, what: What) -> PyResult<Py<Awaitable>> {
        let operation = CallOperation::new(slf.clone().unbind(), what);
        Awaitable::new(slf.py(), &slf.get().port, operation)
    }
}

pub(super) fn cancel_timer(py: Python<'_>, timer: Option<Py<PyAny>>) {
    if let Some(timer) = timer {
        let _ = timer.call_method0(py, intern!(py, "cancel"));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.state.get_mut().is_done() {
            return;
        }
        let state = self.state.get_mut();
        let (place, kept) = (std::mem::replace(&mut state.place, Place::Over), state.commit());
        // A finalizer may run while an exception is on its way: it must not get lost.
        Python::try_attach(|py| {
            let pending = PyErr::take(py);
            kept.release(py);
            match place {
                Place::Active(link, id) => ClientLink::forget(link.bind(py), id),
                Place::Pending { timer, parked } => {
                    cancel_timer(py, timer);
                    LoopChannel::left_line(self.loop_channel.bind(py), self, parked);
                }
                Place::Over => {}
            }
            if let Some(task) = self.state.get_mut().request_task.take() {
                let _ = task.call_method0(py, intern!(py, "cancel"));
            }
            if let Some(error) = pending {
                error.restore(py);
            }
        });
    }
}

/// What every call offers (`grpc.aio.Call`).
#[pymethods]
impl Call {
    /// The server's initial metadata, as soon as it has come.
    #[pyo3(name = "initial_metadata")]
    fn py_initial_metadata(slf: &Bound<'_, Self>) -> PyResult<Py<Awaitable>> {
        Self::operation(slf, What::InitialMetadata)
    }

    /// The server's trailing metadata, once the call has ended.
    #[pyo3(name = "trailing_metadata")]
    fn py_trailing_metadata(slf: &Bound<'_, Self>) -> PyResult<Py<Awaitable>> {
        Self::operation(slf, What::TrailingMetadata)
    }

    /// The status code, once the call has ended.
    #[pyo3(name = "code")]
    fn py_code(slf: &Bound<'_, Self>) -> PyResult<Py<Awaitable>> {
        Self::operation(slf, What::Code)
    }

    /// The status message, once the call has ended.
    #[pyo3(name = "details")]
    fn py_details(slf: &Bound<'_, Self>) -> PyResult<Py<Awaitable>> {
        Self::operation(slf, What::Details)
    }

    /// Where the status comes from, once the call has ended.
    #[pyo3(name = "debug_error_string")]
    fn py_debug_error_string(slf: &Bound<'_, Self>) -> PyResult<Py<Awaitable>> {
        Self::operation(slf, What::DebugErrorString)
    }

    /// Waits until the call is on a connection; raises if it has failed before.
    fn wait_for_connection(slf: &Bound<'_, Self>) -> PyResult<Py<Awaitable>> {
        Self::operation(slf, What::Connection)
    }

    fn cancelled(&self, py: Python<'_>) -> bool {
        self.is_done(py) && self.verdict(py).is_some_and(|(code, _)| code == Code::Cancelled)
    }

    fn done(&self, py: Python<'_>) -> bool {
        self.is_done(py)
    }

    fn cancel(slf: &Bound<'_, Self>) -> bool {
        Self::cancel_with(slf, CANCELLED_LOCALLY)
    }

    /// Seconds until the deadline, not less than 0; `None` where there is none.
    fn time_remaining(&self) -> Option<f64> {
        let deadline = self.deadline?;
        Some(deadline.saturating_duration_since(Instant::now()).as_secs_f64())
    }

    /// Calls `callback(call)` once the call has ended; at once if it has.
    fn add_done_callback(slf: &Bound<'_, Self>, callback: Py<PyAny>) -> PyResult<()> {
        let py = slf.py();
        let rejected = slf.get().state.with(py, |state| match state.is_done() {
            false => {
                state.done_callbacks.push(callback);
                None
            }
            true => Some(callback),
        });
        match rejected {
            Some(callback) => callback.call1(py, (slf,)).map(drop),
            None => Ok(()),
        }
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let class = slf.get_type().name()?;
        Ok(match slf.get().verdict(py) {
            None => format!("<{class} of RPC that is under way>"),
            Some((code, _)) => format!(
                "<{class} of RPC that terminated with:\n\tstatus = {code}\n\tdetails = \"{}\"\n>",
                slf.get().details(py)
            ),
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.port)?;
        visit.call(&self.loop_channel)?;
        self.method.traverse(&visit)?;
        self.state.traverse(|state| {
            state.request.method.traverse(&visit)?;
            state.attempts.as_ref().map_or(Ok(()), |attempts| attempts.traverse(&visit))?;
            match &state.place {
                Place::Active(link, _) => visit.call(link)?,
                Place::Pending { timer, .. } => {
                    timer.as_ref().map_or(Ok(()), |timer| visit.call(timer))?;
                }
                Place::Over => {}
            }
            if let Response::Read(object) = &state.response {
                visit.call(object)?;
            }
            state.waiters.traverse(&visit)?;
            for callback in &state.done_callbacks {
                visit.call(callback)?;
            }
            if let Some(coroutine) = &state.coroutine {
                visit.call(coroutine)?;
            }
            state.request_task.as_ref().map_or(Ok(()), |task| visit.call(task))
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        let dropped = self.state.with(py, |state| {
            let response = std::mem::replace(&mut state.response, Response::None);
            let waiters = (std::mem::take(&mut state.waiters), state.coroutine.take());
            (response, waiters, std::mem::take(&mut state.done_callbacks))
        });
        drop(dropped);
    }
}
