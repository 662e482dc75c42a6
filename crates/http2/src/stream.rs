//! One stream: its state (RFC 9113 §5.1), its windows and what waits to be sent on it.

use crate::flow::{ReceiveWindow, SendWindow};
use crate::hpack::{Indexing, Prepared};
use bytes::{Buf, Bytes};
use std::collections::VecDeque;

/// The states of a stream that has been opened (RFC 9113 §5.1). `Idle` streams are not stored, `Closed` ones are
/// removed, and nothing is ever reserved, because push is disabled.
///
/// ```text
///                 HEADERS
///          Idle ──────────► Open
///                          /    \
///            we send      /      \    the peer sends
///          END_STREAM    /        \     END_STREAM
///                       ▼          ▼
///        HalfClosedLocal            HalfClosedRemote
///                       \          /
///     the peer sends     \        /    we send
///       END_STREAM        ▼      ▼     END_STREAM
///                          Closed  ◄──── RST_STREAM from any state, either way
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Open,
    HalfClosedLocal,
    HalfClosedRemote,
    Closed,
}

impl State {
    pub(crate) fn can_send(self) -> bool {
        matches!(self, Self::Open | Self::HalfClosedRemote)
    }

    pub(crate) fn can_receive(self) -> bool {
        matches!(self, Self::Open | Self::HalfClosedLocal)
    }

    /// We have sent END_STREAM.
    pub(crate) fn end_local(&mut self) {
        *self = match *self {
            Self::Open => Self::HalfClosedLocal,
            Self::HalfClosedRemote => Self::Closed,
            other => other,
        };
    }

    /// The peer has sent END_STREAM.
    pub(crate) fn end_remote(&mut self) {
        *self = match *self {
            Self::Open => Self::HalfClosedRemote,
            Self::HalfClosedLocal => Self::Closed,
            other => other,
        };
    }
}

/// A header list to send: what is prepared comes first.
#[derive(Debug, Default)]
pub struct HeaderList<'a> {
    /// Fields that go out often on this connection.
    pub prepared: Option<&'a mut Prepared>,
    /// Further fields: name, value and whether to index them.
    pub fields: &'a [(&'a [u8], &'a [u8], Indexing)],
}

impl HeaderList<'_> {
    /// The size as RFC 9113 §6.5.2 counts it, in octets.
    pub(crate) fn list_size(&self) -> usize {
        let own: usize = self.fields.iter().map(|(name, value, _)| name.len() + value.len()).sum();
        let overhead = self.fields.len() * crate::hpack::ENTRY_OVERHEAD;
        own + overhead + self.prepared.as_ref().map_or(0, |prepared| prepared.list_size())
    }

    /// A copy that can wait.
    fn to_owned(&self) -> OwnedFields {
        let prepared = self.prepared.iter().flat_map(|prepared| prepared.iter());
        prepared
            .map(|(name, value)| (name, value, Indexing::Always))
            .chain(self.fields.iter().copied())
            .map(|(name, value, indexing)| (name.into(), value.into(), indexing))
            .collect()
    }
}

/// Fields that wait, because data before them does.
pub(crate) type OwnedFields = Vec<(Box<[u8]>, Box<[u8]>, Indexing)>;

/// How the local side ends once the queue is empty.
#[derive(Debug)]
pub(crate) enum Ending {
    /// More may come.
    None,
    /// END_STREAM on the last DATA frame.
    Data,
    /// Trailers.
    Trailers(OwnedFields),
}

/// What waits for the window or for room in the output.
#[derive(Debug)]
pub(crate) struct Queue {
    pieces: VecDeque<Bytes>,
    len: usize,
    pub(crate) ending: Ending,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Drops all pieces; returns how many octets they had.
    pub(crate) fn clear(&mut self) -> usize {
        self.pieces.clear();
        std::mem::take(&mut self.len)
    }

    /// Takes up to `max` octets of the first piece.
    pub(crate) fn take(&mut self, max: usize) -> Option<Bytes> {
        let first = self.pieces.front_mut()?;
        let taken = if first.len() <= max {
            self.pieces.pop_front()?
        } else {
            let taken = first.slice(..max);
            first.advance(max);
            taken
        };
        self.len -= taken.len();
        Some(taken)
    }

    /// END_STREAM or trailers are in the queue: nothing may follow.
    pub(crate) fn ends(&self) -> bool {
        !matches!(self.ending, Ending::None)
    }

    pub(crate) fn end_with_trailers(&mut self, list: &HeaderList<'_>) {
        self.ending = Ending::Trailers(list.to_owned());
    }
}

/// One open stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    pub(crate) state: State,
    /// The layer above's name for this stream.
    pub(crate) tag: u32,
    pub(crate) send_window: SendWindow,
    pub(crate) receive_window: ReceiveWindow,
    pub(crate) queue: Queue,
    /// The stream stands in the connection's line of senders.
    pub(crate) in_line: bool,
    /// The final (not 1xx) header section has come: the next one is the trailers.
    pub(crate) headers_received: bool,
    /// Octets that content-length still promises (§8.1.1).
    pub(crate) content_left: Option<u64>,
    /// The layer above has found it at fault: that it ends without a reset earns no token.
    pub(crate) at_fault: bool,
}

impl Stream {
    pub(crate) fn new(
        id: u32,
        state: State,
        tag: u32,
        send_window: SendWindow,
        receive_window: ReceiveWindow,
    ) -> Self {
        Self {
            id,
            state,
            tag,
            send_window,
            receive_window,
            queue: Queue { pieces: VecDeque::new(), len: 0, ending: Ending::None },
            in_line: false,
            headers_received: false,
            content_left: None,
            at_fault: false,
        }
    }

    /// Whether the caller may still send on this stream.
    pub(crate) fn can_send(&self) -> bool {
        self.state.can_send() && !self.queue.ends()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_close_a_stream_in_either_order() {
        let mut state = State::Open;
        state.end_local();
        assert_eq!(state, State::HalfClosedLocal);
        assert!(!state.can_send() && state.can_receive());
        state.end_remote();
        assert_eq!(state, State::Closed);

        let mut state = State::Open;
        state.end_remote();
        assert!(state.can_send() && !state.can_receive());
        state.end_local();
        assert_eq!(state, State::Closed);
    }

    #[test]
    fn the_queue_is_taken_in_order_and_in_parts() {
        let mut queue = Queue { pieces: VecDeque::new(), len: 0, ending: Ending::None };
        queue.push(Bytes::from_static(b"head"));
        queue.push(Bytes::new());
        queue.push(Bytes::from_static(b"body"));
        assert_eq!(queue.take(3).unwrap(), "hea");
        assert_eq!(queue.take(3).unwrap(), "d");
        assert_eq!(queue.len(), 4);
        assert_eq!(queue.take(9).unwrap(), "body");
        assert!(queue.is_empty() && queue.take(1).is_none());
    }
}
