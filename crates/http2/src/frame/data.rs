//! DATA (RFC 9113 §6.1).

use super::{Head, flag, kind, strip_padding};
use crate::error::Fault;

/// A DATA frame; the whole payload, padding included, counts against the windows (§6.9.1).
pub(crate) struct Data<'a> {
    pub(crate) stream: u32,
    pub(crate) content: &'a [u8],
    /// Octets that flow control counts: content, padding and the pad-length octet.
    pub(crate) flow_len: u32,
    pub(crate) end_stream: bool,
}

impl<'a> Data<'a> {
    pub(crate) fn parse(head: Head, payload: &'a [u8]) -> Result<Self, Fault> {
        Ok(Self {
            stream: head.stream_id("DATA on stream 0 (RFC 9113 §6.1)")?,
            content: strip_padding(head, payload)?,
            flow_len: head.len,
            end_stream: head.has(flag::END_STREAM),
        })
    }
}

/// The head of an unpadded DATA frame.
pub(crate) fn head(stream: u32, len: u32, end_stream: bool) -> Head {
    Head { len, kind: kind::DATA, flags: if end_stream { flag::END_STREAM } else { 0 }, stream }
}
