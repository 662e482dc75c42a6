//! How a call is answered: responses, initial metadata, and the status that ends it.

use super::context::{Over, ServicerContext, Trailing};
use super::link::ServerLink;
use crate::errors::{abort_error, cancelled_error, usage_error};
use crate::link;
use crate::message::{Message, Outgoing, deserialize, serialize};
use crate::names::code_of;
use oxgrpc_core::{Code, Metadata, Next, Status};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

impl ServicerContext {
    /// Ends the call with a status.
    pub(crate) fn finish(slf: &Bound<'_, Self>, status: &Status, in_first_step: bool) {
        let py = slf.py();
        let me = slf.get();
        if me.over(py).is_some() {
            return;
        }
        let trailing = me.state.with(py, |state| std::mem::take(&mut state.trailing));
        me.link.get().with_engine(py, |engine| engine.finish(me.id, status, &trailing));
        Self::end(slf, Over::Finished, in_first_step);
    }

    /// Ends the call with the status that the handler has set; success unless it set another.
    pub(crate) fn finish_as_set(slf: &Bound<'_, Self>, in_first_step: bool) {
        let status = slf.get().status_set(slf.py());
        Self::finish(slf, &status, in_first_step);
    }

    /// Sends the only response and ends the call. A response beside another status than OK is dropped, as in grpcio.
    pub(crate) fn respond(
        slf: &Bound<'_, Self>,
        response: &Bound<'_, PyAny>,
        in_first_step: bool,
    ) -> PyResult<()> {
        let py = slf.py();
        let me = slf.get();
        if me.over(py).is_none() && me.code_set(py) == Code::Ok {
            let sent = match serialize(response, me.handler().serializer.as_ref()) {
                Ok(message) => me.send_serialized(py, &message, false),
                Err(cause) => {
                    let status = Status::new(Code::Internal, "Failed to serialize response!");
                    Self::finish(slf, &status, in_first_step);
                    return Err(cause);
                }
            };
            if let Err(status) = sent {
                Self::finish(slf, &status, in_first_step);
                return Ok(());
            }
        }
        Self::finish_as_set(slf, in_first_step);
        Ok(())
    }

    /// Sends one response of a stream. `Ok(true)`: the loop is to have a turn.
    pub(crate) fn send(slf: &Bound<'_, Self>, response: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = slf.py();
        let me = slf.get();
        me.check_running(py)?;
        let message = match serialize(response, me.handler().serializer.as_ref()) {
            Ok(message) => message,
            Err(cause) => {
                let status = Status::new(Code::Internal, "Failed to serialize response!");
                Self::finish(slf, &status, false);
                return Err(cause);
            }
        };
        // The serializer may have ended the call.
        me.check_running(py)?;
        me.send_serialized(py, &message, true).map_err(|status| {
            let error = usage_error(py, &status.message);
            Self::finish(slf, &status, false);
            error
        })
    }

    fn send_serialized(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyBytes>,
        streams: bool,
    ) -> Result<bool, Status> {
        let (encoding, compress) = self.state.with(py, |state| {
            (state.encoding, !std::mem::replace(&mut state.skip_compression, false))
        });
        let link = self.link.bind(py);
        if streams {
            return ServerLink::send_message(link, self.id, message, encoding, compress);
        }
        link.get().with_engine(py, |engine| {
            engine.set_encoding(self.id, encoding);
            let message = Outgoing::new(message);
            engine.send_message(self.id, message, compress).map(|_| false)
        })
    }

    pub(crate) fn is_queued(&self, py: Python<'_>) -> bool {
        self.link.get().is_queued(py, self.id)
    }

    pub(crate) fn take_message(&self, py: Python<'_>) -> Next<Message> {
        ServerLink::take_message(self.link.bind(py), self.id)
    }

    pub(crate) fn take_only_message(&self, py: Python<'_>) -> Next<Message> {
        ServerLink::take_only_message(self.link.bind(py), self.id)
    }

    /// Deserializes a request; a deserializer that raises ends the call with INTERNAL.
    pub(crate) fn deserialize(slf: &Bound<'_, Self>, raw: Message) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let request =
            deserialize(py, raw.into_bytes(py), slf.get().handler().deserializer.as_ref());
        request.inspect_err(|_| {
            let status = Status::new(Code::Internal, "Exception deserializing request!");
            Self::finish(slf, &status, false);
        })
    }

    /// Sends the initial metadata before the first response.
    pub(crate) fn send_initial_metadata(
        &self,
        py: Python<'_>,
        metadata: &Metadata,
    ) -> PyResult<()> {
        self.check_running(py)?;
        let encoding = self.state.with(py, |state| state.encoding);
        let sent = self.link.get().with_engine(py, |engine| {
            let sent = engine.headers_are_sent(self.id);
            engine.set_encoding(self.id, encoding);
            engine.send_initial_metadata(self.id, metadata);
            sent
        });
        if sent {
            return Err(usage_error(py, "Send initial metadata failed: already sent"));
        }
        link::flush_later(self.link.bind(py));
        Ok(())
    }

    /// Ends the call as `abort` says. The error is to be raised in the handler.
    pub(crate) fn abort(
        slf: &Bound<'_, Self>,
        code: &Bound<'_, PyAny>,
        details: Option<String>,
        trailing: Option<Trailing>,
    ) -> PyErr {
        let py = slf.py();
        let me = slf.get();
        if me.state.with(py, |state| state.aborted) {
            return usage_error(py, "Abort already called!");
        }
        if let Err(error) = me.check_running(py) {
            return error;
        }
        me.set_code(py, code);
        // Details and trailing metadata that were set stand where `abort` gives none.
        if details.as_deref() != Some("") {
            me.set_details(py, details);
        }
        if let Some(trailing) = trailing {
            me.set_trailing(py, trailing);
        }
        let mut status = me.status_set(py);
        if status.is_ok() {
            status.code = Code::Unknown;
        }
        me.state.with(py, |state| state.aborted = true);
        Self::finish(slf, &status, false);
        abort_error(py)
    }

    pub(super) fn check_running(&self, py: Python<'_>) -> PyResult<()> {
        match self.over(py) {
            None => Ok(()),
            Some(Over::Finished) => Err(match self.state.with(py, |state| state.aborted) {
                true => abort_error(py),
                false => usage_error(py, "RPC already finished."),
            }),
            Some(Over::Cancelled) => Err(cancelled_error(py, None)),
        }
    }

    pub(super) fn status_set(&self, py: Python<'_>) -> Status {
        self.state.with(py, |state| {
            let details = state.details.clone().unwrap_or_default();
            Status::new(state.code.unwrap_or(Code::Ok), details)
        })
    }

    pub(super) fn set_code(&self, py: Python<'_>, object: &Bound<'_, PyAny>) {
        let code = code_of(object);
        let object = object.clone().unbind();
        let before = self.state.with(py, |state| {
            state.code = Some(code);
            state.code_object.replace(object)
        });
        drop(before);
    }

    pub(super) fn set_details(&self, py: Python<'_>, details: Option<String>) {
        self.state.with(py, |state| state.details = details);
    }

    pub(super) fn set_trailing(&self, py: Python<'_>, (metadata, pairs): Trailing) {
        let before = self.state.with(py, |state| {
            state.trailing = metadata;
            state.trailing_object.replace(pairs)
        });
        drop(before);
    }

    /// The code that the handler has set, OK if none.
    pub(crate) fn code_set(&self, py: Python<'_>) -> Code {
        self.state.with(py, |state| state.code.unwrap_or(Code::Ok))
    }
}
