//! Events as a test keeps them: owned, comparable, streams named by their id.

use oxgrpc_http2::{ErrorCode, Event, Fields};
use std::fmt;

/// An [`Event`]. The stream of `Reset` and `Failed` is `NO_TAG` where the layer above never heard of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    Headers { stream: u32, section: Section, end_stream: bool },
    Trailers { stream: u32, section: Section },
    Data { stream: u32, data: Content, end_stream: bool },
    Reset { stream: u32, code: ErrorCode },
    Failed { stream: u32, code: ErrorCode },
    Settings,
    Pong([u8; 8]),
    GoAway { last_stream: u32, code: ErrorCode, debug: String },
}

/// Octets, of which a failed assertion shows the first.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(pub Vec<u8>);

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = &self.0[..self.0.len().min(40)];
        write!(f, "{} octets: {}", self.0.len(), first.escape_ascii())
    }
}

/// A field section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Section {
    pub fields: Vec<(String, String)>,
    /// The names of the fields that are secrets.
    pub never_indexed: Vec<String>,
    pub list_size: usize,
    pub is_oversized: bool,
}

impl Seen {
    pub fn data(stream: u32, data: impl AsRef<[u8]>, end_stream: bool) -> Self {
        Self::Data { stream, data: Content(data.as_ref().to_vec()), end_stream }
    }

    /// The section of `Headers` or `Trailers`.
    #[track_caller]
    pub fn section(&self) -> &Section {
        match self {
            Self::Headers { section, .. } | Self::Trailers { section, .. } => section,
            other => panic!("{other:?} has no section"),
        }
    }

    /// The event's name and stream, where the rest does not matter.
    pub fn brief(&self) -> (&'static str, u32) {
        match *self {
            Self::Headers { stream, .. } => ("headers", stream),
            Self::Trailers { stream, .. } => ("trailers", stream),
            Self::Data { stream, .. } => ("data", stream),
            Self::Reset { stream, .. } => ("reset", stream),
            Self::Failed { stream, .. } => ("failed", stream),
            Self::Settings => ("settings", 0),
            Self::Pong(_) => ("pong", 0),
            Self::GoAway { .. } => ("goaway", 0),
        }
    }
}

impl Section {
    /// The field's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.0 == name).map(|field| &*field.1)
    }
}

impl From<&Fields> for Section {
    fn from(fields: &Fields) -> Self {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        Self {
            fields: fields.iter().map(|field| (text(field.name), text(field.value))).collect(),
            never_indexed: fields
                .iter()
                .filter(|field| field.never_indexed)
                .map(|field| text(field.name))
                .collect(),
            list_size: fields.list_size(),
            is_oversized: fields.is_oversized(),
        }
    }
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Headers { stream, fields, end_stream, .. } => {
                Self::Headers { stream: stream.id(), section: Section::from(&fields), end_stream }
            }
            Event::Trailers { stream, fields, .. } => {
                Self::Trailers { stream: stream.id(), section: Section::from(&fields) }
            }
            Event::Data { stream, data, end_stream, .. } => {
                Self::data(stream.id(), data, end_stream)
            }
            Event::Reset { tag, code } => Self::Reset { stream: tag, code },
            Event::Failed { tag, violation } => {
                Self::Failed { stream: tag, code: violation.code() }
            }
            Event::Settings => Self::Settings,
            Event::Pong { payload } => Self::Pong(payload),
            Event::GoAway { last_stream, code, debug } => {
                let debug = String::from_utf8_lossy(debug).into_owned();
                Self::GoAway { last_stream, code, debug }
            }
            other => panic!("{other:?} is new"),
        }
    }
}
