//! SETTINGS (RFC 9113 §6.5).

use super::{Head, MAX_MAX_FRAME_SIZE, MIN_MAX_FRAME_SIZE, flag, kind, u32_at};
use crate::error::{ErrorCode, Fault};

const HEADER_TABLE_SIZE: u16 = 0x1;
const ENABLE_PUSH: u16 = 0x2;
const MAX_CONCURRENT_STREAMS: u16 = 0x3;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MAX_FRAME_SIZE: u16 = 0x5;
const MAX_HEADER_LIST_SIZE: u16 = 0x6;

/// The settings that a SETTINGS frame changes: `None` is left as it was. Unknown identifiers are ignored (§6.5.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// Octets of the dynamic table that the sender's decoder keeps.
    pub header_table_size: Option<u32>,
    /// Whether server push is wanted; this engine never pushes and always says no.
    pub enable_push: Option<bool>,
    /// How many streams the receiver of the setting may have open at once.
    pub max_concurrent_streams: Option<u32>,
    /// The send window that each stream starts with, in octets.
    pub initial_window_size: Option<u32>,
    /// The longest frame payload that the sender takes, in octets.
    pub max_frame_size: Option<u32>,
    /// The largest field section that the sender takes, in octets as §6.5.2 counts them.
    pub max_header_list_size: Option<u32>,
}

impl Settings {
    pub(crate) fn parse(head: Head, payload: &[u8]) -> Result<Self, Fault> {
        head.no_stream("SETTINGS on a stream (RFC 9113 §6.5)")?;
        if !payload.len().is_multiple_of(6) {
            return Err(Fault::connection(
                ErrorCode::FRAME_SIZE_ERROR,
                "SETTINGS is not a multiple of six octets long (RFC 9113 §6.5)",
            ));
        }
        let mut settings = Self::default();
        for entry in payload.chunks_exact(6) {
            let value = u32_at(entry, 2);
            match u16::from_be_bytes([entry[0], entry[1]]) {
                HEADER_TABLE_SIZE => settings.header_table_size = Some(value),
                ENABLE_PUSH => settings.enable_push = Some(boolean(value)?),
                MAX_CONCURRENT_STREAMS => settings.max_concurrent_streams = Some(value),
                INITIAL_WINDOW_SIZE => settings.initial_window_size = Some(window(value)?),
                MAX_FRAME_SIZE => settings.max_frame_size = Some(frame_size(value)?),
                MAX_HEADER_LIST_SIZE => settings.max_header_list_size = Some(value),
                _ => {}
            }
        }
        Ok(settings)
    }

    /// Checks an acknowledgement: it has no stream and no payload.
    pub(crate) fn check_ack(head: Head) -> Result<(), Fault> {
        head.no_stream("SETTINGS on a stream (RFC 9113 §6.5)")?;
        match head.len {
            0 => Ok(()),
            _ => Err(Fault::connection(
                ErrorCode::FRAME_SIZE_ERROR,
                "a SETTINGS acknowledgement has a payload (RFC 9113 §6.5)",
            )),
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let entries = [
            (HEADER_TABLE_SIZE, self.header_table_size),
            (ENABLE_PUSH, self.enable_push.map(u32::from)),
            (MAX_CONCURRENT_STREAMS, self.max_concurrent_streams),
            (INITIAL_WINDOW_SIZE, self.initial_window_size),
            (MAX_FRAME_SIZE, self.max_frame_size),
            (MAX_HEADER_LIST_SIZE, self.max_header_list_size),
        ];
        let len = entries.iter().filter(|(_, value)| value.is_some()).count() as u32 * 6;
        Head { len, kind: kind::SETTINGS, flags: 0, stream: 0 }.write(out);
        for (id, value) in entries {
            if let Some(value) = value {
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(&value.to_be_bytes());
            }
        }
    }

    pub(crate) fn write_ack(out: &mut Vec<u8>) {
        Head { len: 0, kind: kind::SETTINGS, flags: flag::ACK, stream: 0 }.write(out);
    }
}

fn boolean(value: u32) -> Result<bool, Fault> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Fault::connection(
            ErrorCode::PROTOCOL_ERROR,
            "SETTINGS_ENABLE_PUSH is neither 0 nor 1 (RFC 9113 §6.5.2)",
        )),
    }
}

fn window(value: u32) -> Result<u32, Fault> {
    if value > crate::flow::MAX_WINDOW {
        return Err(Fault::connection(
            ErrorCode::FLOW_CONTROL_ERROR,
            "SETTINGS_INITIAL_WINDOW_SIZE exceeds 2^31-1 (RFC 9113 §6.5.2)",
        ));
    }
    Ok(value)
}

fn frame_size(value: u32) -> Result<u32, Fault> {
    if !(MIN_MAX_FRAME_SIZE..=MAX_MAX_FRAME_SIZE).contains(&value) {
        return Err(Fault::connection(
            ErrorCode::PROTOCOL_ERROR,
            "SETTINGS_MAX_FRAME_SIZE is outside 2^14..2^24-1 (RFC 9113 §6.5.2)",
        ));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_the_wire() {
        let settings = Settings {
            header_table_size: Some(0),
            enable_push: Some(false),
            max_concurrent_streams: None,
            initial_window_size: Some(1 << 20),
            max_frame_size: Some(1 << 14),
            max_header_list_size: Some(u32::MAX),
        };
        let mut out = Vec::new();
        settings.write(&mut out);
        let head = Head::parse(out[..9].try_into().unwrap());
        assert_eq!(head.len as usize, out.len() - 9);
        assert_eq!(Settings::parse(head, &out[9..]), Ok(settings));
    }

    #[test]
    fn the_last_value_of_a_repeated_setting_counts() {
        let payload = [0, 4, 0, 0, 0, 1, 0, 4, 0, 0, 0, 2];
        let head = Head { len: 12, kind: kind::SETTINGS, flags: 0, stream: 0 };
        assert_eq!(Settings::parse(head, &payload).unwrap().initial_window_size, Some(2));
    }
}
