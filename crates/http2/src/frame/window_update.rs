//! WINDOW_UPDATE (RFC 9113 §6.9).

use super::{Head, kind, u32_at};
use crate::error::{ErrorCode, Fault};

/// A WINDOW_UPDATE frame; stream 0 is the connection.
pub(crate) struct WindowUpdate {
    pub(crate) stream: u32,
    pub(crate) increment: u32,
}

impl WindowUpdate {
    pub(crate) fn parse(head: Head, payload: &[u8]) -> Result<Self, Fault> {
        if payload.len() != 4 {
            return Err(Fault::connection(
                ErrorCode::FRAME_SIZE_ERROR,
                "WINDOW_UPDATE is not four octets long (RFC 9113 §6.9)",
            ));
        }
        let increment = u32_at(payload, 0) & 0x7fff_ffff;
        if increment == 0 {
            const RULE: &str = "WINDOW_UPDATE with an increment of 0 (RFC 9113 §6.9)";
            return Err(match head.stream {
                0 => Fault::connection(ErrorCode::PROTOCOL_ERROR, RULE),
                _ => Fault::stream(ErrorCode::PROTOCOL_ERROR, RULE),
            });
        }
        Ok(Self { stream: head.stream, increment })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        Head { len: 4, kind: kind::WINDOW_UPDATE, flags: 0, stream: self.stream }.write(out);
        out.extend_from_slice(&self.increment.to_be_bytes());
    }
}
