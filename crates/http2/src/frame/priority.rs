//! PRIORITY (RFC 9113 §6.3): deprecated, parsed for its errors and otherwise ignored.

use super::{Head, u32_at};
use crate::error::{ErrorCode, Fault};

/// The dependency that PRIORITY and HEADERS may name.
pub(crate) struct Priority {
    pub(crate) depends_on: u32,
}

impl Priority {
    /// Length of the priority fields.
    pub(crate) const LEN: usize = 5;

    /// Reads the five octets of the fields; the caller has checked the length.
    pub(crate) fn parse_fields(fields: &[u8]) -> Self {
        Self { depends_on: u32_at(fields, 0) & 0x7fff_ffff }
    }

    pub(crate) fn parse(head: Head, payload: &[u8]) -> Result<Self, Fault> {
        let stream = head.stream_id("PRIORITY on stream 0 (RFC 9113 §6.3)")?;
        if payload.len() != Self::LEN {
            return Err(Fault::stream(
                ErrorCode::FRAME_SIZE_ERROR,
                "PRIORITY is not five octets long (RFC 9113 §6.3)",
            ));
        }
        let priority = Self::parse_fields(payload);
        if priority.depends_on == stream {
            return Err(Fault::stream(
                ErrorCode::PROTOCOL_ERROR,
                "a stream depends on itself (RFC 7540 §5.3.1)",
            ));
        }
        Ok(priority)
    }
}
