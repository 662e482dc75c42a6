//! PING (RFC 9113 §6.7).

use super::{Head, flag, kind};
use crate::error::{ErrorCode, Fault};

/// A PING frame and its eight opaque octets.
pub(crate) struct Ping {
    pub(crate) ack: bool,
    pub(crate) payload: [u8; 8],
}

impl Ping {
    pub(crate) fn parse(head: Head, payload: &[u8]) -> Result<Self, Fault> {
        head.no_stream("PING on a stream (RFC 9113 §6.7)")?;
        match payload.try_into() {
            Ok(payload) => Ok(Self { ack: head.has(flag::ACK), payload }),
            Err(_) => Err(Fault::connection(
                ErrorCode::FRAME_SIZE_ERROR,
                "PING is not eight octets long (RFC 9113 §6.7)",
            )),
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let flags = if self.ack { flag::ACK } else { 0 };
        Head { len: 8, kind: kind::PING, flags, stream: 0 }.write(out);
        out.extend_from_slice(&self.payload);
    }
}
