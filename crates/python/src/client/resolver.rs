//! Name resolution, by the loop's own resolver, which does not block the loop, or at a name server that the target names.

use super::loop_channel::LoopChannel;
use crate::names::names;
use oxgrpc_io::{Address, Target};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::net::SocketAddr;
use std::time::Instant;

impl LoopChannel {
    /// Looks the target up.
    pub(super) fn resolve(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let me = slf.get();
        match &me.config.target {
            Target::Addresses(addresses) => {
                let addresses = addresses.clone();
                me.state.with(py, |state| state.balancer.resolved(addresses, Instant::now()));
            }
            Target::Name { host, port, server } => {
                if let Err(error) = Self::look_up(slf, host, *port, *server) {
                    Self::look_up_failed(slf, &error);
                }
            }
        }
    }

    fn look_up(
        slf: &Bound<'_, Self>,
        host: &str,
        port: u16,
        server: Option<SocketAddr>,
    ) -> PyResult<()> {
        let py = slf.py();
        let event_loop = slf.get().port.get().event_loop.bind(py);
        let lookup = match server {
            None => Self::ask_system(event_loop, host, port)?,
            Some(server) => {
                let server = (server.ip().to_string(), server.port());
                let dns = py.import(intern!(py, "oxgrpc.aio._dns"))?;
                dns.call_method1(intern!(py, "look_up"), (server, host, port))?
            }
        };
        let in_loop = PyDict::new(py);
        in_loop.set_item(intern!(py, "loop"), event_loop)?;
        let lookup = names(py)?.ensure_future.bind(py).call((lookup,), Some(&in_loop))?;
        let kept = lookup.clone().unbind();
        let before = slf.get().state.with(py, |state| state.lookup.replace(kept));
        drop(before);
        let done = slf.getattr(intern!(py, "on_resolved"))?;
        lookup.call_method1(intern!(py, "add_done_callback"), (done,)).map(drop)
    }

    fn ask_system<'py>(
        event_loop: &Bound<'py, PyAny>,
        host: &str,
        port: u16,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = event_loop.py();
        let options = PyDict::new(py);
        let stream = py.import(intern!(py, "socket"))?.getattr(intern!(py, "SOCK_STREAM"))?;
        options.set_item(intern!(py, "type"), stream)?;
        event_loop.call_method(intern!(py, "getaddrinfo"), (host, port), Some(&options))
    }

    fn look_up_failed(slf: &Bound<'_, Self>, error: &PyErr) {
        let py = slf.py();
        let Target::Name { host, .. } = &slf.get().config.target else { return };
        let error = format!("DNS resolution failed for {host}: {}", error.value(py));
        let now = Instant::now();
        slf.get().state.with(py, |state| state.balancer.resolution_failed(error, now));
    }

    /// The name has been looked up, or not.
    pub(super) fn resolved(slf: &Bound<'_, Self>, lookup: &Bound<'_, PyAny>) {
        let py = slf.py();
        let lookup_kept = slf.get().state.with(py, |state| state.lookup.take());
        drop(lookup_kept);
        if Self::is_over(slf) {
            return;
        }
        let found: PyResult<Vec<Address>> = lookup
            .call_method0(intern!(py, "result"))
            .and_then(|found| found.try_iter()?.map(|entry| address(&entry?)).collect());
        match found {
            Ok(addresses) => {
                let now = Instant::now();
                slf.get().state.with(py, |state| state.balancer.resolved(addresses, now));
            }
            Err(error) => Self::look_up_failed(slf, &error),
        }
        Self::act(slf);
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
