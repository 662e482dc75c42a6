//! Methods as a channel knows them, and what is sent to start a call of one.

use oxgrpc_core::{Encoding, Metadata};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use std::ops::Deref;
use std::time::Instant;

/// The four kinds of methods.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    UnaryUnary,
    UnaryStream,
    StreamUnary,
    StreamStream,
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
    pub(crate) fn head(&self) -> oxgrpc_core::Request<'_> {
        oxgrpc_core::Request {
            path: &self.method.path,
            metadata: &self.metadata,
            deadline: self.deadline,
            encoding: self.encoding,
            unary_response: matches!(self.method.kind, Kind::UnaryUnary | Kind::StreamUnary),
            limits: None,
            previous_attempts: 0,
        }
    }
}
