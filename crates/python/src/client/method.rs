//! Methods as a channel knows them, and what is sent to start a call of one.

use oxgrpc_core::{Encoding, Metadata};
use pyo3::prelude::*;
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

/// A method as a channel knows it: what all its calls share.
pub(crate) struct Method {
    pub(crate) kind: Kind,
    pub(crate) path: Box<[u8]>,
    pub(crate) serializer: Option<Py<PyAny>>,
    pub(crate) deserializer: Option<Py<PyAny>>,
}

/// What is sent to start a call.
pub(crate) struct Request {
    pub(crate) method: Arc<Method>,
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
        }
    }
}
