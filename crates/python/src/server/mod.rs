//! The server: listening, connections, and the tasks that answer calls.

mod auth;
mod context;
mod handler;
mod link;
mod operation;
mod responding;
mod serving;
mod task;

pub(crate) use context::{RequestIterator, ServicerContext};
pub(crate) use serving::Server;
