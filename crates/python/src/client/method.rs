//! Methods as a channel knows them, and what is sent to start a call of one.

use oxgrpc_core::{Encoding, MessageLimits, Metadata};
use oxgrpc_resilience::MethodConfig;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

/// The four kinds of methods.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    UnaryUnary,
    UnaryStream,
    StreamUnary,
    StreamStream,
}

impl Kind {
    /// Whether calls take one request, which they begin with.
    pub(crate) fn has_one_request(self) -> bool {
        matches!(self, Self::UnaryUnary | Self::UnaryStream)
    }
}

/// A method as a channel knows it: what all its calls share.
///
/// A serializer is often a method of the object that keeps the stub. Such a cycle is for the garbage collector to see, so
/// this is an object of Python's, whoever shares it.
#[pyclass(frozen, module = "oxgrpc._native", name = "Method")]
pub(crate) struct Method {
    pub(crate) kind: Kind,
    pub(crate) path: Box<[u8]>,
    pub(crate) serializer: Option<Py<PyAny>>,
    pub(crate) deserializer: Option<Py<PyAny>>,
    pub(crate) rules: Rules,
}

/// What the channel's service config says about a method.
#[derive(Default)]
pub(crate) struct Rules {
    config: Option<Arc<MethodConfig>>,
    /// How large its messages may be, if that is not what holds for the channel.
    limits: Option<MessageLimits>,
}

impl Rules {
    pub(crate) fn new(config: Option<&Arc<MethodConfig>>, channel: MessageLimits) -> Self {
        let limits = config.map(|config| MessageLimits {
            max_send_bytes: smaller(channel.max_send_bytes, config.max_request_bytes),
            max_receive_bytes: smaller(channel.max_receive_bytes, config.max_response_bytes),
        });
        Self { config: config.cloned(), limits }
    }

    /// The entry, if the method's calls are tried again or hedged.
    pub(crate) fn attempts(&self) -> Option<&Arc<MethodConfig>> {
        let config = self.config.as_ref()?;
        (config.retry.is_some() || config.hedging.is_some()).then_some(config)
    }

    /// When a call is given up that would be at `deadline`.
    pub(crate) fn deadline(&self, deadline: Option<Instant>) -> Option<Instant> {
        let Some(timeout) = self.config.as_ref().and_then(|config| config.timeout) else {
            return deadline;
        };
        match (deadline, Instant::now().checked_add(timeout)) {
            (Some(deadline), Some(own)) => Some(deadline.min(own)),
            (deadline, own) => deadline.or(own),
        }
    }

    /// Whether a call waits for a connection that has nothing to say about that itself.
    pub(crate) fn wait_for_ready(&self) -> bool {
        self.config.as_ref().and_then(|config| config.wait_for_ready).unwrap_or(false)
    }
}

fn smaller(channel: usize, method: Option<usize>) -> usize {
    method.map_or(channel, |method| method.min(channel))
}

#[pymethods]
impl Method {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut functions = [&self.serializer, &self.deserializer].into_iter().flatten();
        functions.try_for_each(|function| visit.call(function))
    }
}

/// A share in a [`Method`].
pub(crate) struct SharedMethod(Py<Method>);

impl SharedMethod {
    pub(crate) fn new(py: Python<'_>, method: Method) -> PyResult<Self> {
        Py::new(py, method).map(Self)
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self(self.0.clone_ref(py))
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

impl Deref for SharedMethod {
    type Target = Method;

    fn deref(&self) -> &Method {
        self.0.get()
    }
}

/// What is sent to start a call.
pub(crate) struct Request {
    pub(crate) method: SharedMethod,
    pub(crate) metadata: Metadata,
    pub(crate) deadline: Option<Instant>,
    pub(crate) encoding: Encoding,
    pub(crate) wait_for_ready: bool,
}

impl Request {
    pub(crate) fn head(&self, previous_attempts: u32) -> oxgrpc_core::Request<'_> {
        oxgrpc_core::Request {
            path: &self.method.path,
            metadata: &self.metadata,
            deadline: self.deadline,
            encoding: self.encoding,
            unary_response: matches!(self.method.kind, Kind::UnaryUnary | Kind::StreamUnary),
            limits: self.method.rules.limits,
            previous_attempts,
        }
    }
}
