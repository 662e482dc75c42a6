//! A server's connection on a loop, and the calls that are answered on it.

use super::auth::AuthContext;
use super::context::ServicerContext;
use super::handler::{self, Handler, TaskStarter};
use super::serving::Server;
use super::task::HandlerTask;
use crate::awaitable::{Awaitable, Operation, Polled};
use crate::credentials::Transport;
use crate::gil::GilCell;
use crate::link::{self, Driven, LoopLink};
use crate::message::{Message, Outgoing};
use crate::metadata;
use crate::names::{log, raised};
use crate::port::{Inflation, Port, Ready};
use crate::random::random;
use crate::slots::Slots;
use oxgrpc_core::{
    Accepted, CallId, Code, Encoding, Engine, Farewell, Metadata, Next, ServerConnection,
    ServerEvent, Status,
};
use oxgrpc_io::{End, Link};
use pyo3::exceptions::PyException;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

#[derive(Default)]
struct State {
    /// Those that are being answered.
    calls: Slots<Py<ServicerContext>>,
    /// Calls that are about to be begun, and have no context yet.
    accepted: VecDeque<(CallId, Accepted)>,
    /// They are being begun: what a first step brings in stands in line, however deep in the stack it is found.
    answering: bool,
    active: usize,
    /// Tasks whose first step is yet to run: the last of them writes what all have produced.
    unstarted: usize,
    /// Tasks that do not begin because the client does not take what is there.
    held_back: Vec<Py<Awaitable>>,
}

/// A server's connection.
#[pyclass(frozen, module = "oxgrpc._native", name = "ServerLink")]
pub(crate) struct ServerLink {
    server: Py<Server>,
    port: Py<Port>,
    transport: Transport,
    link: GilCell<LoopLink<ServerConnection<Message>>>,
    state: GilCell<State>,
}

/// A call's context, and what starts its task.
type Prepared<'py, 'a> = (Bound<'py, ServicerContext>, &'a TaskStarter<'py>);

/// What an event means: collected while the engine is borrowed, carried out after.
enum Action {
    Readable(Py<ServicerContext>),
    Writable(Py<ServicerContext>),
    Cancelled(Py<ServicerContext>),
    /// The connection is to be ended.
    Over(Farewell),
}

/// What a client is told whose call nobody handles.
pub(super) const NOT_FOUND: &str = "Method not found!";

/// What a client is told whose call could not be begun.
const NOT_BEGUN: &str = "Error in service handler!";

impl ServerLink {
    /// Starts to serve a client.
    pub(crate) fn open(slf: &Bound<'_, Self>) {
        slf.get().with_engine(slf.py(), |engine| engine.begin(Instant::now(), random()));
        link::open(slf);
        link::update_timer(slf);
    }

    pub(crate) fn new(
        py: Python<'_>,
        server: Py<Server>,
        port: Py<Port>,
        link: Link<ServerConnection<Message>>,
        transport: Transport,
    ) -> PyResult<Py<Self>> {
        let state = GilCell::new(State::default());
        Py::new(py, Self { server, port, transport, link: GilCell::new(link.into()), state })
    }

    /// What is known of who the client is.
    pub(crate) fn auth_context(&self, py: Python<'_>) -> AuthContext {
        let handshake = self.link.with(py, |link| link.handshake());
        AuthContext::new(self.transport, handshake.as_deref())
    }

    pub(crate) fn py_port(&self) -> &Py<Port> {
        &self.port
    }

    pub(crate) fn server(&self) -> &Py<Server> {
        &self.server
    }

    /// The client's IP address, if it has one.
    pub(crate) fn peer_ip(&self, py: Python<'_>) -> Option<IpAddr> {
        self.link.with(py, |link| link.peer().ip())
    }

    pub(crate) fn peer(&self, py: Python<'_>) -> String {
        self.link.with(py, |link| link.peer().to_string())
    }

    /// Answers a call.
    fn answer<'py>(
        slf: &Bound<'py, Self>,
        id: CallId,
        accepted: Accepted,
        tasks: &mut Option<TaskStarter<'py>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let me = slf.get();
        let server = me.server.get();
        let prepared = match server.admit(py) {
            true => Self::prepare(slf, id, accepted, tasks),
            false => Ok(Err((Code::ResourceExhausted, "Concurrent RPC limit exceeded!"))),
        };
        let (context, tasks) = match prepared {
            Ok(Ok(prepared)) => prepared,
            Ok(Err((code, text))) => {
                me.link.with(py, |link| link.engine.decline(id, &Status::new(code, text)));
                link::flush_later(slf);
                return Ok(());
            }
            Err(error) => {
                me.link.with(py, |link| link.engine.handler_ended());
                return Err(error);
            }
        };
        let kept = context.clone().unbind();
        me.state.with(py, |state| {
            state.calls.insert(id, kept);
            state.active += 1;
            state.unstarted += 1;
        });
        server.began(py);
        HandlerTask::start(&context, tasks).inspect_err(|_| {
            ServicerContext::finish(&context, &Status::new(Code::Unknown, NOT_BEGUN), false);
        })
    }

    /// Finds a call's handler and makes what it is run with. The inner error is the status of a call that has none.
    fn prepare<'py, 'a>(
        slf: &Bound<'py, Self>,
        id: CallId,
        accepted: Accepted,
        tasks: &'a mut Option<TaskStarter<'py>>,
    ) -> PyResult<Result<Prepared<'py, 'a>, (Code, &'static str)>> {
        let me = slf.get();
        let Some(handler) = me.handler(slf.py(), &accepted)? else {
            return Ok(Err((Code::Unimplemented, NOT_FOUND)));
        };
        let tasks = match tasks {
            Some(tasks) => tasks,
            None => {
                tasks.insert(TaskStarter::new(me.port.get().event_loop.bind(slf.py()).clone())?)
            }
        };
        Ok(Ok((ServicerContext::create(slf, id, handler, accepted)?, tasks)))
    }

    fn refuse(slf: &Bound<'_, Self>, id: CallId, code: Code, text: &'static str) -> PyResult<()> {
        slf.get().link.with(slf.py(), |link| {
            link.engine.finish(id, &Status::new(code, text), &Metadata::new());
        });
        link::flush_later(slf);
        Ok(())
    }

    fn handler(&self, py: Python<'_>, accepted: &Accepted) -> PyResult<Option<Arc<Handler>>> {
        let server = self.server.get();
        if let Some(index) = accepted.method {
            return Ok(server.registered(py, index));
        }
        // A path that is not text is nobody's.
        let Ok(path) = std::str::from_utf8(&accepted.path) else { return Ok(None) };
        if server.is_intercepted(py) {
            return Ok(Some(Arc::new(Handler::unknown(py, path))));
        }
        let metadata =
            metadata::invocation(py, &accepted.metadata, accepted.user_agent.as_deref())?;
        let details = handler::call_details(py, path, &metadata)?;
        let found = handler::ask(details.bind(py), &server.generic(py))?;
        found.map(|found| handler::given(path, &found, None, server.pool())).transpose()
    }

    /// A call's task is done: another handler may run in its place.
    pub(crate) fn handler_ended(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let me = slf.get();
        me.server.get().handler_ended(py);
        // Events are looked for when output is written.
        if me.link.with(py, |link| link.engine.handler_ended()) {
            link::flush_later(slf);
        }
    }

    /// A task runs its first step.
    pub(crate) fn task_started(&self, py: Python<'_>) {
        self.state.with(py, |state| state.unstarted -= 1);
    }

    /// A call is over. What it sent is written: at once if nothing else is about to be, with the others' otherwise.
    pub(crate) fn call_ended(slf: &Bound<'_, Self>, id: CallId, in_first_step: bool) {
        let py = slf.py();
        let me = slf.get();
        let (ended, at_once) = me.state.with(py, |state| {
            let ended = state.calls.take(id);
            state.active -= usize::from(ended.is_some());
            let is_last = state.active == 0 || in_first_step && state.unstarted == 0;
            (ended, is_last && state.accepted.is_empty())
        });
        let Some(ended) = ended else { return };
        drop(ended);
        if at_once && !me.port.get().is_turning(py) {
            link::flush(slf);
        } else {
            link::flush_later(slf);
        }
        me.link.with(py, |link| {
            if link.engine.watches_calls() {
                link.engine.rest(Instant::now());
            }
        });
        Server::call_ended(me.server.bind(py));
        Self::close_if_drained(slf);
    }

    /// After a graceful shutdown the connection goes with its last call.
    fn close_if_drained(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let is_drained = slf.get().link.with(py, |link| {
            link.is_open()
                && link.engine.http().is_shut_down()
                // This end has a reason, which is reported where it was found.
                && link.engine.http().violation().is_none()
                && link.engine.calls() == 0
                && link.is_flushed()
        });
        if is_drained {
            link::linger(slf);
            Self::ended(slf, &End::Closed(None));
        }
    }

    /// Announces the end: calls that are under way go on.
    pub(crate) fn shut_down(slf: &Bound<'_, Self>) {
        slf.get().link.with(slf.py(), |link| link.engine.shut_down());
        link::flush(slf);
        Self::close_if_drained(slf);
    }

    /// Ends the connection and its calls now.
    pub(crate) fn close(slf: &Bound<'_, Self>, text: &str) {
        let py = slf.py();
        let status = Status::new(Code::Unavailable, "Cancelling all calls");
        let is_open = slf.get().link.with(py, |link| {
            if link.is_open() {
                link.engine.finish_all(&status);
                link.engine.go_away(text);
            }
            link.is_open()
        });
        if is_open {
            link::flush(slf);
            link::linger(slf);
            Self::ended(slf, &End::Closed(None));
        }
    }

    /// The engine says that the connection is to be ended.
    fn part(slf: &Bound<'_, Self>, farewell: Farewell) {
        let late = |text| End::Failed(io::Error::new(io::ErrorKind::TimedOut, text));
        match farewell {
            Farewell::NeverBegan => {
                link::finish(slf, &late("the client does not begin to speak HTTP/2"));
            }
            Farewell::Lost => link::finish(slf, &late("the client does not answer")),
            Farewell::Broken(violation) => link::finish(slf, &End::Violation(violation)),
            Farewell::Outlived => Self::close(slf, "max_age"),
        }
    }

    pub(crate) fn with_engine<R>(
        &self,
        py: Python<'_>,
        lend: impl FnOnce(&mut ServerConnection<Message>) -> R,
    ) -> R {
        self.link.with(py, |link| lend(&mut link.engine))
    }

    /// Whether a call's next request is read in a later turn of the loop, because it has to be inflated: then `me` is left
    /// where it will be woken.
    pub(crate) fn inflates_later(
        &self,
        id: CallId,
        waited: bool,
        me: &Bound<'_, Awaitable>,
    ) -> bool {
        let py = me.py();
        let later = || Inflation::Read(me.clone().unbind());
        self.next_is_compressed(py, id) && !self.port.get().may_inflate(py, waited, later)
    }

    /// Whether the next request has to be inflated to be read.
    pub(crate) fn next_is_compressed(&self, py: Python<'_>, id: CallId) -> bool {
        self.link.with(py, |link| link.engine.next_is_compressed(id))
    }

    /// Reads a call's next request.
    pub(crate) fn take_message(slf: &Bound<'_, Self>, id: CallId) -> Next<Message> {
        Self::take(slf, |engine| engine.take_message(id))
    }

    /// Reads the only request of a call whose method takes one.
    pub(crate) fn take_only_message(slf: &Bound<'_, Self>, id: CallId) -> Next<Message> {
        Self::take(slf, |engine| engine.take_only_message(id, Instant::now()))
    }

    fn take(
        slf: &Bound<'_, Self>,
        read: impl FnOnce(&mut ServerConnection<Message>) -> Next<Message>,
    ) -> Next<Message> {
        let (next, has_output, inflated) = slf.get().link.with(slf.py(), |link| {
            let next = read(&mut link.engine);
            (next, link.output_len() > 0, link.engine.take_inflated())
        });
        slf.get().port.get().inflated(slf.py(), inflated);
        if has_output {
            link::flush_later(slf);
        }
        if matches!(next, Next::Pending) {
            link::update_timer(slf);
            link::flush_before_waiting(slf);
        }
        next
    }

    /// Sends a response. `Ok(true)`: there is much to send, and the loop is to have a turn.
    pub(crate) fn send_message(
        slf: &Bound<'_, Self>,
        id: CallId,
        message: &Bound<'_, PyBytes>,
        encoding: Encoding,
        compress: bool,
    ) -> Result<bool, Status> {
        let (len, deflated) = slf.get().link.with(slf.py(), |link| {
            link.engine.set_encoding(id, encoding);
            link.engine.send_message(id, Outgoing::new(message), compress)?;
            Ok((link.output_len(), link.engine.take_deflated()))
        })?;
        let is_much_work = slf.get().port.get().deflated(slf.py(), deflated);
        Ok(link::flush_if_much(slf, len) || is_much_work)
    }

    pub(crate) fn is_queued(&self, py: Python<'_>, id: CallId) -> bool {
        self.link.with(py, |link| link.engine.is_queued(id))
    }

    pub(crate) fn is_congested(&self, py: Python<'_>) -> bool {
        self.link.with(py, |link| link.engine.is_congested())
    }

    /// Lets tasks begin that were held back, once the client has taken enough.
    fn release_held_back(&self, py: Python<'_>) {
        let any = self.state.with(py, |state| !state.held_back.is_empty());
        if !any || self.is_congested(py) {
            return;
        }
        for awaitable in self.state.with(py, |state| std::mem::take(&mut state.held_back)) {
            self.port.get().enqueue(py, Ready::Wake(awaitable));
        }
    }

    /// Begins the calls that have come, in copies of the server's context. A task copies the context that it is made in,
    /// and the one that the loop has come in with is of whoever last waited for the connection: of another call's
    /// handler, perhaps. A context cannot be entered twice, and another connection of the server may be in it: hence
    /// copies, one for all calls that come at once (measured: 0.3 µs).
    fn answer_in_context(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let context = slf.get().server.get().context(py)?;
        while slf.get().state.with(py, |state| !state.accepted.is_empty()) {
            let copy = context.bind(py).call_method0(intern!(py, "copy"))?;
            let answer = slf.getattr(intern!(py, "answer_accepted"))?;
            copy.call_method1(intern!(py, "run"), (answer,))?;
        }
        Ok(())
    }

    /// Has the loop's callback raise what must end the program, such as KeyboardInterrupt out of a handler's first step,
    /// once the other calls that have come with this one are begun.
    fn raise_from_loop(&self, py: Python<'_>, error: &PyErr) {
        if let Ok(function) = wrap_pyfunction!(reraise, py) {
            let error = raised(py, error).into_any();
            self.port.get().enqueue(py, Ready::Call(function.into_any().unbind(), error));
        }
    }

    fn collect(&self, py: Python<'_>) -> SmallVec<[Action; 4]> {
        let mut actions = SmallVec::new();
        self.link.with(py, |link| {
            let engine = &mut link.engine;
            self.state.with(py, |state| {
                let at =
                    |calls: &Slots<Py<ServicerContext>>, id| Some(calls.get(id)?.clone_ref(py));
                while let Some(event) = engine.next_event() {
                    actions.extend(match event {
                        ServerEvent::Call(id) => {
                            state.accepted.extend(engine.accept(id).map(|call| (id, call)));
                            None
                        }
                        ServerEvent::Readable(id) => at(&state.calls, id).map(Action::Readable),
                        ServerEvent::Writable(id) => at(&state.calls, id).map(Action::Writable),
                        ServerEvent::Cancelled(id) => {
                            let before = state.accepted.len();
                            state.accepted.retain(|(accepted, _)| *accepted != id);
                            if state.accepted.len() < before {
                                engine.handler_ended();
                            }
                            at(&state.calls, id).map(Action::Cancelled)
                        }
                        ServerEvent::Over(farewell) => Some(Action::Over(farewell)),
                        _ => None,
                    });
                }
            });
        });
        actions
    }
}

impl Driven for ServerLink {
    type Engine = ServerConnection<Message>;

    fn port(&self) -> &Port {
        self.port.get()
    }

    fn link(&self) -> &GilCell<LoopLink<Self::Engine>> {
        &self.link
    }

    fn dispatch(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let me = slf.get();
        for action in me.collect(py) {
            match action {
                Action::Readable(context) => context.get().on_readable(py),
                Action::Writable(context) => context.get().on_writable(py),
                Action::Cancelled(context) => ServicerContext::on_cancelled(context.bind(py)),
                Action::Over(farewell) => Self::part(slf, farewell),
            }
        }
        let begins = me.state.with(py, |state| {
            !state.accepted.is_empty() && !std::mem::replace(&mut state.answering, true)
        });
        if begins {
            if let Err(error) = Self::answer_in_context(slf) {
                me.raise_from_loop(py, &error);
            }
            me.state.with(py, |state| state.answering = false);
        }
        me.release_held_back(py);
    }

    fn ended(slf: &Bound<'_, Self>, end: &End) {
        let py = slf.py();
        let me = slf.get();
        let peer = me.peer(py);
        match end {
            End::Closed(None) => {}
            End::Closed(Some(rule)) => log(py, "broken_by_peer", (peer, *rule)),
            End::Violation(violation) => log(py, "broken_by_peer", (peer, violation.to_string())),
            End::Failed(error) => log(py, "lost", (peer, error.to_string())),
        }
        me.link.with(py, |link| link.engine.close());
        Self::dispatch(slf);
        Server::link_ended(me.server.bind(py), slf);
    }
}

#[pymethods]
impl ServerLink {
    /// Begins the calls that have come, up to the first of which a generic handler was asked: it may have set context
    /// variables, for that call alone.
    fn answer_accepted(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let me = slf.get();
        let mut tasks = None;
        while let Some((id, accepted)) = me.state.with(py, |state| state.accepted.pop_front()) {
            let is_registered = accepted.method.is_some();
            if let Err(error) = Self::answer(slf, id, accepted, &mut tasks) {
                // A generic handler has raised, or the interpreter is out of memory.
                let _ = Self::refuse(slf, id, Code::Unknown, NOT_BEGUN);
                if error.is_instance_of::<PyException>(py) {
                    log(py, "service_failed", (raised(py, &error),));
                } else {
                    me.raise_from_loop(py, &error);
                }
            }
            if !is_registered {
                break;
            }
        }
    }

    fn on_readable(slf: &Bound<'_, Self>) -> PyResult<()> {
        let result = link::readable(slf);
        Self::close_if_drained(slf);
        result
    }

    fn on_writable(slf: &Bound<'_, Self>) -> PyResult<()> {
        let result = link::writable(slf);
        Self::close_if_drained(slf);
        result
    }

    fn on_timer(slf: &Bound<'_, Self>) -> PyResult<()> {
        let result = link::timer(slf);
        Self::close_if_drained(slf);
        result
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.server)?;
        visit.call(&self.port)?;
        link::traverse(&self.link, &visit)?;
        self.state.traverse(|state| {
            state.calls.values().try_for_each(|context| visit.call(context))?;
            state.held_back.iter().try_for_each(|awaitable| visit.call(awaitable))
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        let dropped = self.state.with(py, std::mem::take);
        drop(dropped);
    }
}

#[pyfunction]
fn reraise(error: Bound<'_, PyAny>) -> PyResult<()> {
    Err(PyErr::from_value(error))
}

/// Waits until the client has taken enough of what is there.
pub(crate) struct HeldBack(pub(crate) Py<ServerLink>);

impl Operation for HeldBack {
    fn poll(&mut self, py: Python<'_>, me: &Bound<'_, Awaitable>) -> PyResult<Polled> {
        let link = self.0.get();
        if !link.is_congested(py) {
            return Ok(Polled::Ready(py.None()));
        }
        let awaitable = me.clone().unbind();
        link.state.with(py, |state| state.held_back.push(awaitable));
        Ok(Polled::Wait)
    }

    fn cancelled(&mut self, _py: Python<'_>) {}

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}
