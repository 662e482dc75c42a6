//! The client's end of a connection: the calls started on it (PROTOCOL-HTTP2.md).

use super::{ClientEvent, ClientOptions, Outcome, Request, StartError, Unseen};
use crate::compression::Encoding;
use crate::deadline::Deadlines;
use crate::engine::Engine;
use crate::headers::{
    Pair, Trailers, parse_response, parse_trailers, prepare_request, with_metadata,
};
use crate::keepalive::{KEEPALIVE_PING, Keepalive, Probe};
use crate::message::MessageBuffer;
use crate::metadata::Metadata;
use crate::status::{Code, Status, deadline_exceeded};
use crate::timeout;
use crate::transport::{CallId, Next, Transport};
use hashbrown::HashMap;
use oxgrpc_http2::{
    Connection, ErrorCode, Event, Fields, HeaderList, Indexing, Payload, Prepared, Role, Sent,
    UsageError, Violation,
};
use std::collections::VecDeque;
use std::time::Instant;

/// A call as its client sees it.
///
/// ```text
///   start ──► Started ──headers──► Answered ──trailers──► Ended
///                │                     │                    ▲
///                └── trailers-only, reset, deadline, loss ──┘
/// ```
#[derive(Debug)]
enum Phase {
    Started,
    Answered,
    Ended(Outcome),
}

#[derive(Debug)]
struct Side {
    phase: Phase,
    initial: Metadata,
    unary_response: bool,
    /// Messages that have come, counted up to two.
    responses: u8,
    /// How much the transport takes before the call's first octet.
    begins_at: u64,
    deadline: Option<Instant>,
}

impl Side {
    /// Returns true if a reset means that the server has cancelled the call at its deadline. It may be heard before our own
    /// timer fires; grpc-core reports the deadline then, too.
    fn is_reset_by_deadline(&self, code: ErrorCode, now: Instant) -> bool {
        code == ErrorCode::CANCEL && self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// Header lists that are kept. A program has fewer methods; a proxy may have any number of them.
const MAX_PATHS: usize = 1024;

/// The client's end of a connection.
///
/// It is driven as an [`Engine`]; what happens is told by [`next_event`](Self::next_event).
pub struct ClientConnection<B> {
    transport: Transport<B, Side>,
    options: ClientOptions,
    /// The header lists of the methods that are called, at most [`MAX_PATHS`] of them.
    paths: HashMap<Box<[u8]>, Prepared>,
    deadlines: Deadlines<CallId>,
    keepalive: Option<Keepalive>,
    events: VecDeque<ClientEvent>,
}

impl<B: MessageBuffer> ClientConnection<B> {
    /// A connection whose output holds the preface.
    pub fn new(options: ClientOptions) -> Self {
        let http = Connection::new(Role::Client, options.http.clone());
        Self {
            transport: Transport::new(http, options.limits, options.max_unread_bytes),
            keepalive: options.keepalive.map(Keepalive::new),
            options,
            paths: HashMap::new(),
            deadlines: Deadlines::default(),
            events: VecDeque::new(),
        }
    }

    /// Whether a call could be started now.
    pub fn can_start(&self) -> Result<(), UsageError> {
        self.transport.http.can_open()
    }

    /// A number that changes with each call that is started.
    pub fn started(&self) -> u32 {
        self.transport.generation()
    }

    /// Calls that are not forgotten yet.
    pub fn calls(&self) -> usize {
        self.transport.calls.len()
    }

    /// Starts a call: its header section is in the output.
    pub fn start(&mut self, request: &Request<'_>, now: Instant) -> Result<CallId, StartError> {
        self.transport.http.can_open().map_err(StartError::NotNow)?;
        let timeout = match request.deadline {
            None => None,
            Some(deadline) if deadline > now => Some(timeout::encode(deadline - now)),
            Some(_) => return Err(StartError::Failed(deadline_exceeded())),
        };
        let previous_attempts;
        let mut own: [Pair<'_>; 3] = [(b"", b"", Indexing::Literal); 3];
        let mut count = 0;
        if let Some(timeout) = &timeout {
            own[count] = (b"grpc-timeout", timeout.as_bytes(), Indexing::Literal);
            count += 1;
        }
        if request.encoding != Encoding::Identity {
            let name = request.encoding.name().as_bytes();
            own[count] = (b"grpc-encoding", name, Indexing::Always);
            count += 1;
        }
        if request.previous_attempts > 0 {
            previous_attempts = request.previous_attempts.to_string();
            let value = previous_attempts.as_bytes();
            own[count] = (b"grpc-previous-rpc-attempts", value, Indexing::Literal);
            count += 1;
        }
        let options = &self.options;
        if !self.paths.contains_key(request.path) {
            if self.paths.len() >= MAX_PATHS {
                self.paths.clear();
            }
            let prepared = prepare_request(
                request.path,
                options.scheme.as_bytes(),
                options.authority.as_bytes(),
                options.user_agent.as_bytes(),
            );
            self.paths.insert(request.path.into(), prepared);
        }
        let prepared = self.paths.get_mut(request.path);
        let tag = self.transport.next_tag();
        let http = &mut self.transport.http;
        let begins_at = http.written() + http.output_len() as u64;
        let stream = with_metadata(&own[..count], request.metadata, |fields| {
            let list = HeaderList { prepared, fields };
            if let Some((size, limit)) = http.exceeds_peer_limit(&list) {
                let text = format!("Sent metadata larger than the peer's max ({size} vs. {limit})");
                return Err(StartError::Failed(Status::new(Code::ResourceExhausted, text)));
            }
            http.open(list, false, tag).map_err(StartError::NotNow)
        })?;
        let id = self.transport.insert(
            stream,
            Side {
                phase: Phase::Started,
                initial: Metadata::new(),
                unary_response: request.unary_response,
                responses: 0,
                begins_at,
                deadline: request.deadline,
            },
        );
        if let Some(call) = self.transport.get_mut(id) {
            call.send_encoding = request.encoding;
            call.limits = request.limits.unwrap_or(call.limits);
            call.has_one_message = request.unary_response;
            call.reading = request.unary_response;
        }
        if let Some(deadline) = request.deadline {
            let transport = &self.transport;
            self.deadlines.push(deadline, id, |id| transport.get(id).is_some());
        }
        Ok(id)
    }

    /// Sends a message; `end` ends the requests with it. The error is how the call has ended.
    pub fn send_message(
        &mut self,
        call: CallId,
        message: impl Payload,
        compress: bool,
        end: bool,
    ) -> Result<Sent, Status> {
        self.transport.send_message(call, message, compress, end)
    }

    /// Whether messages of the call wait for the windows: a `Writable` event follows when they no longer do.
    pub fn is_queued(&self, call: CallId) -> bool {
        self.transport.is_queued(call)
    }

    /// Ends the requests. Does nothing if they have ended.
    pub fn half_close(&mut self, call: CallId) {
        if let Some(stream) = self.transport.get(call).map(|call| call.stream) {
            // A stream that can no longer be sent on has ended in another way.
            let _ = self.transport.http.send_data(stream, b"", &b""[..], true);
        }
    }

    /// Reads the next response. `Pending` asks for it: a `Readable` event follows.
    pub fn take_message(&mut self, call: CallId) -> Next<B> {
        self.transport.take_message(call)
    }

    /// Returns true if the next response is there and has to be inflated to be read, which may take milliseconds.
    pub fn next_is_compressed(&self, call: CallId) -> bool {
        self.transport.next_is_compressed(call)
    }

    /// Returns how many octets responses were inflated to since this was asked last.
    pub fn take_inflated(&mut self) -> usize {
        self.transport.take_inflated()
    }

    /// Returns how many octets of requests were compressed since this was asked last.
    pub fn take_deflated(&mut self) -> usize {
        self.transport.take_deflated()
    }

    /// Whether a response waits to be read.
    pub fn has_message(&self, call: CallId) -> bool {
        self.transport.get(call).is_some_and(|call| call.inbox.has_message())
    }

    /// The server's initial metadata, once it has come; only the first call gets it.
    pub fn take_initial_metadata(&mut self, call: CallId) -> Option<Metadata> {
        let call = self.transport.get_mut(call)?;
        match call.side.phase {
            Phase::Started => None,
            Phase::Answered | Phase::Ended(_) => Some(std::mem::take(&mut call.side.initial)),
        }
    }

    /// Returns how the call ended, once it has; only the first call gets the metadata. Unread messages can still be read,
    /// until the call's deadline: then the call ends a second time, without them.
    pub fn take_outcome(&mut self, call: CallId) -> Option<Outcome> {
        match &mut self.transport.get_mut(call)?.side.phase {
            Phase::Ended(outcome) => Some(Outcome {
                status: outcome.status.clone(),
                trailing: std::mem::take(&mut outcome.trailing),
                is_remote: outcome.is_remote,
                lost_details: outcome.lost_details,
                unseen: outcome.unseen,
            }),
            _ => None,
        }
    }

    /// Forgets a call; one that has not ended is cancelled.
    pub fn forget(&mut self, call: CallId) {
        self.transport.reset(call, ErrorCode::CANCEL);
        self.transport.remove(call);
    }

    fn on_headers(&mut self, id: CallId, fields: &Fields) {
        let Some(call) = self.transport.get_mut(id) else { return };
        match parse_response(fields) {
            Ok(head) => {
                call.receive_encoding = head.encoding;
                call.side.initial = head.metadata;
                if let Phase::Started = call.side.phase {
                    call.side.phase = Phase::Answered;
                    self.events.push_back(ClientEvent::Headers(id));
                }
            }
            Err(status) => self.fail(id, status),
        }
    }

    fn on_data(&mut self, id: CallId, data: &[u8], end_stream: bool) {
        match self.transport.push(id, data) {
            Ok(0) => {}
            Ok(completed) => {
                let Some(call) = self.transport.get_mut(id) else { return };
                let side = &mut call.side;
                side.responses = side.responses.saturating_add(completed.min(2) as u8);
                if side.unary_response && side.responses > 1 {
                    // Not to be waited for: they may go on until the window is full, and the trailers never come.
                    return self.fail(id, not_one_response("several responses"));
                }
                if !side.unary_response && std::mem::take(&mut call.reading) {
                    self.events.push_back(ClientEvent::Readable(id));
                }
            }
            Err(status) => return self.fail(id, status),
        }
        if end_stream {
            self.fail(id, Status::new(Code::Internal, "Stream ended without trailers"));
        }
    }

    fn on_trailers(&mut self, id: CallId, fields: &Fields) {
        let Some(call) = self.transport.get_mut(id) else { return };
        let Trailers { mut status, metadata, lost_details } = parse_trailers(fields);
        if status.is_ok() && call.inbox.ends_within_message() {
            status = Status::new(Code::Internal, "Stream ended within a message");
        }
        if status.is_ok() && call.side.unary_response && call.side.responses == 0 {
            status = not_one_response("no response");
        }
        let trailing = metadata;
        self.end_with(
            id,
            Outcome { status, trailing, is_remote: true, lost_details, unseen: None },
        );
    }

    fn on_go_away(&mut self, last_stream: u32, code: ErrorCode, debug: &[u8]) {
        let debug = String::from_utf8_lossy(debug).into_owned();
        for id in self.transport.ids() {
            if self.transport.get(id).is_some_and(|call| call.stream.id() > last_stream) {
                let text =
                    format!("The server goes away and did not take the call: {code} {debug}");
                let why = if self.has_left(id) { Unseen::Refused } else { Unseen::NeverLeft };
                self.end_with(id, Outcome::unseen(Status::new(Code::Unavailable, text), why));
            }
        }
        self.events.push_back(ClientEvent::GoAway { code, debug });
    }

    /// Ends a call whose deadline has passed. Unread messages of a stream are dropped, and its status with them if that came
    /// in time: a reader must not take what is missing for the end of the stream.
    fn exceed_deadline(&mut self, id: CallId) {
        let Some(call) = self.transport.get_mut(id) else { return };
        if !call.side.unary_response {
            if let Phase::Ended(_) = call.side.phase {
                if !call.inbox.has_message() {
                    return;
                }
                call.side.phase = Phase::Answered;
            }
            self.transport.discard(id);
        }
        self.fail(id, deadline_exceeded());
    }

    /// Sees to it that messages that are waited for can come, at the cost of some calls if too much is unread.
    fn look_after_messages(&mut self, now: Instant) {
        self.transport.look_after(now);
        while let Some((id, status)) = self.transport.unstick() {
            // What has come of it would otherwise be held until its caller has noticed.
            self.transport.discard(id);
            self.fail(id, status);
        }
    }

    /// Ends a call that cannot go on, and tells the server.
    fn fail(&mut self, id: CallId, status: Status) {
        self.transport.reset(id, ErrorCode::CANCEL);
        self.end(id, status);
    }

    /// Ends a call with a status of our own.
    fn end(&mut self, id: CallId, status: Status) {
        self.end_with(id, Outcome::local(status));
    }

    fn end_with(&mut self, id: CallId, outcome: Outcome) {
        let Some(call) = self.transport.get_mut(id) else { return };
        if let Phase::Ended(_) = call.side.phase {
            return;
        }
        call.side.phase = Phase::Ended(outcome);
        let stream = call.stream;
        self.transport.receive_no_more(id);
        // A server may answer before it has all requests (RFC 9113 §8.1): the rest is not sent.
        self.transport.http.reset(stream, ErrorCode::NO_ERROR);
        self.events.push_back(ClientEvent::Ended(id));
    }

    /// Ends all calls, because the connection is lost.
    pub fn close(&mut self, status: &Status) {
        self.transport.http.discard_output();
        for id in self.transport.ids() {
            let outcome = match self.has_left(id) {
                true => Outcome::local(status.clone()),
                false => Outcome::unseen(status.clone(), Unseen::NeverLeft),
            };
            self.end_with(id, outcome);
        }
    }

    /// Whether anything of a call was written.
    fn has_left(&self, id: CallId) -> bool {
        let written = self.transport.http.written();
        self.transport.get(id).is_some_and(|call| call.side.begins_at < written)
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<ClientEvent> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        self.transport.next_sent().map(ClientEvent::Writable)
    }
}

impl<B: MessageBuffer> Engine for ClientConnection<B> {
    fn http(&self) -> &Connection {
        &self.transport.http
    }

    fn http_mut(&mut self) -> &mut Connection {
        &mut self.transport.http
    }

    fn receive(&mut self, input: &mut &[u8], now: Instant) -> Result<(), Violation> {
        if let Some(keepalive) = &mut self.keepalive {
            keepalive.received(now);
        }
        while let Some(event) = self.transport.http.receive(input, now)? {
            match event {
                Event::Data { stream, tag, data, end_stream } => {
                    match self.transport.by_tag(tag).map(|(id, _)| id) {
                        Some(id) => self.on_data(id, data, end_stream),
                        None => self.transport.http.release(stream, data.len()),
                    }
                }
                Event::Headers { tag, fields, end_stream, .. } => {
                    if let Some((id, _)) = self.transport.by_tag(tag) {
                        if end_stream {
                            self.on_trailers(id, &fields);
                        } else {
                            self.on_headers(id, &fields);
                        }
                    }
                    self.transport.http.recycle(fields);
                }
                Event::Trailers { tag, fields, .. } => {
                    if let Some((id, _)) = self.transport.by_tag(tag) {
                        self.on_trailers(id, &fields);
                    }
                    self.transport.http.recycle(fields);
                }
                Event::Reset { tag, code } => {
                    if let Some((id, call)) = self.transport.by_tag(tag) {
                        if call.side.is_reset_by_deadline(code, now) {
                            self.exceed_deadline(id);
                            continue;
                        }
                        let text = format!("Received RST_STREAM with error code {}", code.0);
                        let status = Status::new(Code::from_reset(code), text);
                        let outcome = match code {
                            ErrorCode::REFUSED_STREAM => Outcome::unseen(status, Unseen::Refused),
                            _ => Outcome::local(status),
                        };
                        self.end_with(id, outcome);
                    }
                }
                Event::Failed { tag, violation } => {
                    if let Some((id, _)) = self.transport.by_tag(tag) {
                        let text = format!("The server broke a rule: {violation}");
                        self.end(id, Status::new(Code::Internal, text));
                    }
                }
                Event::Settings => self.events.push_back(ClientEvent::Settings),
                Event::GoAway { last_stream, code, debug } => {
                    self.on_go_away(last_stream, code, debug);
                }
                _ => {}
            }
        }
        self.look_after_messages(now);
        Ok(())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let keepalive = self.keepalive.as_ref().and_then(Keepalive::due);
        let messages = self.transport.admission.due();
        [self.deadlines.next(), keepalive, messages].into_iter().flatten().min()
    }

    fn expire(&mut self, now: Instant) {
        while let Some(id) = self.deadlines.expired(now) {
            self.exceed_deadline(id);
        }
        self.look_after_messages(now);
        let Some(keepalive) = &mut self.keepalive else { return };
        let http = &mut self.transport.http;
        match keepalive.expire(now, self.transport.calls.len(), http.content_frames()) {
            Probe::Nothing => {}
            Probe::Ping => http.ping(KEEPALIVE_PING),
            Probe::Lost => self.events.push_back(ClientEvent::Lost),
        }
    }
}

fn not_one_response(count: &str) -> Status {
    Status::new(Code::Unimplemented, format!("Received {count} for a method that has one"))
}
