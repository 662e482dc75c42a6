//! Our server playing a script: each call takes as many steps in a turn as it can, but reads only one request.

use super::{Call, Kind, Octets, Script, SeenByServer, Step, metadata, pairs, take_number};
use bytes::Bytes;
use oxgrpc_core::{
    Accepted, CallId, Connection, Engine, Method, Methods, Next, Sent, ServerConnection,
    ServerEvent, ServerOptions, Status,
};
use oxgrpc_testkit::clock::Clock;
use oxgrpc_testkit::pipe::End;
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

pub struct Server {
    pub engine: ServerConnection<Vec<u8>>,
    pub seen: Vec<SeenByServer>,
    script: Rc<Script>,
    running: Vec<Running>,
    clock: Clock,
    unparsed: Vec<u8>,
}

#[derive(Debug)]
struct Running {
    id: CallId,
    number: usize,
    written: usize,
    queued: bool,
}

impl Server {
    pub fn new(script: &Rc<Script>) -> Self {
        let options = ServerOptions { http: script.server.config(), ..ServerOptions::default() };
        let mut methods = Methods::default();
        for (index, kind) in (0..).zip(Kind::ALL) {
            let method = Method { index, request_streaming: kind.streams_requests() };
            methods.insert(kind.path().as_bytes(), method);
        }
        Self {
            engine: ServerConnection::new(options, Arc::new(methods)),
            seen: vec![SeenByServer::default(); script.calls.len()],
            script: script.clone(),
            running: Vec::new(),
            clock: Clock::default(),
            unparsed: Vec::new(),
        }
    }

    /// Nothing is left of any call.
    pub fn assert_done(&self) {
        assert!(self.running.is_empty(), "{:?}", self.running);
        assert_eq!(self.engine.calls(), 0);
        assert_idle(self.engine.http());
    }

    /// Takes turns until there is something to write, or nothing to do.
    fn act(&mut self) {
        while self.turn() && self.engine.http().output_len() == 0 {}
    }

    /// Does what can be done now; whether anything was.
    fn turn(&mut self) -> bool {
        let mut active = false;
        while let Some(event) = self.engine.next_event() {
            active = true;
            match event {
                ServerEvent::Call(id) => {
                    let accepted = self.engine.accept(id).expect("nothing has happened since");
                    self.begin(id, accepted);
                }
                ServerEvent::Writable(id) => {
                    if let Some(running) = self.running.iter_mut().find(|call| call.id == id) {
                        running.queued = false;
                    }
                }
                ServerEvent::Cancelled(id) => {
                    let at = self.running.iter().position(|call| call.id == id);
                    let running = self.running.swap_remove(at.expect("a call that runs"));
                    self.seen[running.number].cancelled = true;
                    self.engine.handler_ended();
                }
                _ => {}
            }
        }
        let script = self.script.clone();
        let mut running = std::mem::take(&mut self.running);
        running.retain_mut(|running| {
            let before = (running.written, self.seen[running.number].requests.len());
            let goes_on = self.play(running, &script.calls[running.number]);
            let after = (running.written, self.seen[running.number].requests.len());
            active |= before != after || !goes_on;
            goes_on
        });
        self.running = running;
        active
    }

    fn begin(&mut self, id: CallId, accepted: Accepted) {
        let mut metadata = pairs(&accepted.metadata);
        let number = take_number(&mut metadata);
        let method = accepted.method.expect("a method of ours");
        assert_eq!(Kind::ALL[method as usize], self.script.calls[number].kind);
        assert!(accepted.user_agent.is_some() && accepted.deadline.is_none());
        let seen = &mut self.seen[number];
        assert!(!std::mem::replace(&mut seen.accepted, true), "a call is reported once");
        seen.metadata = metadata;
        self.engine.set_encoding(id, self.script.calls[number].response_encoding);
        self.running.push(Running { id, number, written: 0, queued: false });
    }

    /// Takes the next steps of a call; whether it goes on.
    fn play(&mut self, running: &mut Running, call: &Call) -> bool {
        let (id, number) = (running.id, running.number);
        let seen = &mut self.seen[number];
        if !call.initial.is_empty() && !self.engine.headers_are_sent(id) {
            self.engine.send_initial_metadata(id, &metadata(&call.initial));
        }
        let mut has_read = false;
        while !running.queued {
            match call.next_step(seen.requests.len(), seen.read_all, running.written) {
                Step::Read if has_read => return true,
                Step::Read => {
                    has_read = true;
                    match self.engine.take_message(id) {
                        Next::Message(message) => seen.requests.push(Octets(message)),
                        Next::End => seen.read_all = true,
                        Next::Pending => return true,
                        Next::Failed(status) => panic!("{call:?}: {status}"),
                    }
                }
                Step::Write => {
                    let compress = call.responses[running.written].compress;
                    let content = call.response(number, running.written);
                    running.written += 1;
                    let sent = match running.written % 2 {
                        0 => self.engine.send_message(id, Bytes::from(content), compress),
                        _ => self.engine.send_message(id, &content[..], compress),
                    };
                    running.queued = sent.expect("the call runs") == Sent::Queued;
                    assert_eq!(running.queued, self.engine.is_queued(id));
                    // The status may follow before all is written.
                    running.queued &= running.written < call.responses.len();
                }
                Step::Finish => {
                    let status = Status::new(call.code, call.message.clone());
                    self.engine.finish(id, &status, &metadata(&call.trailing));
                    seen.finished = true;
                    self.engine.handler_ended();
                    return false;
                }
            }
        }
        true
    }
}

impl End for Server {
    fn input(&mut self, octets: &[u8]) {
        receive(&mut self.engine, &mut self.unparsed, octets, self.clock.now());
    }

    fn output(&mut self, max: usize) -> Vec<u8> {
        self.act();
        output(&mut self.engine, max)
    }
}

/// Feeds an engine as a driver does: what is left unparsed stays in front of what comes next.
pub fn receive(engine: &mut impl Engine, unparsed: &mut Vec<u8>, octets: &[u8], now: Instant) {
    unparsed.extend_from_slice(octets);
    let whole = std::mem::take(unparsed);
    let mut input = &whole[..];
    let role = engine.http().role();
    if let Err(violation) = engine.receive(&mut input, now) {
        panic!("{role:?}: {violation}");
    }
    *unparsed = input.to_vec();
}

/// Takes up to `max` octets of an engine's output.
pub fn output(engine: &mut impl Engine, max: usize) -> Vec<u8> {
    let http = engine.http_mut();
    http.fill();
    let mut slices = [IoSlice::new(&[]); 8];
    let count = http.slices(&mut slices);
    let mut octets = Vec::new();
    for slice in &slices[..count] {
        octets.extend_from_slice(&slice[..slice.len().min(max - octets.len())]);
    }
    http.advance(octets.len());
    octets
}

/// No call is open, nothing is held, nothing waits.
pub fn assert_idle(http: &Connection) {
    assert_eq!(http.violation(), None);
    assert_eq!(http.open_streams(), 0);
    assert_eq!((http.held_bytes(), http.queued_bytes(), http.output_len()), (0, 0, 0));
}
