//! Why a gateway does not start.

use std::net::SocketAddr;

use crate::registry::FileError;

/// A gateway could not start. The message says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another process listens there.
    #[error("port {} of {} is taken; choose another with {flag}, or stop the process that uses it", .address.port(), .address.ip())]
    AddressInUse {
        /// Where the gateway should have listened.
        address: SocketAddr,
        /// The flag that sets the port.
        flag: &'static str,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}; set another address with --listen and {flag}")]
    Listen {
        /// Where the gateway should have listened.
        address: SocketAddr,
        /// The flag that sets the port.
        flag: &'static str,
        /// The system's reason.
        error: std::io::Error,
    },
    /// Anybody who reaches the address could run code.
    #[error(
        "{address} is reachable from other machines, and a backend that runs code is enabled, so that whoever reaches it could \
         run code here; set API keys (--api-key NAME=SECRET), ask for client certificates (--tls-client-ca FILE), disable \
         the backend, or listen on loopback (--listen 127.0.0.1)"
    )]
    Exposed {
        /// The address that is not loopback.
        address: SocketAddr,
    },
    /// The registry file is wrong.
    #[error(transparent)]
    Services(#[from] FileError),
    /// The certificate, its key or the authority is wrong.
    #[error("TLS: {0}")]
    Tls(String),
    /// The store or the bus cannot be opened.
    #[error("storage: {0}")]
    Storage(String),
}
