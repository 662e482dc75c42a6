//! How connections are secured: not at all, by the kind of socket, or by TLS.

use crate::address::Address;
use crate::socket::Socket;
use crate::stream::Stream;
use crate::tls::{ClientTls, SessionCache};
use std::io;

/// The peers that count as local, for grpcio's `local_channel_credentials` and `local_server_credentials`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Local {
    /// Peers on a Unix socket.
    Unix,
    /// Peers on a loopback address.
    Loopback,
}

impl Local {
    /// Makes a stream of a socket, or refuses a peer on another machine or on another kind of socket.
    pub fn secure(self, socket: Socket) -> io::Result<Stream> {
        let peer = socket.peer();
        let (is_local, kind) = match self {
            Self::Unix => (!matches!(peer, Address::Tcp(_)), "Unix sockets"),
            Self::Loopback => {
                let is_loopback = matches!(peer, Address::Tcp(tcp) if tcp.ip().is_loopback());
                (is_loopback, "loopback addresses")
            }
        };
        if is_local {
            return Ok(socket.into());
        }
        let text = format!("local credentials of this type are for {kind} only");
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }
}

/// How a channel's connections are secured.
#[derive(Clone, Debug, Default)]
pub enum ChannelSecurity {
    /// Not at all.
    #[default]
    Insecure,
    /// By a peer that must be local.
    Local(Local),
    /// By TLS.
    Tls(ClientTls),
}

impl ChannelSecurity {
    /// Makes a stream of a connected socket whose peer must prove to be `host`.
    pub fn secure(&self, socket: Socket, host: &str) -> io::Result<Stream> {
        match self {
            Self::Insecure => Ok(socket.into()),
            Self::Local(local) => local.secure(socket),
            Self::Tls(tls) => tls.connect(socket, host),
        }
    }

    /// Returns the same security which, if it is TLS, resumes sessions from `cache`.
    #[must_use]
    pub fn with_sessions(&self, cache: &SessionCache) -> Self {
        match self {
            Self::Tls(tls) => Self::Tls(tls.with_sessions(cache)),
            other => other.clone(),
        }
    }

    /// Returns the `:scheme` of requests. Local credentials do not encrypt.
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Tls(_) => "https",
            Self::Insecure | Self::Local(_) => "http",
        }
    }

    /// Returns whether it is safe to send tokens.
    pub fn is_secure(&self) -> bool {
        !matches!(self, Self::Insecure)
    }
}
