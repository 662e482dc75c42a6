//! A call as its handler sees it (`grpc.aio.ServicerContext`).

use super::handler::Handler;
use super::link::ServerLink;
use super::operation::{ContextOperation, What};
use crate::awaitable::Awaitable;
use crate::errors::usage_error;
use crate::gil::GilCell;
use crate::metadata;
use crate::names::{code_of, names};
use crate::options::encoding_of;
use crate::port::Ready;
use crate::waiters::Waiters;
use oxgrpc_core::{Accepted, CallId, Code, Encoding, Metadata};
use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use std::sync::Arc;
use std::time::Instant;

/// What a handler waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    Readable,
    Writable,
}

/// How a call came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Over {
    /// A status was sent.
    Finished,
    /// The client has cancelled it, its deadline has passed, or the connection is lost.
    Cancelled,
}

pub(super) struct State {
    pub(super) metadata: Metadata,
    pub(super) user_agent: Option<Arc<[u8]>>,
    pub(super) code: Option<Code>,
    pub(super) details: String,
    pub(super) trailing: Metadata,
    /// The trailing metadata as the handler set it.
    pub(super) trailing_object: Option<Py<PyAny>>,
    pub(super) encoding: Encoding,
    /// The next message goes out as it is.
    pub(super) skip_compression: bool,
    pub(super) over: Option<Over>,
    pub(super) waiters: Waiters<Wait>,
    pub(super) done_callbacks: Vec<Py<PyAny>>,
    pub(super) task: Option<Py<PyAny>>,
}

/// A call that is being answered.
#[pyclass(frozen, weakref, module = "oxgrpc._native", name = "ServicerContext")]
pub(crate) struct ServicerContext {
    pub(super) link: Py<ServerLink>,
    pub(super) id: CallId,
    pub(super) handler: Arc<Handler>,
    pub(super) deadline: Option<Instant>,
    pub(super) state: GilCell<State>,
}

impl ServicerContext {
    pub(crate) fn create<'py>(
        link: &Bound<'py, ServerLink>,
        id: CallId,
        handler: Arc<Handler>,
        accepted: Accepted,
    ) -> PyResult<Bound<'py, Self>> {
        let encoding = link.get().server().get().encoding();
        let state = State {
            metadata: accepted.metadata,
            user_agent: accepted.user_agent,
            code: None,
            details: String::new(),
            trailing: Metadata::new(),
            trailing_object: None,
            encoding,
            skip_compression: false,
            over: None,
            waiters: Waiters::default(),
            done_callbacks: Vec::new(),
            task: None,
        };
        let link_ref = link.clone().unbind();
        let (deadline, state) = (accepted.deadline, GilCell::new(state));
        Bound::new(link.py(), Self { link: link_ref, id, handler, deadline, state })
    }

    pub(crate) fn link(&self) -> &Py<ServerLink> {
        &self.link
    }

    pub(crate) fn handler(&self) -> &Arc<Handler> {
        &self.handler
    }

    pub(crate) fn set_task(&self, py: Python<'_>, task: Py<PyAny>) {
        let is_over = self.state.with(py, |state| match state.over {
            None => {
                state.task = Some(task);
                None
            }
            Some(over) => Some((over, task)),
        });
        // A task that was started at once may have lost its client in its first step, when nobody knew of it yet.
        if let Some((Over::Cancelled, task)) = is_over {
            let _ = task.call_method0(py, intern!(py, "cancel"));
        }
    }

    /// Whether the deadline has passed, be it noticed or not.
    pub(super) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    pub(crate) fn over(&self, py: Python<'_>) -> Option<Over> {
        self.state.with(py, |state| state.over)
    }

    pub(crate) fn wait(&self, py: Python<'_>, wait: Wait, awaitable: &Bound<'_, Awaitable>) {
        let awaitable = awaitable.clone().unbind();
        self.state.with(py, |state| state.waiters.push(wait, awaitable));
    }

    /// Somebody no longer waits.
    pub(super) fn forget(&self, py: Python<'_>, awaitable: &Bound<'_, Awaitable>) {
        let forgotten = self.state.with(py, |state| state.waiters.remove(awaitable));
        drop(forgotten);
    }

    fn wake(&self, py: Python<'_>, which: Option<Wait>) {
        let wakes = |wait| which.is_none_or(|which| which == wait);
        let woken = self.state.with(py, |state| state.waiters.take(wakes));
        woken.enqueue(py, self.link.get().py_port().get());
    }

    pub(crate) fn on_readable(&self, py: Python<'_>) {
        self.wake(py, Some(Wait::Readable));
    }

    pub(crate) fn on_writable(&self, py: Python<'_>) {
        self.wake(py, Some(Wait::Writable));
    }

    /// The call is over before it was finished: its task is cancelled.
    pub(crate) fn on_cancelled(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let task = slf.get().state.with(py, |state| state.task.take());
        Self::end(slf, Over::Cancelled, false);
        if let Some(task) = task {
            // The task takes it in its next step, never here.
            let _ = task.call_method0(py, intern!(py, "cancel"));
        }
    }

    /// Marks the call's end. `false`: it was over before.
    pub(super) fn end(slf: &Bound<'_, Self>, over: Over, in_first_step: bool) -> bool {
        let py = slf.py();
        let me = slf.get();
        let ended = me.state.with(py, |state| {
            if state.over.is_some() {
                return None;
            }
            state.over = Some(over);
            Some((std::mem::take(&mut state.done_callbacks), state.task.take()))
        });
        let Some((callbacks, task)) = ended else { return false };
        drop(task);
        me.wake(py, None);
        for callback in callbacks {
            let argument = slf.clone().into_any().unbind();
            me.link.get().py_port().get().enqueue(py, Ready::Call(callback, argument));
        }
        ServerLink::call_ended(me.link.bind(py), me.id, in_first_step);
        true
    }

    fn operation(slf: &Bound<'_, Self>, what: What) -> PyResult<Py<Awaitable>> {
        let py = slf.py();
        let operation = ContextOperation::new(slf.clone().unbind(), what);
        Awaitable::new(py, slf.get().link.get().py_port(), operation)
    }
}

#[pymethods]
impl ServicerContext {
    /// The next request, or `EOF`.
    fn read(slf: &Bound<'_, Self>) -> PyResult<Py<Awaitable>> {
        Self::operation(slf, What::Read)
    }

    /// Sends a response; done when it is within the flow-control windows.
    fn write(slf: &Bound<'_, Self>, message: Py<PyAny>) -> PyResult<Py<Awaitable>> {
        Self::operation(slf, What::Write(Some(message)))
    }

    #[pyo3(name = "send_initial_metadata")]
    fn py_send_initial_metadata(
        slf: &Bound<'_, Self>,
        initial_metadata: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Awaitable>> {
        let metadata = metadata::outgoing(initial_metadata)?;
        Self::operation(slf, What::InitialMetadata(metadata))
    }

    /// Ends the call with a status and raises `AbortError`.
    #[pyo3(name = "abort", signature = (code, details=None, trailing_metadata=None))]
    fn py_abort(
        slf: &Bound<'_, Self>,
        code: &Bound<'_, PyAny>,
        details: Option<String>,
        trailing_metadata: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Awaitable>> {
        let code = code_of(code);
        let given = trailing_metadata.filter(|metadata| metadata.is_truthy().unwrap_or(true));
        let trailing = given.map(|given| metadata::outgoing(Some(given))).transpose()?;
        Self::operation(slf, What::Abort { code, details: details.unwrap_or_default(), trailing })
    }

    fn abort_with_status(
        slf: &Bound<'_, Self>,
        status: &Bound<'_, PyAny>,
    ) -> PyResult<Py<Awaitable>> {
        let py = slf.py();
        let details: Option<String> = status.getattr(intern!(py, "details"))?.extract()?;
        let trailing = status.getattr(intern!(py, "trailing_metadata"))?;
        Self::py_abort(slf, &status.getattr(intern!(py, "code"))?, details, Some(&trailing))
    }

    fn set_trailing_metadata(
        &self,
        py: Python<'_>,
        trailing_metadata: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if trailing_metadata.is_none() {
            let text = "Invalid trailing metadata type, expected Iterable[MetadatumType]: None";
            return Err(PyTypeError::new_err(text));
        }
        let trailing = metadata::outgoing(Some(trailing_metadata))?;
        let object = trailing_metadata.clone().unbind();
        let before = self.state.with(py, |state| {
            state.trailing = trailing;
            state.trailing_object.replace(object)
        });
        drop(before);
        Ok(())
    }

    fn trailing_metadata(&self, py: Python<'_>) -> Py<PyAny> {
        let set = self
            .state
            .with(py, |state| state.trailing_object.as_ref().map(|object| object.clone_ref(py)));
        set.unwrap_or_else(|| PyTuple::empty(py).into_any().unbind())
    }

    fn invocation_metadata(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (metadata, user_agent) =
            self.state.with(py, |state| (state.metadata.clone(), state.user_agent.clone()));
        metadata::invocation(py, &metadata, user_agent.as_deref())
    }

    fn set_code(&self, py: Python<'_>, code: &Bound<'_, PyAny>) {
        let code = code_of(code);
        self.state.with(py, |state| state.code = Some(code));
    }

    /// The code that was set; `None` if none was.
    fn code(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let code = self.state.with(py, |state| state.code);
        code.map(|code| Ok(names(py)?.status_code(code).clone_ref(py))).transpose()
    }

    fn set_details(&self, py: Python<'_>, details: &Bound<'_, PyAny>) -> PyResult<()> {
        let details = match details.extract::<String>() {
            Ok(details) => details,
            Err(_) => match details.extract::<Vec<u8>>() {
                Ok(octets) => String::from_utf8_lossy(&octets).into_owned(),
                Err(_) => {
                    let kind = details.get_type().name()?;
                    return Err(PyTypeError::new_err(format!("details are a str, not {kind}")));
                }
            },
        };
        self.state.with(py, |state| state.details = details);
        Ok(())
    }

    pub(super) fn details(&self, py: Python<'_>) -> String {
        self.state.with(py, |state| state.details.clone())
    }

    /// Compresses responses, unless they would grow. Only before the first response or the initial metadata.
    fn set_compression(&self, py: Python<'_>, compression: &Bound<'_, PyAny>) -> PyResult<()> {
        let sent = self.link.get().with_engine(py, |engine| engine.headers_are_sent(self.id));
        if sent {
            let text = "Compression setting must be specified before sending initial metadata";
            return Err(usage_error(py, text));
        }
        let encoding = encoding_of(Some(compression))?.unwrap_or_default();
        self.state.with(py, |state| state.encoding = encoding);
        Ok(())
    }

    fn disable_next_message_compression(&self, py: Python<'_>) {
        self.state.with(py, |state| state.skip_compression = true);
    }

    /// The client, as in `ipv4:127.0.0.1:50000`.
    fn peer(&self, py: Python<'_>) -> String {
        self.link.get().peer(py)
    }

    /// What identifies the client: the values of `peer_identity_key`. `None` where nothing does.
    fn peer_identities<'py>(&self, py: Python<'py>) -> Option<Vec<Bound<'py, PyBytes>>> {
        let auth = self.link.get().auth_context(py);
        let identities = auth.identities()?;
        Some(identities.iter().map(|value| PyBytes::new(py, value)).collect())
    }

    fn peer_identity_key(&self, py: Python<'_>) -> Option<&'static str> {
        self.link.get().auth_context(py).identity
    }

    fn auth_context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let context = PyDict::new(py);
        for (key, values) in self.link.get().auth_context(py).properties {
            let values: Vec<_> = values.iter().map(|value| PyBytes::new(py, value)).collect();
            context.set_item(key, values)?;
        }
        Ok(context)
    }

    /// Seconds until the client's deadline, not less than 0; `None` where there is none.
    fn time_remaining(&self) -> Option<f64> {
        Some(self.deadline?.saturating_duration_since(Instant::now()).as_secs_f64())
    }

    /// Calls `callback(context)` once the call is over; at once if it is.
    fn add_done_callback(slf: &Bound<'_, Self>, callback: Py<PyAny>) -> PyResult<()> {
        let py = slf.py();
        let rejected = slf.get().state.with(py, |state| match state.over {
            None => {
                state.done_callbacks.push(callback);
                None
            }
            Some(_) => Some(callback),
        });
        match rejected {
            Some(callback) => callback.call1(py, (slf,)).map(drop),
            None => Ok(()),
        }
    }

    fn done(&self, py: Python<'_>) -> bool {
        self.over(py).is_some()
    }

    fn cancelled(&self, py: Python<'_>) -> bool {
        self.over(py) == Some(Over::Cancelled)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.link)?;
        if self.handler.is_generic {
            self.handler.traverse(&visit)?;
        }
        self.state.traverse(|state| {
            state.waiters.traverse(&visit)?;
            for object in state.done_callbacks.iter().chain(&state.trailing_object) {
                visit.call(object)?;
            }
            state.task.as_ref().map_or(Ok(()), |task| visit.call(task))
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        let dropped = self.state.with(py, |state| {
            let waiters = std::mem::take(&mut state.waiters);
            (waiters, std::mem::take(&mut state.done_callbacks), state.task.take())
        });
        drop(dropped);
    }
}

/// The requests of a call, to be iterated.
#[pyclass(frozen, module = "oxgrpc._native", name = "RequestIterator")]
pub(crate) struct RequestIterator(pub(crate) Py<ServicerContext>);

#[pymethods]
impl RequestIterator {
    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(&self, py: Python<'_>) -> PyResult<Py<Awaitable>> {
        ServicerContext::operation(self.0.bind(py), What::Next)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}
