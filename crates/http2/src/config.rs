//! What one end of a connection grants and allows; every knob of the engine is here.

use crate::flow::{DEFAULT_WINDOW, MAX_WINDOW};
use crate::frame::{MAX_MAX_FRAME_SIZE, MIN_MAX_FRAME_SIZE, settings::Settings};

/// Which end of the connection we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Opens streams with odd ids.
    Client,
    /// Answers them.
    Server,
}

/// The knobs of one connection.
#[derive(Clone, Debug)]
pub struct Config {
    /// The receive window that each stream starts with, in octets (SETTINGS_INITIAL_WINDOW_SIZE).
    ///
    /// Small on purpose: many streams that start at once must not add up to much memory. A stream that is read from
    /// gets a larger one, up to `max_stream_window_bytes`.
    pub initial_stream_window_bytes: u32,
    /// How far a stream's receive window grows while its reader keeps up, in octets.
    pub max_stream_window_bytes: u32,
    /// The connection's receive window in octets: the bound on what all streams hold unread.
    pub connection_window_bytes: u32,
    /// The longest frame payload that we take, in octets (SETTINGS_MAX_FRAME_SIZE).
    pub max_frame_bytes: u32,
    /// The largest field section that we take, in octets as RFC 9113 §6.5.2 counts (SETTINGS_MAX_HEADER_LIST_SIZE).
    pub max_header_list_bytes: u32,
    /// How many streams the peer may have open at once; `None` sets no limit.
    pub max_concurrent_streams: Option<u32>,
    /// How many octets of DATA may wait in the output for the socket.
    pub max_output_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            initial_stream_window_bytes: 65_535,
            max_stream_window_bytes: 4 << 20,
            connection_window_bytes: 16 << 20,
            max_frame_bytes: MIN_MAX_FRAME_SIZE,
            max_header_list_bytes: 16 << 10,
            max_concurrent_streams: None,
            max_output_bytes: 256 << 10,
        }
    }
}

impl Config {
    /// The SETTINGS that announce this configuration. What equals the protocol's default is left out.
    pub(crate) fn settings(&self, role: Role) -> Settings {
        let unless = |value: u32, default: u32| (value != default).then_some(value);
        Settings {
            header_table_size: None,
            enable_push: (role == Role::Client).then_some(false),
            max_concurrent_streams: self.max_concurrent_streams.filter(|_| role == Role::Server),
            initial_window_size: unless(self.initial_stream_window(), DEFAULT_WINDOW),
            max_frame_size: unless(self.max_frame_size(), MIN_MAX_FRAME_SIZE),
            max_header_list_size: Some(self.max_header_list_bytes),
        }
    }

    fn initial_stream_window(&self) -> u32 {
        self.initial_stream_window_bytes.min(MAX_WINDOW)
    }

    pub(crate) fn max_frame_size(&self) -> u32 {
        self.max_frame_bytes.clamp(MIN_MAX_FRAME_SIZE, MAX_MAX_FRAME_SIZE)
    }
}
