//! The native part of `grpc.aio.Server`: ports, connections, and who handles what.

use super::handler::{self, Handler, Handlers, Origin};
use super::link::ServerLink;
use crate::awaitable::{Awaitable, Operation, Polled};
use crate::credentials::{ServerSecurity, Transport};
use crate::errors::usage_error;
use crate::gil::GilCell;
use crate::names::log;
use crate::options::{Options, SERVER_KEEPALIVE_TIME};
use crate::port::{Port, Ready, current_loop};
use oxgrpc_core::{ConnectionCount, Encoding, Excess, ServerConnection, ServerOptions};
use oxgrpc_io::{Link, ListenOptions, Listener, Socket};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Connections that are accepted in one go.
const ACCEPTED: usize = 64;

/// Seconds for which nothing is accepted where the process has no file descriptor left.
const OUT_OF_FILES_PAUSE: f64 = 0.1;

/// ```text
///   New ──start──► Serving ──stop──► Stopping ──the last call ends──► Stopped
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    New,
    Serving,
    /// Nothing new is accepted; calls go on.
    Stopping,
    Stopped,
}

struct State {
    phase: Phase,
    handlers: Handlers,
    ports: Vec<ServerPort>,
    port: Option<Py<Port>>,
    /// The context in which it was started, without what was set since: handlers begin in copies of it.
    context: Option<Py<PyAny>>,
    links: Vec<Py<ServerLink>>,
    connections: ConnectionCount,
    /// Calls that are being answered.
    active: usize,
    /// Handlers that run: one may outlive its call, while it cleans up.
    running: usize,
    /// Who waits for the last call to end.
    idlers: Vec<Py<Awaitable>>,
}

/// Where connections are accepted, and how they are secured; `None` where they are not.
struct ServerPort {
    listener: Listener,
    security: Option<Py<ServerSecurity>>,
}

impl ServerPort {
    fn fd(&self) -> i32 {
        self.listener.as_raw_fd()
    }
}

/// A server.
#[pyclass(frozen, weakref, module = "oxgrpc._native", name = "Server")]
pub(crate) struct Server {
    options: ServerOptions,
    encoding: Encoding,
    reuse_port: bool,
    /// `maximum_concurrent_rpcs`: how many handlers run at once.
    max_running: Option<usize>,
    /// Where plain functions run.
    pool: Py<PyAny>,
    state: GilCell<State>,
}

impl Server {
    pub(crate) fn encoding(&self) -> Encoding {
        self.encoding
    }

    pub(crate) fn pool(&self) -> &Py<PyAny> {
        &self.pool
    }

    pub(crate) fn context(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let context = self
            .state
            .with(py, |state| state.context.as_ref().map(|context| context.clone_ref(py)));
        context.map_or_else(|| copy_context(py), Ok)
    }

    pub(crate) fn registered(&self, py: Python<'_>, index: u32) -> Option<Arc<Handler>> {
        self.state.with(py, |state| state.handlers.registered(index))
    }

    /// What runs the interceptors of a call.
    pub(crate) fn chain(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.handlers.chain(py))
    }

    pub(crate) fn is_intercepted(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.handlers.is_intercepted())
    }

    pub(crate) fn by_path(&self, py: Python<'_>, path: &str) -> Option<Arc<Handler>> {
        self.state.with(py, |state| state.handlers.by_path(path))
    }

    pub(crate) fn generic(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.state.with(py, |state| state.handlers.generic(py))
    }

    /// Whether one more handler may run.
    pub(crate) fn admit(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| self.max_running.is_none_or(|max| state.running < max))
    }

    /// A call is about to be answered: its end and its handler's are reported by
    /// [`call_ended`](Self::call_ended) and [`handler_ended`](Self::handler_ended).
    pub(crate) fn began(&self, py: Python<'_>) {
        self.state.with(py, |state| {
            state.active += 1;
            state.running += 1;
        });
    }

    pub(crate) fn handler_ended(&self, py: Python<'_>) {
        self.state.with(py, |state| state.running -= 1);
    }

    pub(crate) fn call_ended(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let me = slf.get();
        let (idlers, port) = me.state.with(py, |state| {
            state.active -= 1;
            match state.active {
                0 => (
                    std::mem::take(&mut state.idlers),
                    state.port.as_ref().map(|p| p.clone_ref(py)),
                ),
                _ => (Vec::new(), None),
            }
        });
        let Some(port) = port else { return };
        for idler in idlers {
            port.get().enqueue(py, Ready::Wake(idler));
        }
    }

    pub(crate) fn link_ended(slf: &Bound<'_, Self>, link: &Bound<'_, ServerLink>) {
        let peer = link.get().peer_ip(slf.py());
        let removed = slf.get().state.with(slf.py(), |state| {
            let at = state.links.iter().position(|other| other.is(link))?;
            state.connections.leave(peer);
            Some(state.links.swap_remove(at))
        });
        drop(removed);
        Self::wake_idlers_of_links(slf);
    }

    /// Without connections nobody waits for them any more.
    fn wake_idlers_of_links(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let (idlers, port) = slf.get().state.with(py, |state| match state.links.is_empty() {
            true => {
                let port = state.port.as_ref().map(|port| port.clone_ref(py));
                (std::mem::take(&mut state.idlers), port)
            }
            false => (Vec::new(), None),
        });
        let Some(port) = port else { return };
        for idler in idlers {
            port.get().enqueue(py, Ready::Wake(idler));
        }
    }

    fn accept(
        slf: &Bound<'_, Self>,
        socket: Socket,
        security: Option<&Py<ServerSecurity>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let me = slf.get();
        let peer = socket.peer().ip();
        let transport = security.map_or(Transport::Insecure, |security| security.get().transport());
        let stream = match security {
            None => socket.into(),
            Some(security) => {
                security.get().refresh(py)?;
                let peer = socket.peer().to_string();
                match security.get().secure(py, socket) {
                    Ok(stream) => stream,
                    Err(error) => {
                        log(py, "lost", (peer, error.to_string()));
                        return Ok(());
                    }
                }
            }
        };
        let (port, methods) = me.state.with(py, |state| {
            (state.port.as_ref().map(|port| port.clone_ref(py)), state.handlers.methods())
        });
        let Some(port) = port else { return Ok(()) };
        let engine = ServerConnection::new(me.options.clone(), methods);
        let link =
            ServerLink::new(py, slf.clone().unbind(), port, Link::new(engine, stream), transport)?;
        let kept = link.clone_ref(py);
        let entered = me.state.with(py, |state| {
            state.connections.enter(peer)?;
            state.links.push(kept);
            Ok(())
        });
        if let Err(excess) = entered {
            let why = match excess {
                Excess::Total(limit) => format!("oxgrpc.max_connections is {limit}"),
                Excess::PerPeer(limit) => format!("oxgrpc.max_connections_per_peer is {limit}"),
            };
            log(py, "connection_refused", (link.get().peer(py), why));
            return Ok(());
        }
        ServerLink::open(link.bind(py));
        Ok(())
    }

    fn links(&self, py: Python<'_>) -> Vec<Py<ServerLink>> {
        self.state.with(py, |state| state.links.iter().map(|link| link.clone_ref(py)).collect())
    }

    fn check_new(&self, py: Python<'_>, what: &str) -> PyResult<()> {
        match self.state.with(py, |state| state.phase) {
            Phase::New => Ok(()),
            Phase::Serving => Err(not_ready(py, what, "was started")),
            Phase::Stopping | Phase::Stopped => Err(not_ready(py, what, "has stopped")),
        }
    }

    /// Handlers may be added to a server that serves: they count from the next call on.
    fn check_not_stopped(&self, py: Python<'_>) -> PyResult<()> {
        match self.state.with(py, |state| state.phase) {
            Phase::New | Phase::Serving => Ok(()),
            _ => Err(not_ready(py, "cannot add handlers to", "has stopped")),
        }
    }

    /// Tells the connections that there are of handlers that were added.
    fn update_methods(&self, py: Python<'_>) {
        let methods = self.state.with(py, |state| state.handlers.methods());
        for link in self.links(py) {
            link.get().with_engine(py, |engine| engine.set_methods(methods.clone()));
        }
    }

    fn watch_listeners(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let (fds, port) = slf.get().state.with(py, |state| {
            let fds: Vec<i32> = state.ports.iter().map(ServerPort::fd).collect();
            (fds, state.port.as_ref().map(|port| port.clone_ref(py)))
        });
        let Some(port) = port else { return Ok(()) };
        for fd in fds {
            let acceptable = slf.getattr(intern!(py, "on_acceptable"))?;
            let event_loop = port.get().event_loop.bind(py);
            event_loop.call_method1(intern!(py, "add_reader"), (fd, acceptable, fd))?;
        }
        Ok(())
    }

    fn unwatch_listeners(&self, py: Python<'_>, listeners: &[i32]) {
        let port = self.state.with(py, |state| state.port.as_ref().map(|port| port.clone_ref(py)));
        for fd in listeners {
            if let Some(port) = &port {
                let event_loop = port.get().event_loop.bind(py);
                let _ = event_loop.call_method1(intern!(py, "remove_reader"), (*fd,));
            }
        }
    }

    /// There is no file descriptor for another connection: waits a little for one.
    fn pause(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let (fds, port) = slf.get().state.with(py, |state| {
            let fds: Vec<i32> = state.ports.iter().map(ServerPort::fd).collect();
            (fds, state.port.as_ref().map(|port| port.clone_ref(py)))
        });
        slf.get().unwatch_listeners(py, &fds);
        if let Some(port) = port {
            let resume = slf.getattr(intern!(py, "on_resume"))?;
            let event_loop = port.get().event_loop.bind(py);
            event_loop.call_method1(intern!(py, "call_later"), (OUT_OF_FILES_PAUSE, resume))?;
        }
        Ok(())
    }
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (pool, options=None, maximum_concurrent_rpcs=None, compression=None))]
    fn new(
        pool: Py<PyAny>,
        options: Option<&Bound<'_, PyAny>>,
        maximum_concurrent_rpcs: Option<i64>,
        compression: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let options = Options::read(options, compression)?;
        let max_running = match maximum_concurrent_rpcs {
            Some(limit) if limit <= 0 => {
                let text = "maximum_concurrent_rpcs should be a positive integer";
                return Err(PyValueError::new_err(text));
            }
            limit => limit.map(|limit| limit as usize),
        };
        let state = State {
            phase: Phase::New,
            handlers: Handlers::default(),
            ports: Vec::new(),
            port: None,
            context: None,
            links: Vec::new(),
            connections: ConnectionCount::new(options.connections),
            active: 0,
            running: 0,
            idlers: Vec::new(),
        };
        Ok(Self {
            options: ServerOptions {
                http: options.http.clone(),
                limits: options.limits,
                keepalive: options.keepalive(SERVER_KEEPALIVE_TIME),
                pings: options.pings(),
                lifetime: options.lifetime,
                ..ServerOptions::default()
            },
            encoding: options.encoding,
            reuse_port: options.reuse_port,
            max_running,
            pool,
            state: GilCell::new(state),
        })
    }

    /// Registers a handler for one path.
    fn register(&self, py: Python<'_>, path: &str, handler: &Bound<'_, PyAny>) -> PyResult<()> {
        self.check_not_stopped(py)?;
        let handler = Handler::new(path, handler, &self.pool, Origin::Registered)?;
        self.state.with(py, |state| state.handlers.register(handler));
        self.update_methods(py);
        Ok(())
    }

    /// Whether a path has a registered handler, or may have one that generic handlers come before.
    fn is_settled(&self, py: Python<'_>, path: &str) -> bool {
        self.state
            .with(py, |state| state.handlers.is_registered(path) || state.handlers.has_generic())
    }

    /// Adds a handler that is asked at each call whose method is not registered.
    fn add_generic(&self, py: Python<'_>, handler: Py<PyAny>) -> PyResult<()> {
        self.check_not_stopped(py)?;
        self.state.with(py, |state| state.handlers.add_generic(handler));
        self.update_methods(py);
        Ok(())
    }

    /// Has `chain(find_handler, details)` awaited at each call: it runs the interceptors and gives the handler.
    fn intercept(&self, py: Python<'_>, chain: Py<PyAny>) -> PyResult<()> {
        self.check_new(py, "cannot add interceptors to")?;
        self.state.with(py, |state| state.handlers.intercept(chain));
        Ok(())
    }

    /// Who handles a call, if no interceptor says otherwise: what is registered, and then generic handlers.
    fn find_handler<'py>(
        &self,
        details: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = details.py();
        let path: String = details.getattr(intern!(py, "method"))?.extract()?;
        if let Some(registered) = self.by_path(py, &path) {
            return Ok(Some(registered.source.bind(py).clone()));
        }
        handler::ask(details, &self.generic(py))
    }

    /// Listens; returns the port, 1 for a Unix socket.
    #[pyo3(signature = (address, security=None))]
    fn listen(
        &self,
        py: Python<'_>,
        address: &Bound<'_, PyAny>,
        security: Option<Py<ServerSecurity>>,
    ) -> PyResult<u16> {
        let address = match address.cast::<PyBytes>() {
            Ok(octets) => String::from_utf8_lossy(octets.as_bytes()).into_owned(),
            Err(_) => address
                .extract::<String>()
                .map_err(|_| PyTypeError::new_err(format!("an address is a str, not {address}")))?,
        };
        self.check_new(py, "cannot add a port to")?;
        let options = ListenOptions { reuse_port: self.reuse_port };
        let listeners = Listener::bind(&address, options).map_err(|error| {
            PyRuntimeError::new_err(format!("Failed to bind to address {address}: {error}"))
        })?;
        let port = listeners.first().and_then(|listener| listener.address().port());
        let ports = listeners.into_iter().map(|listener| {
            let security = security.as_ref().map(|security| security.clone_ref(py));
            ServerPort { listener, security }
        });
        let ports: Vec<_> = ports.collect();
        self.state.with(py, |state| state.ports.extend(ports));
        Ok(port.unwrap_or(1))
    }

    /// Begins to serve on the running loop. Does nothing if it serves.
    fn start(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let me = slf.get();
        if me.state.with(py, |state| state.phase == Phase::Serving) {
            return Ok(());
        }
        me.check_new(py, "cannot start")?;
        let port = Port::of(&current_loop(py)?)?;
        let context = copy_context(py)?;
        me.state.with(py, |state| {
            state.phase = Phase::Serving;
            state.port = Some(port);
            state.context = Some(context);
        });
        Self::watch_listeners(slf)
    }

    /// Accepts no further connections and announces the end on those there are.
    fn stop_accepting(&self, py: Python<'_>) {
        let ports = self.state.with(py, |state| {
            if matches!(state.phase, Phase::Serving | Phase::New) {
                state.phase = Phase::Stopping;
            }
            std::mem::take(&mut state.ports)
        });
        let fds: Vec<i32> = ports.iter().map(ServerPort::fd).collect();
        self.unwatch_listeners(py, &fds);
        drop(ports);
        for link in self.links(py) {
            ServerLink::shut_down(link.bind(py));
        }
    }

    /// Waits until no call is being answered; `drained`: and until no connection is left.
    #[pyo3(signature = (drained=false))]
    fn wait_for_idle(slf: &Bound<'_, Self>, drained: bool) -> PyResult<Py<Awaitable>> {
        let py = slf.py();
        let port = slf.get().state.with(py, |state| state.port.as_ref().map(|p| p.clone_ref(py)));
        let port = match port {
            Some(port) => port,
            None => Port::current(py)?,
        };
        Awaitable::new(py, &port, Idle { server: slf.clone().unbind(), drained })
    }

    /// Ends all calls and connections.
    fn close(&self, py: Python<'_>) {
        self.stop_accepting(py);
        self.state.with(py, |state| state.phase = Phase::Stopped);
        for link in self.links(py) {
            ServerLink::close(link.bind(py), "the server stops");
        }
    }

    /// Whether it serves.
    fn is_running(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| matches!(state.phase, Phase::Serving | Phase::Stopping))
    }

    /// Whether no call is being answered.
    fn is_idle(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.active == 0)
    }

    /// Connections wait to be accepted.
    fn on_acceptable(slf: &Bound<'_, Self>, fd: i32) -> PyResult<()> {
        let py = slf.py();
        for _ in 0..ACCEPTED {
            let accepted: io::Result<_> = slf.get().state.with(py, |state| {
                let Some(port) = state.ports.iter().find(|port| port.fd() == fd) else {
                    return Ok(None);
                };
                let accepted = port.listener.accept()?;
                let security = port.security.as_ref().map(|security| security.clone_ref(py));
                Ok(accepted.map(|socket| (socket, security)))
            });
            match accepted {
                Ok(Some((socket, security))) => Self::accept(slf, socket, security.as_ref())?,
                Ok(None) => break,
                Err(error) => {
                    // A client that gave up before it was accepted is of no interest; running out of files is.
                    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted) {
                        log(py, "accept_failed", (error.to_string(),));
                        return Self::pause(slf);
                    }
                }
            }
        }
        Ok(())
    }

    fn on_resume(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::watch_listeners(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.pool)?;
        self.state.traverse(|state| {
            state.handlers.traverse(&visit)?;
            if let Some(port) = &state.port {
                visit.call(port)?;
            }
            if let Some(context) = &state.context {
                visit.call(context)?;
            }
            for security in state.ports.iter().filter_map(|port| port.security.as_ref()) {
                visit.call(security)?;
            }
            state.links.iter().try_for_each(|link| visit.call(link))?;
            state.idlers.iter().try_for_each(|idler| visit.call(idler))
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        let dropped = self.state.with(py, |state| {
            let handlers = (std::mem::take(&mut state.handlers), std::mem::take(&mut state.ports));
            let context = state.context.take();
            (handlers, std::mem::take(&mut state.links), std::mem::take(&mut state.idlers), context)
        });
        drop(dropped);
    }
}

fn not_ready(py: Python<'_>, what: &str, why: &str) -> PyErr {
    usage_error(py, &format!("Server not in ready state: {what} a server that {why}"))
}

fn copy_context(py: Python<'_>) -> PyResult<Py<PyAny>> {
    py.import(intern!(py, "contextvars"))?
        .call_method0(intern!(py, "copy_context"))
        .map(Bound::unbind)
}

/// Waits for the last call's end, or the last connection's.
struct Idle {
    server: Py<Server>,
    drained: bool,
}

impl Operation for Idle {
    fn poll(&mut self, py: Python<'_>, me: &Bound<'_, Awaitable>) -> PyResult<Polled> {
        let idler = me.clone().unbind();
        let waits = self.server.get().state.with(py, |state| {
            if state.active == 0 && (!self.drained || state.links.is_empty()) {
                return Some(idler);
            }
            state.idlers.push(idler);
            None
        });
        Ok(match waits {
            None => Polled::Wait,
            Some(_) => Polled::Ready(py.None()),
        })
    }

    fn cancelled(&mut self, _py: Python<'_>) {}

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.server)
    }
}
