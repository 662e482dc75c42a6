//! An attempt to connect to an address: a socket, until it is connected. Then a link takes it over, and the server is to
//! send its SETTINGS.

use super::link::ClientLink;
use super::loop_channel::LoopChannel;
use super::subchannel::Connection;
use crate::gil::GilCell;
use crate::link;
use oxgrpc_core::{ClientConnection, ClientOptions, ConnectionId};
use oxgrpc_io::{Address, Link, Socket};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use std::os::fd::AsRawFd;
use std::time::Instant;

/// A socket that is being connected.
#[pyclass(frozen, module = "oxgrpc._native", name = "Attempt")]
pub(crate) struct Attempt {
    loop_channel: Py<LoopChannel>,
    id: ConnectionId,
    /// Taken as soon as it is decided what becomes of it.
    socket: GilCell<Option<Socket>>,
}

impl Attempt {
    /// Begins to connect.
    pub(super) fn begin(
        loop_channel: &Bound<'_, LoopChannel>,
        id: ConnectionId,
        address: &Address,
    ) -> PyResult<()> {
        let py = loop_channel.py();
        let socket = Socket::connect(address)?;
        let fd = socket.as_raw_fd();
        let attempt = Bound::new(
            py,
            Self {
                loop_channel: loop_channel.clone().unbind(),
                id,
                socket: GilCell::new(Some(socket)),
            },
        )?;
        let event_loop = loop_channel.get().port().get().event_loop.bind(py);
        let writable = attempt.getattr(intern!(py, "on_writable"))?;
        event_loop.call_method1(intern!(py, "add_writer"), (fd, writable))?;
        let connection = Connection::Attempt(attempt.unbind());
        loop_channel.get().state.with(py, |state| state.connections.push((id, connection)));
        Ok(())
    }

    /// Where to.
    pub(super) fn peer(&self, py: Python<'_>) -> String {
        self.socket
            .with(py, |socket| socket.as_ref().map(|socket| socket.peer().to_string()))
            .unwrap_or_default()
    }

    /// Takes the socket off the loop.
    fn take_socket(&self, py: Python<'_>) -> Option<Socket> {
        let socket = self.socket.with(py, Option::take)?;
        let event_loop = &self.loop_channel.get().port().get().event_loop;
        // A closed loop refuses, and has forgotten the socket anyway.
        let _ = event_loop.call_method1(py, intern!(py, "remove_writer"), (socket.as_raw_fd(),));
        Some(socket)
    }

    pub(super) fn give_up(&self, py: Python<'_>) {
        drop(self.take_socket(py));
    }

    /// Makes the loop, which may be another thread's, see the attempt's end.
    pub(super) fn shut_down(&self, py: Python<'_>) {
        self.socket.with(py, |socket| {
            if let Some(socket) = socket {
                socket.shut_down();
            }
        });
    }

    /// The socket is connected, or has failed.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        let Some(socket) = self.take_socket(py) else { return Ok(()) };
        let loop_channel = self.loop_channel.bind(py);
        let me = loop_channel.get();
        if LoopChannel::is_over(loop_channel) || me.take(py, self.id).is_none() {
            return Ok(());
        }
        let peer = socket.peer().to_string();
        let keepalive = me.state.with(py, |state| state.keepalive);
        if let Some(keepalive) = keepalive {
            socket.set_user_timeout(keepalive.timeout);
        }
        let config = &me.config;
        let secured =
            socket.finish_connect().and_then(|()| config.security.secure(socket, &config.host));
        let stream = match secured {
            Ok(stream) => stream,
            Err(error) => {
                let error = format!("{peer}: {error}");
                me.state.with(py, |state| state.balancer.ended(self.id, &error, Instant::now()));
                LoopChannel::act(loop_channel);
                return Ok(());
            }
        };
        let options = ClientOptions { keepalive, ..config.client.clone() };
        let engine = ClientConnection::new(options);
        let link = ClientLink::new(py, loop_channel, self.id, Link::new(engine, stream))?;
        let connection = Connection::Link(link.clone_ref(py));
        me.state.with(py, |state| state.connections.push((self.id, connection)));
        link::open(link.bind(py));
        Ok(())
    }
}

#[pymethods]
impl Attempt {
    fn on_writable(&self, py: Python<'_>) -> PyResult<()> {
        self.finish(py)?;
        self.loop_channel.get().port().get().run(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.loop_channel)
    }
}
