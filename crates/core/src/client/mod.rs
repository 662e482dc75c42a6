//! The client's side of gRPC: what a call is made of and what it comes to (PROTOCOL-HTTP2.md).

mod connection;

pub use connection::ClientConnection;

use crate::compression::Encoding;
use crate::keepalive::KeepaliveOptions;
use crate::metadata::Metadata;
use crate::status::Status;
use crate::transport::{CallId, MAX_UNREAD, MessageLimits};
use oxgrpc_http2::{Config, ErrorCode, UsageError};
use std::time::Instant;

/// A call to start.
#[derive(Debug)]
pub struct Request<'a> {
    /// `/package.Service/Method`.
    pub path: &'a [u8],
    /// The application's metadata.
    pub metadata: &'a Metadata,
    /// When to give up.
    pub deadline: Option<Instant>,
    /// The encoding of messages that are sent compressed.
    pub encoding: Encoding,
    /// Exactly one message must come back.
    pub unary_response: bool,
    /// How large its messages may be, if that is not what holds for the connection.
    pub limits: Option<MessageLimits>,
    /// Attempts at the same call that have failed before this one: `grpc-previous-rpc-attempts` (gRFC A6).
    pub previous_attempts: u32,
}

/// Why a call was not started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StartError {
    /// The connection takes no call now; another connection, or this one later, may.
    NotNow(UsageError),
    /// The call fails, wherever it is started.
    Failed(Status),
}

/// Something that happened to a call, or to the connection.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The server's initial metadata has come.
    Headers(CallId),
    /// The message that a reader waits for has come, or the end.
    Readable(CallId),
    /// What was queued for the call is within the windows now.
    Writable(CallId),
    /// The call has ended: its outcome can be taken. A stream whose deadline passes while responses are unread ends a second
    /// time, with that outcome.
    Ended(CallId),
    /// The server's SETTINGS have come, for the first time or anew: calls may be started.
    Settings,
    /// The server does not answer: the connection is to be ended.
    Lost,
    /// The server takes no more calls on this connection.
    GoAway {
        /// Why.
        code: ErrorCode,
        /// The server's words.
        debug: String,
    },
}

/// How a call ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The status, the server's or our own.
    pub status: Status,
    /// The server's trailing metadata.
    pub trailing: Metadata,
    /// The status came from the server.
    pub is_remote: bool,
    /// The server has sent details of the status that could not be decoded: they are not in the trailing metadata.
    pub lost_details: bool,
    /// The server's program has not seen the call: it can be made again whatever it does.
    pub unseen: Option<Unseen>,
}

/// Why it is certain that a call was not seen by the server's program (gRFC A6, "Transparent Retries").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unseen {
    /// Nothing of it was written.
    NeverLeft,
    /// The server has refused it (RFC 9113 §8.7), or goes away without taking it (§6.8).
    Refused,
}

impl Outcome {
    /// An end that this side decides upon.
    pub fn local(status: Status) -> Self {
        let trailing = Metadata::new();
        Self { status, trailing, is_remote: false, lost_details: false, unseen: None }
    }

    /// The end of a call that the server's program has not seen.
    pub fn unseen(status: Status, why: Unseen) -> Self {
        Self { unseen: Some(why), ..Self::local(status) }
    }
}

/// The knobs of a client's connection.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// HTTP/2's knobs.
    pub http: Config,
    /// How large messages may be.
    pub limits: MessageLimits,
    /// Whether the connection is kept alive by PINGs.
    pub keepalive: Option<KeepaliveOptions>,
    /// `:scheme`: http or https.
    pub scheme: &'static str,
    /// `:authority`: what the server is called.
    pub authority: String,
    /// `user-agent`.
    pub user_agent: String,
    /// How many octets of messages all calls of the connection may hold unread before calls end for it, the youngest first.
    pub max_unread_bytes: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            http: Config::default(),
            limits: MessageLimits::default(),
            keepalive: None,
            scheme: "",
            authority: String::new(),
            user_agent: String::new(),
            max_unread_bytes: MAX_UNREAD,
        }
    }
}
