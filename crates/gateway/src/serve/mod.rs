//! What both ports have in common: listening, TLS, and the way in.
//!
//! Each request, whatever its protocol, passes the same doors in the same order: it is observed ([`observe`]), its `Host` and
//! `Origin` are checked ([`origins`]), CORS answers preflights, its key is checked ([`keys`]).

pub(crate) mod keys;
mod listen;
pub(crate) mod observe;
pub(crate) mod origins;
pub(crate) mod refusal;
mod tls;

pub(crate) use listen::{Ending, Incoming, bind, incoming};
pub(crate) use refusal::refuse;
pub(crate) use tls::server_config;
