//! Non-blocking sockets and the addresses that gRPC names them by. No Python, no gRPC policy.

#![forbid(unsafe_code)]

mod address;
mod listener;
mod socket;
mod target;

pub use address::Address;
pub use listener::{ListenOptions, Listener};
pub use socket::Socket;
pub use target::{Target, TargetError};
