//! The server's end of a connection: the calls that a client makes on it (PROTOCOL-HTTP2.md).

use super::lifetime::{Due, Lifetime};
use super::one_request::OneRequest;
use super::ping_policy::PingPolicy;
use super::{Accepted, Farewell, Method, Methods, ServerEvent, ServerOptions};
use crate::compression::{ACCEPTED, Accepts, Encoding};
use crate::deadline::Deadlines;
use crate::engine::Engine;
use crate::headers::{Pair, Refusal, RequestHead, parse_request, prepare_response, with_metadata};
use crate::keepalive::{KEEPALIVE_PING, Keepalive, Probe};
use crate::message::MessageBuffer;
use crate::metadata::Metadata;
use crate::percent;
use crate::status::{Code, Status, deadline_exceeded};
use crate::transport::{CallId, Next, Transport};
use oxgrpc_http2::{
    Connection, EarlyEnd, ErrorCode, Event, Fields, HeaderList, Indexing, Payload, Prepared,
    Pseudo, Role, Sent, StreamKey, Violation,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a call that nobody reads from costs beside what its client has sent, in octets: ours and the driver's part
/// together (measured: 3 KiB with a coroutine that waits).
const CALL_COST: usize = 3 << 10;

/// A shorter timeout is a client's way to end a call at once; a call that had longer was given its time.
const SHORT_TIMEOUT: Duration = Duration::from_millis(100);

/// A call as its server sees it. A call that is over is not stored any more, unless responses still wait.
///
/// ```text
///   headers ──► Waiting ──request──► Ready ──accept──► Running ──finish──► Closing ──sent──► (gone)
///                  │                   │                  │
///                  └── reset, deadline, broken requests, loss: (gone), reported if Running
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// For its only request.
    Waiting,
    /// To be accepted.
    Ready,
    Running,
    /// Finished; the client's side is open, and will be reset once all responses are out.
    Closing,
}

#[derive(Debug)]
pub(super) struct Side {
    phase: Phase,
    /// Where the only request stands. `None` if the method takes a stream, or is not known yet.
    pub(super) one_request: Option<OneRequest>,
    /// The encodings that the client reads.
    accepts: Accepts,
    accepted: Option<Accepted>,
    /// Its timeout is a [`SHORT_TIMEOUT`].
    hurries: bool,
    /// Octets of memory that are held for it.
    cost: usize,
    headers_sent: bool,
}

/// The server's end of a connection.
///
/// It is driven as an [`Engine`]; what happens is told by [`next_event`](Self::next_event).
pub struct ServerConnection<B> {
    pub(super) transport: Transport<B, Side>,
    methods: Arc<Methods>,
    options: ServerOptions,
    /// Header sections of responses, by encoding.
    responses: [Prepared; 3],
    trailers_ok: Prepared,
    deadlines: Deadlines<CallId>,
    /// When calls whose only request is there no longer wait for the client's end.
    pub(super) half_closes: Deadlines<CallId>,
    pings: PingPolicy,
    keepalive: Option<Keepalive>,
    /// Until [`begin`](Self::begin) the connection may live for ever.
    lifetime: Option<Lifetime>,
    events: VecDeque<ServerEvent>,
    ready: VecDeque<CallId>,
    /// Handlers that run, whether or not their calls are over.
    handlers: usize,
    /// Octets that calls and their metadata take up.
    calls_bytes: usize,
    /// When the driver last said what time it is.
    now: Option<Instant>,
    /// What the last call's user-agent was.
    user_agent: Arc<[u8]>,
}

impl<B: MessageBuffer> ServerConnection<B> {
    /// A connection whose output holds the preface.
    pub fn new(options: ServerOptions, methods: Arc<Methods>) -> Self {
        let http = Connection::new(Role::Server, options.http.clone());
        Self {
            transport: Transport::new(http, options.limits, options.max_unread_bytes),
            methods,
            responses: [Encoding::Identity, Encoding::Deflate, Encoding::Gzip]
                .map(prepare_response),
            trailers_ok: Prepared::new([(&b"grpc-status"[..], &b"0"[..])]),
            deadlines: Deadlines::default(),
            half_closes: Deadlines::default(),
            pings: PingPolicy::new(options.pings),
            keepalive: options.keepalive.map(Keepalive::new),
            lifetime: None,
            events: VecDeque::new(),
            ready: VecDeque::new(),
            handlers: 0,
            calls_bytes: 0,
            now: None,
            user_agent: Arc::default(),
            options,
        }
    }

    /// The connection's life begins. `random` is uniform in 0..1.
    pub fn begin(&mut self, now: Instant, random: f64) {
        self.lifetime = Some(Lifetime::new(self.options.lifetime, now, random));
    }

    /// Whether [`rest`](Self::rest) is of use.
    #[inline]
    pub fn watches_calls(&self) -> bool {
        self.lifetime.as_ref().is_some_and(Lifetime::watches_calls)
    }

    /// The driver has finished a call, and may have been the last to have one.
    pub fn rest(&mut self, now: Instant) {
        let calls = self.calls();
        if let Some(lifetime) = &mut self.lifetime {
            lifetime.note(calls, now);
        }
    }

    /// Other methods, for the calls that come from now on.
    pub fn set_methods(&mut self, methods: Arc<Methods>) {
        self.methods = methods;
    }

    /// Calls that are not over, or whose responses are not sent.
    pub fn calls(&self) -> usize {
        self.transport.http.open_streams()
    }

    /// Ends the connection gracefully: calls that are under way go on.
    pub fn shut_down(&mut self) {
        self.transport.http.shut_down();
    }

    /// Tells the client that the connection ends now, and why.
    pub fn go_away(&mut self, why: &str) {
        self.transport.http.go_away(ErrorCode::NO_ERROR, why);
    }

    /// Whether so much waits for the client that no further work should be done for it.
    pub fn is_congested(&self) -> bool {
        let http = &self.transport.http;
        http.queued_bytes() + http.output_len() > self.options.max_unsent_bytes
    }

    /// Takes a call over, after [`ServerEvent::Call`]. Each call taken over counts as a running handler until
    /// [`handler_ended`](Self::handler_ended).
    pub fn accept(&mut self, call: CallId) -> Option<Accepted> {
        let side = &mut self.transport.get_mut(call)?.side;
        side.phase = Phase::Running;
        let accepted = side.accepted.take()?;
        self.handlers += 1;
        Some(accepted)
    }

    /// The handler of an accepted call has ended. Returns true if another call has waited for this: it is reported next.
    pub fn handler_ended(&mut self) -> bool {
        let was_saturated = self.is_saturated();
        self.handlers -= 1;
        was_saturated && !self.ready.is_empty()
    }

    /// Ends an accepted call for which no handler runs.
    pub fn decline(&mut self, call: CallId, status: &Status) {
        self.handlers -= 1;
        if self.transport.get(call).is_some_and(|call| !call.received_all) {
            self.count(EarlyEnd::Refused);
        }
        self.finish(call, status, &Metadata::new());
    }

    /// Whether as many handlers run as the client may have streams. The stream of a call that was reset is gone for the
    /// client, and so for HTTP/2's limit; its handler may take long to clean up. Calls beyond the limit wait for that
    /// (grpcio refuses their streams instead).
    fn is_saturated(&self) -> bool {
        let limit = self.options.http.max_concurrent_streams;
        limit.is_some_and(|limit| self.handlers >= limit as usize)
    }

    /// Reads the next request. `Pending` asks for it: a `Readable` event follows.
    pub fn take_message(&mut self, call: CallId) -> Next<B> {
        let next = self.transport.take_message(call);
        if let Next::Failed(_) = next {
            self.find_fault(call);
        }
        next
    }

    /// Returns true if the next request is there and has to be inflated to be read, which may take milliseconds.
    pub fn next_is_compressed(&self, call: CallId) -> bool {
        self.transport.next_is_compressed(call)
    }

    /// Returns how many octets requests were inflated to since this was asked last.
    pub fn take_inflated(&mut self) -> usize {
        self.transport.take_inflated()
    }

    /// Returns how many octets of responses were compressed since this was asked last.
    pub fn take_deflated(&mut self) -> usize {
        self.transport.take_deflated()
    }

    /// Sets the encoding of the messages that are sent compressed, if the client reads it. Only before the first message
    /// or metadata.
    pub fn set_encoding(&mut self, call: CallId, encoding: Encoding) {
        if let Some(call) = self.transport.get_mut(call).filter(|call| !call.side.headers_sent) {
            call.send_encoding = call.side.accepts.or_identity(encoding);
        }
    }

    /// Whether the initial metadata has been sent.
    pub fn headers_are_sent(&self, call: CallId) -> bool {
        self.transport.get(call).is_none_or(|call| call.side.headers_sent)
    }

    /// Sends the initial metadata. Does nothing if it has been sent, or the call is over.
    pub fn send_initial_metadata(&mut self, call: CallId, metadata: &Metadata) {
        let Some(entry) = self.transport.get_mut(call) else { return };
        if std::mem::replace(&mut entry.side.headers_sent, true) {
            return;
        }
        let (stream, encoding) = (entry.stream, entry.send_encoding);
        let prepared = &mut self.responses[encoding as usize];
        let http = &mut self.transport.http;
        let sent = with_metadata(&[], metadata, |fields| {
            let list = HeaderList { prepared: Some(prepared), fields };
            fits(http, &list)?;
            // A stream that is gone has been reported.
            let _ = http.send_headers(stream, list, false);
            Ok(())
        });
        if let (Err(too_large), Some(entry)) = (sent, self.transport.get_mut(call)) {
            entry.side.headers_sent = false;
            self.fail(call, &too_large);
        }
    }

    /// Sends a message, behind the initial metadata. The error is the status to finish the call with.
    pub fn send_message(
        &mut self,
        call: CallId,
        message: impl Payload,
        compress: bool,
    ) -> Result<Sent, Status> {
        self.send_initial_metadata(call, &Metadata::new());
        self.transport.send_message(call, message, compress, false)
    }

    /// Whether messages of the call wait for the windows: a `Writable` event follows when they no longer do.
    pub fn is_queued(&self, call: CallId) -> bool {
        self.transport.is_queued(call)
    }

    /// Ends the call with a status and trailing metadata, behind what is queued. Does nothing if it is over.
    pub fn finish(&mut self, call: CallId, status: &Status, trailing: &Metadata) {
        let Some(entry) = self.transport.get_mut(call) else { return };
        let stream = entry.stream;
        let headers_sent = entry.side.headers_sent;
        let sent = self
            .send_trailers(stream, headers_sent, status, trailing)
            .or_else(|large| self.send_trailers(stream, headers_sent, &large, &Metadata::new()))
            // A client that takes not even this much cannot be told anything.
            .unwrap_or(Sent::Written);
        self.close_stream(call, sent);
    }

    fn send_trailers(
        &mut self,
        stream: StreamKey,
        headers_sent: bool,
        status: &Status,
        trailing: &Metadata,
    ) -> Result<Sent, Status> {
        let message = percent::encode(&status.message);
        let code = status.code.wire().as_bytes();
        let mut own: [Pair<'_>; 5] = [
            (b":status", b"200", Indexing::Always),
            (b"content-type", b"application/grpc", Indexing::Always),
            // The answer to an encoding that we do not know must have it (compression.md).
            (b"grpc-accept-encoding", ACCEPTED, Indexing::Always),
            (b"grpc-status", code, Indexing::Always),
            (b"grpc-message", &message, Indexing::WhenRepeated),
        ];
        let from = if headers_sent { 3 } else { 0 };
        let to = if message.is_empty() { 4 } else { 5 };
        let http = &mut self.transport.http;
        let mut prepared = None;
        let mut own = &mut own[from..to];
        if headers_sent && status.is_ok() && message.is_empty() {
            prepared = Some(&mut self.trailers_ok);
            own = &mut [];
        }
        with_metadata(own, trailing, |fields| {
            let list = HeaderList { prepared, fields };
            fits(http, &list)?;
            Ok(http.send_trailers(stream, list).unwrap_or(Sent::Written))
        })
    }

    /// The call is over for us. A client that still sends is told to stop (RFC 9113 §8.1).
    fn close_stream(&mut self, call: CallId, sent: Sent) {
        let Some(entry) = self.transport.get_mut(call) else { return };
        if sent == Sent::Queued && !entry.received_all {
            entry.side.phase = Phase::Closing;
            return self.transport.discard(call);
        }
        if !entry.received_all {
            self.transport.reset(call, ErrorCode::NO_ERROR);
        }
        self.remove(call);
    }

    fn remove(&mut self, call: CallId) {
        if let Some(entry) = self.transport.remove(call) {
            self.calls_bytes -= entry.side.cost;
        }
    }

    fn on_request(&mut self, stream: StreamKey, fields: &Fields, ended: bool, now: Instant) {
        if self.calls_bytes > self.options.max_calls_bytes {
            self.count(EarlyEnd::Refused);
            return self.transport.http.reset(stream, ErrorCode::REFUSED_STREAM);
        }
        let head = match parse_request(fields) {
            Ok(head) => head,
            Err(refusal) => return self.refuse(stream, ended, &refusal),
        };
        let path = fields.pseudo(Pseudo::Path).unwrap_or_default();
        let method = self.methods.by_path.get(path).copied();
        if method.is_none() && !self.methods.reports_unknown {
            let status = Status::new(Code::Unimplemented, "Method not found!");
            return self.refuse(stream, ended, &Refusal::Status(status));
        }
        let id = self.insert(stream, head, method, path, now);
        if ended {
            self.on_end(id);
        }
    }

    fn insert(
        &mut self,
        stream: StreamKey,
        head: RequestHead<'_>,
        method: Option<Method>,
        path: &[u8],
        now: Instant,
    ) -> CallId {
        let deadline = head.timeout.and_then(|timeout| now.checked_add(timeout));
        let is_unary = method.is_some_and(|method| !method.request_streaming);
        let path = if method.is_none() { path } else { b"" };
        // Each call counts the user-agent, although calls share it: its owner may end before the others.
        let agent_size = head.user_agent.map_or(0, <[u8]>::len);
        let cost = CALL_COST + head.metadata.memory() + path.len() + agent_size;
        let accepted = Accepted {
            method: method.map(|method| method.index),
            path: path.into(),
            metadata: head.metadata,
            user_agent: head.user_agent.map(|user_agent| self.share_user_agent(user_agent)),
            deadline,
        };
        let side = Side {
            phase: if is_unary { Phase::Waiting } else { Phase::Ready },
            one_request: is_unary.then_some(OneRequest::Missing),
            accepts: head.accepts,
            accepted: Some(accepted),
            hurries: head.timeout.is_some_and(|timeout| timeout < SHORT_TIMEOUT),
            cost,
            headers_sent: false,
        };
        self.calls_bytes += cost;
        self.transport.http.set_tag(stream, self.transport.next_tag());
        let id = self.transport.insert(stream, side);
        if let Some(call) = self.transport.get_mut(id) {
            call.receive_encoding = head.encoding;
            call.has_one_message = is_unary;
            call.reading = is_unary;
        }
        if let Some(deadline) = deadline {
            let transport = &self.transport;
            self.deadlines.push(deadline, id, |id| transport.get(id).is_some());
        }
        if !is_unary {
            self.make_ready(id);
        }
        id
    }

    /// Queues a call that can be accepted. While the connection is congested or saturated it stays in the queue.
    fn make_ready(&mut self, id: CallId) {
        if self.transport.is_cluttered(self.ready.len()) {
            let transport = &self.transport;
            self.ready.retain(|&id| transport.get(id).is_some());
        }
        self.ready.push_back(id);
    }

    /// The user-agent without a copy of it: it hardly ever changes.
    fn share_user_agent(&mut self, user_agent: &[u8]) -> Arc<[u8]> {
        if *self.user_agent != *user_agent {
            self.user_agent = user_agent.into();
        }
        self.user_agent.clone()
    }

    /// Answers a request that does not become a call.
    fn refuse(&mut self, stream: StreamKey, ended: bool, refusal: &Refusal) {
        let mut reset = ErrorCode::NO_ERROR;
        match refusal {
            Refusal::Status(status) | Refusal::Malformed(status) => {
                if let Refusal::Malformed(_) = refusal {
                    reset = ErrorCode::PROTOCOL_ERROR;
                }
                let _ = self.send_trailers(stream, false, status, &Metadata::new());
            }
            Refusal::Http(status) => {
                let fields: &[Pair<'_>] = &[(b":status", status, Indexing::Always)];
                let list = HeaderList { prepared: None, fields };
                let _ = self.transport.http.send_headers(stream, list, true);
            }
        }
        if !ended {
            self.count(match refusal {
                Refusal::Malformed(_) => EarlyEnd::Fault,
                Refusal::Status(status) if status.code == Code::DeadlineExceeded => EarlyEnd::Fault,
                Refusal::Status(_) | Refusal::Http(_) => EarlyEnd::Refused,
            });
            self.transport.http.reset(stream, reset);
        }
    }

    fn on_data(&mut self, id: CallId, data: &[u8], end_stream: bool, now: Instant) {
        let Some(call) = self.transport.get(id) else { return };
        if call.side.phase == Phase::Closing || call.side.one_request == Some(OneRequest::Settled) {
            // Nobody reads it. Its client may have to be done with writing before it reads what is queued.
            self.transport.http.release(call.stream, data.len());
            if end_stream {
                self.on_end(id);
            }
            return;
        }
        let completed = match self.transport.push(id, data) {
            Ok(completed) => completed,
            Err(status) => return self.reject(id, &status),
        };
        if completed > 0 {
            self.on_messages(id, completed);
        }
        if end_stream {
            self.on_end(id);
        } else if completed > 0 {
            self.await_end(id, now);
        }
    }

    fn on_messages(&mut self, id: CallId, completed: usize) {
        let Some(call) = self.transport.get_mut(id) else { return };
        match call.side.one_request.map(|one| one.received(completed)) {
            Some(Ok(one)) => call.side.one_request = Some(one),
            Some(Err(status)) => self.reject(id, &status),
            None => self.wake_reader(id),
        }
    }

    /// The only request is certain to be the only one that counts.
    pub(super) fn settle(&mut self, id: CallId) {
        let Some(call) = self.transport.get_mut(id) else { return };
        match call.side.phase {
            Phase::Waiting => {
                call.side.phase = Phase::Ready;
                call.reading = false;
                self.make_ready(id);
            }
            Phase::Ready | Phase::Running | Phase::Closing => self.wake_reader(id),
        }
    }

    /// Reports that there is something to read, if a reader waits.
    fn wake_reader(&mut self, id: CallId) {
        let Some(call) = self.transport.get_mut(id) else { return };
        if call.side.phase == Phase::Running && std::mem::take(&mut call.reading) {
            self.events.push_back(ServerEvent::Readable(id));
        }
    }

    /// The client has ended its side.
    fn on_end(&mut self, id: CallId) {
        let Some(call) = self.transport.get_mut(id) else { return };
        call.received_all = true;
        if call.inbox.ends_within_message() {
            let status = Status::new(Code::Internal, "Stream ended within a message");
            return self.reject(id, &status);
        }
        match call.side.one_request.map(OneRequest::ended) {
            Some(Ok(one)) => {
                let before = call.side.one_request.replace(one);
                if before != Some(one) {
                    self.settle(id);
                }
            }
            Some(Err(status)) => self.reject(id, &status),
            None => self.wake_reader(id),
        }
    }

    /// Ends a call whose deadline has passed. Its responses that wait for the client's windows are dropped, so that the
    /// status does not wait for a client that has given the call up.
    fn exceed_deadline(&mut self, id: CallId) {
        if let Some(call) = self.transport.get(id).filter(|call| call.side.phase == Phase::Running)
        {
            self.transport.http.discard_queued(call.stream);
        }
        let hurries = |side: &Side| side.hurries && side.phase != Phase::Closing;
        if self.transport.get(id).is_some_and(|call| hurries(&call.side)) {
            self.find_fault(id);
        }
        self.fail(id, &deadline_exceeded());
    }

    /// Ends a call because of what its client has sent.
    pub(super) fn reject(&mut self, id: CallId, status: &Status) {
        self.find_fault(id);
        self.fail(id, status);
    }

    /// A call is about to be ended before its time by the fault of its client.
    pub(super) fn find_fault(&mut self, id: CallId) {
        if let Some(stream) = self.transport.get(id).map(|call| call.stream) {
            self.transport.http.find_fault(stream);
            self.count(EarlyEnd::Fault);
        }
    }

    /// Counts a call that ends before its time; the last straw ends the connection.
    fn count(&mut self, early: EarlyEnd) {
        let http = &mut self.transport.http;
        if let (None, Some(now)) = (http.violation(), self.now)
            && let Err(violation) = http.count_early_end(early, now)
        {
            self.events.push_back(ServerEvent::Over(Farewell::Broken(violation)));
        }
    }

    /// Ends a call with a status of our own, and reports it.
    pub(super) fn fail(&mut self, id: CallId, status: &Status) {
        let phase = self.transport.get(id).map(|call| call.side.phase);
        match phase {
            None | Some(Phase::Closing) => {}
            Some(phase) => {
                self.finish(id, status, &Metadata::new());
                if phase == Phase::Running {
                    self.events.push_back(ServerEvent::Cancelled(id));
                }
            }
        }
    }

    /// The call's stream is gone.
    fn cancel(&mut self, id: CallId) {
        if self.transport.get(id).is_some_and(|call| call.side.phase == Phase::Running) {
            self.events.push_back(ServerEvent::Cancelled(id));
        }
        self.remove(id);
    }

    /// Sees to it that messages that are waited for can come, at the cost of some calls if too much is unread.
    fn look_after_messages(&mut self, now: Instant) {
        self.transport.look_after(now);
        while let Some((id, status)) = self.transport.unstick() {
            self.count(EarlyEnd::Refused);
            self.fail(id, &status);
        }
    }

    /// What a batch of input means for the connection as a whole.
    #[inline]
    fn note_receipt(&mut self, now: Instant) -> Result<(), Violation> {
        let http = &mut self.transport.http;
        if let Some(keepalive) = &mut self.keepalive {
            keepalive.received(now);
        }
        if let Some(lifetime) = &mut self.lifetime {
            if http.is_established() {
                lifetime.begun(now);
            }
            if lifetime.watches_calls() {
                lifetime.note(http.open_streams(), now);
            }
        }
        while self.pings.is_due(http.pings()) {
            if !self.pings.permits(now, http.open_streams() > 0, http.content_frames()) {
                return Err(http.reject(ErrorCode::ENHANCE_YOUR_CALM, "too_many_pings"));
            }
        }
        http.violation().map_or(Ok(()), Err)
    }

    /// Ends all calls with a status, because the server stops.
    pub fn finish_all(&mut self, status: &Status) {
        for id in self.transport.ids() {
            self.fail(id, status);
        }
    }

    /// Ends all calls, because the connection is lost.
    pub fn close(&mut self) {
        self.transport.http.discard_output();
        for id in self.transport.ids() {
            self.cancel(id);
        }
    }

    /// The next event. Calls are not reported while the connection is congested, or while as many handlers run as the
    /// client may have streams.
    pub fn next_event(&mut self) -> Option<ServerEvent> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        while let Some(id) = self.transport.next_sent() {
            if self.transport.get(id).is_some_and(|call| call.side.phase == Phase::Closing) {
                self.close_stream(id, Sent::Written);
            } else {
                return Some(ServerEvent::Writable(id));
            }
        }
        while !self.is_congested()
            && !self.is_saturated()
            && let Some(id) = self.ready.pop_front()
        {
            if self.transport.get(id).is_some_and(|call| call.side.phase == Phase::Ready) {
                return Some(ServerEvent::Call(id));
            }
        }
        None
    }
}

impl<B: MessageBuffer> Engine for ServerConnection<B> {
    fn http(&self) -> &Connection {
        &self.transport.http
    }

    fn http_mut(&mut self) -> &mut Connection {
        &mut self.transport.http
    }

    fn receive(&mut self, input: &mut &[u8], now: Instant) -> Result<(), Violation> {
        self.now = Some(now);
        while let Some(event) = self.transport.http.receive(input, now)? {
            match event {
                Event::Headers { stream, fields, end_stream, .. } => {
                    self.on_request(stream, &fields, end_stream, now);
                    self.transport.http.recycle(fields);
                }
                Event::Data { stream, tag, data, end_stream } => {
                    match self.transport.by_tag(tag).map(|(id, _)| id) {
                        Some(id) => self.on_data(id, data, end_stream, now),
                        None => self.transport.http.release(stream, data.len()),
                    }
                }
                Event::Trailers { tag, fields, .. } => {
                    if let Some((id, _)) = self.transport.by_tag(tag) {
                        self.on_end(id);
                    }
                    self.transport.http.recycle(fields);
                }
                Event::Reset { tag, .. } | Event::Failed { tag, .. } => {
                    if let Some((id, _)) = self.transport.by_tag(tag) {
                        self.cancel(id);
                    }
                }
                _ => {}
            }
        }
        self.look_after_messages(now);
        self.note_receipt(now)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let keepalive = self.keepalive.as_ref().and_then(Keepalive::due);
        let lifetime = self.lifetime.as_ref().and_then(Lifetime::due);
        let messages = self.transport.admission.due();
        let calls = [self.deadlines.next(), self.half_closes.next(), messages];
        calls.into_iter().chain([keepalive, lifetime]).flatten().min()
    }

    fn expire(&mut self, now: Instant) {
        self.now = Some(now);
        while let Some(id) = self.deadlines.expired(now) {
            self.exceed_deadline(id);
        }
        while let Some(id) = self.half_closes.expired(now) {
            self.expire_half_close(id, now);
        }
        self.look_after_messages(now);
        let calls = self.calls();
        let http = &mut self.transport.http;
        if let Some(keepalive) = &mut self.keepalive {
            match keepalive.expire(now, calls, http.content_frames()) {
                Probe::Nothing => {}
                Probe::Ping => http.ping(KEEPALIVE_PING),
                Probe::Lost => self.events.push_back(ServerEvent::Over(Farewell::Lost)),
            }
        }
        let Some(lifetime) = &mut self.lifetime else { return };
        match lifetime.expire(calls, now) {
            Due::Nothing => {}
            Due::Close => self.events.push_back(ServerEvent::Over(Farewell::NeverBegan)),
            Due::Drain => http.shut_down(),
            Due::Refuse => http.conclude_shut_down(),
            Due::End => self.events.push_back(ServerEvent::Over(Farewell::Outlived)),
        }
    }
}

/// Whether the client takes a header section of this size. One that does not would end the connection, with all its calls.
fn fits(http: &Connection, list: &HeaderList<'_>) -> Result<(), Status> {
    match http.exceeds_peer_limit(list) {
        None => Ok(()),
        Some((size, limit)) => {
            let text =
                format!("SERVER: Sent metadata larger than the peer's max ({size} vs. {limit})");
            Err(Status::new(Code::ResourceExhausted, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxgrpc_testkit::frame;
    use std::time::Duration;

    const PATH: &str = "/test.Lines/Method";

    /// A server with one method, whose client has sent its preface.
    fn server(max_unsent_bytes: usize, request_streaming: bool) -> ServerConnection<Vec<u8>> {
        let mut methods = Methods::default();
        methods.insert(PATH.as_bytes(), Method { index: 0, request_streaming });
        let options = ServerOptions { max_unsent_bytes, ..ServerOptions::default() };
        let mut server = ServerConnection::new(options, Arc::new(methods));
        let preface =
            [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame::settings(&[]).encode()].concat();
        server.receive(&mut &preface[..], Instant::now()).unwrap();
        server
    }

    /// Calls that come into a line and are reset there, at a pace that is no storm.
    fn come_and_go(server: &mut ServerConnection<Vec<u8>>, content: &[u8]) {
        let mut now = Instant::now();
        for stream in (101..40_000).step_by(2) {
            let frames = [
                frame::request(stream, PATH),
                frame::data(stream, content),
                frame::reset(stream, ErrorCode::CANCEL.0),
            ];
            now += Duration::from_millis(1);
            server.receive(&mut &frame::encode_all(&frames)[..], now).unwrap();
            while server.next_event().is_some() {}
        }
    }

    #[test]
    fn calls_that_are_reset_leave_the_line_of_a_congested_connection() {
        let mut server = server(0, true);
        assert!(server.is_congested());
        come_and_go(&mut server, b"");
        assert!(server.ready.len() <= 128, "{}", server.ready.len());
    }

    #[test]
    fn calls_that_are_reset_leave_the_line_of_large_messages() {
        let mut server = server(usize::MAX, false);
        let large = [&[0, 0, 0x40, 0, 0][..], b"x"].concat();
        for stream in (3..).step_by(2).take(4) {
            let frames = [frame::request(stream, PATH), frame::data(stream, &large)];
            server.receive(&mut &frame::encode_all(&frames)[..], Instant::now()).unwrap();
        }
        assert_eq!(server.transport.admission.waiting_len(), 0);
        come_and_go(&mut server, &large);
        assert!(
            (1..=140).contains(&server.transport.admission.waiting_len()),
            "{}",
            server.transport.admission.waiting_len()
        );
    }
}
