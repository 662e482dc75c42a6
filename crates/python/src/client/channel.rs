//! A channel. It belongs to no event loop: each loop that uses it has a connection of its own.

use super::loop_channel::LoopChannel;
use super::method::{Kind, Method, Rules};
use super::multicallable;
use crate::awaitable::Awaitable;
use crate::credentials::PyChannelSecurity;
use crate::errors::usage_error;
use crate::gil::GilCell;
use crate::names::names;
use crate::options::{CLIENT_KEEPALIVE_TIME, Options};
use crate::port::{Port, current_loop};
use oxgrpc_core::{BalancerOptions, ClientOptions, Connectivity, Encoding, PolicyKind};
use oxgrpc_io::{ChannelSecurity, Target};
use oxgrpc_resilience::{Balancing, ServiceConfig, Throttle};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use smallvec::SmallVec;
use std::sync::{Arc, Mutex};

/// What all connections of a channel share.
pub(crate) struct Config {
    pub(crate) target: Target,
    pub(crate) security: ChannelSecurity,
    /// Whose certificate a server has to have.
    pub(crate) host: String,
    pub(crate) client: ClientOptions,
    pub(crate) balancer: BalancerOptions,
    /// How messages are compressed unless a call says otherwise.
    pub(crate) encoding: Encoding,
    /// What holds for its methods. What the channel has switched off is not in it.
    pub(crate) service: ServiceConfig,
    /// What counts how often its calls fail, if the service config says that it matters.
    pub(crate) throttle: Option<Mutex<Throttle>>,
    /// How much of a call's requests is kept to be sent again.
    pub(crate) retry_buffer_bytes: usize,
}

#[derive(Default)]
struct State {
    /// One a loop, the one used last in front.
    loop_channels: SmallVec<[Py<LoopChannel>; 1]>,
    /// `close` has begun: no new calls.
    closing: bool,
}

/// The native part of `grpc.aio.Channel`.
#[pyclass(frozen, weakref, module = "oxgrpc._native", name = "Channel")]
pub(crate) struct Channel {
    config: Arc<Config>,
    /// What all its calls carry.
    plugins: Option<Py<PyTuple>>,
    state: GilCell<State>,
}

impl Channel {
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn plugins(&self) -> Option<&Py<PyTuple>> {
        self.plugins.as_ref()
    }

    /// The running loop's part of the channel.
    pub(crate) fn loop_channel<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, LoopChannel>> {
        let py = slf.py();
        let me = slf.get();
        let event_loop = current_loop(py)?;
        let (closing, found) = me.state.with(py, |state| {
            let at = state.loop_channels.iter().position(|own| own.get().loop_is(&event_loop));
            let found = at.map(|at| {
                state.loop_channels.swap(0, at);
                state.loop_channels[0].bind(py).clone()
            });
            (state.closing, found)
        });
        if closing {
            return Err(usage_error(py, "Channel is closed."));
        }
        if let Some(found) = found {
            return Ok(found);
        }
        let loop_channel = LoopChannel::new(py, Port::of(&event_loop)?, me.config.clone())?;
        me.forget_closed_loops(py);
        let kept = loop_channel.clone_ref(py);
        me.state.with(py, |state| state.loop_channels.insert(0, kept));
        Ok(loop_channel.into_bound(py))
    }

    /// A loop that is closed takes its connections with it.
    fn forget_closed_loops(&self, py: Python<'_>) {
        let all = self.state.with(py, |state| std::mem::take(&mut state.loop_channels));
        let (closed, open): (SmallVec<[_; 1]>, SmallVec<[_; 1]>) =
            all.into_iter().partition(|own| own.get().port().get().is_closed(py));
        self.state.with(py, |state| state.loop_channels = open);
        drop(closed);
    }

    fn current(&self, py: Python<'_>) -> PyResult<Option<Py<LoopChannel>>> {
        let event_loop = current_loop(py)?;
        Ok(self.state.with(py, |state| {
            let found = state.loop_channels.iter().find(|own| own.get().loop_is(&event_loop));
            found.map(|own| own.clone_ref(py))
        }))
    }

    fn method(
        slf: &Bound<'_, Self>,
        kind: Kind,
        path: &Bound<'_, PyAny>,
        serializer: Option<Py<PyAny>>,
        deserializer: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let path: Box<[u8]> = if let Ok(path) = path.cast::<PyString>() {
            path.to_cow()?.as_bytes().into()
        } else if let Ok(path) = path.cast::<PyBytes>() {
            path.as_bytes().into()
        } else {
            return Err(PyTypeError::new_err(format!("a method is a str, not {path}")));
        };
        let printable = |octet: &u8| matches!(octet, b'!'..=b'~');
        if path.first() != Some(&b'/') || !path.iter().all(printable) {
            let path = String::from_utf8_lossy(&path);
            let text = format!("a method is written /package.Service/Method, not '{path}'");
            return Err(PyValueError::new_err(text));
        }
        for function in [&serializer, &deserializer].into_iter().flatten() {
            let function = function.bind(slf.py());
            if !function.is_callable() {
                return Err(PyTypeError::new_err(format!("{function} is not callable")));
            }
        }
        let config = &slf.get().config;
        let rules = Rules::new(config.service.method(&path), config.client.limits);
        let method = Method { kind, path, serializer, deserializer, rules };
        multicallable::create(slf.py(), slf.clone().unbind(), method)
    }
}

/// The service config that the options hold, without what they switch off.
fn service_config(options: &Options) -> PyResult<ServiceConfig> {
    let Some(text) = &options.service_config else { return Ok(ServiceConfig::default()) };
    let mut config = ServiceConfig::parse(text)
        .map_err(|error| PyValueError::new_err(format!("grpc.service_config: {error}")))?;
    config.for_each_method(|method| {
        method.retry = method.retry.take().filter(|_| options.retries);
        method.hedging = method.hedging.take().filter(|_| options.retries && options.hedging);
    });
    Ok(config)
}

#[pymethods]
impl Channel {
    #[new]
    #[pyo3(signature = (target, options=None, compression=None, security=None, plugins=None))]
    fn new(
        target: &str,
        options: Option<&Bound<'_, PyAny>>,
        compression: Option<&Bound<'_, PyAny>>,
        security: Option<&PyChannelSecurity>,
        plugins: Option<Bound<'_, PyTuple>>,
    ) -> PyResult<Self> {
        let parsed =
            Target::parse(target).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let options = Options::read(options, compression)?;
        let service = service_config(&options)?;
        let user_agent = options.user_agent();
        let keepalive = options.keepalive(CLIENT_KEEPALIVE_TIME);
        let mut balancer = options.balancer.clone();
        if let Target::Addresses(_) = parsed {
            balancer.resolution_interval = None;
        }
        // The service config stands above `grpc.lb_policy_name`.
        match service.balancing {
            Some(Balancing::PickFirst { shuffle }) => {
                balancer.policy = PolicyKind::PickFirst;
                balancer.shuffles = shuffle;
            }
            Some(Balancing::RoundRobin) => balancer.policy = PolicyKind::RoundRobin,
            None => {}
        }
        let security = security.map(|security| security.0.clone()).unwrap_or_default();
        let security = match &options.session_cache {
            Some(cache) => security.with_sessions(cache),
            None => security,
        };
        let name_override = options.target_name_override;
        let authority = options.authority.or_else(|| name_override.clone());
        let authority = authority.unwrap_or_else(|| Target::authority(target));
        let host = name_override.unwrap_or_else(|| Target::host(&authority).to_owned());
        let config = Config {
            target: parsed,
            host,
            client: ClientOptions {
                http: options.http,
                limits: options.limits,
                keepalive,
                scheme: security.scheme(),
                authority,
                user_agent,
                ..ClientOptions::default()
            },
            balancer,
            encoding: options.encoding,
            throttle: service.throttling.map(|throttling| Mutex::new(Throttle::new(throttling))),
            service,
            retry_buffer_bytes: options.retry_buffer_bytes,
            security,
        };
        let plugins = plugins.filter(|plugins| !plugins.is_empty()).map(Bound::unbind);
        let state = GilCell::new(State::default());
        Ok(Self { config: Arc::new(config), plugins, state })
    }

    #[pyo3(signature = (method, request_serializer=None, response_deserializer=None))]
    fn unary_unary(
        slf: &Bound<'_, Self>,
        method: &Bound<'_, PyAny>,
        request_serializer: Option<Py<PyAny>>,
        response_deserializer: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        Self::method(slf, Kind::UnaryUnary, method, request_serializer, response_deserializer)
    }

    #[pyo3(signature = (method, request_serializer=None, response_deserializer=None))]
    fn unary_stream(
        slf: &Bound<'_, Self>,
        method: &Bound<'_, PyAny>,
        request_serializer: Option<Py<PyAny>>,
        response_deserializer: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        Self::method(slf, Kind::UnaryStream, method, request_serializer, response_deserializer)
    }

    #[pyo3(signature = (method, request_serializer=None, response_deserializer=None))]
    fn stream_unary(
        slf: &Bound<'_, Self>,
        method: &Bound<'_, PyAny>,
        request_serializer: Option<Py<PyAny>>,
        response_deserializer: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        Self::method(slf, Kind::StreamUnary, method, request_serializer, response_deserializer)
    }

    #[pyo3(signature = (method, request_serializer=None, response_deserializer=None))]
    fn stream_stream(
        slf: &Bound<'_, Self>,
        method: &Bound<'_, PyAny>,
        request_serializer: Option<Py<PyAny>>,
        response_deserializer: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        Self::method(slf, Kind::StreamStream, method, request_serializer, response_deserializer)
    }

    /// The state on the running loop; `try_to_connect` then begins to connect if it is idle.
    #[pyo3(signature = (try_to_connect=false))]
    fn get_state(slf: &Bound<'_, Self>, try_to_connect: bool) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let me = slf.get();
        let connectivity = if me.state.with(py, |state| state.closing) {
            Connectivity::Shutdown
        } else if try_to_connect {
            let loop_channel = Self::loop_channel(slf)?;
            let before = loop_channel.get().connectivity(py);
            LoopChannel::connect(&loop_channel);
            before
        } else {
            me.current(py)?.map_or(Connectivity::Idle, |own| own.get().connectivity(py))
        };
        Ok(names(py)?.connectivities[connectivity as usize].clone_ref(py))
    }

    /// Waits until the state, by its number, is another than `last`.
    fn wait_for_state_change(slf: &Bound<'_, Self>, last: usize) -> PyResult<Py<Awaitable>> {
        const STATES: [Connectivity; 5] = [
            Connectivity::Idle,
            Connectivity::Connecting,
            Connectivity::Ready,
            Connectivity::TransientFailure,
            Connectivity::Shutdown,
        ];
        let last = *STATES.get(last).ok_or_else(|| PyValueError::new_err("no such state"))?;
        LoopChannel::wait_for_change(&Self::loop_channel(slf)?, last)
    }

    /// Refuses new calls from now on.
    fn stop_accepting(&self, py: Python<'_>) {
        self.state.with(py, |state| state.closing = true);
    }

    /// Waits until no call is under way on the running loop; `None` if none was ever made there.
    fn wait_for_idle(&self, py: Python<'_>) -> PyResult<Option<Py<Awaitable>>> {
        match self.current(py)? {
            Some(loop_channel) => LoopChannel::wait_for_idle(loop_channel.bind(py)).map(Some),
            None => Ok(None),
        }
    }

    /// Cancels all calls and closes the connections: here at once, on other loops in their next turn.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let current = self.current(py)?;
        let all = self.state.with(py, |state| {
            state.closing = true;
            std::mem::take(&mut state.loop_channels)
        });
        for loop_channel in all {
            if current.as_ref().is_some_and(|current| current.is(&loop_channel)) {
                LoopChannel::close(loop_channel.bind(py));
            } else {
                LoopChannel::close_soon(loop_channel.bind(py));
            }
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(plugins) = &self.plugins {
            visit.call(plugins)?;
        }
        self.state.traverse(|state| state.loop_channels.iter().try_for_each(|own| visit.call(own)))
    }

    fn __clear__(&self, py: Python<'_>) {
        for loop_channel in self.state.with(py, |state| std::mem::take(&mut state.loop_channels)) {
            loop_channel.get().abandon(py);
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        Python::try_attach(|py| self.__clear__(py));
    }
}
