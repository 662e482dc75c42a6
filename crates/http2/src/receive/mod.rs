//! What the peer sends: input to events, one frame at a time (RFC 9113 §3.4, §4.3, §5.1, §6).

mod control;
mod sections;

pub(crate) use sections::Block;

use crate::abuse::EarlyEnd;
use crate::config::Role;
use crate::connection::{Connection, PREFACE};
use crate::error::{ErrorCode, Fault, Violation};
use crate::event::{Event, NO_TAG};
use crate::frame::data::Data;
use crate::frame::goaway::GoAway;
use crate::frame::headers::Headers;
use crate::frame::ping::Ping;
use crate::frame::priority::Priority;
use crate::frame::reset::Reset;
use crate::frame::window_update::WindowUpdate;
use crate::frame::{HEAD_LEN, Head, flag, kind};
use crate::streams::{EndedBy, StreamKey};
use std::time::Instant;

/// What must come before anything else (§3.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Preface {
    /// The client's magic octets; so many have come.
    Magic(usize),
    /// The first SETTINGS.
    Settings,
    /// Nothing: the connection is established.
    Done,
}

impl Preface {
    pub(crate) fn new(role: Role) -> Self {
        match role {
            Role::Client => Self::Settings,
            Role::Server => Self::Magic(0),
        }
    }
}

const PROTOCOL_ERROR: ErrorCode = ErrorCode::PROTOCOL_ERROR;

impl Connection {
    /// Takes input up to the next event; `input` moves past what was taken.
    ///
    /// `Ok(None)` asks for more input: what is left of `input`, less than a frame, must be in front of it. An error is
    /// final: the GOAWAY is in the output, and every later call returns the error again. `now` only serves to tell a
    /// flood of costly frames from an honest peer.
    pub fn receive<'a>(
        &mut self,
        input: &mut &'a [u8],
        now: Instant,
    ) -> Result<Option<Event<'a>>, Violation> {
        if let Some(violation) = self.failed {
            return Err(violation);
        }
        if self.preface != Preface::Done
            && let Err(violation) = self.take_preface(input)
        {
            return Err(self.fail(violation));
        }
        while let Some(octets) = input.first_chunk::<HEAD_LEN>() {
            let head = Head::parse(octets);
            if head.len > self.config.max_frame_size() {
                return Err(self.fail(Violation::new(
                    ErrorCode::FRAME_SIZE_ERROR,
                    "a frame exceeds SETTINGS_MAX_FRAME_SIZE (RFC 9113 §4.2)",
                )));
            }
            let len = HEAD_LEN + head.len as usize;
            let Some((frame, rest)) = input.split_at_checked(len) else { return Ok(None) };
            *input = rest;
            match self.take_frame(head, &frame[HEAD_LEN..], now) {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) => {}
                Err(Fault::Connection(violation)) => return Err(self.fail(violation)),
                Err(Fault::Stream(violation)) => {
                    return match self.fail_stream(head.stream, violation, now) {
                        Ok(Some(event)) => Ok(Some(event)),
                        Ok(None) => continue,
                        Err(violation) => Err(self.fail(violation)),
                    };
                }
            }
        }
        Ok(None)
    }

    /// The transport has ended where `unparsed` octets of input were left: what rule that breaks, if any.
    pub fn end_of_input(&self, unparsed: usize) -> Option<&'static str> {
        match self.preface {
            Preface::Magic(0) if unparsed == 0 => None,
            Preface::Magic(_) => Some("the transport ends within the preface (RFC 9113 §3.4)"),
            _ if unparsed > 0 => Some("the transport ends within a frame (RFC 9113 §4.1)"),
            _ if self.block.is_some() => {
                Some("the transport ends within a header section (RFC 9113 §4.3)")
            }
            _ => None,
        }
    }

    /// Checks what comes first. A peer that speaks something else is told so.
    fn take_preface(&mut self, input: &mut &[u8]) -> Result<(), Violation> {
        if let Preface::Magic(seen) = self.preface {
            let wanted = &PREFACE[seen..];
            let len = wanted.len().min(input.len());
            if input[..len] != wanted[..len] {
                return Err(Violation::new(PROTOCOL_ERROR, misunderstanding(input, seen)));
            }
            *input = &input[len..];
            self.preface = match len == wanted.len() {
                true => Preface::Settings,
                false => Preface::Magic(seen + len),
            };
        }
        if self.preface == Preface::Settings {
            // Judged before the frame's head is whole: a TLS alert has seven octets, and no more follow.
            let is_other = input.get(3).is_some_and(|octet| *octet != kind::SETTINGS);
            if is_other || input.get(4).is_some_and(|octet| octet & flag::ACK != 0) {
                let rule = match self.role {
                    Role::Client => misunderstanding(input, 0),
                    Role::Server => "the first frame is not SETTINGS (RFC 9113 §3.4)",
                };
                return Err(Violation::new(PROTOCOL_ERROR, rule));
            }
        }
        Ok(())
    }

    fn take_frame<'a>(
        &mut self,
        head: Head,
        payload: &'a [u8],
        now: Instant,
    ) -> Result<Option<Event<'a>>, Fault> {
        if self.block.is_some() && head.kind != kind::CONTINUATION {
            return Err(Fault::connection(
                PROTOCOL_ERROR,
                "a header section is interrupted by another frame (RFC 9113 §4.3)",
            ));
        }
        match head.kind {
            kind::DATA => self.take_data(Data::parse(head, payload)?, now),
            kind::HEADERS => self.take_headers(Headers::parse(head, payload)?, now),
            kind::CONTINUATION => self.take_continuation(head, payload, now),
            kind::WINDOW_UPDATE => self.take_window_update(WindowUpdate::parse(head, payload)?),
            kind::RST_STREAM => self.take_reset(Reset::parse(head, payload)?, now),
            kind::SETTINGS => self.take_settings(head, payload, now),
            kind::PING => self.take_ping(Ping::parse(head, payload)?, now),
            kind::GOAWAY => self.take_go_away(GoAway::parse(head, payload)?),
            kind::PRIORITY => {
                self.take_control(now)?;
                Priority::parse(head, payload).map(|_| None)
            }
            kind::PUSH_PROMISE => Err(Fault::connection(
                PROTOCOL_ERROR,
                "PUSH_PROMISE, although push is disabled (RFC 9113 §8.4)",
            )),
            // Unknown types are ignored (§5.5).
            _ => Ok(None),
        }
    }

    /// §6.1.
    fn take_data<'a>(&mut self, frame: Data<'a>, now: Instant) -> Result<Option<Event<'a>>, Fault> {
        if self.receive_window.receive(frame.flow_len).is_err() {
            return Err(Fault::connection(
                ErrorCode::FLOW_CONTROL_ERROR,
                "DATA exceeds the connection's window (RFC 9113 §6.9.1)",
            ));
        }
        if frame.content.is_empty() && !frame.end_stream {
            self.take_control(now)?;
        }
        let Some(key) = self.streams.find(frame.stream) else {
            self.release_connection(frame.flow_len);
            self.check_ended(frame.stream, "DATA on a stream that is not open (RFC 9113 §5.1)")?;
            return Ok(None);
        };
        match self.data_on(key, &frame) {
            Ok(tag) => {
                let padding = frame.flow_len as usize - frame.content.len();
                if padding > 0 {
                    self.release(key, padding);
                }
                if frame.end_stream {
                    self.end_remote(key);
                }
                Ok(Some(Event::Data {
                    stream: key,
                    tag,
                    data: frame.content,
                    end_stream: frame.end_stream,
                }))
            }
            Err(fault) => {
                self.release_connection(frame.flow_len);
                Err(fault)
            }
        }
    }

    /// Applies a DATA frame to its stream.
    fn data_on(&mut self, key: StreamKey, frame: &Data<'_>) -> Result<u32, Fault> {
        let Some(stream) = self.streams.get_mut(key) else { return Ok(NO_TAG) };
        if !stream.state.can_receive() {
            return Err(Fault::stream(
                ErrorCode::STREAM_CLOSED,
                "DATA after END_STREAM (RFC 9113 §5.1)",
            ));
        }
        if !stream.headers_received {
            return Err(Fault::stream(PROTOCOL_ERROR, "DATA before HEADERS (RFC 9113 §8.1)"));
        }
        if stream.receive_window.receive(frame.flow_len).is_err() {
            return Err(Fault::stream(
                ErrorCode::FLOW_CONTROL_ERROR,
                "DATA exceeds the stream's window (RFC 9113 §6.9.1)",
            ));
        }
        if let Some(left) = &mut stream.content_left {
            let rest = left.checked_sub(frame.content.len() as u64);
            match rest {
                Some(rest) if rest == 0 || !frame.end_stream => *left = rest,
                _ => return Err(LENGTH_DIFFERS),
            }
        }
        Ok(stream.tag)
    }

    /// Takes a token for a frame that costs us more than the peer.
    fn take_control(&mut self, now: Instant) -> Result<(), Fault> {
        match self.floods.control.take(1, now) {
            true => Ok(()),
            false => Err(Fault::connection(
                ErrorCode::ENHANCE_YOUR_CALM,
                "a flood of control or empty frames (RFC 9113 §10.5)",
            )),
        }
    }

    /// Takes a token for a stream of the peer's that ends before its time. Our own streams are no burden on us.
    fn take_reset_token(&mut self, now: Instant) -> Result<(), Fault> {
        match self.role == Role::Client || self.floods.resets.take(EarlyEnd::Fault.cost(), now) {
            true => Ok(()),
            false => Err(Fault::connection(
                ErrorCode::ENHANCE_YOUR_CALM,
                "a storm of resets (RFC 9113 §10.5, CVE-2023-44487)",
            )),
        }
    }

    /// Ends a stream because the peer broke a rule on it (§5.4.2). A closed one is sent nothing more (§5.1).
    fn fail_stream<'a>(
        &mut self,
        id: u32,
        violation: Violation,
        now: Instant,
    ) -> Result<Option<Event<'a>>, Violation> {
        if let Err(Fault::Connection(flood)) = self.take_reset_token(now) {
            return Err(flood);
        }
        if self.check_not_idle(id, violation.rule()).is_err() {
            // An idle stream cannot be reset (§6.4).
            return Err(violation);
        }
        let tag = match self.streams.find(id) {
            Some(key) => self.remove_stream(key, EndedBy::OurReset).unwrap_or(NO_TAG),
            // A malformed request: its stream was opened, but is not kept.
            None if id == self.last_peer_stream && self.ended.find(id).is_none() => {
                self.ended.push(id, EndedBy::OurReset);
                NO_TAG
            }
            None => return Ok(None),
        };
        Reset { stream: id, code: violation.code() }.write(self.output.buffer());
        Ok(Some(Event::Failed { tag, violation }))
    }

    /// Judges a DATA or HEADERS frame for a stream that is not open: it is ignored if it was under way when we reset
    /// the stream (§5.1), and otherwise ends the connection.
    fn check_ended(&self, id: u32, rule: &'static str) -> Result<(), Fault> {
        self.check_not_idle(id, rule)?;
        if self.is_ours(id) || self.is_refused(id) {
            // Any of our streams may have been reset by us; what is still under way for them is harmless.
            return Ok(());
        }
        match self.ended.find(id) {
            Some(EndedBy::OurReset) => Ok(()),
            Some(EndedBy::Peer) => Err(Fault::connection(ErrorCode::STREAM_CLOSED, rule)),
            // One that ended long ago may have been reset by us, too.
            None if self.ended.has_forgotten() => Ok(()),
            None => Err(Fault::connection(PROTOCOL_ERROR, rule)),
        }
    }

    fn check_not_idle(&self, id: u32, rule: &'static str) -> Result<(), Fault> {
        let is_idle = match self.is_ours(id) {
            true => id >= self.next_stream,
            false => id > self.last_peer_stream && !self.is_refused(id),
        };
        if is_idle { Err(Fault::connection(PROTOCOL_ERROR, rule)) } else { Ok(()) }
    }

    /// After GOAWAY the peer's later streams are ignored, whatever comes on them.
    fn is_refused(&self, id: u32) -> bool {
        self.going_away.is_some_and(|last| id > last)
    }

    fn end_remote(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.state.end_remote();
            self.remove_if_closed(key);
        }
    }
}

const LENGTH_DIFFERS: Fault =
    Fault::stream(PROTOCOL_ERROR, "content-length differs from the content (RFC 9113 §8.1.1)");

/// Guesses what a peer speaks that does not begin with HTTP/2's preface; `seen` of its octets matched.
fn misunderstanding(input: &[u8], seen: usize) -> &'static str {
    let begins_with = |text: &[u8]| seen == 0 && input.starts_with(text);
    if begins_with(b"HTTP/1") {
        "the peer answers in HTTP/1.x, not HTTP/2"
    } else if begins_with(&[0x16, 0x03]) || begins_with(&[0x15, 0x03]) {
        "the peer speaks TLS on a plaintext connection"
    } else if [&b"GET "[..], b"POST", b"PUT ", b"HEAD", b"DELE", b"OPTI", b"CONN", b"PATC", b"TRAC"]
        .iter()
        .any(|method| begins_with(method))
        || seen == 1 && (input.starts_with(b"OST") || input.starts_with(b"UT"))
    {
        "the peer speaks HTTP/1.x, not HTTP/2"
    } else {
        "the peer does not begin with HTTP/2's preface (RFC 9113 §3.4)"
    }
}
