//! Commands: opening streams, sending header sections and data (RFC 9113 §6.1, §6.2, §6.9).
//!
//! What fits into the windows and into the output is written at once. The rest waits with its stream, and the streams
//! take turns, one frame each, so that a large message does not hold up small ones (§5.2.1 asks for progress).

use crate::connection::Connection;
use crate::error::UsageError;
use crate::event::NO_TAG;
use crate::frame::{data, headers};
use crate::stream::{Ending, HeaderList, OwnedFields, State};
use crate::streams::StreamKey;
use bytes::Bytes;

/// The longest DATA frame that we send, whatever the peer takes: the length of a turn.
const TURN: usize = 64 << 10;

/// What became of data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// All of it is in the output: it was within the windows.
    Written,
    /// Some of it waits; [`Connection::next_sent`] tells when it no longer does.
    Queued,
}

/// A message's content: lent, and only taken over if it has to wait.
pub trait Payload {
    /// The octets.
    fn octets(&self) -> &[u8];
    /// The octets, shared.
    fn into_shared(self) -> Bytes;
}

impl Payload for &[u8] {
    fn octets(&self) -> &[u8] {
        self
    }
    fn into_shared(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl Payload for Bytes {
    fn octets(&self) -> &[u8] {
        self
    }
    fn into_shared(self) -> Bytes {
        self
    }
}

impl Connection {
    /// Opens a stream with its header section. The error tells what is in the way, if anything is.
    pub fn open(
        &mut self,
        list: HeaderList<'_>,
        end_stream: bool,
        tag: u32,
    ) -> Result<StreamKey, UsageError> {
        self.can_open()?;
        let id = self.next_stream;
        self.next_stream += 2;
        let key = self.insert_stream(id, State::Open, tag);
        self.write_headers(id, list, end_stream);
        if end_stream {
            self.end_local(key);
        }
        Ok(key)
    }

    /// Sends a header section on an open stream: a response's. Nothing may be queued on it yet.
    pub fn send_headers(
        &mut self,
        stream: StreamKey,
        list: HeaderList<'_>,
        end_stream: bool,
    ) -> Result<(), UsageError> {
        self.check_alive()?;
        let entry = self.streams.get(stream).ok_or(UsageError::StreamClosed)?;
        if !entry.can_send() || !entry.queue.is_empty() {
            return Err(UsageError::SendClosed);
        }
        self.write_headers(stream.id(), list, end_stream);
        if end_stream {
            self.end_local(stream);
        }
        Ok(())
    }

    /// Ends the local side with trailers, behind whatever is queued.
    pub fn send_trailers(
        &mut self,
        stream: StreamKey,
        list: HeaderList<'_>,
    ) -> Result<Sent, UsageError> {
        self.check_alive()?;
        let entry = self.streams.get_mut(stream).ok_or(UsageError::StreamClosed)?;
        if !entry.can_send() {
            return Err(UsageError::SendClosed);
        }
        if !entry.queue.is_empty() {
            entry.queue.end_with_trailers(&list);
            return Ok(Sent::Queued);
        }
        self.write_headers(stream.id(), list, true);
        self.end_local(stream);
        Ok(Sent::Written)
    }

    /// The size of a header section that the peer's SETTINGS_MAX_HEADER_LIST_SIZE does not allow, with the limit.
    pub fn exceeds_peer_limit(&self, list: &HeaderList<'_>) -> Option<(usize, usize)> {
        let limit = self.peer.max_header_list_size as usize;
        // Most peers set a limit that no gRPC header section comes near; do not add up lengths for each call.
        if limit >= 1 << 20 {
            return None;
        }
        let size = list.list_size();
        (size > limit).then_some((size, limit))
    }

    /// Sends `head` and `body` as DATA, one behind the other; `end_stream` ends the local side.
    pub fn send_data(
        &mut self,
        stream: StreamKey,
        head: &[u8],
        body: impl Payload,
        end_stream: bool,
    ) -> Result<Sent, UsageError> {
        self.check_alive()?;
        let room = self.config.max_output_bytes.saturating_sub(self.output.len());
        let entry = self.streams.get_mut(stream).ok_or(UsageError::StreamClosed)?;
        if !entry.can_send() {
            return Err(UsageError::SendClosed);
        }
        let len = head.len() + body.octets().len();
        let fits = len <= entry.send_window.available()
            && len <= self.send_window.available()
            && len <= room
            && len <= self.peer.max_frame_size as usize
            && len < TURN;
        if entry.queue.is_empty() && (len == 0 || fits && self.line.is_empty()) {
            entry.send_window.consume(len);
            self.send_window.consume(len);
            self.content_frames += 1;
            let buffer = self.output.buffer();
            data::head(stream.id(), len as u32, end_stream).write(buffer);
            buffer.extend_from_slice(head);
            buffer.extend_from_slice(body.octets());
            if end_stream {
                self.end_local(stream);
            }
            return Ok(Sent::Written);
        }
        if !head.is_empty() {
            entry.queue.push(Bytes::copy_from_slice(head));
        }
        entry.queue.push(body.into_shared());
        if end_stream {
            entry.queue.ending = Ending::Data;
        }
        self.queued += len;
        self.join_line(stream);
        self.fill();
        match self.streams.get(stream) {
            Some(entry) if !entry.queue.is_empty() => Ok(Sent::Queued),
            _ => {
                // It was reported as sent, but the caller learns it here.
                self.sent.retain(|(key, _)| *key != stream);
                Ok(Sent::Written)
            }
        }
    }

    /// A stream whose queued data is now all in the output, with its tag.
    pub fn next_sent(&mut self) -> Option<(StreamKey, u32)> {
        self.sent.pop_front()
    }

    /// Whether data of the stream waits for a window or for room in the output.
    pub fn is_queued(&self, stream: StreamKey) -> bool {
        self.streams.get(stream).is_some_and(|entry| !entry.queue.is_empty())
    }

    /// Drops data of the stream that waits for a window or for room in the output, unless the local side ends behind it. What
    /// follows, such as trailers, does not wait.
    pub fn discard_queued(&mut self, stream: StreamKey) {
        if let Some(entry) = self.streams.get_mut(stream)
            && entry.can_send()
        {
            self.queued -= entry.queue.clear();
        }
    }

    /// Moves queued data into the output, as far as the windows and the room there go.
    pub fn fill(&mut self) {
        while self.output.len() < self.config.max_output_bytes {
            if self.send_window.available() == 0 {
                return;
            }
            let Some(key) = self.line.pop_front() else { return };
            self.take_turn(key);
        }
    }

    /// Writes one DATA frame of a stream, and what ends the stream behind it.
    fn take_turn(&mut self, key: StreamKey) {
        let Some(entry) = self.streams.get_mut(key) else { return };
        let len = entry
            .queue
            .len()
            .min(entry.send_window.available())
            .min(self.send_window.available())
            .min(self.peer.max_frame_size as usize)
            .min(TURN);
        if len == 0 {
            // The window closed since the stream joined the line; it joins again when the window opens.
            entry.in_line = false;
            return;
        }
        let empties = len == entry.queue.len();
        let ends = empties && matches!(entry.queue.ending, Ending::Data);
        data::head(key.id(), len as u32, ends).write(self.output.buffer());
        let mut left = len;
        while left > 0
            && let Some(piece) = entry.queue.take(left)
        {
            left -= piece.len();
            self.output.append(piece);
        }
        entry.send_window.consume(len);
        self.send_window.consume(len);
        self.queued -= len;
        self.content_frames += 1;
        if !empties {
            self.line.push_back(key);
            return;
        }
        entry.in_line = false;
        let tag = entry.tag;
        match std::mem::replace(&mut entry.queue.ending, Ending::None) {
            Ending::None => {}
            Ending::Data => self.end_local(key),
            Ending::Trailers(fields) => {
                self.write_owned(key.id(), &fields);
                self.end_local(key);
            }
        }
        if tag != NO_TAG {
            self.sent.push_back((key, tag));
        }
    }

    /// Puts a stream with queued data in line, if its window is open.
    pub(crate) fn join_line(&mut self, key: StreamKey) {
        if let Some(entry) = self.streams.get_mut(key)
            && !entry.in_line
            && !entry.queue.is_empty()
            && entry.send_window.available() > 0
        {
            entry.in_line = true;
            self.line.push_back(key);
        }
    }

    /// Nothing follows the GOAWAY of a failed connection.
    fn check_alive(&self) -> Result<(), UsageError> {
        if self.failed.is_some() { Err(UsageError::ConnectionClosed) } else { Ok(()) }
    }

    fn end_local(&mut self, key: StreamKey) {
        if let Some(entry) = self.streams.get_mut(key) {
            entry.state.end_local();
            self.remove_if_closed(key);
        }
    }

    fn write_headers(&mut self, id: u32, list: HeaderList<'_>, end_stream: bool) {
        self.content_frames += 1;
        let out = self.output.buffer();
        let at = headers::reserve_head(out);
        self.encoder.begin(out);
        if let Some(prepared) = list.prepared {
            self.encoder.prepared(prepared, out);
        }
        for &(name, value, indexing) in list.fields {
            self.encoder.field(name, value, indexing, out);
        }
        headers::frame_block(out, at, id, end_stream, self.peer.max_frame_size);
    }

    fn write_owned(&mut self, id: u32, fields: &OwnedFields) {
        let borrowed: Vec<_> =
            fields.iter().map(|(name, value, indexing)| (&**name, &**value, *indexing)).collect();
        self.write_headers(id, HeaderList { prepared: None, fields: &borrowed }, true);
    }
}
