//! The gRPC services that the gateway itself answers, beside state, pub/sub and Dapr's.

pub(crate) mod config;
pub(crate) mod gateway;
pub(crate) mod reflection;
mod schema;
