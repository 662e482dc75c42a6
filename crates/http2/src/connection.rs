//! The connection: what both directions share, its life and its end (RFC 9113 §3.4, §5.4, §6.7, §6.8).
//!
//! What the peer sends is in `receive`, what we send in `send`. Nothing here reads a clock or a socket.

use crate::abuse::{EarlyEnd, Floods};
use crate::config::{Config, Role};
use crate::error::{ErrorCode, UsageError, Violation};
use crate::fields::Fields;
use crate::flow::{DEFAULT_WINDOW, ReceiveWindow, SendWindow};
use crate::frame::goaway::GoAway;
use crate::frame::ping::Ping;
use crate::frame::reset::Reset;
use crate::frame::window_update::WindowUpdate;
use crate::frame::{MIN_MAX_FRAME_SIZE, settings::Settings};
use crate::hpack::{DEFAULT_TABLE_SIZE, Decoder, Encoder};
use crate::output::Output;
use crate::receive::{Block, Preface};
use crate::stream::{State, Stream};
use crate::streams::{Ended, EndedBy, StreamKey, Streams};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Instant;

/// The highest stream id (§5.1.1).
pub(crate) const MAX_STREAM_ID: u32 = (1 << 31) - 1;

/// Output beyond this, data aside, means that a peer makes us answer and does not read: we stop reading too.
const MAX_UNREAD_ANSWERS: usize = 1 << 20;

/// The client's preface (§3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the peer's SETTINGS say that concerns our sending (§6.5.2).
#[derive(Debug)]
pub(crate) struct PeerSettings {
    pub(crate) initial_window: u32,
    pub(crate) max_frame_size: u32,
    pub(crate) max_concurrent_streams: u32,
    pub(crate) max_header_list_size: u32,
}

/// One HTTP/2 connection, either end of it, as a state machine.
///
/// Feed it what the socket gives with [`receive`](Self::receive) and act on the events; give it commands; write what
/// [`fill`](Self::fill) and [`slices`](Self::slices) hold and tell it how much with [`advance`](Self::advance). After a
/// [`Violation`] it takes no more input: write what is left, a GOAWAY at its end, and close the socket.
pub struct Connection {
    pub(crate) role: Role,
    pub(crate) config: Config,
    /// The rule that ended the connection.
    pub(crate) failed: Option<Violation>,
    pub(crate) streams: Streams,
    /// Open streams that we opened, and that the peer opened.
    pub(crate) ours_open: u32,
    pub(crate) theirs_open: u32,
    /// Octets by which the receive windows of open streams have grown.
    pub(crate) grown: u64,

    // What the peer sends.
    pub(crate) preface: Preface,
    pub(crate) decoder: Decoder,
    pub(crate) block: Option<Block>,
    pub(crate) block_octets: Vec<u8>,
    pub(crate) spare_fields: Fields,
    pub(crate) receive_window: ReceiveWindow,
    pub(crate) last_peer_stream: u32,
    pub(crate) ended: Ended,
    /// Settings of ours that the peer has not acknowledged: they do not hold yet.
    pub(crate) unacked_settings: VecDeque<Settings>,
    /// The receive window that streams start with, as far as the peer knows.
    pub(crate) stream_window: u32,
    pub(crate) floods: Floods,
    /// GOAWAY from the peer: the last of our streams that it processes.
    pub(crate) peer_going_away: Option<u32>,

    // What we send.
    pub(crate) encoder: Encoder,
    pub(crate) peer: PeerSettings,
    pub(crate) send_window: SendWindow,
    pub(crate) next_stream: u32,
    pub(crate) output: Output,
    /// Octets that the transport has taken.
    pub(crate) written: u64,
    /// HEADERS and DATA that were sent.
    pub(crate) content_frames: u64,
    /// PINGs that came, their answers aside.
    pub(crate) pings: u64,
    /// Streams with something to send and a window to send it in, each once, in the order of their turns.
    pub(crate) line: VecDeque<StreamKey>,
    /// Streams whose queue has emptied since the caller last asked.
    pub(crate) sent: VecDeque<(StreamKey, u32)>,
    /// Octets in all the streams' queues.
    pub(crate) queued: usize,
    /// GOAWAY to the peer: the last of its streams that we process.
    pub(crate) going_away: Option<u32>,
    /// The PING whose answer ends the first phase of a graceful shutdown.
    pub(crate) shutdown_ping: bool,
}

/// The payload of the PING between the two GOAWAYs of a graceful shutdown.
pub(crate) const SHUTDOWN_PING: [u8; 8] = *b"oxgrpc\0\x01";

impl Connection {
    /// A connection whose output already holds our preface: for a client the magic octets, for both the SETTINGS.
    pub fn new(role: Role, config: Config) -> Self {
        let mut output = Output::default();
        if role == Role::Client {
            output.buffer().extend_from_slice(PREFACE);
        }
        let settings = config.settings(role);
        settings.write(output.buffer());
        let mut receive_window = ReceiveWindow::new(DEFAULT_WINDOW, DEFAULT_WINDOW);
        receive_window.set_target(config.connection_window_bytes.max(DEFAULT_WINDOW));
        if let Some(increment) = receive_window.grant(config.connection_window_bytes) {
            WindowUpdate { stream: 0, increment }.write(output.buffer());
        }
        Self {
            role,
            failed: None,
            streams: Streams::default(),
            ours_open: 0,
            theirs_open: 0,
            grown: 0,
            preface: Preface::new(role),
            decoder: Decoder::new(DEFAULT_TABLE_SIZE),
            block: None,
            block_octets: Vec::new(),
            spare_fields: Fields::default(),
            receive_window,
            last_peer_stream: 0,
            ended: Ended::new(),
            unacked_settings: VecDeque::from([settings]),
            stream_window: DEFAULT_WINDOW,
            floods: Floods::default(),
            peer_going_away: None,
            encoder: Encoder::new(),
            peer: PeerSettings {
                initial_window: DEFAULT_WINDOW,
                max_frame_size: MIN_MAX_FRAME_SIZE,
                max_concurrent_streams: u32::MAX,
                max_header_list_size: u32::MAX,
            },
            send_window: SendWindow::new(DEFAULT_WINDOW),
            next_stream: if role == Role::Client { 1 } else { 2 },
            output,
            written: 0,
            content_frames: 0,
            pings: 0,
            line: VecDeque::new(),
            sent: VecDeque::new(),
            queued: 0,
            going_away: None,
            shutdown_ping: false,
            config,
        }
    }

    /// Which end this is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether the peer's first SETTINGS have come: before that nothing is known of it.
    pub fn is_established(&self) -> bool {
        self.preface == Preface::Done
    }

    /// Whether the peer has acknowledged all our SETTINGS.
    pub fn settings_are_acknowledged(&self) -> bool {
        self.unacked_settings.is_empty()
    }

    /// Streams that are open in either direction.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Octets of stream data that wait for a window or for room in the output.
    pub fn queued_bytes(&self) -> usize {
        self.queued
    }

    /// Whether `open` would find room: see [`UsageError`] for what may be in the way.
    pub fn can_open(&self) -> Result<(), UsageError> {
        if self.role == Role::Server {
            return Err(UsageError::WrongRole);
        }
        if self.failed.is_some() {
            return Err(UsageError::ConnectionClosed);
        }
        let is_going =
            self.going_away.is_some() || self.peer_going_away.is_some() || self.ids_are_used_up();
        if is_going {
            return Err(UsageError::GoingAway);
        }
        if self.ours_open >= self.peer.max_concurrent_streams {
            return Err(UsageError::StreamLimit);
        }
        Ok(())
    }

    fn ids_are_used_up(&self) -> bool {
        self.next_stream > MAX_STREAM_ID
    }

    /// Whether either side has sent GOAWAY, so that no new stream will be opened.
    pub fn is_going_away(&self) -> bool {
        self.going_away.is_some() || self.peer_going_away.is_some() || self.ids_are_used_up()
    }

    /// Whether our final GOAWAY is out: no stream that the peer opens from now on is processed.
    pub fn is_shut_down(&self) -> bool {
        self.going_away.is_some_and(|last| last < MAX_STREAM_ID)
    }

    /// Gives a section's memory back for the next one.
    pub fn recycle(&mut self, fields: Fields) {
        self.spare_fields = fields;
    }

    /// Names a stream; events about it carry the name.
    pub fn set_tag(&mut self, stream: StreamKey, tag: u32) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.tag = tag;
        }
    }

    /// Content of [`Event::Data`](crate::Event::Data) has been read or dropped: the windows open again.
    ///
    /// To be called for every octet, also after the stream has ended, for the connection's window's sake.
    pub fn release(&mut self, stream: StreamKey, octets: usize) {
        if self.failed.is_some() {
            return;
        }
        let octets = octets as u32;
        self.release_connection(octets);
        if let Some(entry) = self.streams.get_mut(stream) {
            let window = &mut entry.receive_window;
            window.release(octets);
            // Streams that grew and are then left unread must not take up the connection's window.
            let room =
                u64::from(self.config.connection_window_bytes / 2).saturating_sub(self.grown);
            let before = window.target();
            if entry.state.can_receive()
                && let Some(increment) = window.update(room)
            {
                self.grown += u64::from(window.target() - before);
                WindowUpdate { stream: entry.id, increment }.write(self.output.buffer());
            }
        }
    }

    pub(crate) fn release_connection(&mut self, octets: u32) {
        self.receive_window.release(octets);
        if let Some(increment) = self.receive_window.update(0) {
            WindowUpdate { stream: 0, increment }.write(self.output.buffer());
        }
    }

    /// Lets the peer send at least `octets` more on the stream, although what it sent is not read yet: for a message
    /// that is longer than the window and must be whole before it can be read.
    pub fn grant(&mut self, stream: StreamKey, octets: usize) {
        if self.failed.is_none()
            && let Some(entry) = self.streams.get_mut(stream)
            && entry.state.can_receive()
            && let Some(increment) = entry.receive_window.grant(saturate(octets))
        {
            WindowUpdate { stream: entry.id, increment }.write(self.output.buffer());
        }
    }

    /// Lets the peer send at least `octets` more on the connection, although what it sent is not read yet.
    pub fn grant_connection(&mut self, octets: usize) {
        if self.failed.is_none()
            && let Some(increment) = self.receive_window.grant(saturate(octets))
        {
            WindowUpdate { stream: 0, increment }.write(self.output.buffer());
        }
    }

    /// Octets that the peer may still send on the stream.
    pub fn stream_window_available(&self, stream: StreamKey) -> usize {
        self.streams.get(stream).map_or(0, |entry| entry.receive_window.available() as usize)
    }

    /// Octets that the peer may still send on the connection.
    pub fn connection_window_available(&self) -> usize {
        self.receive_window.available() as usize
    }

    /// Octets received and not yet released, on all streams.
    pub fn held_bytes(&self) -> usize {
        self.receive_window.held() as usize
    }

    /// Resets a stream: nothing more is sent or reported on it.
    pub fn reset(&mut self, stream: StreamKey, code: ErrorCode) {
        if self.failed.is_none() && self.remove_stream(stream, EndedBy::OurReset).is_some() {
            Reset { stream: stream.id(), code }.write(self.output.buffer());
        }
    }

    /// Sends a PING; its answer is [`Event::Pong`](crate::Event::Pong).
    pub fn ping(&mut self, payload: [u8; 8]) {
        if self.failed.is_none() {
            Ping { ack: false, payload }.write(self.output.buffer());
        }
    }

    /// Changes our settings while the connection runs. They hold once the peer has acknowledged them.
    pub fn send_settings(&mut self, settings: Settings) {
        if self.failed.is_some() {
            return;
        }
        settings.write(self.output.buffer());
        self.unacked_settings.push_back(settings);
        if let Some(limit) = settings.max_concurrent_streams {
            self.config.max_concurrent_streams = Some(limit);
        }
    }

    /// Our settings hold from the peer's acknowledgement on: what it sent before obeys the old ones (§6.5.3, §6.9.3).
    pub(crate) fn apply_settings(&mut self, settings: Settings) {
        if let Some(size) = settings.header_table_size {
            self.decoder.set_max_table_size(size as usize);
        }
        if let Some(size) = settings.max_frame_size {
            self.config.max_frame_bytes = size;
        }
        if let Some(size) = settings.max_header_list_size {
            self.config.max_header_list_bytes = size;
        }
        if let Some(size) = settings.initial_window_size {
            let delta = i64::from(size) - i64::from(self.stream_window);
            self.stream_window = size;
            for (_, stream) in self.streams.iter_mut() {
                stream.receive_window.resize(delta);
                // What was read of a larger window may now be more than half of the smaller one.
                if stream.state.can_receive()
                    && let Some(increment) = stream.receive_window.update(0)
                {
                    WindowUpdate { stream: stream.id, increment }.write(self.output.buffer());
                }
            }
        }
    }

    /// Sends GOAWAY: streams that the peer opened so far go on, later ones are ignored, and none is opened by us.
    pub fn go_away(&mut self, code: ErrorCode, debug: &str) {
        if self.failed.is_some() || self.going_away.is_some_and(|last| last < MAX_STREAM_ID) {
            return;
        }
        self.write_go_away(self.last_peer_stream, code, debug);
    }

    /// Ends the connection gracefully (§6.8): announces it, and a round trip later refuses what is new.
    ///
    /// Requests that crossed the announcement on the wire are still served.
    pub fn shut_down(&mut self) {
        if self.failed.is_some() || self.going_away.is_some() {
            return;
        }
        self.write_go_away(MAX_STREAM_ID, ErrorCode::NO_ERROR, "");
        self.shutdown_ping = true;
        self.ping(SHUTDOWN_PING);
    }

    /// Ends the first phase of a graceful end, although the peer has not answered: what is new is refused from now on.
    pub fn conclude_shut_down(&mut self) {
        if self.failed.is_none() && self.going_away == Some(MAX_STREAM_ID) {
            self.write_go_away(self.last_peer_stream, ErrorCode::NO_ERROR, "");
        }
    }

    /// Ends the connection because the peer broke a rule of the layer above: `debug` is what it is told.
    pub fn reject(&mut self, code: ErrorCode, debug: &'static str) -> Violation {
        self.fail(Violation::new(code, debug))
    }

    /// The layer above ends the stream before its time by the peer's fault, and will [count](Self::count_early_end) it:
    /// that it may still end without a reset earns the peer nothing.
    pub fn find_fault(&mut self, stream: StreamKey) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.at_fault = true;
        }
    }

    /// Counts a stream of the peer's that the layer above has ended before its time, as HTTP/2's own resets are counted.
    /// A storm of them ends the connection.
    pub fn count_early_end(&mut self, early: EarlyEnd, now: Instant) -> Result<(), Violation> {
        match self.floods.resets.take(early.cost(), now) {
            true => Ok(()),
            false => Err(self.reject(
                ErrorCode::ENHANCE_YOUR_CALM,
                "a storm of calls that end before their time (RFC 9113 §10.5, CVE-2025-8671)",
            )),
        }
    }

    pub(crate) fn write_go_away(&mut self, last_stream: u32, code: ErrorCode, debug: &str) {
        self.going_away = Some(last_stream);
        GoAway { last_stream, code, debug: debug.as_bytes() }.write(self.output.buffer());
    }

    /// Ends the connection because the peer broke a rule (§5.4.1).
    pub(crate) fn fail(&mut self, violation: Violation) -> Violation {
        if self.failed.is_none() {
            self.write_go_away(self.last_peer_stream, violation.code(), violation.rule());
            self.failed = Some(violation);
            self.line.clear();
            self.sent.clear();
        }
        violation
    }

    /// The rule that ended the connection, if one did.
    pub fn violation(&self) -> Option<Violation> {
        self.failed
    }

    /// Whether there is anything to write: call [`fill`](Self::fill) first.
    pub fn wants_write(&self) -> bool {
        self.output.len() > 0
    }

    /// Whether more input should be read: not while a peer leaves a mountain of answers unread.
    pub fn wants_read(&self) -> bool {
        self.failed.is_none()
            && self.output.len() < self.config.max_output_bytes + MAX_UNREAD_ANSWERS
    }

    /// Octets that the transport has taken since the beginning.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// How many PINGs have come since the beginning, answers to ours aside.
    pub fn pings(&self) -> u64 {
        self.pings
    }

    /// How many HEADERS and DATA frames have been sent since the beginning.
    pub fn content_frames(&self) -> u64 {
        self.content_frames
    }

    /// Octets that wait for the socket.
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// Fills `slices` with the output from its front; returns how many were filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.output.slices(slices)
    }

    /// The first `octets` octets of the output have been written.
    pub fn advance(&mut self, octets: usize) {
        self.written += octets as u64;
        self.output.advance(octets);
    }

    /// The transport is gone: whatever waits for it is dropped.
    pub fn discard_output(&mut self) {
        self.output.clear();
        self.line.clear();
    }

    pub(crate) fn is_ours(&self, id: u32) -> bool {
        (id % 2 == 1) == (self.role == Role::Client)
    }

    pub(crate) fn insert_stream(&mut self, id: u32, state: State, tag: u32) -> StreamKey {
        let receive_window =
            ReceiveWindow::new(self.stream_window, self.config.max_stream_window_bytes);
        let send_window = SendWindow::new(self.peer.initial_window);
        if self.is_ours(id) {
            self.ours_open += 1;
        } else {
            self.theirs_open += 1;
        }
        self.streams.insert(Stream::new(id, state, tag, send_window, receive_window))
    }

    /// Removes a stream that has ended. Returns its tag.
    pub(crate) fn remove_stream(&mut self, key: StreamKey, by: EndedBy) -> Option<u32> {
        let stream = self.streams.remove(key)?;
        self.queued -= stream.queue.len();
        let growth = stream.receive_window.target().saturating_sub(self.stream_window);
        self.grown = self.grown.saturating_sub(u64::from(growth));
        if self.is_ours(stream.id) {
            self.ours_open -= 1;
        } else {
            self.theirs_open -= 1;
            self.ended.push(stream.id, by);
        }
        Some(stream.tag)
    }

    /// Removes a stream once both sides have ended and nothing waits.
    pub(crate) fn remove_if_closed(&mut self, key: StreamKey) {
        let is_closed = |stream: &Stream| stream.state == State::Closed && stream.queue.is_empty();
        let closed = self.streams.get(key).filter(|stream| is_closed(stream));
        if let Some(at_fault) = closed.map(|stream| stream.at_fault) {
            self.remove_stream(key, EndedBy::Peer);
            if !at_fault {
                self.floods.resets.credit(EarlyEnd::Fault.cost());
            }
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("role", &self.role)
            .field("open_streams", &self.streams.len())
            .field("output_len", &self.output.len())
            .field("queued", &self.queued)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

fn saturate(octets: usize) -> u32 {
    u32::try_from(octets).unwrap_or(u32::MAX)
}
