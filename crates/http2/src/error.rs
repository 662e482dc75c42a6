//! What ends a stream or a connection, and which rule was broken (RFC 9113 §5.4 and §7).
//!
//! A peer's fault is a [`Violation`]: it carries the error code that goes on the wire and the rule, in words, for the
//! log. A caller's mistake is a [`UsageError`] and never reaches the wire.

use std::fmt;

/// An HTTP/2 error code (RFC 9113 §7). Unknown codes are kept as they came.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// Graceful shutdown, or nothing wrong.
    pub const NO_ERROR: Self = Self(0x0);
    /// An unspecific protocol error.
    pub const PROTOCOL_ERROR: Self = Self(0x1);
    /// The endpoint met an unexpected internal error.
    pub const INTERNAL_ERROR: Self = Self(0x2);
    /// The peer overran its flow-control window.
    pub const FLOW_CONTROL_ERROR: Self = Self(0x3);
    /// SETTINGS were not acknowledged in time.
    pub const SETTINGS_TIMEOUT: Self = Self(0x4);
    /// A frame came for a half-closed stream.
    pub const STREAM_CLOSED: Self = Self(0x5);
    /// A frame had an invalid size.
    pub const FRAME_SIZE_ERROR: Self = Self(0x6);
    /// The stream was refused before any processing: safe to retry.
    pub const REFUSED_STREAM: Self = Self(0x7);
    /// The stream is no longer wanted.
    pub const CANCEL: Self = Self(0x8);
    /// The field-compression state is lost.
    pub const COMPRESSION_ERROR: Self = Self(0x9);
    /// The tunnel of a CONNECT request broke.
    pub const CONNECT_ERROR: Self = Self(0xa);
    /// The peer causes excessive load.
    pub const ENHANCE_YOUR_CALM: Self = Self(0xb);
    /// The transport's security is insufficient.
    pub const INADEQUATE_SECURITY: Self = Self(0xc);
    /// HTTP/1.1 is required.
    pub const HTTP_1_1_REQUIRED: Self = Self(0xd);

    /// The code's name in RFC 9113, or `None` for one the RFC does not define.
    pub fn name(self) -> Option<&'static str> {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        NAMES.get(self.0 as usize).copied()
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "error code {:#x}", self.0),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A rule that the peer broke: the code for the wire and the rule for the log.
///
/// Which scope it has, a stream or the whole connection, is told by where it is found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    code: ErrorCode,
    rule: &'static str,
}

impl Violation {
    /// A violation of `rule`, answered with `code`.
    pub(crate) const fn new(code: ErrorCode, rule: &'static str) -> Self {
        Self { code, rule }
    }

    /// The code that RST_STREAM or GOAWAY carries.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// The broken rule in words, with its RFC section.
    pub fn rule(&self) -> &'static str {
        self.rule
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.rule)
    }
}

impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Violation {}

/// How far a violation reaches: what a frame's parser and the stream states return.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The connection ends with GOAWAY (§5.4.1).
    Connection(Violation),
    /// The stream ends with RST_STREAM (§5.4.2).
    Stream(Violation),
}

impl Fault {
    pub(crate) const fn connection(code: ErrorCode, rule: &'static str) -> Self {
        Self::Connection(Violation::new(code, rule))
    }

    pub(crate) const fn stream(code: ErrorCode, rule: &'static str) -> Self {
        Self::Stream(Violation::new(code, rule))
    }
}

/// A command that cannot be carried out: the caller's mistake, or the stream is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum UsageError {
    /// The connection has failed or is closed.
    ConnectionClosed,
    /// The connection accepts no further streams: one side sent GOAWAY, or the stream ids are used up.
    GoingAway,
    /// The peer's SETTINGS_MAX_CONCURRENT_STREAMS is reached; try again when a stream has ended.
    StreamLimit,
    /// The stream is closed, was reset, or never was.
    StreamClosed,
    /// The local side of the stream has already ended.
    SendClosed,
    /// The role does not allow this command.
    WrongRole,
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConnectionClosed => "the connection is closed",
            Self::GoingAway => "the connection is going away",
            Self::StreamLimit => "the peer's limit of concurrent streams is reached",
            Self::StreamClosed => "the stream is closed",
            Self::SendClosed => "the local side of the stream has ended",
            Self::WrongRole => "the role does not allow this command",
        })
    }
}

impl std::error::Error for UsageError {}
