//! What both ports have in common: listening, TLS, and the way in.

mod listen;

pub(crate) use listen::{bind, incoming};
