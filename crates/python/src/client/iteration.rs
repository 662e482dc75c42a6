//! What `async for` over a call holds. An iteration that is left early is most often one that nobody takes up again, and
//! its server is to know: Python's own rule, that an object lives as long as somebody can reach it, would let a stream run
//! on for as long as a variable names its call. A program that does go on has to do so soon, or to keep the iterator.

use super::call::Call;
use super::link::CallRef;
use super::operation::What;
use crate::awaitable::Awaitable;
use crate::names::names;
use oxgrpc_core::{Code, Status};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a call whose iteration was left waits for whoever goes on with it.
const RESUMED_WITHIN: Duration = Duration::from_millis(500);

/// What such a call ends with.
const LEFT: &str =
    "The iteration over the responses was left, and the call was not used again within 0.5 s.";

/// An iteration over the responses of a call.
#[pyclass(frozen, module = "oxgrpc._native", name = "ResponseIterator")]
pub(crate) struct ResponseIterator {
    call: Py<Call>,
    begun: AtomicBool,
}

impl ResponseIterator {
    pub(super) fn new(call: &Bound<'_, Call>) -> Self {
        call.get().count_use();
        Self { call: call.clone().unbind(), begun: AtomicBool::new(false) }
    }
}

#[pymethods]
impl ResponseIterator {
    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(&self, py: Python<'_>) -> PyResult<Py<Awaitable>> {
        self.begun.store(true, Ordering::Relaxed);
        Call::operation(self.call.bind(py), What::Next)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.call)
    }
}

impl Drop for ResponseIterator {
    fn drop(&mut self) {
        if !*self.begun.get_mut() {
            return;
        }
        // A finalizer may run while an exception is on its way: it must not get lost.
        Python::try_attach(|py| {
            let call = self.call.bind(py);
            // SAFETY: it is a live object; the count is only compared.
            let is_last = unsafe { ffi::Py_REFCNT(call.as_ptr()) } == 1;
            // Whoever held nothing but the iterator can read no further: the call goes with it.
            if is_last || call.get().has_ended(py) {
                return;
            }
            let pending = PyErr::take(py);
            // A loop that is closed refuses the timer: its calls go with it.
            let _ = Left::watch(call);
            if let Some(error) = pending {
                error.restore(py);
            }
        });
    }
}

/// The timer of a call whose iteration was left.
#[pyclass(frozen, module = "oxgrpc._native", name = "Left")]
struct Left {
    call: CallRef,
    /// How often the call had been used by then.
    uses: u32,
}

impl Left {
    fn watch(call: &Bound<'_, Call>) -> PyResult<()> {
        let py = call.py();
        let me = call.get();
        // Dropped on another thread, or outside of the loop: timers are the loop's own.
        if !names(py)?.running_loop.bind(py).call0()?.is(&me.port.get().event_loop) {
            return Ok(());
        }
        let left = Bound::new(py, Self { call: CallRef::new(call)?, uses: me.uses() })?;
        me.loop_channel.get().call_later(py, RESUMED_WITHIN, left.as_any()).map(drop)
    }
}

#[pymethods]
impl Left {
    fn __call__(&self, py: Python<'_>) {
        let Some(call) = self.call.upgrade(py) else { return };
        let me = call.get();
        // What has ended has nobody to tell: its responses can be read at any time.
        if me.uses() == self.uses && !me.has_ended(py) && !me.is_awaited(py) {
            Call::fail(&call, Status::new(Code::Cancelled, LEFT));
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.call.traverse(&visit)
    }
}
