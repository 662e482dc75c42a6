//! The gateway: one door to registered gRPC backends, to per-service state and to pub/sub.
//!
//! It is an ordinary Rust service on tonic and axum, not on oxgrpc's own engine, so that each test of the Python client is also
//! a test against a second implementation of gRPC. [`Gateway::start`] serves gRPC on one port and REST, gRPC-Web and the
//! console on another; [`state`] and [`pubsub`] each have an embedded engine and one that several gateways share.

#![allow(dead_code)]
#![forbid(unsafe_code)]

pub mod backend;
pub mod config;
mod console;
pub mod dapr;
mod error;
mod gateway;
mod invoke;
mod metrics;
mod nats;
pub mod pubsub;
pub mod registry;
mod rest;
mod serve;
mod services;
pub mod state;

pub use config::Config;
pub use error::StartError;
pub use gateway::Gateway;
