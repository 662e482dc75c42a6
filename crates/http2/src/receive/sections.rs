//! Header sections that the peer sends: blocks in pieces, and what they mean for their stream (RFC 9113 §4.3, §6.2, §6.10,
//! §8.1).

use super::{LENGTH_DIFFERS, PROTOCOL_ERROR};
use crate::config::Role;
use crate::connection::Connection;
use crate::error::{ErrorCode, Fault};
use crate::event::{Event, NO_TAG};
use crate::fields::Fields;
use crate::frame::headers::Headers;
use crate::frame::reset::Reset;
use crate::frame::{Head, flag};
use crate::stream::State;
use crate::streams::{EndedBy, StreamKey};
use std::time::Instant;

/// A header section whose CONTINUATION frames are still to come; its octets are in `block_octets`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    stream: u32,
    end_stream: bool,
    depends_on_itself: bool,
}

impl Connection {
    /// §6.2.
    pub(super) fn take_headers<'a>(
        &mut self,
        frame: Headers<'_>,
        now: Instant,
    ) -> Result<Option<Event<'a>>, Fault> {
        let block = Block {
            stream: frame.stream,
            end_stream: frame.end_stream,
            depends_on_itself: frame.depends_on_itself,
        };
        if frame.end_headers {
            return self.take_block(block, frame.fragment, now);
        }
        self.block = Some(block);
        self.block_octets.clear();
        self.extend_block(frame.fragment)?;
        Ok(None)
    }

    /// §6.10.
    pub(super) fn take_continuation<'a>(
        &mut self,
        head: Head,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event<'a>>, Fault> {
        let Some(block) = self.block.filter(|block| block.stream == head.stream) else {
            return Err(Fault::connection(
                PROTOCOL_ERROR,
                "CONTINUATION does not follow HEADERS of its stream (RFC 9113 §6.10)",
            ));
        };
        if payload.is_empty() {
            self.take_control(now)?;
        }
        self.extend_block(payload)?;
        if !head.has(flag::END_HEADERS) {
            return Ok(None);
        }
        self.block = None;
        let octets = std::mem::take(&mut self.block_octets);
        let event = self.take_block(block, &octets, now);
        // A block in pieces is rare: its buffer is not kept.
        drop(octets);
        event
    }

    /// Collects a block in pieces. It may be longer than our limit, so that it can be decoded and refused on its own
    /// stream, but not without end (CVE-2024-27316).
    fn extend_block(&mut self, fragment: &[u8]) -> Result<(), Fault> {
        let limit = (self.config.max_header_list_bytes as usize).saturating_mul(4).max(64 << 10);
        if self.block_octets.len() + fragment.len() > limit {
            return Err(Fault::connection(
                ErrorCode::ENHANCE_YOUR_CALM,
                "a header section without end (RFC 9113 §10.5.1)",
            ));
        }
        self.block_octets.extend_from_slice(fragment);
        Ok(())
    }

    /// A whole field block: decodes it, whatever becomes of its stream, and finds out what it is.
    fn take_block<'a>(
        &mut self,
        block: Block,
        octets: &[u8],
        now: Instant,
    ) -> Result<Option<Event<'a>>, Fault> {
        let mut fields = std::mem::take(&mut self.spare_fields);
        let limit = self.config.max_header_list_bytes as usize;
        self.decoder
            .decode(octets, limit, &mut fields)
            .map_err(|malformed| Fault::connection(ErrorCode::COMPRESSION_ERROR, malformed.0))?;
        match self.streams.find(block.stream) {
            Some(_) if block.depends_on_itself => Err(DEPENDS_ON_ITSELF),
            Some(key) => self.take_section(key, block.end_stream, fields),
            None if self.role == Role::Server => self.take_request(block, fields, now),
            None => {
                const RULE: &str = "HEADERS on a stream that is not open (RFC 9113 §5.1)";
                self.check_ended(block.stream, RULE).map(|()| None)
            }
        }
    }

    /// A header section that opens a stream.
    fn take_request<'a>(
        &mut self,
        block: Block,
        mut fields: Fields,
        now: Instant,
    ) -> Result<Option<Event<'a>>, Fault> {
        let id = block.stream;
        if self.is_ours(id) {
            return Err(Fault::connection(
                PROTOCOL_ERROR,
                "a client opens a stream with an even id (RFC 9113 §5.1.1)",
            ));
        }
        if id <= self.last_peer_stream {
            return self.check_ended(id, "a stream id goes back (RFC 9113 §5.1.1)").map(|()| None);
        }
        if self.going_away.is_some_and(|last| id > last) {
            return Ok(None); // §6.8: it was told that these are not processed.
        }
        self.last_peer_stream = id;
        if block.depends_on_itself {
            return Err(DEPENDS_ON_ITSELF);
        }
        let summary = if fields.is_oversized() {
            // The layer above refuses it; what could be read of it is not to be judged.
            Default::default()
        } else {
            fields.check_request().map_err(|rule| Fault::stream(PROTOCOL_ERROR, rule))?
        };
        if block.end_stream && summary.content_length.is_some_and(|length| length != 0) {
            return Err(LENGTH_DIFFERS);
        }
        if self.config.max_concurrent_streams.is_some_and(|limit| self.theirs_open >= limit) {
            self.take_reset_token(now)?;
            Reset { stream: id, code: ErrorCode::REFUSED_STREAM }.write(self.output.buffer());
            self.ended.push(id, EndedBy::OurReset);
            return Ok(None);
        }
        let state = if block.end_stream { State::HalfClosedRemote } else { State::Open };
        let key = self.insert_stream(id, state, NO_TAG);
        if let Some(stream) = self.streams.get_mut(key) {
            stream.headers_received = true;
            stream.content_left = summary.content_length;
        }
        Ok(Some(Event::Headers { stream: key, tag: NO_TAG, fields, end_stream: block.end_stream }))
    }

    /// A header section on an open stream: a response's, or trailers.
    fn take_section<'a>(
        &mut self,
        key: StreamKey,
        end_stream: bool,
        mut fields: Fields,
    ) -> Result<Option<Event<'a>>, Fault> {
        let malformed = |rule| Fault::stream(PROTOCOL_ERROR, rule);
        let Some(stream) = self.streams.get_mut(key) else { return Ok(None) };
        if !stream.state.can_receive() {
            return Err(Fault::stream(
                ErrorCode::STREAM_CLOSED,
                "HEADERS after END_STREAM (RFC 9113 §5.1)",
            ));
        }
        if stream.headers_received {
            if !end_stream {
                return Err(malformed("trailers without END_STREAM (RFC 9113 §8.1)"));
            }
            if !fields.is_oversized() {
                fields.check_trailers().map_err(malformed)?;
            }
            if stream.content_left.is_some_and(|left| left != 0) {
                return Err(LENGTH_DIFFERS);
            }
            let tag = stream.tag;
            self.end_remote(key);
            return Ok(Some(Event::Trailers { stream: key, tag, fields }));
        }
        if !fields.is_oversized() {
            let summary = fields.check_response().map_err(malformed)?;
            if summary.informational {
                self.spare_fields = fields;
                return match end_stream {
                    true => Err(malformed("a 1xx response ends the stream (RFC 9113 §8.1)")),
                    false => Ok(None),
                };
            }
            let length = summary.content_length.filter(|_| !summary.no_content);
            if end_stream && length.is_some_and(|length| length != 0) {
                return Err(LENGTH_DIFFERS);
            }
            stream.content_left = length;
        }
        stream.headers_received = true;
        let tag = stream.tag;
        if end_stream {
            self.end_remote(key);
        }
        Ok(Some(Event::Headers { stream: key, tag, fields, end_stream }))
    }
}

const DEPENDS_ON_ITSELF: Fault =
    Fault::stream(PROTOCOL_ERROR, "a stream depends on itself (RFC 7540 §5.3.1)");
