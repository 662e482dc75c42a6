//! The task that sends the messages of a request iterator.

use super::call::{CANCELLED_LOCALLY, Call, Wait};
use super::operation::CallOperation;
use crate::awaitable::{Awaitable, Operation, Polled};
use crate::gil::GilCell;
use crate::invoke::{exception, or_stop};
use crate::names::{log, names, raised};
use crate::port::Port;
use crate::pump::{Pump, Sending, Sink};
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyWeakrefMethods, PyWeakrefReference};

/// A coroutine that carries an iterator into a call. It does not keep the call: a stream whose responses nobody reads any
/// more is cancelled, whatever its requests do.
#[pyclass(frozen, module = "oxgrpc._native", name = "RequestTask")]
pub(crate) struct RequestTask {
    call: Py<PyWeakrefReference>,
    port: Py<Port>,
    pump: GilCell<Option<Pump>>,
}

impl RequestTask {
    /// Starts the task, in the caller's context.
    pub(crate) fn start(call: &Bound<'_, Call>, pump: Pump) -> PyResult<()> {
        let py = call.py();
        let task = Self {
            call: PyWeakrefReference::new(call)?.unbind(),
            port: call.get().port.clone_ref(py),
            pump: GilCell::new(Some(pump)),
        };
        let options = PyDict::new(py);
        options.set_item(intern!(py, "loop"), &call.get().port.get().event_loop)?;
        let task = names(py)?.task.bind(py).call((Py::new(py, task)?,), Some(&options))?;
        call.get().set_request_task(py, task.unbind());
        Ok(())
    }

    /// One step: with the pump out of its cell, because Python runs.
    fn run<'py>(
        slf: &Bound<'py, Self>,
        step: impl FnOnce(&mut Pump, &Self) -> PyResult<Option<Bound<'py, PyAny>>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let me = slf.get();
        let Some(mut pump) = me.pump.with(py, Option::take) else {
            return Err(PyRuntimeError::new_err("cannot reuse what was already awaited"));
        };
        match step(&mut pump, me) {
            Ok(Some(wait)) => {
                me.pump.with(py, |place| *place = Some(pump));
                Ok(Some(wait))
            }
            Ok(None) => {
                drop(pump);
                me.finish(py);
                Ok(None)
            }
            Err(error) => {
                drop(pump);
                me.fail(py, error)
            }
        }
    }

    /// All requests are sent. Without any the call may still wait for a connection: it is half-closed there.
    fn finish(&self, py: Python<'_>) {
        let Some(call) = self.upgrade(py) else { return };
        call.get().state.with(py, |state| state.requests_ended = true);
        Call::half_close(&call);
    }

    /// The iterator has raised, or the task is cancelled: the call cannot come to a good end.
    fn fail<'py>(&self, py: Python<'py>, error: PyErr) -> PyResult<Option<Bound<'py, PyAny>>> {
        let is_cancelled = error.is_instance(py, names(py)?.cancelled_error.bind(py));
        if let Some(call) = self.upgrade(py)
            && !call.get().has_ended(py)
        {
            if !is_cancelled {
                log(py, "request_iterator_failed", (raised(py, &error),));
            }
            Call::cancel_with(&call, CANCELLED_LOCALLY);
        }
        if is_cancelled { Err(error) } else { Ok(None) }
    }

    fn upgrade<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Call>> {
        self.call.bind(py).upgrade()?.cast_into().ok()
    }

    fn room(&self, py: Python<'_>) -> PyResult<Py<Awaitable>> {
        Awaitable::new(py, &self.port, Room(self.call.clone_ref(py)))
    }
}

impl Sink for RequestTask {
    fn send(&self, py: Python<'_>, request: &Bound<'_, PyAny>) -> PyResult<Sending> {
        let Some(call) = self.upgrade(py).filter(|call| !call.get().has_ended(py)) else {
            return Err(PyErr::from_value(names(py)?.cancelled_error.bind(py).call0()?));
        };
        let Some(active) = call.get().active(py) else {
            if call.get().takes_in_backoff(py) {
                call.get().keep(py, &CallOperation::serialize(&call, request)?);
                return Ok(Sending::Sent);
            }
            return Ok(Sending::Retry(self.room(py)?));
        };
        let turn = CallOperation::send(&call, &active, request)?;
        if active.0.get().is_queued(py, active.1) {
            return Ok(Sending::Wait(self.room(py)?));
        }
        Ok(if turn { Sending::Turn } else { Sending::Sent })
    }
}

/// Waits until a request can be sent: the call is on a connection and nothing of it is queued. It does not keep the call.
struct Room(Py<PyWeakrefReference>);

impl Operation for Room {
    fn poll(&mut self, py: Python<'_>, me: &Bound<'_, Awaitable>) -> PyResult<Polled> {
        let call: Option<Bound<'_, Call>> =
            self.0.bind(py).upgrade().and_then(|call| call.cast_into().ok());
        let Some(call) = call.filter(|call| !call.get().has_ended(py)) else {
            return Ok(Polled::Ready(py.None()));
        };
        let wait = match call.get().active(py) {
            None => Wait::Started,
            Some((link, id)) if link.get().is_queued(py, id) => Wait::Writable,
            Some(_) => return Ok(Polled::Ready(py.None())),
        };
        call.get().wait(py, wait, me);
        Ok(Polled::Wait)
    }

    fn cancelled(&mut self, _py: Python<'_>) {}

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

#[pymethods]
impl RequestTask {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        Self::run(slf, |pump, sink| pump.step(py, sink))
    }

    fn send<'py>(
        slf: &Bound<'py, Self>,
        _value: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        or_stop(Self::__next__(slf)?)
    }

    #[pyo3(signature = (error, *_more))]
    fn throw<'py>(
        slf: &Bound<'py, Self>,
        error: &Bound<'py, PyAny>,
        _more: &Bound<'py, PyTuple>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let error = exception(error)?;
        or_stop(Self::run(slf, |pump, sink| pump.throw(py, error, sink))?)
    }

    fn close(&self, py: Python<'_>) {
        let pump = self.pump.with(py, Option::take);
        drop(pump);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.call)?;
        visit.call(&self.port)?;
        self.pump.traverse(|pump| pump.as_ref().map_or(Ok(()), |pump| pump.traverse(&visit)))
    }

    fn __clear__(&self, py: Python<'_>) {
        self.close(py);
    }
}
