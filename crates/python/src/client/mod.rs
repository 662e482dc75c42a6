//! The client: channels, their connections on each loop, and calls.

mod attempts;
mod call;
mod channel;
mod classes;
mod connecting;
mod credentials;
mod deadline;
mod dns;
mod hedge;
mod line;
mod link;
mod loop_channel;
mod method;
mod multicallable;
mod operation;
mod outcome;
mod picker;
mod requests;
mod resolver;
mod subchannel;

pub(crate) use call::Call;
pub(crate) use channel::Channel;
pub(crate) use classes::{StreamStreamCall, StreamUnaryCall, UnaryStreamCall, UnaryUnaryCall};
pub(crate) use dns::{dns_answer, dns_query};
pub(crate) use multicallable::{
    StreamStreamMultiCallable, StreamUnaryMultiCallable, UnaryStreamMultiCallable,
    UnaryUnaryMultiCallable,
};
