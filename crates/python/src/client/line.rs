//! How a call finds a connection: at once, in line for one, or later, when it is ready to stand in line.
//!
//! ```text
//!   start ─────────────────────────────────────────► on a connection
//!     └────► submit ───────────────────────────────────►│
//!              ▲ └──► in line ───── start_pending ─────►│
//!              └───── parked ◄─────────── park ─────────┘
//! ```

use super::call::{CANCELLED_LOCALLY, Call, Place, Style, cancel_timer};
use super::link::{CallRef, ClientLink};
use super::loop_channel::LoopChannel;
use super::method::Request;
use oxgrpc_core::{Code, StartError, Status, UsageError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::{HashMap, VecDeque};

/// Calls that have no connection.
#[derive(Default)]
pub(super) struct Line {
    /// In line for a connection.
    pub(super) waiting: VecDeque<CallRef>,
    /// Calls that have left the line since it was last swept: some of it are no more than their remains.
    left: usize,
    /// Not ready to stand in line, by their addresses.
    parked: HashMap<usize, CallRef>,
}

impl Line {
    /// Calls that have not ended.
    pub(super) fn len(&self, py: Python<'_>) -> usize {
        self.parked.len() + self.waiting.iter().filter(|call| call.is_pending(py)).count()
    }

    pub(super) fn calls(self) -> impl Iterator<Item = CallRef> {
        self.waiting.into_iter().chain(self.parked.into_values())
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut calls = self.waiting.iter().chain(self.parked.values());
        calls.try_for_each(|call| call.traverse(visit))
    }
}

impl LoopChannel {
    /// Makes a call and starts it: on the connection, or as soon as there is one.
    pub(crate) fn start<'py>(
        slf: &Bound<'py, Self>,
        request: Request,
        message: Option<&Bound<'py, PyBytes>>,
        style: Style,
    ) -> PyResult<Bound<'py, Call>> {
        let py = slf.py();
        // A call that finds a connection is never in any other place: this is what nearly all calls do.
        if let Some(link) = slf.get().next_link(py) {
            match link.get().start(py, &request, message, 0) {
                Ok(id) => {
                    let place = Place::Active(link.clone().unbind(), id);
                    let call = Call::create(slf, request, message, place, style)?;
                    link.get().attach(py, id, CallRef::new(&call)?);
                    ClientLink::flush_call(&link);
                    Call::attempt_began(&call);
                    return Ok(call);
                }
                Err(StartError::Failed(status)) => {
                    let call = Call::create(slf, request, None, Place::Over, style)?;
                    Call::fail(&call, status);
                    return Ok(call);
                }
                Err(StartError::NotNow(reason)) => Self::not_now(slf, &link, &reason),
            }
        }
        let place = Place::Pending { timer: None, parked: false };
        let call = Call::create(slf, request, message, place, style)?;
        Self::submit(&call)?;
        Ok(call)
    }

    /// Starts a call that is pending, on the connection, or puts it in line for one. It fails where there is none and it does
    /// not want to wait. A call that has ended in the meantime is left alone.
    pub(crate) fn submit(call: &Bound<'_, Call>) -> PyResult<()> {
        let py = call.py();
        let slf = call.get().loop_channel.bind(py);
        if Self::cancel_if_closed(call) {
            return Ok(());
        }
        let Some((timer, parked)) = Self::lift(call) else { return Ok(()) };
        if parked {
            let reference = slf.get().unpark(py, call.get());
            drop(reference);
        }
        let reference = CallRef::new(call)?;
        let (reference, timer) = match Self::link_with_room(slf) {
            Some(link) => match Self::put(&link, call, reference, timer) {
                Ok(()) => return Ok(()),
                Err((reference, timer, reason)) => {
                    Self::not_now(slf, &link, &reason);
                    (reference, timer)
                }
            },
            None => (reference, timer),
        };
        let failure = slf.get().state.with(py, |state| state.balancer.failure().map(str::to_owned));
        if let Some(error) = failure
            && !call.get().state.with(py, |state| state.request.wait_for_ready)
        {
            cancel_timer(py, timer);
            Call::attempt_failed(call, Status::new(Code::Unavailable, error));
            return Ok(());
        }
        let is_armed = timer.is_some();
        let place = Place::Pending { timer, parked: false };
        call.get().state.with(py, |state| state.place = place);
        if !is_armed {
            Call::arm(call)?;
        }
        slf.get().state.with(py, |state| state.line.waiting.push_back(reference));
        Self::connect(slf);
        Ok(())
    }

    /// Keeps a pending call that is in no line until it is [`submit`](Self::submit)ted: it counts as a call under way, and
    /// ends at its deadline, when it is cancelled, or with the channel.
    pub(crate) fn park(call: &Bound<'_, Call>) -> PyResult<()> {
        let py = call.py();
        if Self::cancel_if_closed(call) {
            return Ok(());
        }
        let reference = CallRef::new(call)?;
        let (is_pending, is_armed) = call.get().state.with(py, |state| match &mut state.place {
            Place::Pending { parked, timer } => {
                *parked = true;
                (true, timer.is_some())
            }
            Place::Active(..) | Place::Over => (false, true),
        });
        if is_pending {
            let address = call.get().address();
            let slf = call.get().loop_channel.get();
            let before = slf.state.with(py, |state| state.line.parked.insert(address, reference));
            drop(before);
        }
        if is_armed { Ok(()) } else { Call::arm(call) }
    }

    /// Cancels a call whose channel was closed while the call was made: by its serializer, by the object that its metadata
    /// came from, or by whatever else of the program's ran. Nobody would start such a call any more.
    fn cancel_if_closed(call: &Bound<'_, Call>) -> bool {
        let py = call.py();
        let closed = call.get().loop_channel.get().state.with(py, |state| state.closed);
        if closed {
            Call::cancel_with(call, CANCELLED_LOCALLY);
        }
        closed
    }

    fn unpark(&self, py: Python<'_>, call: &Call) -> Option<CallRef> {
        self.state.with(py, |state| state.line.parked.remove(&call.address()))
    }

    /// Takes a pending call in hand: until it is put somewhere it counts as over, so that it does not leave the line twice.
    fn lift(call: &Bound<'_, Call>) -> Option<(Option<Py<PyAny>>, bool)> {
        call.get().state.with(call.py(), |state| match &mut state.place {
            Place::Pending { timer, parked } => {
                let lifted = (timer.take(), *parked);
                state.place = Place::Over;
                if let Some(attempts) = &mut state.attempts {
                    attempts.begin();
                }
                Some(lifted)
            }
            Place::Active(..) | Place::Over => None,
        })
    }

    /// Puts a call that is in hand on a connection. What the connection does not take now is given back.
    fn put(
        link: &Bound<'_, ClientLink>,
        call: &Bound<'_, Call>,
        reference: CallRef,
        timer: Option<Py<PyAny>>,
    ) -> Result<(), (CallRef, Option<Py<PyAny>>, UsageError)> {
        let py = call.py();
        let has_one_request = call.get().method.kind.has_one_request();
        let started = call.get().state.with(py, |state| {
            let message = state.replay.messages().first().filter(|_| has_one_request);
            let message = message.map(|message| message.bind(py));
            link.get().start(py, &state.request, message, state.previous_attempts())
        });
        let id = match started {
            Ok(id) => id,
            Err(StartError::NotNow(reason)) => return Err((reference, timer, reason)),
            Err(StartError::Failed(status)) => {
                cancel_timer(py, timer);
                Call::fail(call, status);
                return Ok(());
            }
        };
        cancel_timer(py, timer);
        link.get().attach(py, id, reference);
        call.get().on_started(py, link.clone().unbind(), id);
        if !has_one_request {
            Call::send_again(call, link, id);
        }
        ClientLink::flush_call(link);
        Call::attempt_began(call);
        Ok(())
    }

    /// Puts waiting calls on the connection, as many as it takes.
    pub(super) fn start_pending(slf: &Bound<'_, Self>) {
        let py = slf.py();
        loop {
            let next = slf.get().state.with(py, |state| state.line.waiting.pop_front());
            let Some(reference) = next else { break };
            let Some(call) = reference.upgrade(py) else { continue };
            if call.get().waits_for_ready(py).is_none() {
                continue;
            }
            let Some(link) = Self::link_with_room(slf) else {
                slf.get().state.with(py, |state| state.line.waiting.push_front(reference));
                break;
            };
            let Some((timer, _)) = Self::lift(&call) else { continue };
            if let Err((reference, timer, reason)) = Self::put(&link, &call, reference, timer) {
                let place = Place::Pending { timer, parked: false };
                call.get().state.with(py, |state| state.place = place);
                slf.get().state.with(py, |state| state.line.waiting.push_front(reference));
                Self::not_now(slf, &link, &reason);
                break;
            }
        }
    }

    /// A pending call has ended. As soon as half of the line are such, it is swept: an outage may outlast many calls.
    pub(crate) fn left_line(slf: &Bound<'_, Self>, call: &Call, was_parked: bool) {
        let py = slf.py();
        let me = slf.get();
        if was_parked {
            let reference = me.unpark(py, call);
            drop(reference);
            return Self::calls_changed(slf);
        }
        let line = me.state.with(py, |state| {
            let line = &mut state.line;
            line.left += 1;
            let is_due = 2 * line.left > line.waiting.len();
            is_due.then(|| {
                line.left = 0;
                std::mem::take(&mut line.waiting)
            })
        });
        if let Some(line) = line {
            let (waiting, left): (VecDeque<_>, VecDeque<_>) =
                line.into_iter().partition(|call| call.is_pending(py));
            me.state.with(py, |state| state.line.waiting = waiting);
            drop(left);
        }
        Self::calls_changed(slf);
    }
}
