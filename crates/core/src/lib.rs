//! gRPC over HTTP/2 (PROTOCOL-HTTP2.md) without IO.
//!
//! A [`ClientConnection`] or [`ServerConnection`] is one end of a connection with the calls on it, as a state machine:
//! octets and commands in, octets and events out. It reads no clock and opens no socket; a deadline is an instant that
//! the driver is told to look at. It knows nothing of Python.

#![forbid(unsafe_code)]

mod admission;
mod balancing;
mod client;
mod compression;
mod connectivity;
mod deadline;
mod engine;
mod headers;
mod keepalive;
mod message;
mod metadata;
mod percent;
mod server;
mod status;
mod timeout;
mod transport;

pub use balancing::{
    Action, Activity, BackoffOptions, Balancer, BalancerOptions, ConnectionId, PolicyKind,
};
pub use client::{
    ClientConnection, ClientEvent, ClientOptions, Outcome, Request, StartError, Unseen,
};
pub use compression::Encoding;
pub use connectivity::Connectivity;
pub use deadline::Deadlines;
pub use engine::Engine;
pub use keepalive::{Keepalive, KeepaliveOptions, Probe};
pub use message::MessageBuffer;
pub use metadata::{InvalidMetadata, Metadata, is_binary};
pub use oxgrpc_http2::{Config, Connection, ErrorCode, Payload, Sent, UsageError, Violation};
pub use server::{
    Accepted, ConnectionCount, ConnectionLimits, Excess, Farewell, LifetimeOptions, Method,
    Methods, PingRules, ServerConnection, ServerEvent, ServerOptions,
};
pub use status::{Code, Status};
pub use transport::{CallId, MessageLimits, Next};
