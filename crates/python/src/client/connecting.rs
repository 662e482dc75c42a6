//! How a loop channel's connection comes about: look-up, attempts, one address after the other, and the back-off between
//! (gRPC connection-backoff.md).

use super::call::Call;
use super::link::ClientLink;
use super::loop_channel::LoopChannel;
use crate::link::{self, End, Link};
use crate::names::names;
use oxgrpc_core::{ClientConnection, ClientOptions, Code, Status};
use oxgrpc_io::{Address, Socket, Target};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

impl LoopChannel {
    /// A connection is wanted: begins an attempt, if none is under way and no back-off forbids it.
    pub(crate) fn connect(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let me = slf.get();
        if !me.state.with(py, |state| !state.closed && state.channel.want(Instant::now())) {
            return;
        }
        me.state_changed(py);
        match &me.config.target {
            Target::Addresses(addresses) => Self::try_addresses(slf, addresses.iter().cloned()),
            Target::Name { host, port } => {
                if let Err(error) = Self::resolve(slf, host, *port) {
                    Self::attempt_failed(slf, format!("{host}: {error}"));
                }
            }
        }
    }

    /// Looks a name up with the loop's resolver, which does not block the loop.
    fn resolve(slf: &Bound<'_, Self>, host: &str, port: u16) -> PyResult<()> {
        let py = slf.py();
        let event_loop = slf.get().port.get().event_loop.bind(py);
        let options = PyDict::new(py);
        let stream = py.import(intern!(py, "socket"))?.getattr(intern!(py, "SOCK_STREAM"))?;
        options.set_item(intern!(py, "type"), stream)?;
        let lookup =
            event_loop.call_method(intern!(py, "getaddrinfo"), (host, port), Some(&options))?;
        let in_loop = PyDict::new(py);
        in_loop.set_item(intern!(py, "loop"), event_loop)?;
        let lookup = names(py)?.ensure_future.bind(py).call((lookup,), Some(&in_loop))?;
        let done = slf.getattr(intern!(py, "on_resolved"))?;
        lookup.call_method1(intern!(py, "add_done_callback"), (done,)).map(drop)
    }

    fn try_addresses(slf: &Bound<'_, Self>, addresses: impl Iterator<Item = Address>) {
        slf.get().state.with(slf.py(), |state| state.addresses = addresses.collect());
        Self::try_next(slf);
    }

    /// Connects to the next address; where there is none, the attempt has failed.
    fn try_next(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let me = slf.get();
        loop {
            let next = me.state.with(py, |state| state.addresses.pop_front());
            let Some(address) = next else {
                let error = me.state.with(py, |state| state.last_error.clone());
                return Self::attempt_failed(slf, error);
            };
            let error = match Socket::connect(&address) {
                Ok(socket) => {
                    let fd = socket.as_raw_fd();
                    me.state.with(py, |state| state.connecting = Some(socket));
                    match Self::watch_connecting(slf, fd) {
                        Ok(()) => return,
                        Err(error) => error.to_string(),
                    }
                }
                Err(error) => error.to_string(),
            };
            me.note_error(py, &address.to_string(), &error);
        }
    }

    fn watch_connecting(slf: &Bound<'_, Self>, fd: i32) -> PyResult<()> {
        let py = slf.py();
        let event_loop = slf.get().port.get().event_loop.bind(py);
        let connected = slf.getattr(intern!(py, "on_connected"))?;
        event_loop.call_method1(intern!(py, "add_writer"), (fd, connected))?;
        let timeout = slf.get().state.with(py, |state| state.channel.connect_timeout());
        slf.get().set_timer(py, timeout, &slf.getattr(intern!(py, "on_timer"))?)
    }

    fn note_error(&self, py: Python<'_>, address: &str, error: &str) {
        self.state.with(py, |state| {
            state.last_error =
                format!("failed to connect to all addresses; last error: {address}: {error}");
        });
    }

    /// The address does not answer as it should.
    fn address_failed(slf: &Bound<'_, Self>, address: &str, error: &str) {
        slf.get().note_error(slf.py(), address, error);
        Self::try_next(slf);
    }

    /// No address has answered. Calls that do not want to wait fail.
    fn attempt_failed(slf: &Bound<'_, Self>, error: String) {
        let py = slf.py();
        let me = slf.get();
        me.cancel_timer(py);
        let random = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
        let now = Instant::now();
        let (retry_at, pending) = me.state.with(py, |state| {
            state.last_error.clone_from(&error);
            (state.channel.failed(now, random), std::mem::take(&mut state.line.waiting))
        });
        for reference in pending {
            let Some(call) = reference.upgrade(py) else { continue };
            match call.get().waits_for_ready(py) {
                Some(true) => {
                    me.state.with(py, |state| state.line.waiting.push_back(reference));
                }
                Some(false) => {
                    Call::attempt_failed(&call, Status::new(Code::Unavailable, error.clone()));
                }
                None => {}
            }
        }
        me.state_changed(py);
        let retry = slf.getattr(intern!(py, "on_retry"));
        if let Err(error) = retry.and_then(|retry| me.set_timer(py, retry_at - now, &retry)) {
            me.port.get().report(py, error);
        }
    }

    /// The server's SETTINGS have come, for the first time or anew.
    pub(crate) fn established(slf: &Bound<'_, Self>, link: &Bound<'_, ClientLink>) {
        let py = slf.py();
        let me = slf.get();
        if Self::is_over(slf) {
            return;
        }
        let is_new = me.state.with(py, |state| {
            let is_ours = state.link.as_ref().is_some_and(|own| own.is(link));
            let is_new = is_ours && !state.channel.is_ready();
            if is_new {
                state.channel.connected();
                state.addresses.clear();
            }
            is_new
        });
        if is_new {
            me.cancel_timer(py);
            me.state_changed(py);
        }
        Self::start_pending(slf);
    }

    /// A connection has ended. Its calls have been told.
    pub(crate) fn lost(slf: &Bound<'_, Self>, link: &Bound<'_, ClientLink>, error: &str) {
        let py = slf.py();
        let me = slf.get();
        let (current, was_ready) = me.state.with(py, |state| {
            state.draining.retain(|other| !other.is(link));
            let current = state.link.take_if(|own| own.is(link));
            (current, state.channel.is_ready())
        });
        if current.is_none() || Self::is_over(slf) {
            return;
        }
        if was_ready {
            me.lose(slf);
        } else {
            let peer = link.get().peer(py);
            Self::address_failed(slf, &peer, error);
        }
    }

    /// The server takes no more calls on a connection.
    pub(crate) fn went_away(slf: &Bound<'_, Self>, link: &Bound<'_, ClientLink>) {
        let py = slf.py();
        let me = slf.get();
        let current = me.state.with(py, |state| {
            let current = state.link.take_if(|own| own.is(link))?;
            state.draining.push(current);
            Some(())
        });
        if current.is_some() {
            me.lose(slf);
            Self::calls_changed(slf);
        }
    }

    fn lose(&self, slf: &Bound<'_, Self>) {
        let py = slf.py();
        let wanted = self.state.with(py, |state| {
            state.channel.lost();
            !state.line.waiting.is_empty()
        });
        self.state_changed(py);
        if wanted {
            Self::connect(slf);
        }
    }

    fn set_timer(
        &self,
        py: Python<'_>,
        delay: Duration,
        callback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let handle = self.call_later(py, delay, callback)?;
        self.cancel_timer(py);
        self.state.with(py, |state| state.timer = Some(handle));
        Ok(())
    }

    pub(super) fn cancel_timer(&self, py: Python<'_>) {
        if let Some(timer) = self.state.with(py, |state| state.timer.take()) {
            let _ = timer.call_method0(py, intern!(py, "cancel"));
        }
    }

    pub(crate) fn call_later(
        &self,
        py: Python<'_>,
        delay: Duration,
        callback: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        let event_loop = &self.port.get().event_loop;
        event_loop.call_method1(py, intern!(py, "call_later"), (delay.as_secs_f64(), callback))
    }

    /// The name has been looked up, or not.
    pub(super) fn resolved(slf: &Bound<'_, Self>, lookup: &Bound<'_, PyAny>) {
        let py = slf.py();
        if Self::is_over(slf) {
            return;
        }
        let found = lookup
            .call_method0(intern!(py, "result"))
            .and_then(|found| found.try_iter()?.map(|entry| address(&entry?)).collect());
        match found {
            Ok(addresses) => {
                let addresses: Vec<Address> = addresses;
                Self::try_addresses(slf, addresses.into_iter());
            }
            Err(error) => {
                let Target::Name { host, .. } = &slf.get().config.target else { return };
                let text = format!("DNS resolution failed for {host}: {}", error.value(py));
                Self::attempt_failed(slf, text);
            }
        }
    }

    /// The socket is connected, or has failed.
    pub(super) fn connected(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let me = slf.get();
        if Self::is_over(slf) {
            return Ok(());
        }
        let Some(socket) = me.state.with(py, |state| state.connecting.take()) else {
            return Ok(());
        };
        me.unwatch_connecting(py, &socket);
        match socket.finish_connect() {
            Ok(()) => {
                let keepalive = me.state.with(py, |state| state.keepalive);
                let options = ClientOptions { keepalive, ..me.config.client.clone() };
                let engine = ClientConnection::new(options);
                let link = ClientLink::new(py, slf, Link::new(engine, socket))?;
                me.state.with(py, |state| state.link = Some(link.clone_ref(py)));
                link::open(link.bind(py));
            }
            Err(error) => {
                Self::address_failed(slf, &socket.peer().to_string(), &error.to_string());
            }
        }
        Ok(())
    }

    /// An attempt takes too long: before the connection stands, or before the server's SETTINGS.
    pub(super) fn timed_out(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let me = slf.get();
        if Self::is_over(slf) {
            return;
        }
        let (connecting, link) = me.state.with(py, |state| {
            state.timer = None;
            (state.connecting.take(), state.link.as_ref().map(|link| link.clone_ref(py)))
        });
        if let Some(socket) = connecting {
            me.unwatch_connecting(py, &socket);
            Self::address_failed(slf, &socket.peer().to_string(), "connection timed out");
        } else if let Some(link) = link {
            let error = io::Error::new(io::ErrorKind::TimedOut, "no SETTINGS from the server");
            link::finish(link.bind(py), &End::Failed(error));
        }
    }

    /// The back-off has passed.
    pub(super) fn retry(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let me = slf.get();
        if Self::is_over(slf) {
            return;
        }
        let wanted = me.state.with(py, |state| {
            state.timer = None;
            state.channel.backoff_passed();
            !state.line.waiting.is_empty()
        });
        if wanted {
            Self::connect(slf);
        }
        me.state_changed(py);
    }

    pub(super) fn unwatch_connecting(&self, py: Python<'_>, socket: &Socket) {
        let event_loop = &self.port.get().event_loop;
        let _ = event_loop.call_method1(py, intern!(py, "remove_writer"), (socket.as_raw_fd(),));
    }
}

/// An entry of `getaddrinfo`: `(family, type, protocol, name, (host, port, …))`.
fn address(entry: &Bound<'_, PyAny>) -> PyResult<Address> {
    let place = entry.get_item(4)?;
    let host: String = place.get_item(0)?.extract()?;
    let port: u16 = place.get_item(1)?.extract()?;
    // A link-local address carries its interface behind a percent sign.
    let ip: std::net::IpAddr = host.split('%').next().unwrap_or(&host).parse()?;
    Ok(Address::Tcp((ip, port).into()))
}
