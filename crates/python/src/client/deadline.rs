//! The deadline of a call that is in line for a connection. Once it has one, the connection's engine sees to it.

use super::call::{Call, Place};
use super::link::CallRef;
use oxgrpc_core::{Code, Status};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use std::time::Instant;

impl Call {
    /// The deadline of a call that still waits for a connection has passed, or is about to: uvloop's clock counts whole
    /// milliseconds.
    fn on_deadline(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().is_done(slf.py()) {
            return Ok(());
        }
        if slf.get().deadline.is_some_and(|deadline| Instant::now() < deadline) {
            return Self::arm(slf);
        }
        Self::fail(slf, Status::new(Code::DeadlineExceeded, "Deadline Exceeded"));
        Ok(())
    }

    /// Sets the timer that ends a call in line for a connection at its deadline, if it has one.
    pub(crate) fn arm(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let Some(deadline) = slf.get().deadline else { return Ok(()) };
        let delay = deadline.saturating_duration_since(Instant::now());
        let callback = Bound::new(py, Deadline(CallRef::new(slf)?))?;
        let handle = slf.get().loop_channel.get().call_later(py, delay, callback.as_any())?;
        let before = slf.get().state.with(py, |state| match &mut state.place {
            Place::Pending { timer, .. } => timer.replace(handle),
            Place::Active(..) | Place::Over => Some(handle),
        });
        drop(before);
        Ok(())
    }
}

/// The timer's callback. It keeps a stream of responses no more than its connection would: see [`CallRef`].
#[pyclass(frozen, module = "oxgrpc._native", name = "Deadline")]
struct Deadline(CallRef);

#[pymethods]
impl Deadline {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.0.upgrade(py).map_or(Ok(()), |call| Call::on_deadline(&call))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(&visit)
    }
}
