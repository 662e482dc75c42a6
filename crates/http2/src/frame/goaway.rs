//! GOAWAY (RFC 9113 §6.8).

use super::{Head, kind, u32_at};
use crate::error::{ErrorCode, Fault};

/// A GOAWAY frame.
pub(crate) struct GoAway<'a> {
    /// Streams above this id were not and will not be processed.
    pub(crate) last_stream: u32,
    pub(crate) code: ErrorCode,
    pub(crate) debug: &'a [u8],
}

impl<'a> GoAway<'a> {
    pub(crate) fn parse(head: Head, payload: &'a [u8]) -> Result<Self, Fault> {
        head.no_stream("GOAWAY on a stream (RFC 9113 §6.8)")?;
        let Some((fixed, debug)) = payload.split_at_checked(8) else {
            return Err(Fault::connection(
                ErrorCode::FRAME_SIZE_ERROR,
                "GOAWAY is shorter than eight octets (RFC 9113 §6.8)",
            ));
        };
        Ok(Self {
            last_stream: u32_at(fixed, 0) & 0x7fff_ffff,
            code: ErrorCode(u32_at(fixed, 4)),
            debug,
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let len = 8 + self.debug.len() as u32;
        Head { len, kind: kind::GOAWAY, flags: 0, stream: 0 }.write(out);
        out.extend_from_slice(&self.last_stream.to_be_bytes());
        out.extend_from_slice(&self.code.0.to_be_bytes());
        out.extend_from_slice(self.debug);
    }
}
