//! The gateway's own backends: WorkManager, which runs the workers that it is given, and WebSocketManager, which bridges
//! WebSocket connections to topics. Both are gRPC servers with reflection and health, and clients of the gateway's state
//! and pub/sub: neither keeps anything of its own on disk.

#![forbid(unsafe_code)]

mod backoff;
mod platform;
mod server;
pub mod websocketmanager;
pub mod workmanager;

pub use platform::GatewayAddress;
pub use server::{Backend, Options, StartError};
