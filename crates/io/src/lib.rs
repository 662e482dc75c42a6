//! Non-blocking sockets, TLS over them, the addresses that gRPC names them by, and connections for a driver to drive. No
//! Python, no gRPC policy.

#![forbid(unsafe_code)]

mod address;
pub mod dns;
mod link;
mod listener;
mod security;
mod socket;
mod stream;
mod target;
mod tls;

pub use address::Address;
pub use link::{End, LINGER, Link};
pub use listener::{ListenOptions, Listener};
pub use security::{ChannelSecurity, Local};
pub use socket::Socket;
pub use stream::Stream;
pub use target::{Target, TargetError};
pub use tls::{
    AltName, Certificate, ClientTls, Handshake, Identity, Roots, ServerTls, SessionCache, TlsError,
    TlsStream, pem,
};
