//! What can be awaited of a call.

use super::call::{CANCELLED_LOCALLY, Call, Place, Style, Wait};
use super::link::ClientLink;
use crate::awaitable::{Awaitable, Operation, Polled};
use crate::errors::{invalid_state, usage_error};
use crate::link;
use crate::message::{Message, serialize};
use crate::names::names;
use crate::port::Inflation;
use oxgrpc_core::{CallId, Next};
use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Which part of a call is awaited.
pub(crate) enum What {
    /// The only response.
    Response,
    InitialMetadata,
    TrailingMetadata,
    Code,
    Details,
    DebugErrorString,
    Connection,
    /// The next response, `EOF` at the end.
    Read,
    /// The next response, `StopAsyncIteration` at the end.
    Next,
    /// Sending a request, which is taken when it is sent.
    Write(Option<Py<PyAny>>),
    DoneWriting,
}

pub(crate) struct CallOperation {
    call: Py<Call>,
    what: What,
    /// It has waited for a turn of the loop in which the next response may be inflated.
    waited: bool,
}

/// What the state of a call allows for its next message.
enum Reading {
    Message(Message),
    Wait(Wait),
    End,
}

/// Which way a request goes.
enum Way {
    Link((Py<ClientLink>, CallId)),
    /// It is kept for the next attempt.
    Kept,
}

const MIXED: &str = "The iterator and read/write APIs may not be mixed on a single RPC.";

impl CallOperation {
    pub(crate) fn new(call: Py<Call>, what: What) -> Self {
        Self { call, what, waited: false }
    }

    /// Settles how responses are read; a call that is used both ways raises UsageError.
    pub(crate) fn set_response_style(call: &Bound<'_, Call>, style: Style) -> PyResult<()> {
        let py = call.py();
        let fits = call.get().state.with(py, |state| {
            if state.response_style == Style::Unknown {
                state.response_style = style;
            }
            state.response_style == style
        });
        if fits { Ok(()) } else { Err(usage_error(py, MIXED)) }
    }

    /// Waits for the call's end, or gives what `value` makes of it.
    fn at_end(
        me: &Bound<'_, Awaitable>,
        call: &Bound<'_, Call>,
        value: impl FnOnce(&Call) -> PyResult<Py<PyAny>>,
    ) -> PyResult<Polled> {
        let py = me.py();
        if call.get().has_ended(py) {
            return value(call.get()).map(Polled::Ready);
        }
        call.get().wait(py, Wait::Ended, me);
        Ok(Polled::Wait)
    }

    fn response(me: &Bound<'_, Awaitable>, call: &Bound<'_, Call>) -> PyResult<Polled> {
        Self::at_end(me, call, |ended| match ended.error(me.py()) {
            Some(error) => Err(error),
            None => Call::response(call),
        })
    }

    fn connection(me: &Bound<'_, Awaitable>, call: &Bound<'_, Call>) -> PyResult<Polled> {
        let py = me.py();
        let waits = call.get().state.with(py, |state| matches!(state.place, Place::Pending { .. }));
        if waits {
            call.get().wait(py, Wait::Started, me);
            return Ok(Polled::Wait);
        }
        match call.get().error(py) {
            Some(error) => Err(error),
            None => Ok(Polled::Ready(py.None())),
        }
    }

    fn read(
        me: &Bound<'_, Awaitable>,
        call: &Bound<'_, Call>,
        iterates: bool,
        waited: &mut bool,
    ) -> PyResult<Polled> {
        let py = me.py();
        let the_call = call.get();
        if let Some((link, id)) = the_call.active(py)
            && link.get().next_is_compressed(py, id)
        {
            let later = || Inflation::Read(me.clone().unbind());
            if !the_call.port.get().may_inflate(py, *waited, later) {
                *waited = true;
                return Ok(Polled::Wait);
            }
        }
        match Self::next_message(call)? {
            Reading::Message(raw) => the_call.deserialize(call, raw).map(Polled::Ready),
            Reading::Wait(wait) => {
                the_call.wait(py, wait, me);
                Ok(Polled::Wait)
            }
            Reading::End => match the_call.error(py) {
                Some(error) => Err(error),
                None if iterates => Err(PyStopAsyncIteration::new_err(())),
                None => Ok(Polled::Ready(names(py)?.eof.clone_ref(py))),
            },
        }
    }

    fn next_message(call: &Bound<'_, Call>) -> PyResult<Reading> {
        let py = call.py();
        if call.get().is_late()
            && let Some((link, _)) = call.get().active(py)
        {
            ClientLink::expire(link.bind(py));
        }
        let Some((link, id)) = call.get().active(py) else {
            return Ok(match call.get().has_ended(py) {
                true => Reading::End,
                false => Reading::Wait(Wait::Started),
            });
        };
        Ok(match ClientLink::take_message(link.bind(py), id) {
            Next::Message(raw) => Reading::Message(raw),
            Next::Pending => {
                link::flush_before_waiting(link.bind(py));
                // That may have found the connection dead, and nobody was there to be woken.
                if call.get().active(py).is_none() {
                    return Self::next_message(call);
                }
                Reading::Wait(Wait::Readable)
            }
            Next::End if call.get().has_ended(py) => {
                Call::leave(call);
                Reading::End
            }
            Next::End => Reading::Wait(Wait::Ended),
            Next::Failed(status) => {
                Call::replace_outcome(call, status);
                Reading::End
            }
        })
    }

    /// Sends a request, and waits until it is within the windows.
    fn write(
        me: &Bound<'_, Awaitable>,
        call: &Bound<'_, Call>,
        request: &mut Option<Py<PyAny>>,
    ) -> PyResult<Polled> {
        let py = me.py();
        let mut turn = false;
        let active = match request {
            Some(message) => match Self::way_to_write(me, call)? {
                Some(Way::Link(active)) => active,
                Some(Way::Kept) => {
                    let message = Self::serialize(call, message.bind(py))?;
                    // The serializer may have ended the call.
                    if let Some(error) = call.get().error(py) {
                        return Err(error);
                    }
                    call.get().keep(py, &message);
                    return Ok(Polled::Ready(py.None()));
                }
                None => return Ok(Polled::Wait),
            },
            None => match (call.get().error(py), call.get().active(py)) {
                (Some(error), _) => return Err(error),
                (None, Some(active)) => active,
                (None, None) => return Ok(Polled::Ready(py.None())),
            },
        };
        if let Some(request) = request.take() {
            turn = Self::send(call, &active, request.bind(py))?;
        }
        if active.0.get().is_queued(py, active.1) {
            call.get().wait(py, Wait::Writable, me);
            return Ok(Polled::Wait);
        }
        Ok(if turn { Polled::Turn } else { Polled::Ready(py.None()) })
    }

    /// Serializes a request and gives it to the connection. `true`: the loop is to have a turn.
    pub(crate) fn send(
        call: &Bound<'_, Call>,
        (link, id): &(Py<ClientLink>, CallId),
        request: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let py = call.py();
        let the_call = call.get();
        let message = Self::serialize(call, request)?;
        // Before it is sent: that may find the connection dead, and then it belongs to what is sent again.
        let has_rivals = the_call.keep(py, &message);
        let turn = ClientLink::send_message(link.bind(py), *id, &message).map_err(|status| {
            Call::fail(call, status);
            the_call.error(py).unwrap_or_else(|| already_finished(py))
        })?;
        if has_rivals {
            Call::send_to_rivals(call, &message);
        }
        Ok(turn)
    }

    pub(crate) fn serialize<'py>(
        call: &Bound<'py, Call>,
        request: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let me = call.get();
        serialize(request, me.method.serializer.as_ref())
            .map_err(|cause| me.user_error(call, cause, "Exception serializing request!"))
    }

    /// Which way requests go, or `None` after leaving `me` with a call that is not connected yet.
    fn way_to_write(me: &Bound<'_, Awaitable>, call: &Bound<'_, Call>) -> PyResult<Option<Way>> {
        let py = me.py();
        if call.get().has_ended(py) {
            return Err(call.get().why_not_writable(py));
        }
        if call.get().state.with(py, |state| state.requests_ended) {
            let text = "RPC is half closed after calling \"done_writing\".";
            return Err(invalid_state(py, text));
        }
        if let Some(active) = call.get().active(py) {
            return Ok(Some(Way::Link(active)));
        }
        if call.get().takes_in_backoff(py) {
            return Ok(Some(Way::Kept));
        }
        call.get().wait(py, Wait::Started, me);
        Ok(None)
    }

    fn done_writing(me: &Bound<'_, Awaitable>, call: &Bound<'_, Call>) -> PyResult<Polled> {
        let py = me.py();
        if call.get().has_ended(py) || call.get().state.with(py, |state| state.requests_ended) {
            return Ok(Polled::Ready(py.None()));
        }
        let Some(way) = Self::way_to_write(me, call)? else { return Ok(Polled::Wait) };
        call.get().state.with(py, |state| state.requests_ended = true);
        if let Way::Link(_) = way {
            Call::half_close(call);
        }
        Ok(Polled::Ready(py.None()))
    }

    fn check_request_style(call: &Bound<'_, Call>) -> PyResult<()> {
        let py = call.py();
        match call.get().state.with(py, |state| state.request_style) {
            Style::Iterator => Err(usage_error(py, MIXED)),
            Style::Unknown | Style::ReadWrite => Ok(()),
        }
    }
}

impl Operation for CallOperation {
    fn poll(&mut self, py: Python<'_>, me: &Bound<'_, Awaitable>) -> PyResult<Polled> {
        let call = self.call.bind(py);
        match &mut self.what {
            What::Response => Self::response(me, call),
            What::InitialMetadata => {
                if call.get().has_headers(py) {
                    return call.get().initial_metadata(py).map(Polled::Ready);
                }
                call.get().wait(py, Wait::Headers, me);
                Ok(Polled::Wait)
            }
            What::TrailingMetadata => Self::at_end(me, call, |ended| ended.trailing_metadata(py)),
            What::Code => Self::at_end(me, call, |ended| ended.code(py)),
            What::Details => Self::at_end(me, call, |ended| {
                Ok(ended.details(py).into_pyobject(py)?.into_any().unbind())
            }),
            What::DebugErrorString => Self::at_end(me, call, |ended| {
                Ok(ended.debug_error_string(py).into_pyobject(py)?.into_any().unbind())
            }),
            What::Connection => Self::connection(me, call),
            What::Next => Self::read(me, call, true, &mut self.waited),
            What::Read => {
                // What is over may be read again, in either style: it has only an end.
                if call.get().active(py).is_some() || !call.get().is_done(py) {
                    Self::set_response_style(call, Style::ReadWrite)?;
                }
                Self::read(me, call, false, &mut self.waited)
            }
            What::Write(request) => {
                Self::check_request_style(call)?;
                Self::write(me, call, request)
            }
            What::DoneWriting => {
                Self::check_request_style(call)?;
                Self::done_writing(me, call)
            }
        }
    }

    /// A task that is cancelled while it waits for messages or the response cancels the call; one that only asks how the
    /// call is does not.
    fn cancelled(&mut self, py: Python<'_>) {
        match self.what {
            What::Response | What::Read | What::Next | What::Write(_) | What::DoneWriting => {
                Call::cancel_with(self.call.bind(py), CANCELLED_LOCALLY);
            }
            _ => {}
        }
    }

    fn forget(&mut self, py: Python<'_>, me: &Bound<'_, Awaitable>) {
        self.call.get().forget(py, me);
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.call)?;
        match &self.what {
            What::Write(Some(request)) => visit.call(request),
            _ => Ok(()),
        }
    }
}

impl Call {
    /// What `write` raises of a call that has ended. One that has found no connection says why: a program that writes
    /// first learns it here.
    fn why_not_writable(&self, py: Python<'_>) -> PyErr {
        let (was_started, by_us) =
            self.state.with(py, |state| (state.was_started, state.locally_cancelled));
        let error = (!was_started && !by_us).then(|| self.error(py)).flatten();
        error.unwrap_or_else(|| already_finished(py))
    }
}

fn already_finished(py: Python<'_>) -> PyErr {
    invalid_state(py, "RPC already finished.")
}
