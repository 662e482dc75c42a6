//! The server's side of gRPC: methods, and what happens to a call (PROTOCOL-HTTP2.md).

mod connection;
mod connection_limits;
mod lifetime;
mod one_request;
mod ping_policy;

pub use connection::ServerConnection;
pub use connection_limits::{ConnectionCount, ConnectionLimits, Excess};
pub use lifetime::LifetimeOptions;
pub use ping_policy::PingRules;

use crate::keepalive::KeepaliveOptions;
use crate::metadata::Metadata;
use crate::transport::{CallId, MAX_UNREAD, MessageLimits};
use hashbrown::HashMap;
use oxgrpc_http2::{Config, Violation};
use std::sync::Arc;
use std::time::Instant;

/// A method that is registered under its path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Method {
    /// The caller's name for it.
    pub index: u32,
    /// Whether the client sends a stream; if not, the call is reported once its request is there and no second can
    /// follow.
    pub request_streaming: bool,
}

/// The methods of a server, shared by its connections.
#[derive(Clone, Debug, Default)]
pub struct Methods {
    pub(super) by_path: HashMap<Box<[u8]>, Method>,
    /// Whether calls of other paths are reported, too, instead of being answered with UNIMPLEMENTED.
    pub reports_unknown: bool,
}

impl Methods {
    /// Registers a method under `/package.Service/Method`, in place of another.
    pub fn insert(&mut self, path: &[u8], method: Method) {
        self.by_path.insert(path.into(), method);
    }

    /// The method of a path.
    pub fn get(&self, path: &[u8]) -> Option<Method> {
        self.by_path.get(path).copied()
    }
}

/// The knobs of a server's connections.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// HTTP/2's knobs.
    pub http: Config,
    /// How large messages may be.
    pub limits: MessageLimits,
    /// Whether the connection is kept alive by PINGs.
    pub keepalive: Option<KeepaliveOptions>,
    /// How often the client may send PINGs.
    pub pings: PingRules,
    /// How long the connection is kept.
    pub lifetime: LifetimeOptions,
    /// How many octets of messages all calls of the connection may hold unread before calls end for it, the youngest first.
    pub max_unread_bytes: usize,
    /// While more octets of responses than this wait for the client, no further calls are reported.
    pub max_unsent_bytes: usize,
    /// Calls are refused while those on the connection, with their metadata, take up more octets than this.
    pub max_calls_bytes: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            http: Config::default(),
            limits: MessageLimits::default(),
            keepalive: None,
            pings: PingRules::default(),
            lifetime: LifetimeOptions::default(),
            max_unread_bytes: MAX_UNREAD,
            max_unsent_bytes: 8 << 20,
            max_calls_bytes: 32 << 20,
        }
    }
}

/// Something that happened to a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ServerEvent {
    /// A call to answer: see [`ServerConnection::accept`].
    Call(CallId),
    /// The message that a reader waits for has come, or the end.
    Readable(CallId),
    /// What was queued for the call is within the windows now.
    Writable(CallId),
    /// A call that was accepted is over before it was finished: its client has reset it, its deadline has passed, its
    /// requests are broken, or the connection is lost. Whatever had to be sent is sent.
    Cancelled(CallId),
    /// The connection is to be ended.
    Over(Farewell),
}

/// Why a connection is to be ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Farewell {
    /// Its client does not begin to speak HTTP/2.
    NeverBegan,
    /// Its client does not answer.
    Lost,
    /// It is old, and so are the calls that are left.
    Outlived,
    /// Its client broke a rule; the GOAWAY is in the output.
    Broken(Violation),
}

/// A call to answer.
#[derive(Debug)]
pub struct Accepted {
    /// The registered method, if it is one.
    pub method: Option<u32>,
    /// The path of a method that is not registered.
    pub path: Box<[u8]>,
    /// The client's metadata, without its user-agent.
    pub metadata: Metadata,
    /// `user-agent`, which the calls of a connection share.
    pub user_agent: Option<Arc<[u8]>>,
    /// When the client gives up.
    pub deadline: Option<Instant>,
}
