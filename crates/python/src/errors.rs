//! Exceptions that are raised in many places, ready to be returned.

use crate::names::names;
use pyo3::prelude::*;

/// `grpc.aio.UsageError`: the program uses a call in a way that it cannot be used, or not any more.
pub(crate) fn usage_error(py: Python<'_>, text: &str) -> PyErr {
    made(py, names(py).and_then(|names| names.usage_error.call1(py, (text,))))
}

/// `grpc.aio.AbortError`: the handler has ended its call with `abort`. A new one each time, because one that is kept with
/// the call would refer back to it through its traceback.
pub(crate) fn abort_error(py: Python<'_>) -> PyErr {
    made(py, names(py).and_then(|names| names.abort_error.call1(py, ("Locally aborted.",))))
}

/// `asyncio.InvalidStateError`: the call is in no state for that.
pub(crate) fn invalid_state(py: Python<'_>, text: &str) -> PyErr {
    made(py, names(py).and_then(|names| names.invalid_state.call1(py, (text,))))
}

/// `asyncio.CancelledError`, with the message that `cancel` was given.
pub(crate) fn cancelled_error(py: Python<'_>, message: Option<Py<PyAny>>) -> PyErr {
    made(
        py,
        names(py).and_then(|names| match message {
            Some(message) => names.cancelled_error.call1(py, (message,)),
            None => names.cancelled_error.call0(py),
        }),
    )
}

fn made(py: Python<'_>, error: PyResult<Py<PyAny>>) -> PyErr {
    match error {
        Ok(error) => PyErr::from_value(error.into_bound(py)),
        Err(error) => error,
    }
}
