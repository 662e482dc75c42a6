//! Multicallables: what a channel makes for a method and a stub calls.

use super::call::{Call, Place, Style};
use super::channel::Channel;
use super::loop_channel::LoopChannel;
use super::method::{Kind, Method, Request, SharedMethod};
use super::requests::RequestTask;
use crate::message::serialize;
use crate::metadata;
use crate::options::encoding_of;
use crate::pump::Pump;
use pyo3::PyClassInitializer;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use std::time::{Duration, Instant};

/// What the four classes share.
#[pyclass(frozen, subclass, module = "oxgrpc._native")]
pub(crate) struct MultiCallable {
    channel: Py<Channel>,
    method: SharedMethod,
}

/// The parameters that every call takes.
struct Parameters<'a, 'py> {
    timeout: Option<&'a Bound<'py, PyAny>>,
    metadata: Option<&'a Bound<'py, PyAny>>,
    credentials: Option<&'a Bound<'py, PyAny>>,
    wait_for_ready: Option<bool>,
    compression: Option<&'a Bound<'py, PyAny>>,
}

impl MultiCallable {
    fn call<'py>(
        slf: &Bound<'py, Self>,
        unary: Option<&Bound<'py, PyAny>>,
        requests: Option<&Bound<'py, PyAny>>,
        parameters: &Parameters<'_, 'py>,
    ) -> PyResult<Bound<'py, Call>> {
        let py = slf.py();
        let me = slf.get();
        let channel = me.channel.get();
        let loop_channel = Channel::loop_channel(me.channel.bind(py))?;
        let plugins = Channel::plugins_of(me.channel.bind(py), parameters.credentials)?;
        let encoding = encoding_of(parameters.compression)?.unwrap_or(channel.config().encoding);
        let request = Request {
            method: me.method.clone_ref(py),
            metadata: metadata::outgoing(parameters.metadata)?,
            deadline: me.method.rules.deadline(deadline(parameters.timeout)?),
            encoding,
            wait_for_ready: parameters
                .wait_for_ready
                .unwrap_or_else(|| me.method.rules.wait_for_ready()),
        };
        // What cannot be iterated is refused before there is a call.
        let pump = requests.map(Pump::new).transpose()?;
        let style = match pump {
            Some(_) => Style::Iterator,
            None => Style::Unknown,
        };
        let serialized = match unary {
            Some(unary) => match serialize(unary, me.method.serializer.as_ref()) {
                Ok(message) => Some(message),
                // Without a serializer it is the caller's mistake.
                Err(error) if me.method.serializer.is_none() => return Err(error),
                Err(cause) => {
                    let call = Call::create(&loop_channel, request, None, Place::Over, style)?;
                    call.get().user_error(&call, cause, "Exception serializing request!");
                    return Ok(call);
                }
            },
            None => None,
        };
        let message = serialized.as_ref();
        let call = match plugins {
            None => LoopChannel::start(&loop_channel, request, message, style)?,
            Some(plugins) => {
                let channel = me.channel.bind(py);
                Call::start_with_plugins(channel, &loop_channel, request, message, style, &plugins)?
            }
        };
        // A call that failed at once has nobody to cancel a task of its requests.
        if let Some(pump) = pump
            && !call.get().has_ended(py)
        {
            RequestTask::start(&call, pump)?;
        }
        Ok(call)
    }
}

#[pymethods]
impl MultiCallable {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.channel)?;
        self.method.traverse(&visit)
    }
}

/// A timeout in seconds as an instant; `None` where it is too far away to matter.
fn deadline(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Instant>> {
    let Some(timeout) = timeout.filter(|timeout| !timeout.is_none()) else { return Ok(None) };
    let seconds: f64 = timeout.extract().map_err(|_| {
        PyTypeError::new_err(format!("timeout is a number of seconds, not {timeout}"))
    })?;
    if seconds.is_nan() {
        return Err(PyValueError::new_err("timeout is not a number"));
    }
    let timeout = Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    Ok(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
}

/// A class whose calls take one request. As in grpcio, the other parameters are keywords.
macro_rules! takes_a_request {
    ($class:ident) => {
        #[doc = "The multicallable of this kind of method."]
        #[pyclass(frozen, extends = MultiCallable, module = "oxgrpc._native")]
        pub(crate) struct $class;

        #[pymethods]
        impl $class {
            #[pyo3(signature = (request, *, timeout=None, metadata=None, credentials=None,
                                                        wait_for_ready=None, compression=None))]
            fn __call__<'py>(
                slf: &Bound<'py, Self>,
                request: &Bound<'py, PyAny>,
                timeout: Option<&Bound<'py, PyAny>>,
                metadata: Option<&Bound<'py, PyAny>>,
                credentials: Option<&Bound<'py, PyAny>>,
                wait_for_ready: Option<bool>,
                compression: Option<&Bound<'py, PyAny>>,
            ) -> PyResult<Bound<'py, Call>> {
                let parameters =
                    Parameters { timeout, metadata, credentials, wait_for_ready, compression };
                MultiCallable::call(slf.as_super(), Some(request), None, &parameters)
            }
        }
    };
}

/// A class whose calls take an iterator of requests, or none, to be written by hand.
macro_rules! takes_requests {
    ($class:ident) => {
        #[doc = "The multicallable of this kind of method."]
        #[pyclass(frozen, extends = MultiCallable, module = "oxgrpc._native")]
        pub(crate) struct $class;

        #[pymethods]
        impl $class {
            #[pyo3(signature = (request_iterator=None, timeout=None, metadata=None,
                                        credentials=None, wait_for_ready=None, compression=None))]
            fn __call__<'py>(
                slf: &Bound<'py, Self>,
                request_iterator: Option<&Bound<'py, PyAny>>,
                timeout: Option<&Bound<'py, PyAny>>,
                metadata: Option<&Bound<'py, PyAny>>,
                credentials: Option<&Bound<'py, PyAny>>,
                wait_for_ready: Option<bool>,
                compression: Option<&Bound<'py, PyAny>>,
            ) -> PyResult<Bound<'py, Call>> {
                let parameters =
                    Parameters { timeout, metadata, credentials, wait_for_ready, compression };
                MultiCallable::call(slf.as_super(), None, request_iterator, &parameters)
            }
        }
    };
}

takes_a_request!(UnaryUnaryMultiCallable);
takes_a_request!(UnaryStreamMultiCallable);
takes_requests!(StreamUnaryMultiCallable);
takes_requests!(StreamStreamMultiCallable);

/// Makes the multicallable of a method's kind.
pub(crate) fn create(py: Python<'_>, channel: Py<Channel>, method: Method) -> PyResult<Py<PyAny>> {
    let kind = method.kind;
    let method = SharedMethod::new(py, method)?;
    let base = PyClassInitializer::from(MultiCallable { channel, method });
    Ok(match kind {
        Kind::UnaryUnary => Py::new(py, base.add_subclass(UnaryUnaryMultiCallable))?.into_any(),
        Kind::UnaryStream => Py::new(py, base.add_subclass(UnaryStreamMultiCallable))?.into_any(),
        Kind::StreamUnary => Py::new(py, base.add_subclass(StreamUnaryMultiCallable))?.into_any(),
        Kind::StreamStream => Py::new(py, base.add_subclass(StreamStreamMultiCallable))?.into_any(),
    })
}
