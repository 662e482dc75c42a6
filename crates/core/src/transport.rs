//! What both ends of a connection share: the calls on it, their content in both directions, and how much of it may be
//! held (PROTOCOL-HTTP2.md, "HTTP2 Transport Mapping").

use crate::admission::{Admission, Stage};
use crate::compression::{Encoding, InflateError};
use crate::message::{Inbox, MessageBuffer, Taken, prefix};
use crate::status::{Code, Status};
use oxgrpc_http2::{Connection, ErrorCode, NO_TAG, Payload, Role, Sent, StreamKey};
use slab::Slab;

/// With less than this in the connection's window, whoever waits for a message is stuck behind what others do not read.
const LEAST_WINDOW: usize = 16 << 10;

/// How far the connection's window is opened then, if that much may still be unread.
const WIDENED_WINDOW: usize = 1 << 20;

/// What a connection may hold unread by default. A hundred messages of 4 MiB fit, which a proxy may well send in turns, so
/// that none is whole before nearly all of them are here.
pub(crate) const MAX_UNREAD: usize = 512 << 20;

/// How large messages may be.
#[derive(Clone, Copy, Debug)]
pub struct MessageLimits {
    /// The longest message that is received, in octets, inflated.
    pub max_receive_bytes: usize,
    /// The longest message that is sent, in octets, before compression.
    pub max_send_bytes: usize,
}

impl Default for MessageLimits {
    /// grpcio's defaults: 4 MiB and no limit.
    fn default() -> Self {
        Self { max_receive_bytes: 4 << 20, max_send_bytes: usize::MAX }
    }
}

/// Names a call of one connection. It never comes to mean another call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId {
    index: u32,
    generation: u32,
}

impl CallId {
    /// A small number that no other call of the connection has at the same time.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// What reading a message comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<B> {
    /// A message.
    Message(B),
    /// None is there yet; a `Readable` event follows when one is.
    Pending,
    /// No more come.
    End,
    /// The next message cannot be read: the call's end, for the caller to carry out.
    Failed(Status),
}

/// A call on a connection; `S` is what the client's or the server's side adds.
#[derive(Debug)]
pub(crate) struct Call<B, S> {
    generation: u32,
    pub(crate) stream: StreamKey,
    pub(crate) inbox: Inbox<B>,
    /// The encoding of messages that the peer sends compressed.
    pub(crate) receive_encoding: Encoding,
    /// The encoding of messages that we send compressed.
    pub(crate) send_encoding: Encoding,
    /// The peer sends one message and no stream.
    pub(crate) has_one_message: bool,
    /// A reader waits for the next message.
    pub(crate) reading: bool,
    /// The peer has ended its side.
    pub(crate) received_all: bool,
    /// Where its next message stands, if that is longer than the window.
    pub(crate) stage: Stage,
    pub(crate) limits: MessageLimits,
    pub(crate) side: S,
}

impl<B: MessageBuffer, S> Call<B, S> {
    pub(crate) fn is_named(&self, id: CallId) -> bool {
        self.generation == id.generation
    }

    /// Whether a reader waits for octets.
    fn waits(&self) -> bool {
        self.reading && !self.received_all && !self.inbox.has_message()
    }
}

pub(crate) struct Transport<B, S> {
    pub(crate) http: Connection,
    pub(crate) calls: Slab<Call<B, S>>,
    limits: MessageLimits,
    generation: u32,
    /// Octets that all calls together may hold unread. Below it nobody who waits for a message is stuck; above it calls
    /// are ended.
    max_unread_bytes: usize,
    pub(crate) admission: Admission,
    /// Whether the peer obeys all our SETTINGS.
    settled: bool,
    /// Octets that messages were inflated to, until the driver asks.
    inflated: usize,
    /// Octets of messages that were compressed, until the driver asks.
    deflated: usize,
}

impl<B: MessageBuffer, S> Transport<B, S> {
    pub(crate) fn new(http: Connection, limits: MessageLimits, max_unread_bytes: usize) -> Self {
        Self {
            http,
            calls: Slab::new(),
            limits,
            generation: 0,
            max_unread_bytes,
            admission: Admission::default(),
            settled: false,
            inflated: 0,
            deflated: 0,
        }
    }

    /// A number that changes with each call.
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// The tag that the next [`insert`](Self::insert)ed call's stream must have.
    pub(crate) fn next_tag(&self) -> u32 {
        self.calls.vacant_key() as u32
    }

    pub(crate) fn insert(&mut self, stream: StreamKey, side: S) -> CallId {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let index = self.calls.insert(Call {
            generation,
            stream,
            inbox: Inbox::new(),
            receive_encoding: Encoding::Identity,
            send_encoding: Encoding::Identity,
            has_one_message: false,
            reading: false,
            received_all: false,
            stage: Stage::Fits,
            limits: self.limits,
            side,
        });
        CallId { index: index as u32, generation }
    }

    #[inline]
    pub(crate) fn get(&self, id: CallId) -> Option<&Call<B, S>> {
        self.calls.get(id.index()).filter(|call| call.is_named(id))
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: CallId) -> Option<&mut Call<B, S>> {
        self.calls.get_mut(id.index()).filter(|call| call.is_named(id))
    }

    /// The call that an event's tag names.
    #[inline]
    pub(crate) fn by_tag(&mut self, tag: u32) -> Option<(CallId, &mut Call<B, S>)> {
        let call = self.calls.get_mut(tag as usize)?;
        Some((CallId { index: tag, generation: call.generation }, call))
    }

    pub(crate) fn ids(&self) -> Vec<CallId> {
        let id = |(index, call): (usize, &Call<B, S>)| CallId {
            index: index as u32,
            generation: call.generation,
        };
        self.calls.iter().map(id).collect()
    }

    /// Forgets a call and what is unread of it. Its stream goes on without a name until it has ended.
    pub(crate) fn remove(&mut self, id: CallId) -> Option<Call<B, S>> {
        self.get(id)?;
        let call = self.calls.try_remove(id.index())?;
        self.http.set_tag(call.stream, NO_TAG);
        let held = call.inbox.held();
        if held > 0 {
            self.http.release(call.stream, held);
        }
        self.end_admission(call.stage);
        Some(call)
    }

    /// Takes content in. Returns how many messages it completes; an error is the call's end.
    pub(crate) fn push(&mut self, id: CallId, content: &[u8]) -> Result<usize, Status> {
        let Some(call) = self.get_mut(id) else { return Ok(0) };
        let max = call.limits.max_receive_bytes;
        let held = call.inbox.held();
        let pushed = call.inbox.push(content, max);
        let dropped = held + content.len() - call.inbox.held();
        let (stream, stage) = (call.stream, call.stage);
        if dropped > 0 {
            self.http.release(stream, dropped);
        }
        if stage != Stage::Fits {
            self.admission.moved(content.len());
        }
        let completed = pushed.map_err(|status| self.signed(status))?;
        self.admit(id);
        self.open_ahead(id);
        Ok(completed)
    }

    /// Drops what is unread of a call that nobody reads any more, so that it does not hold the windows down.
    pub(crate) fn discard(&mut self, id: CallId) {
        let Some(call) = self.get_mut(id) else { return };
        let inbox = std::mem::replace(&mut call.inbox, Inbox::new());
        let stage = std::mem::replace(&mut call.stage, Stage::Fits);
        let stream = call.stream;
        call.reading = false;
        let held = inbox.held();
        if held > 0 {
            self.http.release(stream, held);
        }
        self.end_admission(stage);
    }

    /// Whether a line of `len` calls is mostly made of such as are gone: a client that resets what has come into line
    /// must not make it grow. Looking through the line this rarely costs nothing that counts.
    pub(crate) fn is_cluttered(&self, len: usize) -> bool {
        len > 2 * self.calls.len() + 64
    }

    /// After a batch of input, and when a look is due: nobody who waits for a message may be stuck. Returns a call that
    /// has to end for that, with its status; then there may be another.
    pub(crate) fn unstick(&mut self) -> Option<(CallId, Status)> {
        let settled = self.http.settings_are_acknowledged();
        if settled && !self.settled {
            self.widen_shrunk_windows();
        }
        self.settled = settled;
        // Who has its message and waits for the end counts, too: a window is never left without room to end.
        let is_awaited = |(_, call): (usize, &Call<B, S>)| {
            !call.received_all && (call.reading || self.http.is_queued(call.stream))
        };
        if !self.is_short() || !self.calls.iter().any(is_awaited) {
            return None;
        }
        if !self.is_full() {
            self.widen();
            return None;
        }
        Some((self.hoarder()?, self.too_much_unread()))
    }

    /// The call to end when too much is unread: the youngest that holds at least half as much as any. A message that is
    /// admitted comes to its end if another can go; a call that holds nothing ends if there is no other.
    pub(crate) fn hoarder(&self) -> Option<CallId> {
        let spare = |call: &Call<B, S>| match call.stage {
            Stage::Admitted(_) => 0,
            Stage::Fits | Stage::Waiting => call.inbox.held(),
        };
        let open = || self.calls.iter().filter(|(_, call)| !call.received_all);
        let most = open().map(|(_, call)| spare(call)).max()?;
        let holds_much = |call: &Call<B, S>| most > 0 && 2 * spare(call) >= most;
        let candidates = open().filter(|(_, call)| call.waits() || call.inbox.held() > 0);
        let (index, call) = candidates
            .max_by_key(|(_, call)| (holds_much(call), call.inbox.held() > 0, call.generation))?;
        Some(CallId { index: index as u32, generation: call.generation })
    }

    /// A call waits for content, perhaps behind what others do not read.
    pub(crate) fn make_room(&mut self) {
        if self.is_short() {
            match self.is_full() {
                // A call has to end for this one to go on, and not necessarily this one.
                true => self.admission.ask(),
                false => self.widen(),
            }
        }
    }

    /// Whether what is unread has taken up the connection's window.
    fn is_short(&self) -> bool {
        self.http.connection_window_available() < LEAST_WINDOW
    }

    /// Whether as much is unread as may be.
    fn is_full(&self) -> bool {
        self.http.held_bytes() > self.max_unread_bytes
    }

    fn too_much_unread(&self) -> Status {
        let max = self.max_unread_bytes;
        let text = format!("More than {max} octets of the connection's messages are unread");
        self.signed(Status::new(Code::ResourceExhausted, text))
    }

    /// Lets in more on the connection than is read: each stream's own window is the bound then.
    fn widen(&mut self) {
        let room = self.max_unread_bytes.saturating_sub(self.http.held_bytes());
        self.http.grant_connection(room.clamp(LEAST_WINDOW, WIDENED_WINDOW));
    }

    /// Nothing more comes for a call: a message that was admitted and is not whole makes room for others.
    pub(crate) fn receive_no_more(&mut self, id: CallId) {
        let Some(call) = self.get_mut(id) else { return };
        call.received_all = true;
        if !call.inbox.has_message() {
            let stage = std::mem::replace(&mut call.stage, Stage::Fits);
            self.end_admission(stage);
        }
    }

    /// Reads the next message of a call.
    pub(crate) fn take_message(&mut self, id: CallId) -> Next<B> {
        let Some(call) = self.get_mut(id) else { return Next::End };
        let max = call.limits.max_receive_bytes;
        let Some(taken) = call.inbox.take() else { return self.wait(id) };
        call.reading = false;
        let (stream, encoding) = (call.stream, call.receive_encoding);
        // Not before: whole messages that nobody takes must not add up either.
        let stage = std::mem::replace(&mut call.stage, Stage::Fits);
        self.http.release(stream, taken.content_len);
        self.end_admission(stage);
        self.open_ahead(id);
        let is_compressed = taken.compressed;
        let inflated = inflate(taken, encoding, max);
        if is_compressed {
            // A message that cannot be read may have been inflated up to the limit before that was found out.
            let len = inflated.as_ref().map_or(max, |message| message.octets().len());
            self.inflated = self.inflated.saturating_add(len);
        }
        match inflated {
            Ok(message) => Next::Message(message),
            Err(status) => Next::Failed(self.signed(status)),
        }
    }

    /// Waits for what comes next of a call.
    pub(crate) fn wait(&mut self, id: CallId) -> Next<B> {
        let Some(call) = self.get_mut(id).filter(|call| !call.received_all) else {
            return Next::End;
        };
        call.reading = true;
        self.admit(id);
        self.make_room();
        Next::Pending
    }

    /// Whether reading the next message of a call means to inflate it.
    pub(crate) fn next_is_compressed(&self, id: CallId) -> bool {
        self.get(id).is_some_and(|call| call.inbox.next_is_compressed())
    }

    /// Returns how many octets messages were inflated to since this was asked last.
    pub(crate) fn take_inflated(&mut self) -> usize {
        std::mem::take(&mut self.inflated)
    }

    /// Returns how many octets of messages were compressed since this was asked last.
    pub(crate) fn take_deflated(&mut self) -> usize {
        std::mem::take(&mut self.deflated)
    }

    /// Sends a message; `end` ends our side behind it. The error is the call's end.
    pub(crate) fn send_message(
        &mut self,
        id: CallId,
        message: impl Payload,
        compress: bool,
        end: bool,
    ) -> Result<Sent, Status> {
        let Some(call) = self.get(id) else { return Err(stream_is_gone()) };
        let max = call.limits.max_send_bytes.min(u32::MAX as usize);
        let len = message.octets().len();
        if len > max {
            let text = format!("Sent message larger than max ({len} vs. {max})");
            return Err(self.signed(Status::new(Code::ResourceExhausted, text)));
        }
        let Some(call) = self.get_mut(id) else { return Err(stream_is_gone()) };
        let stream = call.stream;
        let compressed = match compress && call.send_encoding != Encoding::Identity {
            true => {
                let compressed = call.send_encoding.compress(message.octets());
                self.deflated = self.deflated.saturating_add(len);
                compressed
            }
            false => None,
        };
        let sent = match compressed {
            Some(compressed) => {
                self.http.send_data(stream, &prefix(true, compressed.len()), &compressed[..], end)
            }
            None => self.http.send_data(stream, &prefix(false, len), message, end),
        };
        let sent = sent.map_err(|_| stream_is_gone())?;
        if sent == Sent::Queued {
            self.open_ahead(id);
        }
        Ok(sent)
    }

    /// Says in a status which end found the fault, as grpcio does: the other end sees it, too.
    fn signed(&self, status: Status) -> Status {
        let end = match self.http.role() {
            Role::Client => "CLIENT",
            Role::Server => "SERVER",
        };
        Status::new(status.code, format!("{end}: {}", status.message))
    }

    /// Whether messages of the call wait for a window or for room in the output.
    pub(crate) fn is_queued(&self, id: CallId) -> bool {
        self.get(id).is_some_and(|call| self.http.is_queued(call.stream))
    }

    /// A call whose queued data is now within the windows.
    pub(crate) fn next_sent(&mut self) -> Option<CallId> {
        loop {
            let (stream, tag) = self.http.next_sent()?;
            if let Some((id, call)) = self.by_tag(tag)
                && call.stream == stream
            {
                return Some(id);
            }
        }
    }

    /// Resets a call's stream, if it is still open.
    pub(crate) fn reset(&mut self, id: CallId, code: ErrorCode) {
        if let Some(stream) = self.get(id).map(|call| call.stream) {
            self.http.reset(stream, code);
        }
    }
}

fn stream_is_gone() -> Status {
    Status::new(Code::Internal, "The stream has ended")
}

fn inflate<B: MessageBuffer>(taken: Taken<B>, encoding: Encoding, max: usize) -> Result<B, Status> {
    if !taken.compressed {
        return Ok(taken.message);
    }
    let wire = taken.message.octets();
    match encoding.inflate(wire, max) {
        Ok(message) => Ok(B::copy_of(&message)),
        Err(InflateError::TooLarge) => {
            let len = wire.len();
            let text = format!(
                "Received message larger than max (more than {max} inflated from {len} vs. {max})"
            );
            Err(Status::new(Code::ResourceExhausted, text))
        }
        Err(InflateError::Corrupt) => {
            let text = format!("A compressed message is not in the encoding '{}'", encoding.name());
            Err(Status::new(Code::Internal, text))
        }
    }
}
