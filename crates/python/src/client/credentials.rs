//! Call credentials: plugins that say what metadata a call carries besides its own.
//!
//! A call whose plugins have to be asked is parked until they have answered; its deadline and its cancellation work
//! meanwhile.

use super::call::{Call, Place, Style};
use super::channel::Channel;
use super::loop_channel::LoopChannel;
use super::method::Request;
use crate::errors::usage_error;
use crate::metadata;
use crate::names::names;
use oxgrpc_core::{Code, Metadata, Status};
use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

impl Channel {
    /// The plugins of a call: the channel's, then its own. `None`: it has none.
    pub(super) fn plugins_of<'py>(
        slf: &Bound<'py, Self>,
        credentials: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let py = slf.py();
        let own = slf.get().plugins().map(|plugins| plugins.bind(py).clone());
        let Some(credentials) = credentials.filter(|credentials| !credentials.is_none()) else {
            return Ok(own);
        };
        if !slf.get().config().security.is_secure() {
            return Err(usage_error(py, "Call credentials are only valid on secure channels"));
        }
        let given = credentials
            .getattr(intern!(py, "_credentials"))
            .ok()
            .and_then(|given| given.cast_into::<PyTuple>().ok())
            .ok_or_else(|| {
                PyTypeError::new_err(format!(
                    "credentials are a CallCredentials, not {credentials}"
                ))
            })?;
        Ok(Some(match own {
            Some(own) => own.as_sequence().concat(given.as_sequence())?.to_tuple()?,
            None => given,
        }))
    }
}

impl Call {
    /// Starts a call that carries what plugins say.
    pub(super) fn start_with_plugins<'py>(
        channel: &Bound<'py, Channel>,
        loop_channel: &Bound<'py, LoopChannel>,
        mut request: Request,
        message: Option<&Bound<'py, PyBytes>>,
        style: Style,
        plugins: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = channel.py();
        let plugin = names(py)?.plugin.bind(py);
        let known = plugin.call_method1(intern!(py, "at_once"), (plugins,))?;
        if !known.is_none() {
            extend(&mut request.metadata, &metadata::outgoing(Some(&known))?);
            return LoopChannel::start(loop_channel, request, message, style);
        }
        let (url, method) = destination(channel.get(), &request.method.path);
        let place = Place::Pending { timer: None, parked: false };
        let call = Self::create(loop_channel, request, message, place, style)?;
        LoopChannel::park(&call)?;
        if call.get().has_ended(py) {
            return Ok(call);
        }
        let event_loop = &call.get().port.get().event_loop;
        let answer = Py::new(py, PluginsAnswer(call.clone().unbind()))?;
        let asked =
            plugin.call_method1(intern!(py, "ask"), (plugins, url, method, event_loop, answer));
        if let Err(error) = asked {
            // No thread is to be had.
            Self::fail(&call, refused(&error.value(py).to_string()));
        }
        Ok(call)
    }
}

/// Takes the answer to a parked call.
#[pyclass(frozen, module = "oxgrpc._native")]
struct PluginsAnswer(Py<Call>);

#[pymethods]
impl PluginsAnswer {
    /// The plugins have answered: with metadata, or with why there is none. Called by the loop.
    fn __call__(
        &self,
        py: Python<'_>,
        metadata: Option<&Bound<'_, PyAny>>,
        error: Option<&str>,
    ) -> PyResult<()> {
        let call = self.0.bind(py);
        if call.get().has_ended(py) {
            return Ok(());
        }
        if let Some(error) = error {
            Call::fail(call, refused(error));
        } else {
            match metadata::outgoing(metadata) {
                Ok(metadata) => {
                    call.get()
                        .state
                        .with(py, |state| extend(&mut state.request.metadata, &metadata));
                    LoopChannel::submit(call)?;
                }
                Err(error) => {
                    let text = format!("Illegal metadata: {}", error.value(py));
                    Call::fail(call, Status::new(Code::Unavailable, text));
                }
            }
        }
        call.get().port.get().run(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

fn refused(error: &str) -> Status {
    let text = format!("Getting metadata from plugin failed with error: {error}");
    Status::new(Code::Unavailable, text)
}

fn extend(metadata: &mut Metadata, more: &Metadata) {
    for (key, value) in more.iter() {
        // It has been accepted once.
        let _ = metadata.push(key, value);
    }
}

/// Where a call goes, as plugins are told: the URL of its service, and its method.
fn destination(channel: &Channel, path: &[u8]) -> (String, String) {
    let client = &channel.config().client;
    let path = String::from_utf8_lossy(path);
    let (service, method) = path.rsplit_once('/').unwrap_or((&path, ""));
    let authority = match client.scheme {
        "https" => client.authority.strip_suffix(":443").unwrap_or(&client.authority),
        _ => &client.authority,
    };
    (format!("{}://{authority}{service}", client.scheme), method.to_owned())
}
