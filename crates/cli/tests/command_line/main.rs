//! The built `oxgrpc` against servers that the tests start.

#![allow(clippy::unwrap_used)]

mod bench;
mod calls;
mod completion;
mod diagnosis;
mod exit_codes;
mod output;
mod profiles;
mod program;
mod schemas;
mod serve;
mod server;
