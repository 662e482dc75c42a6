//! The timer of a call that has no connection: its deadline, and when it is made again. Once it has a connection, that one's
//! engine sees to its deadline.

use super::call::{Call, Place};
use super::link::CallRef;
use super::loop_channel::LoopChannel;
use oxgrpc_core::{Code, Status};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use std::time::Instant;

impl Call {
    /// What the timer of a call that is still pending was set for has come, or is about to: uvloop's clock counts whole
    /// milliseconds.
    fn on_timer(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let now = Instant::now();
        let has_come = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let (spent, is_due) = slf.get().state.with(py, |state| {
            let is_due = has_come(state.backs_off_until());
            match &mut state.place {
                Place::Pending { timer, .. } => (timer.take(), Some(is_due)),
                Place::Active(..) | Place::Over => (None, None),
            }
        });
        drop(spent);
        match is_due {
            None => {
                Self::begin_rivals(slf);
                Ok(())
            }
            Some(_) if has_come(slf.get().deadline) => {
                Self::fail(slf, Status::new(Code::DeadlineExceeded, "Deadline Exceeded"));
                Ok(())
            }
            Some(true) => match slf.get().given_up(py) {
                Some(outcome) => {
                    Self::end_with(slf, outcome);
                    Ok(())
                }
                None => LoopChannel::submit(slf),
            },
            Some(false) => Self::arm(slf),
        }
    }

    /// Sets the timer of a pending call, if there is something to set it for.
    pub(crate) fn arm(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let due = slf.get().state.with(py, |state| state.backs_off_until());
        let Some(at) = due.into_iter().chain(slf.get().deadline).min() else { return Ok(()) };
        let delay = at.saturating_duration_since(Instant::now());
        let callback = Bound::new(py, Deadline::new(CallRef::new(slf)?))?;
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
pub(super) struct Deadline(CallRef);

impl Deadline {
    pub(super) fn new(call: CallRef) -> Self {
        Self(call)
    }
}

#[pymethods]
impl Deadline {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.0.upgrade(py).map_or(Ok(()), |call| Call::on_timer(&call))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(&visit)
    }
}
