//! What a connection reports to the layer above.

use crate::error::{ErrorCode, Violation};
use crate::fields::Fields;
use crate::streams::StreamKey;

/// Something the peer did. `tag` is the name that the layer above gave the stream, [`NO_TAG`] until it does.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A request's or a final response's header section. Informational (1xx) responses are not reported.
    Headers {
        /// The stream, which a request opens.
        stream: StreamKey,
        /// The layer above's name for it.
        tag: u32,
        /// The section; give it back with [`Connection::recycle`](crate::Connection::recycle).
        fields: Fields,
        /// Nothing follows from the peer.
        end_stream: bool,
    },
    /// The trailer section; nothing follows from the peer.
    Trailers {
        /// The stream.
        stream: StreamKey,
        /// The layer above's name for it.
        tag: u32,
        /// The section; give it back with [`Connection::recycle`](crate::Connection::recycle).
        fields: Fields,
    },
    /// Content. It holds the windows down until [`Connection::release`](crate::Connection::release).
    Data {
        /// The stream.
        stream: StreamKey,
        /// The layer above's name for it.
        tag: u32,
        /// The content, without padding; it lies in the caller's input.
        data: &'a [u8],
        /// Nothing follows from the peer.
        end_stream: bool,
    },
    /// The peer reset the stream.
    Reset {
        /// The layer above's name for the stream.
        tag: u32,
        /// Why.
        code: ErrorCode,
    },
    /// The peer broke a rule on the stream and we have reset it.
    Failed {
        /// The layer above's name for the stream.
        tag: u32,
        /// The rule.
        violation: Violation,
    },
    /// The peer's settings have changed; streams may be opened that could not before.
    Settings,
    /// The answer to a [`Connection::ping`](crate::Connection::ping).
    Pong {
        /// The octets that the ping carried.
        payload: [u8; 8],
    },
    /// The peer takes no further streams, and will not process those with an id above `last_stream`.
    GoAway {
        /// The last stream that the peer has processed or may yet process.
        last_stream: u32,
        /// Why.
        code: ErrorCode,
        /// Opaque words for the log.
        debug: &'a [u8],
    },
}

/// The tag of a stream that the layer above has not named.
pub const NO_TAG: u32 = u32::MAX;
