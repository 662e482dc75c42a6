//! Non-blocking sockets, TLS over them, and the addresses that gRPC names them by. No Python, no gRPC policy.

#![forbid(unsafe_code)]

mod address;
pub mod dns;
mod listener;
mod socket;
mod stream;
mod target;
mod tls;

pub use address::Address;
pub use listener::{ListenOptions, Listener};
pub use socket::Socket;
pub use stream::Stream;
pub use target::{Target, TargetError};
pub use tls::{
    AltName, Certificate, ClientTls, Handshake, Identity, Roots, ServerTls, SessionCache, TlsError,
    TlsStream, pem,
};
