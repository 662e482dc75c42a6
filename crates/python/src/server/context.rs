//! A call as its handler sees it (`grpc.aio.ServicerContext`).

use super::handler::{Handler, Origin};
use super::link::ServerLink;
use super::operation::{ContextOperation, What};
use crate::awaitable::Awaitable;
use crate::gil::GilCell;
use crate::metadata;
use crate::options::encoding_of;
use crate::port::Ready;
use crate::waiters::Waiters;
use oxgrpc_core::{Accepted, CallId, Code, Encoding, Metadata};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use std::sync::{Arc, OnceLock};
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
    /// The code as the handler set it.
    pub(super) code_object: Option<Py<PyAny>>,
    /// `None` where the handler has set `None`.
    pub(super) details: Option<String>,
    pub(super) trailing: Metadata,
    /// The trailing metadata as the handler set it.
    pub(super) trailing_object: Option<Py<PyTuple>>,
    /// `abort` has ended it: every later use raises as that did.
    pub(super) aborted: bool,
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
    handler: Arc<Handler>,
    /// Who handles the call, once interceptors have said so.
    chosen: OnceLock<Arc<Handler>>,
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
            code_object: None,
            details: Some(String::new()),
            trailing: Metadata::new(),
            trailing_object: None,
            aborted: false,
            encoding,
            skip_compression: false,
            over: None,
            waiters: Waiters::default(),
            done_callbacks: Vec::new(),
            task: None,
        };
        let link_ref = link.clone().unbind();
        let (deadline, state) = (accepted.deadline, GilCell::new(state));
        Bound::new(
            link.py(),
            Self { link: link_ref, id, handler, chosen: OnceLock::new(), deadline, state },
        )
    }

    pub(crate) fn link(&self) -> &Py<ServerLink> {
        &self.link
    }

    pub(crate) fn handler(&self) -> &Arc<Handler> {
        self.chosen.get().unwrap_or(&self.handler)
    }

    /// Settles who handles the call: interceptors have said so.
    pub(super) fn choose(&self, handler: Arc<Handler>) {
        let _ = self.chosen.set(handler);
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
        initial_metadata: &Bound<'_, PyAny>,
    ) -> PyResult<Py<Awaitable>> {
        if initial_metadata.is_none() {
            return Err(PyTypeError::new_err("initial metadata is made of pairs, not None"));
        }
        let metadata = metadata::outgoing(Some(initial_metadata))?;
        Self::operation(slf, What::InitialMetadata(metadata))
    }

    /// Ends the call with a status and raises `AbortError`.
    #[pyo3(
        name = "abort",
        signature = (code, details=Some(String::new()), trailing_metadata=None),
        text_signature = "($self, code, details='', trailing_metadata=())"
    )]
    fn py_abort(
        slf: &Bound<'_, Self>,
        code: &Bound<'_, PyAny>,
        details: Option<String>,
        trailing_metadata: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Awaitable>> {
        let given = trailing_metadata.filter(|metadata| metadata.is_truthy().unwrap_or(true));
        let trailing = given.map(trailing).transpose()?;
        Self::operation(slf, What::Abort { code: code.clone().unbind(), details, trailing })
    }

    fn abort_with_status(
        slf: &Bound<'_, Self>,
        status: &Bound<'_, PyAny>,
    ) -> PyResult<Py<Awaitable>> {
        let py = slf.py();
        let code = status.getattr(intern!(py, "code"))?;
        let details: Option<String> = status.getattr(intern!(py, "details"))?.extract()?;
        let trailing = status.getattr(intern!(py, "trailing_metadata"))?;
        let given = (!trailing.is_none()).then_some(&trailing);
        Self::py_abort(slf, &code, details, given)
    }

    fn set_trailing_metadata(
        &self,
        py: Python<'_>,
        trailing_metadata: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let trailing = trailing(trailing_metadata)?;
        self.set_trailing(py, trailing);
        Ok(())
    }

    /// The pairs that were set; an empty tuple if none were.
    fn trailing_metadata(&self, py: Python<'_>) -> Py<PyTuple> {
        let set = self
            .state
            .with(py, |state| state.trailing_object.as_ref().map(|object| object.clone_ref(py)));
        set.unwrap_or_else(|| PyTuple::empty(py).unbind())
    }

    pub(super) fn invocation_metadata(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (metadata, user_agent) =
            self.state.with(py, |state| (state.metadata.clone(), state.user_agent.clone()));
        metadata::invocation(py, &metadata, user_agent.as_deref())
    }

    #[pyo3(name = "set_code")]
    fn py_set_code(&self, py: Python<'_>, code: &Bound<'_, PyAny>) {
        self.set_code(py, code);
    }

    /// The code as it was set; `None` if none was.
    fn code(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| Some(state.code_object.as_ref()?.clone_ref(py)))
    }

    #[pyo3(name = "set_details")]
    fn py_set_details(&self, py: Python<'_>, details: &Bound<'_, PyAny>) -> PyResult<()> {
        let details = if let Ok(octets) = details.cast::<PyBytes>() {
            Some(String::from_utf8_lossy(octets.as_bytes()).into_owned())
        } else if details.is_none() || details.is_instance_of::<PyString>() {
            details.extract()?
        } else {
            let kind = details.get_type().name()?;
            return Err(PyTypeError::new_err(format!("details are a str, not {kind}")));
        };
        self.set_details(py, details);
        Ok(())
    }

    pub(super) fn details(&self, py: Python<'_>) -> Option<String> {
        self.state.with(py, |state| state.details.clone())
    }

    /// Compresses responses, unless they would grow. Only before the first response or the initial metadata.
    fn set_compression(&self, py: Python<'_>, compression: &Bound<'_, PyAny>) -> PyResult<()> {
        let sent = self.over(py).is_none()
            && self.link.get().with_engine(py, |engine| engine.headers_are_sent(self.id));
        if sent {
            let text = "Compression setting must be specified before sending initial metadata";
            return Err(PyRuntimeError::new_err(text));
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
        if !callback.bind(py).is_callable() {
            return Err(PyTypeError::new_err("a done callback must be callable"));
        }
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

    /// Whether it was over before it was finished, or the handler has set CANCELLED.
    fn cancelled(&self, py: Python<'_>) -> bool {
        self.over(py) == Some(Over::Cancelled) || self.code_set(py) == Code::Cancelled
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.link)?;
        for handler in std::iter::once(&self.handler).chain(self.chosen.get()) {
            if handler.origin != Origin::Registered {
                handler.traverse(&visit)?;
            }
        }
        self.state.traverse(|state| {
            state.waiters.traverse(&visit)?;
            let State { done_callbacks, code_object, task, .. } = state;
            for object in done_callbacks.iter().chain(code_object).chain(task) {
                visit.call(object)?;
            }
            state.trailing_object.as_ref().map_or(Ok(()), |object| visit.call(object))
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        let dropped = self.state.with(py, |state| {
            let waiters = std::mem::take(&mut state.waiters);
            let set = (state.code_object.take(), state.trailing_object.take());
            let callbacks = std::mem::take(&mut state.done_callbacks);
            (waiters, callbacks, set, state.task.take())
        });
        drop(dropped);
    }
}

/// Trailing metadata: what is to be sent, and the pairs for who asks for them.
pub(super) type Trailing = (Metadata, Py<PyTuple>);

/// Reads trailing metadata: anything that gives pairs, once.
fn trailing(given: &Bound<'_, PyAny>) -> PyResult<Trailing> {
    let invalid = |error: PyErr| match error.is_instance_of::<PyTypeError>(given.py()) {
        true => PyTypeError::new_err(format!(
            "Invalid trailing metadata type, expected \
             Tuple[Tuple[str, Union[str, bytes]]...]: {given}"
        )),
        false => error,
    };
    // An empty one gives no pairs, nor do the others.
    if given.is_instance_of::<PyDict>() {
        return Err(invalid(PyTypeError::new_err(())));
    }
    let pairs = given.py().get_type::<PyTuple>().call1((given,)).map_err(invalid)?;
    let metadata = metadata::outgoing(Some(&pairs)).map_err(invalid)?;
    Ok((metadata, pairs.cast_into::<PyTuple>()?.unbind()))
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
