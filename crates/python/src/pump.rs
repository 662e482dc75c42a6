//! Carries the messages of an iterator, asynchronous or not, into a call: a client's requests, a server's responses.
//!
//! It is stepped like a coroutine, by the task that runs it. Messages that are ready go out without a turn of the loop
//! between them, until the windows are full or there is enough for one `send`.

use crate::awaitable::{Awaitable, Polled};
use crate::invoke::{Step, iterator_of, send};
use pyo3::exceptions::{PyStopAsyncIteration, PyStopIteration, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;

/// Where messages go.
pub(crate) trait Sink {
    fn send(&self, py: Python<'_>, message: &Bound<'_, PyAny>) -> PyResult<Sending>;
}

/// What became of a message.
pub(crate) enum Sending {
    Sent,
    /// Sent, and the loop is to have a turn.
    Turn,
    /// Sent, but it waits for the windows; go on after this.
    Wait(Py<Awaitable>),
    /// Not sent; try again after this.
    Retry(Py<Awaitable>),
}

enum Source {
    Async(Py<PyAny>),
    Sync(Py<PyAny>),
}

/// What the pump waits for.
enum Waiting {
    Nothing,
    /// For the source's next message: what its `__anext__` gave.
    Message(Py<PyAny>),
    /// For the sink, and with which message then.
    Sink(Py<Awaitable>, Option<Py<PyAny>>),
}

/// What the source said.
enum Asked<'py> {
    Message(Bound<'py, PyAny>),
    /// It will: [`Pump::waiting`] tells where.
    Waiting,
    End,
}

/// An iterator on its way into a call.
pub(crate) struct Pump {
    source: Source,
    waiting: Waiting,
}

impl Pump {
    /// Takes anything that can be iterated.
    pub(crate) fn new(iterable: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = iterable.py();
        let source = if iterable.hasattr(intern!(py, "__aiter__"))? {
            Source::Async(iterable.call_method0(intern!(py, "__aiter__"))?.unbind())
        } else if let Ok(iterator) = iterable.try_iter() {
            Source::Sync(iterator.into_any().unbind())
        } else {
            let kind = iterable.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "messages come from an iterator or an asynchronous iterator, not from {kind}"
            )));
        };
        Ok(Self { source, waiting: Waiting::Nothing })
    }

    /// Goes on until it has to wait. `Some` is to be yielded to the task, `None` is the end.
    pub(crate) fn step<'py>(
        &mut self,
        py: Python<'py>,
        sink: &impl Sink,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        loop {
            let message = match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
                Waiting::Nothing => match self.ask(py)? {
                    Asked::Message(message) => message,
                    Asked::Waiting => continue,
                    Asked::End => return Ok(None),
                },
                Waiting::Message(next) => {
                    match end_of_iteration(py, send(next.bind(py), py.None().bind(py)))? {
                        None => return Ok(None),
                        Some(Step::Returned(message)) => message,
                        Some(Step::Yielded(wait)) => {
                            self.waiting = Waiting::Message(next);
                            return Ok(Some(wait));
                        }
                    }
                }
                Waiting::Sink(awaitable, message) => {
                    match Awaitable::advance(awaitable.bind(py))? {
                        Polled::Ready(_) => match message {
                            Some(message) => message.into_bound(py),
                            None => continue,
                        },
                        polled => {
                            let wait = match polled {
                                Polled::Wait => awaitable.bind(py).clone().into_any(),
                                _ => py.None().into_bound(py),
                            };
                            self.waiting = Waiting::Sink(awaitable, message);
                            return Ok(Some(wait));
                        }
                    }
                }
            };
            if let Some(wait) = self.put(py, message, sink)? {
                return Ok(Some(wait));
            }
        }
    }

    /// Gives the sink a message. `Some` is to be yielded to the task before the next step.
    fn put<'py>(
        &mut self,
        py: Python<'py>,
        message: Bound<'py, PyAny>,
        sink: &impl Sink,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        match sink.send(py, &message)? {
            Sending::Sent => {}
            Sending::Turn => return Ok(Some(py.None().into_bound(py))),
            Sending::Wait(awaitable) => self.waiting = Waiting::Sink(awaitable, None),
            Sending::Retry(awaitable) => {
                self.waiting = Waiting::Sink(awaitable, Some(message.unbind()));
            }
        }
        Ok(None)
    }

    /// Asks the source for its next message.
    fn ask<'py>(&mut self, py: Python<'py>) -> PyResult<Asked<'py>> {
        match &self.source {
            Source::Sync(iterator) => {
                match iterator.bind(py).call_method0(intern!(py, "__next__")) {
                    Ok(message) => Ok(Asked::Message(message)),
                    Err(error) if error.is_instance_of::<PyStopIteration>(py) => Ok(Asked::End),
                    Err(error) => Err(error),
                }
            }
            Source::Async(iterator) => {
                let next = iterator.bind(py).call_method0(intern!(py, "__anext__"))?;
                self.waiting = Waiting::Message(iterator_of(next)?.unbind());
                Ok(Asked::Waiting)
            }
        }
    }

    /// Throws an exception into what the pump waits for; goes on with what becomes of it.
    pub(crate) fn throw<'py>(
        &mut self,
        py: Python<'py>,
        error: PyErr,
        sink: &impl Sink,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let thrower = match &self.waiting {
            Waiting::Nothing => return Err(error),
            Waiting::Message(next) => next.clone_ref(py),
            Waiting::Sink(awaitable, _) => awaitable.clone_ref(py).into_any(),
        };
        let thrown = thrower.bind(py).call_method1(intern!(py, "throw"), (error,));
        if let Waiting::Message(_) = self.waiting {
            let step = match thrown {
                Ok(wait) => return Ok(Some(wait)),
                Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                    // The source swallowed the exception and gave a message.
                    let message = error.value(py).getattr(intern!(py, "value"))?;
                    Ok(Step::Returned(message))
                }
                Err(error) => Err(error),
            };
            self.waiting = Waiting::Nothing;
            return match end_of_iteration(py, step)? {
                Some(Step::Returned(message)) => match self.put(py, message, sink)? {
                    Some(wait) => Ok(Some(wait)),
                    None => self.step(py, sink),
                },
                _ => Ok(None),
            };
        }
        self.waiting = Waiting::Nothing;
        thrown.map(|_| None)
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.source {
            Source::Async(source) | Source::Sync(source) => visit.call(source)?,
        }
        match &self.waiting {
            Waiting::Nothing => Ok(()),
            Waiting::Message(next) => visit.call(next),
            Waiting::Sink(awaitable, message) => {
                visit.call(awaitable)?;
                message.as_ref().map_or(Ok(()), |message| visit.call(message))
            }
        }
    }
}

/// `StopAsyncIteration` is the end, anything else an error.
fn end_of_iteration<'py>(
    py: Python<'py>,
    step: PyResult<Step<'py>>,
) -> PyResult<Option<Step<'py>>> {
    match step {
        Ok(step) => Ok(Some(step)),
        Err(error) if error.is_instance_of::<PyStopAsyncIteration>(py) => Ok(None),
        Err(error) => Err(error),
    }
}
