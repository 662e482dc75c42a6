//! What an ended call has to say: its response or its error, its status, its metadata.

use super::call::{Call, Response};
use crate::errors::cancelled_error;
use crate::message::{Message, deserialize};
use crate::metadata;
use crate::names::names;
use oxgrpc_core::{Code, Status};
use pyo3::prelude::*;

impl Call {
    /// The code and whether the call was cancelled by this side, once it has ended.
    pub(crate) fn verdict(&self, py: Python<'_>) -> Option<(Code, bool)> {
        self.state.with(py, |state| {
            let outcome = state.outcome.as_ref()?;
            Some((outcome.status.code, state.locally_cancelled))
        })
    }

    /// What awaiting an ended call raises; `None` if it succeeded.
    pub(crate) fn error(&self, py: Python<'_>) -> Option<PyErr> {
        match self.verdict(py)? {
            (Code::Ok, _) => None,
            (_, true) => Some(cancelled_error(py, None)),
            _ => Some(self.rpc_error(py).unwrap_or_else(|error| error)),
        }
    }

    fn rpc_error(&self, py: Python<'_>) -> PyResult<PyErr> {
        let names = names(py)?;
        let error = names.rpc_error.bind(py).call1((
            self.code(py)?,
            self.initial_metadata(py)?,
            self.trailing_metadata(py)?,
            self.details(py),
            self.debug_error_string(py),
        ))?;
        Ok(PyErr::from_value(error))
    }

    /// The only response of a call that succeeded.
    pub(crate) fn response(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let me = slf.get();
        let taken = me.state.with(py, |state| match &state.response {
            Response::Read(object) => Ok(object.clone_ref(py)),
            _ => Err(std::mem::replace(&mut state.response, Response::None)),
        });
        let raw = match taken {
            Ok(object) => return Ok(object),
            Err(Response::Raw(raw)) => raw,
            Err(_) => return Ok(py.None()),
        };
        let object = me.deserialize(slf, raw)?;
        let kept = object.clone_ref(py);
        me.state.with(py, |state| state.response = Response::Read(kept));
        Ok(object)
    }

    /// Deserializes a message; a deserializer that raises ends the call with INTERNAL.
    pub(crate) fn deserialize(&self, slf: &Bound<'_, Self>, raw: Message) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let object = deserialize(py, raw.into_bytes(py), self.method.deserializer.as_ref());
        object.map_err(|cause| self.user_error(slf, cause, "Exception deserializing response!"))
    }

    /// Turns an exception of a serializer or deserializer into the call's end.
    pub(crate) fn user_error(
        &self,
        slf: &Bound<'_, Self>,
        cause: PyErr,
        details: &'static str,
    ) -> PyErr {
        let py = slf.py();
        Self::replace_outcome(slf, Status::new(Code::Internal, details));
        let error = self.rpc_error(py).unwrap_or_else(|error| error);
        error.set_cause(py, Some(cause));
        error
    }

    /// Ends the call with a status of our own, in place of the server's: its OK is of no use where the response cannot be
    /// read.
    pub(crate) fn replace_outcome(slf: &Bound<'_, Self>, status: Status) {
        let replaced = slf.get().state.with(slf.py(), |state| state.outcome.take());
        drop(replaced);
        Self::fail(slf, status);
    }

    pub(crate) fn initial_metadata(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let metadata = self.state.with(py, |state| state.initial.clone());
        metadata::received(py, &metadata.unwrap_or_default())
    }

    pub(crate) fn has_headers(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.initial.is_some() || state.outcome.is_some())
    }

    pub(crate) fn trailing_metadata(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let trailing = self.state.with(py, |state| Some(state.outcome.as_ref()?.trailing.clone()));
        metadata::received(py, &trailing.unwrap_or_default())
    }

    pub(crate) fn code(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let code = self.verdict(py).map_or(Code::Unknown, |(code, _)| code);
        Ok(names(py)?.status_code(code).clone_ref(py))
    }

    pub(crate) fn details(&self, py: Python<'_>) -> String {
        let text =
            self.state.with(py, |state| Some(state.outcome.as_ref()?.status.message.clone()));
        text.unwrap_or_default().into_owned()
    }

    pub(crate) fn debug_error_string(&self, py: Python<'_>) -> String {
        let outcome = self.state.with(py, |state| {
            let outcome = state.outcome.as_ref().filter(|_| !state.locally_cancelled)?;
            Some((outcome.status.clone(), outcome.is_remote))
        });
        // Where it went well, and where the program itself has ended it, there is nothing to look for.
        let Some((status, is_remote)) = outcome.filter(|(status, _)| !status.is_ok()) else {
            return String::new();
        };
        let origin = match is_remote {
            true => "Error received from peer",
            false => "Error raised by oxgrpc",
        };
        format!(
            "{}:{origin} {{grpc_message:{:?}, grpc_status:{}}}",
            status.code, status.message, status.code as u8
        )
    }
}
