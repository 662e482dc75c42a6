//! Credentials of channels and of servers' ports, as the Python face hands them on. They are read when they are made, so
//! that a mistake is told where it was made.

use crate::gil::GilCell;
use crate::names::names;
use crate::settings::default_roots_file;
use oxgrpc_io::{
    ChannelSecurity, ClientTls, Identity, Local, Roots, ServerTls, SessionCache, Socket, Stream,
    TlsError,
};
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use std::io;
use std::sync::OnceLock;

/// [`ChannelSecurity`] as an object.
#[pyclass(frozen, module = "oxgrpc._native", name = "ChannelSecurity")]
pub(crate) struct PyChannelSecurity(pub(crate) ChannelSecurity);

#[pymethods]
impl PyChannelSecurity {
    #[staticmethod]
    fn local(is_unix: bool) -> Self {
        Self(ChannelSecurity::Local(local(is_unix)))
    }

    /// TLS. Without `roots` it is the system that says whom to trust, or the file that the environment names.
    #[staticmethod]
    #[pyo3(signature = (roots=None, private_key=None, chain=None))]
    fn ssl(
        py: Python<'_>,
        roots: Option<&[u8]>,
        private_key: Option<&[u8]>,
        chain: Option<&[u8]>,
    ) -> PyResult<Self> {
        let identity = match (private_key, chain) {
            (None, None) => None,
            (Some(private_key), Some(chain)) => {
                Some(Identity::from_pem(private_key, chain).map_err(invalid)?)
            }
            (Some(_), None) => {
                return Err(PyValueError::new_err("private_key needs its certificate_chain"));
            }
            (None, Some(_)) => {
                return Err(PyValueError::new_err("certificate_chain needs its private_key"));
            }
        };
        let roots = match roots {
            Some(pem) => Roots::from_pem(pem).map_err(invalid)?,
            // Reading a hundred certificates takes milliseconds.
            None => py.detach(|| {
                let of_file = default_roots_file().and_then(|path| Roots::from_file(&path));
                of_file.unwrap_or_else(Roots::of_system)
            }),
        };
        Ok(Self(ChannelSecurity::Tls(ClientTls::new(roots, identity).map_err(invalid)?)))
    }
}

/// Sessions that channels share.
#[pyclass(frozen, module = "oxgrpc._native", name = "SessionCache")]
pub(crate) struct PySessionCache(pub(crate) SessionCache);

#[pymethods]
impl PySessionCache {
    #[new]
    fn new(capacity: usize) -> Self {
        Self(SessionCache::new(capacity))
    }
}

fn local(is_unix: bool) -> Local {
    if is_unix { Local::Unix } else { Local::Loopback }
}

fn invalid(error: TlsError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// A server's keys with their certificates, and those that clients' certificates are to be signed by.
#[pyclass(frozen, module = "oxgrpc._native")]
pub(crate) struct ServerCertificates {
    identities: Vec<Identity>,
    roots: Option<Vec<u8>>,
    /// What was made of it, for clients that need no certificate and for such that do.
    open: OnceLock<ServerTls>,
    mutual: OnceLock<ServerTls>,
}

#[pymethods]
impl ServerCertificates {
    #[new]
    #[pyo3(signature = (pairs, roots=None))]
    fn new(pairs: Vec<(Vec<u8>, Vec<u8>)>, roots: Option<Vec<u8>>) -> PyResult<Self> {
        let identities: Result<_, _> =
            pairs.iter().map(|(key, chain)| Identity::from_pem(key, chain)).collect();
        let identities = identities.map_err(invalid)?;
        let certificates =
            Self { identities, roots, open: OnceLock::new(), mutual: OnceLock::new() };
        if certificates.roots.is_some() {
            certificates.tls(true)?;
        }
        Ok(certificates)
    }
}

impl ServerCertificates {
    fn tls(&self, requires_clients: bool) -> PyResult<ServerTls> {
        let made = if requires_clients { &self.mutual } else { &self.open };
        if let Some(tls) = made.get() {
            return Ok(tls.clone());
        }
        let roots = match (requires_clients, &self.roots) {
            (true, None) => {
                let text = "clients cannot be verified without root_certificates";
                return Err(PyValueError::new_err(text));
            }
            (true, Some(roots)) => Some(&roots[..]),
            (false, _) => None,
        };
        let tls = ServerTls::new(self.identities.clone(), roots).map_err(invalid)?;
        Ok(made.get_or_init(|| tls).clone())
    }
}

/// How the connections of a port are secured.
enum PortSecurity {
    Insecure,
    Local(Local),
    Tls(ServerTls),
    /// TLS with certificates that change.
    Dynamic {
        current: GilCell<ServerTls>,
        /// Gives other [`ServerCertificates`], or `None`. Asked before each handshake. It does not raise.
        fetch: Py<PyAny>,
        requires_clients: bool,
    },
}

/// What `auth_context` says of a port's transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transport {
    Insecure,
    Local,
    Ssl,
}

/// How the connections of a port are secured.
#[pyclass(frozen, module = "oxgrpc._native")]
pub(crate) struct ServerSecurity(PortSecurity);

#[pymethods]
impl ServerSecurity {
    #[staticmethod]
    fn insecure() -> Self {
        Self(PortSecurity::Insecure)
    }

    #[staticmethod]
    fn local(is_unix: bool) -> Self {
        Self(PortSecurity::Local(local(is_unix)))
    }

    #[staticmethod]
    fn ssl(certificates: &ServerCertificates, requires_clients: bool) -> PyResult<Self> {
        Ok(Self(PortSecurity::Tls(certificates.tls(requires_clients)?)))
    }

    #[staticmethod]
    fn dynamic(
        initial: &ServerCertificates,
        fetch: Py<PyAny>,
        requires_clients: bool,
    ) -> PyResult<Self> {
        let current = GilCell::new(initial.tls(requires_clients)?);
        Ok(Self(PortSecurity::Dynamic { current, fetch, requires_clients }))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.0 {
            PortSecurity::Dynamic { fetch, .. } => visit.call(fetch),
            _ => Ok(()),
        }
    }
}

impl ServerSecurity {
    pub(crate) fn transport(&self) -> Transport {
        match &self.0 {
            PortSecurity::Insecure => Transport::Insecure,
            PortSecurity::Local(_) => Transport::Local,
            PortSecurity::Tls(_) | PortSecurity::Dynamic { .. } => Transport::Ssl,
        }
    }

    /// Asks for certificates that have changed. Runs Python; to be called before each [`secure`](Self::secure).
    pub(crate) fn refresh(&self, py: Python<'_>) -> PyResult<()> {
        let PortSecurity::Dynamic { current, fetch, requires_clients } = &self.0 else {
            return Ok(());
        };
        let fetched = fetch.bind(py).call0()?;
        if fetched.is_none() {
            return Ok(());
        }
        let certificates = fetched.cast_into::<ServerCertificates>()?;
        match certificates.get().tls(*requires_clients) {
            Ok(tls) => {
                let before = current.with(py, |current| std::mem::replace(current, tls));
                drop(before);
            }
            // Those that served so far go on to serve.
            Err(error) => {
                let text = error.value(py).str()?;
                names(py)?.log.call_method1(py, "certificates_refused", (text,))?;
            }
        }
        Ok(())
    }

    /// Makes a stream of an accepted socket.
    pub(crate) fn secure(&self, py: Python<'_>, socket: Socket) -> io::Result<Stream> {
        match &self.0 {
            PortSecurity::Insecure => Ok(socket.into()),
            PortSecurity::Local(local) => local.secure(socket),
            PortSecurity::Tls(tls) => tls.accept(socket),
            PortSecurity::Dynamic { current, .. } => {
                let tls = current.with(py, |tls| tls.clone());
                tls.accept(socket)
            }
        }
    }
}
