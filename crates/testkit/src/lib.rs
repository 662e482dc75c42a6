//! The vocabulary that the protocol tests are written in. Development only.
//!
//! Nothing here shares code with the engine: frames are built and read by hand ([`frame`]), and field blocks
//! ([`block`]) also by an HPACK implementation that is not ours, so that a test does not repeat the engine's mistake.

#![forbid(unsafe_code)]

pub mod block;
pub mod clock;
pub mod frame;
pub mod grpc;
pub mod paused;
pub mod pipe;
pub mod property;
