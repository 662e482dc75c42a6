//! What `await` is given: an operation that is tried, and tried again each time its object says that something changed.
//!
//! To asyncio it is a coroutine (`send`, `throw`, `close`), so `create_task`, `wait_for` and `gather` take it. To the
//! task that awaits it, it is a future that it yields when it has to wait: the task leaves its wake-up callback, and the
//! port calls it. It is not a future to anybody else (`asyncio.isfuture` says no until it is awaited), because nothing
//! happens before it is awaited.

use crate::errors::cancelled_error;
use crate::gil::GilCell;
use crate::invoke::{call_method_2, exception, stop_iteration};
use crate::names::names;
use crate::port::{Port, Ready};
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;

/// What a try came to.
pub(crate) enum Polled {
    /// The result.
    Ready(Py<PyAny>),
    /// Nothing yet; the awaitable has been left where it will be woken.
    Wait,
    /// Nothing yet; the loop is to have a turn before the next try.
    Turn,
}

/// Something to await.
pub(crate) trait Operation: Send {
    /// Tries; leaves `me` where it will be woken, if it has to wait.
    fn poll(&mut self, py: Python<'_>, me: &Bound<'_, Awaitable>) -> PyResult<Polled>;

    /// The task that waits is cancelled.
    fn cancelled(&mut self, py: Python<'_>);

    /// Nobody waits any more: takes `me` from where it was left. A loop that waits again and again with a time limit
    /// would otherwise leave one behind each time.
    fn forget(&mut self, _py: Python<'_>, _me: &Bound<'_, Awaitable>) {}

    /// Shows the garbage collector what is held.
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError>;
}

/// ```text
///            poll: pending              wake                poll: ready
///   Fresh ────────────────► Waiting ───────────► Woken ─────────────────► Done
///     │                        │  ▲                │ poll: pending          ▲
///     │ poll: ready            │  └────────────────┘                        │
///     └────────────────────────┼────────────────────────────────────────────┤
///                              └──cancel──► Cancelled ──throw───────────────┘
/// ```
enum Phase {
    Fresh,
    Waiting,
    Woken,
    Cancelled { message: Option<Py<PyAny>> },
    Done,
}

struct State {
    operation: Option<Box<dyn Operation>>,
    phase: Phase,
    /// asyncio's mark of a future that has just been yielded; `None` before the first time.
    blocking: Option<bool>,
    /// A task's wake-up and the context to run it in; more than one only for who adds callbacks of his own.
    callbacks: Vec<(Py<PyAny>, Py<PyAny>)>,
}

/// An operation under way.
#[pyclass(frozen, module = "oxgrpc._native", name = "Awaitable")]
pub(crate) struct Awaitable {
    port: Py<Port>,
    state: GilCell<State>,
}

impl Awaitable {
    pub(crate) fn new(
        py: Python<'_>,
        port: &Py<Port>,
        operation: impl Operation + 'static,
    ) -> PyResult<Py<Self>> {
        let state = State {
            operation: Some(Box::new(operation)),
            phase: Phase::Fresh,
            blocking: None,
            callbacks: Vec::new(),
        };
        Py::new(py, Self { port: port.clone_ref(py), state: GilCell::new(state) })
    }

    /// Tries the operation.
    pub(crate) fn advance(slf: &Bound<'_, Self>) -> PyResult<Polled> {
        let py = slf.py();
        let me = slf.get();
        let operation = me.state.with(py, |state| match state.phase {
            Phase::Done => None,
            _ => state.operation.take(),
        });
        let Some(mut operation) = operation else {
            return Err(PyRuntimeError::new_err("cannot reuse what was already awaited"));
        };
        let polled = operation.poll(py, slf);
        // What is dropped may run a finalizer.
        let dropped = me.state.with(py, |state| match polled {
            Ok(Polled::Wait) => {
                state.operation = Some(operation);
                state.blocking = Some(true);
                (None, std::mem::replace(&mut state.phase, Phase::Waiting))
            }
            Ok(Polled::Turn) => {
                state.operation = Some(operation);
                (None, Phase::Fresh)
            }
            Ok(Polled::Ready(_)) | Err(_) => {
                (Some(operation), std::mem::replace(&mut state.phase, Phase::Done))
            }
        });
        drop(dropped);
        polled
    }

    /// Something changed: takes the wake-ups of those who wait.
    fn take_callbacks(&self, py: Python<'_>) -> Vec<(Py<PyAny>, Py<PyAny>)> {
        self.state.with(py, |state| {
            if matches!(state.phase, Phase::Waiting) {
                state.phase = Phase::Woken;
            }
            std::mem::take(&mut state.callbacks)
        })
    }

    /// The waiting task is to try again. Called by the port, at the top level of the loop.
    pub(crate) fn wake(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let mut result = Ok(());
        for (callback, context) in slf.get().take_callbacks(py) {
            let run = intern!(py, "run");
            let ran = call_method_2(context.bind(py), run, callback.bind(py), slf.as_any());
            result = result.and(ran.map(drop));
        }
        result
    }

    /// Wakes through `call_soon`, where a task may be running.
    pub(crate) fn wake_soon(slf: &Bound<'_, Self>, call_soon: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        for (callback, context) in slf.get().take_callbacks(py) {
            let options = pyo3::types::PyDict::new(py);
            options.set_item(intern!(py, "context"), context)?;
            call_soon.call((callback, slf), Some(&options))?;
        }
        Ok(())
    }

    fn take_operation(&self, py: Python<'_>) -> Option<Box<dyn Operation>> {
        let (operation, phase) = self.state.with(py, |state| {
            (state.operation.take(), std::mem::replace(&mut state.phase, Phase::Done))
        });
        drop(phase);
        operation
    }
}

/// First the coroutine's side, then the future's, which is for the task that awaits.
#[pymethods]
impl Awaitable {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        match Self::advance(slf)? {
            Polled::Wait => Ok(slf.clone().into_any()),
            Polled::Turn => Ok(py.None().into_bound(py)),
            Polled::Ready(value) => Err(stop_iteration(py, value.bind(py))),
        }
    }

    fn send<'py>(
        slf: &Bound<'py, Self>,
        _value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::__next__(slf)
    }

    #[pyo3(signature = (typ, val=None, tb=None))]
    fn throw(
        slf: &Bound<'_, Self>,
        typ: &Bound<'_, PyAny>,
        val: Option<&Bound<'_, PyAny>>,
        tb: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let error = match val.filter(|val| !val.is_none()) {
            Some(value) => PyErr::from_value(value.clone()),
            None => exception(typ)?,
        };
        if let Some(traceback) = tb.and_then(|tb| tb.cast::<pyo3::types::PyTraceback>().ok()) {
            error.set_traceback(py, Some(traceback.clone()));
        }
        if let Some(mut operation) = slf.get().take_operation(py) {
            operation.forget(py, slf);
            if error.is_instance(py, names(py)?.cancelled_error.bind(py)) {
                operation.cancelled(py);
            }
        }
        Err(error)
    }

    fn close(slf: &Bound<'_, Self>) {
        let py = slf.py();
        if let Some(mut operation) = slf.get().take_operation(py) {
            operation.forget(py, slf);
        }
    }

    #[getter(_asyncio_future_blocking)]
    fn blocking(&self, py: Python<'_>) -> Option<bool> {
        self.state.with(py, |state| state.blocking)
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, py: Python<'_>, blocking: bool) {
        self.state.with(py, |state| state.blocking = Some(blocking));
    }

    fn get_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.port.get().event_loop.clone_ref(py)
    }

    #[pyo3(signature = (callback, *, context=None))]
    fn add_done_callback(
        &self,
        py: Python<'_>,
        callback: Py<PyAny>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let context = match context {
            Some(context) => context,
            None => py.import(intern!(py, "contextvars"))?.call_method0("copy_context")?.unbind(),
        };
        self.state.with(py, |state| state.callbacks.push((callback, context)));
        Ok(())
    }

    fn remove_done_callback(&self, py: Python<'_>, callback: &Bound<'_, PyAny>) -> PyResult<usize> {
        let callbacks = self.state.with(py, |state| std::mem::take(&mut state.callbacks));
        let before = callbacks.len();
        let mut kept = Vec::new();
        for pair in callbacks {
            if !pair.0.bind(py).eq(callback)? {
                kept.push(pair);
            }
        }
        let removed = before - kept.len();
        self.state.with(py, |state| state.callbacks.append(&mut kept));
        Ok(removed)
    }

    #[pyo3(signature = (msg=None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        let py = slf.py();
        let me = slf.get();
        let was_waiting = me.state.with(py, |state| {
            let waits = matches!(state.phase, Phase::Waiting | Phase::Woken);
            if waits {
                state.phase = Phase::Cancelled { message: msg };
            }
            waits
        });
        if was_waiting {
            // Never at once: this runs on the canceller's stack.
            me.port.get().enqueue(py, Ready::Wake(slf.clone().unbind()));
        }
        Ok(was_waiting)
    }

    fn cancelled(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| matches!(state.phase, Phase::Cancelled { .. }))
    }

    fn done(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| !matches!(state.phase, Phase::Fresh | Phase::Waiting))
    }

    /// A woken task asks for the future's result before it goes on; the value itself comes from the next step.
    fn result(&self, py: Python<'_>) -> PyResult<()> {
        let cancelled = self.state.with(py, |state| match &state.phase {
            Phase::Cancelled { message } => Some(message.as_ref().map(|m| m.clone_ref(py))),
            _ => None,
        });
        match cancelled {
            None => Ok(()),
            Some(message) => Err(cancelled_error(py, message)),
        }
    }

    fn exception(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.result(py).map(|()| None)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.port)?;
        self.state.traverse(|state| {
            if let Some(operation) = &state.operation {
                operation.traverse(&visit)?;
            }
            if let Phase::Cancelled { message: Some(message) } = &state.phase {
                visit.call(message)?;
            }
            for (callback, context) in &state.callbacks {
                visit.call(callback)?;
                visit.call(context)?;
            }
            Ok(())
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        let dropped = self.state.with(py, |state| {
            let phase = std::mem::replace(&mut state.phase, Phase::Done);
            (state.operation.take(), std::mem::take(&mut state.callbacks), phase)
        });
        drop(dropped);
    }
}
