//! What a handler can await of its context.

use super::context::{Over, ServicerContext, Trailing, Wait};
use crate::awaitable::{Awaitable, Operation, Polled};
use crate::errors::cancelled_error;
use crate::names::names;
use oxgrpc_core::{Metadata, Next};
use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

pub(crate) enum What {
    /// The next request, `EOF` at the end.
    Read,
    /// The next request, `StopAsyncIteration` at the end.
    Next,
    /// Sending a response, which is taken when it is sent.
    Write(Option<Py<PyAny>>),
    /// Until what was sent is within the windows.
    Room,
    InitialMetadata(Metadata),
    Abort {
        code: Py<PyAny>,
        details: Option<String>,
        trailing: Option<Trailing>,
    },
}

pub(crate) struct ContextOperation {
    context: Py<ServicerContext>,
    what: What,
    /// It has been tried.
    begun: bool,
    /// It has waited for a turn of the loop in which the next request may be inflated.
    waited: bool,
}

impl ContextOperation {
    pub(crate) fn new(context: Py<ServicerContext>, what: What) -> Self {
        Self { context, what, begun: false, waited: false }
    }

    fn read(
        me: &Bound<'_, Awaitable>,
        context: &Bound<'_, ServicerContext>,
        iterates: bool,
        waited: &mut bool,
    ) -> PyResult<Polled> {
        let py = me.py();
        if context.get().link().get().inflates_later(context.get().id, *waited, me) {
            *waited = true;
            return Ok(Polled::Wait);
        }
        match context.get().take_message(py) {
            Next::Message(raw) => ServicerContext::deserialize(context, raw).map(Polled::Ready),
            // Asking for more writes what is due: that may have found the connection dead, and nobody was there to wake.
            Next::Pending if context.get().over(py) == Some(Over::Cancelled) => {
                Err(cancelled_error(py, None))
            }
            Next::Pending => {
                context.get().wait(py, Wait::Readable, me);
                Ok(Polled::Wait)
            }
            Next::Failed(status) => {
                // The client's fault, found as late as this: the handler ends as for one that is found early.
                ServicerContext::finish(context, &status, false);
                Err(cancelled_error(py, None))
            }
            Next::End if context.get().over(py) == Some(Over::Cancelled) => {
                Err(cancelled_error(py, None))
            }
            Next::End if iterates => Err(PyStopAsyncIteration::new_err(())),
            Next::End => Ok(Polled::Ready(names(py)?.eof.clone_ref(py))),
        }
    }

    fn write(
        me: &Bound<'_, Awaitable>,
        context: &Bound<'_, ServicerContext>,
        response: Option<Py<PyAny>>,
    ) -> PyResult<Polled> {
        let py = me.py();
        let turn = match response {
            Some(response) => ServicerContext::send(context, response.bind(py))?,
            None => false,
        };
        if context.get().is_queued(py) {
            context.get().wait(py, Wait::Writable, me);
            return Ok(Polled::Wait);
        }
        if context.get().over(py) == Some(Over::Cancelled) {
            return Err(cancelled_error(py, None));
        }
        Ok(if turn { Polled::Turn } else { Polled::Ready(py.None()) })
    }
}

impl Operation for ContextOperation {
    fn poll(&mut self, py: Python<'_>, me: &Bound<'_, Awaitable>) -> PyResult<Polled> {
        let context = self.context.bind(py);
        let begins = !std::mem::replace(&mut self.begun, true);
        match &mut self.what {
            // What was not read before the status was sent is gone: that is not the end of the client's requests. A read
            // that was under way then ends, as in grpcio.
            What::Read | What::Next if begins && context.get().over(py) == Some(Over::Finished) => {
                context.get().check_running(py).map(|()| Polled::Ready(py.None()))
            }
            What::Read => Self::read(me, context, false, &mut self.waited),
            What::Next => Self::read(me, context, true, &mut self.waited),
            What::Write(response) => Self::write(me, context, response.take()),
            What::Room => Self::write(me, context, None),
            What::InitialMetadata(metadata) => {
                context.get().send_initial_metadata(py, metadata)?;
                Ok(Polled::Ready(py.None()))
            }
            What::Abort { code, details, trailing } => {
                let code = code.bind(py);
                Err(ServicerContext::abort(context, code, details.take(), trailing.take()))
            }
        }
    }

    fn cancelled(&mut self, _py: Python<'_>) {}

    fn forget(&mut self, py: Python<'_>, me: &Bound<'_, Awaitable>) {
        self.context.get().forget(py, me);
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.context)?;
        match &self.what {
            What::Write(Some(response)) => visit.call(response),
            What::Abort { code, trailing, .. } => {
                visit.call(code)?;
                trailing.as_ref().map_or(Ok(()), |(_, pairs)| visit.call(pairs))
            }
            _ => Ok(()),
        }
    }
}
