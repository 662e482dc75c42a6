//! RST_STREAM (RFC 9113 §6.4).

use super::{Head, kind, u32_at};
use crate::error::{ErrorCode, Fault};

/// An RST_STREAM frame.
pub(crate) struct Reset {
    pub(crate) stream: u32,
    pub(crate) code: ErrorCode,
}

impl Reset {
    pub(crate) fn parse(head: Head, payload: &[u8]) -> Result<Self, Fault> {
        let stream = head.stream_id("RST_STREAM on stream 0 (RFC 9113 §6.4)")?;
        if payload.len() != 4 {
            return Err(Fault::connection(
                ErrorCode::FRAME_SIZE_ERROR,
                "RST_STREAM is not four octets long (RFC 9113 §6.4)",
            ));
        }
        Ok(Self { stream, code: ErrorCode(u32_at(payload, 0)) })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        Head { len: 4, kind: kind::RST_STREAM, flags: 0, stream: self.stream }.write(out);
        out.extend_from_slice(&self.code.0.to_be_bytes());
    }
}
