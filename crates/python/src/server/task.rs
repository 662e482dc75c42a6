//! The task that answers a call: a coroutine that runs the handler and turns whatever becomes of it into a status.
//!
//! It is run by a genuine `asyncio.Task`, started at once where CPython can (3.12). Every way out of a handler ends the
//! call: a return, an exception, a cancellation, even one that the handler swallows.

use super::context::{Over, RequestIterator, ServicerContext, Wait};
use super::handler::{self, Origin, TaskStarter};
use super::link::{HeldBack, NOT_FOUND, ServerLink};
use super::operation::{ContextOperation, What};
use crate::awaitable::{Awaitable, Operation, Polled};
use crate::errors::cancelled_error;
use crate::gil::GilCell;
use crate::invoke::{Step, call_2, exception, iterator_of, or_stop, send};
use crate::names::{log, names, raised};
use crate::pump::{Pump, Sending, Sink};
use oxgrpc_core::{Code, Next, Status};
use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError, PyStopIteration, PySystemExit};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// Octets of an exception's text that a client is told. One that takes up all of what a client allows for metadata
/// (16 KiB, or three octets for one of ours if it has to be escaped) would cost it the status.
const LONGEST_TEXT: usize = 2048;

/// ```text
///   Fresh ──► Asking (interceptors) ──► Waiting (for the request) ──► Running (a coroutine) ──────────► (gone)
///     └─────► Waiting (for room)                                 └──► Pumping (an async generator) ──┘
/// ```
enum Stage {
    Fresh,
    /// Interceptors run: a coroutine that gives the handler.
    Asking(Py<PyAny>),
    Waiting(Py<Awaitable>),
    Running(Py<PyAny>),
    Pumping(Box<Pump>),
}

/// The coroutine of a call's task.
#[pyclass(frozen, module = "oxgrpc._native", name = "HandlerTask")]
pub(crate) struct HandlerTask {
    context: Py<ServicerContext>,
    stage: GilCell<Option<Stage>>,
}

/// How a step ends: with something to yield, or with the handler done.
type Stepped<'py> = PyResult<Option<Bound<'py, PyAny>>>;

impl HandlerTask {
    /// Starts the task of a call.
    pub(crate) fn start<'py>(
        context: &Bound<'py, ServicerContext>,
        tasks: &TaskStarter<'py>,
    ) -> PyResult<()> {
        let py = context.py();
        let me =
            Self { context: context.clone().unbind(), stage: GilCell::new(Some(Stage::Fresh)) };
        let coroutine = Py::new(py, me)?;
        match tasks.start(context.get().handler(), coroutine.clone_ref(py).into_any()) {
            Ok(task) => context.get().set_task(py, task),
            Err(error) => {
                coroutine.get().close(py);
                return Err(error);
            }
        }
        Ok(())
    }

    /// One step, with the stage out of its cell, because Python runs.
    fn run<'py>(
        slf: &Bound<'py, Self>,
        step: impl FnOnce(&Bound<'py, ServicerContext>, Stage, bool) -> PyResult<Went<'py>>,
    ) -> Stepped<'py> {
        let py = slf.py();
        let me = slf.get();
        let context = me.context.bind(py);
        let Some(stage) = me.stage.with(py, Option::take) else {
            return Err(PyRuntimeError::new_err("cannot reuse what was already awaited"));
        };
        let first = matches!(stage, Stage::Fresh);
        if first {
            context.get().link().get().task_started(py);
        }
        let stepped = match step(context, stage, first) {
            Ok(Went::Yield(stage, wait)) => {
                me.stage.with(py, |place| *place = Some(stage));
                return Ok(Some(wait));
            }
            Ok(Went::Done) => Ok(None),
            Err(error) => Self::failed(context, error, first).map(|()| None),
        };
        ServerLink::handler_ended(context.get().link().bind(py));
        stepped
    }

    /// Goes on until the handler waits or is done.
    fn advance<'py>(
        context: &Bound<'py, ServicerContext>,
        mut stage: Stage,
        first: bool,
    ) -> PyResult<Went<'py>> {
        let py = context.py();
        // Whether the request may be inflated in this turn of the loop.
        let mut inflates = false;
        loop {
            stage = match stage {
                Stage::Fresh => match Self::begin(context, inflates)? {
                    Some(stage) => stage,
                    None => return Ok(Went::Done),
                },
                Stage::Waiting(awaitable) => match Awaitable::advance(awaitable.bind(py))? {
                    Polled::Ready(value) => {
                        inflates = value.is_truthy(py)?;
                        Stage::Fresh
                    }
                    polled => {
                        let wait = match polled {
                            Polled::Wait => awaitable.bind(py).clone().into_any(),
                            _ => py.None().into_bound(py),
                        };
                        return Ok(Went::Yield(Stage::Waiting(awaitable), wait));
                    }
                },
                Stage::Asking(chain) => match send(chain.bind(py), py.None().bind(py))? {
                    Step::Yielded(wait) => return Ok(Went::Yield(Stage::Asking(chain), wait)),
                    Step::Returned(found) => match Self::found(context, &found, first)? {
                        true => Stage::Fresh,
                        false => return Ok(Went::Done),
                    },
                },
                Stage::Running(handler) => {
                    let step = send(handler.bind(py), py.None().bind(py))?;
                    return Self::stepped(context, handler, step, first);
                }
                Stage::Pumping(mut pump) => {
                    let sink = Responses(context.clone().unbind());
                    return Ok(match pump.step(py, &sink)? {
                        Some(wait) => Went::Yield(Stage::Pumping(pump), wait),
                        None => {
                            ServicerContext::finish_as_set(context, first);
                            Went::Done
                        }
                    });
                }
            }
        }
    }

    /// What a handler's coroutine came to.
    fn stepped<'py>(
        context: &Bound<'py, ServicerContext>,
        handler: Py<PyAny>,
        step: Step<'py>,
        first: bool,
    ) -> PyResult<Went<'py>> {
        match step {
            Step::Yielded(wait) => Ok(Went::Yield(Stage::Running(handler), wait)),
            Step::Returned(response) => {
                if context.get().handler().response_streaming {
                    // It has written its responses by hand.
                    ServicerContext::finish_as_set(context, first);
                } else {
                    ServicerContext::respond(context, &response, first)?;
                }
                Ok(Went::Done)
            }
        }
    }

    /// Calls the handler, once there is room for what it will send and its request is there. `None`: the call is over.
    fn begin(context: &Bound<'_, ServicerContext>, inflates: bool) -> PyResult<Option<Stage>> {
        let py = context.py();
        let me = context.get();
        let link = me.link();
        if me.is_late() {
            let status = Status::new(Code::DeadlineExceeded, "Deadline Exceeded");
            ServicerContext::finish(context, &status, true);
            return Ok(None);
        }
        if link.get().is_congested(py) {
            let held_back = HeldBack(link.clone_ref(py));
            return Awaitable::new(py, link.get().py_port(), held_back)
                .map(Stage::Waiting)
                .map(Some);
        }
        let handler = me.handler();
        if handler.origin == Origin::Unknown {
            return Self::ask(context).map(Some);
        }
        let argument = if handler.request_streaming {
            Py::new(py, RequestIterator(context.clone().unbind()))?.into_any()
        } else if !inflates && link.get().next_is_compressed(py, me.id) {
            let operation = InflationTurn { context: context.clone().unbind(), waited: false };
            return Awaitable::new(py, link.get().py_port(), operation)
                .map(Stage::Waiting)
                .map(Some);
        } else {
            match me.take_only_message(py) {
                Next::Message(raw) => ServicerContext::deserialize(context, raw)?,
                Next::Pending => return Self::wait_for_request(context).map(Some),
                Next::Failed(status) => {
                    ServicerContext::finish(context, &status, true);
                    return Ok(None);
                }
                // The call is gone: the event that says so is on its way.
                Next::End => return Ok(None),
            }
        };
        let called = call_2(handler.behavior.bind(py), argument.bind(py), context.as_any())?;
        if handler.response_streaming && called.hasattr(intern!(py, "__aiter__"))? {
            return Ok(Some(Stage::Pumping(Box::new(Pump::new(&called)?))));
        }
        iterator_of(called).map(|running| Some(Stage::Running(running.unbind())))
    }

    /// Asks interceptors who handles the call.
    fn ask(context: &Bound<'_, ServicerContext>) -> PyResult<Stage> {
        let py = context.py();
        let me = context.get();
        let server = me.link().get().server().bind(py);
        let details = handler::call_details(py, &me.handler().path, &me.invocation_metadata(py)?)?;
        let find = server.getattr(intern!(py, "find_handler"))?;
        let chain = server.get().chain(py).unwrap_or_else(|| py.None());
        let asking = call_2(chain.bind(py), &find, details.bind(py))?;
        iterator_of(asking).map(|asking| Stage::Asking(asking.unbind()))
    }

    /// What interceptors have said. `false`: nobody handles the call, or it is over.
    fn found<'py>(
        context: &Bound<'py, ServicerContext>,
        found: &Bound<'py, PyAny>,
        first: bool,
    ) -> PyResult<bool> {
        let py = context.py();
        let me = context.get();
        if me.over(py).is_some() {
            return Ok(false);
        }
        if found.is_none() {
            ServicerContext::finish(context, &Status::new(Code::Unimplemented, NOT_FOUND), first);
            return Ok(false);
        }
        let server = me.link().get().server().get();
        let path = &me.handler().path;
        me.choose(handler::given(path, found, server.by_path(py, path), server.pool())?);
        Ok(true)
    }

    /// The method's kind was not known before its generic handler was asked: the request may still be on its way, or the
    /// client's end behind it.
    fn wait_for_request(context: &Bound<'_, ServicerContext>) -> PyResult<Stage> {
        let py = context.py();
        let operation = RequestArrival { context: context.clone().unbind(), waited: false };
        let port = context.get().link().get().py_port();
        Awaitable::new(py, port, operation).map(Stage::Waiting)
    }

    /// A handler has raised. Whatever it was, the client gets a status.
    fn failed(context: &Bound<'_, ServicerContext>, error: PyErr, first: bool) -> PyResult<()> {
        let py = context.py();
        let me = context.get();
        let names = names(py)?;
        if error.is_instance(py, names.cancelled_error.bind(py)) {
            let status = Status::new(Code::Cancelled, "The handler was cancelled");
            ServicerContext::finish(context, &status, first);
            // asyncio is to know that the task ended by cancellation.
            return Err(error);
        }
        let was_over = me.over(py);
        if error.is_instance(py, names.abort_error.bind(py)) && was_over.is_some() {
            return Ok(());
        }
        if was_over != Some(Over::Cancelled) {
            log(py, "handler_failed", (&*me.handler().path, raised(py, &error)));
        }
        let mut text = format!("Unexpected {}: {}", error.get_type(py), error.value(py));
        if let Some(end) = (0..=LONGEST_TEXT).rev().find(|&end| text.is_char_boundary(end)) {
            text.truncate(end);
        }
        let status = match me.code_set(py) {
            // Most likely a call of the handler's own has met the deadline that it was given, a moment before we have.
            _ if me.is_late() => Status::new(Code::DeadlineExceeded, "Deadline Exceeded"),
            Code::Ok => Status::new(Code::Unknown, text),
            set => Status::new(set, text),
        };
        ServicerContext::finish(context, &status, first);
        // These end the program; the client has its status. Anything else has been logged and is nobody's business.
        let ends_the_program = error.is_instance_of::<PyKeyboardInterrupt>(py)
            || error.is_instance_of::<PySystemExit>(py);
        if ends_the_program { Err(error) } else { Ok(()) }
    }

    fn throw_into<'py>(
        context: &Bound<'py, ServicerContext>,
        stage: Stage,
        error: PyErr,
        first: bool,
    ) -> PyResult<Went<'py>> {
        let py = context.py();
        match stage {
            Stage::Fresh => Err(error),
            Stage::Waiting(awaitable) => {
                awaitable.bind(py).call_method1(intern!(py, "throw"), (error,))?;
                Err(cancelled_error(py, None))
            }
            Stage::Asking(chain) => {
                let thrown = chain.bind(py).call_method1(intern!(py, "throw"), (error,));
                match stepped(py, thrown)? {
                    Step::Yielded(wait) => Ok(Went::Yield(Stage::Asking(chain), wait)),
                    Step::Returned(found) => match Self::found(context, &found, first)? {
                        true => Self::advance(context, Stage::Fresh, first),
                        false => Ok(Went::Done),
                    },
                }
            }
            Stage::Running(handler) => {
                let thrown = handler.bind(py).call_method1(intern!(py, "throw"), (error,));
                Self::stepped(context, handler, stepped(py, thrown)?, first)
            }
            Stage::Pumping(mut pump) => {
                let sink = Responses(context.clone().unbind());
                match pump.throw(py, error, &sink)? {
                    Some(wait) => Ok(Went::Yield(Stage::Pumping(pump), wait)),
                    None => {
                        ServicerContext::finish_as_set(context, first);
                        Ok(Went::Done)
                    }
                }
            }
        }
    }
}

/// A task may be dropped without having been run to its end, with its loop.
impl Drop for HandlerTask {
    fn drop(&mut self) {
        Python::attach(|py| self.close(py));
    }
}

/// What a step came to.
enum Went<'py> {
    Yield(Stage, Bound<'py, PyAny>),
    Done,
}

/// What a coroutine came to that an exception was thrown into.
fn stepped<'py>(py: Python<'py>, thrown: PyResult<Bound<'py, PyAny>>) -> PyResult<Step<'py>> {
    match thrown {
        Ok(wait) => Ok(Step::Yielded(wait)),
        Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
            Ok(Step::Returned(error.value(py).getattr(intern!(py, "value"))?))
        }
        Err(error) => Err(error),
    }
}

/// Where a generator's responses go.
struct Responses(Py<ServicerContext>);

impl Sink for Responses {
    fn send(&self, py: Python<'_>, response: &Bound<'_, PyAny>) -> PyResult<Sending> {
        let context = self.0.bind(py);
        let turn = ServicerContext::send(context, response)?;
        if context.get().is_queued(py) {
            let room = ContextOperation::new(self.0.clone_ref(py), What::Room);
            let port = context.get().link().get().py_port();
            return Awaitable::new(py, port, room).map(Sending::Wait);
        }
        Ok(if turn { Sending::Turn } else { Sending::Sent })
    }
}

/// Waits for a turn of the loop in which the request of a call may be inflated; gives `True`.
struct InflationTurn {
    context: Py<ServicerContext>,
    waited: bool,
}

impl Operation for InflationTurn {
    fn poll(&mut self, py: Python<'_>, me: &Bound<'_, Awaitable>) -> PyResult<Polled> {
        let context = self.context.get();
        if context.link().get().inflates_later(context.id, self.waited, me) {
            self.waited = true;
            return Ok(Polled::Wait);
        }
        Ok(Polled::Ready(true.into_pyobject(py)?.to_owned().into_any().unbind()))
    }

    fn cancelled(&mut self, _py: Python<'_>) {}

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.context)
    }
}

/// Waits for the request of a call, which has been asked for.
struct RequestArrival {
    context: Py<ServicerContext>,
    waited: bool,
}

impl Operation for RequestArrival {
    fn poll(&mut self, py: Python<'_>, me: &Bound<'_, Awaitable>) -> PyResult<Polled> {
        if std::mem::replace(&mut self.waited, true) {
            return Ok(Polled::Ready(py.None()));
        }
        self.context.get().wait(py, Wait::Readable, me);
        Ok(Polled::Wait)
    }

    fn cancelled(&mut self, _py: Python<'_>) {}

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.context)
    }
}

#[pymethods]
impl HandlerTask {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> Stepped<'py> {
        Self::run(slf, Self::advance)
    }

    fn send<'py>(slf: &Bound<'py, Self>, _value: &Bound<'py, PyAny>) -> Stepped<'py> {
        or_stop(Self::__next__(slf)?)
    }

    #[pyo3(signature = (error, *_more))]
    fn throw<'py>(
        slf: &Bound<'py, Self>,
        error: &Bound<'py, PyAny>,
        _more: &Bound<'py, PyTuple>,
    ) -> Stepped<'py> {
        let error = exception(error)?;
        or_stop(Self::run(slf, |context, stage, first| {
            Self::throw_into(context, stage, error, first)
        })?)
    }

    fn close(&self, py: Python<'_>) {
        let Some(stage) = self.stage.with(py, Option::take) else { return };
        let link = self.context.get().link();
        if let Stage::Fresh = stage {
            link.get().task_started(py);
        }
        // The handler's coroutine runs to its end here.
        drop(stage);
        ServerLink::handler_ended(link.bind(py));
    }

    #[getter]
    fn __qualname__(&self) -> String {
        self.context.get().handler().path.to_string()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.context)?;
        self.stage.traverse(|stage| match stage {
            None | Some(Stage::Fresh) => Ok(()),
            Some(Stage::Waiting(awaitable)) => visit.call(awaitable),
            Some(Stage::Asking(coroutine) | Stage::Running(coroutine)) => visit.call(coroutine),
            Some(Stage::Pumping(pump)) => pump.traverse(&visit),
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        self.close(py);
    }
}
