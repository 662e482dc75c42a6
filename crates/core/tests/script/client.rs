//! Our client playing a script: it starts calls as early as it may, sends while nothing is queued, and reads at most one
//! message of a call in a turn.

use super::server::{assert_idle, output, receive};
use super::{Call, Octets, Script, SeenByClient, metadata, pairs};
use bytes::Bytes;
use oxgrpc_core::{
    CallId, ClientConnection, ClientEvent, ClientOptions, Engine, Next, Request, Sent,
};
use oxgrpc_testkit::clock::Clock;
use oxgrpc_testkit::pipe::End;
use std::collections::HashMap;
use std::rc::Rc;

pub struct Client {
    pub engine: ClientConnection<Vec<u8>>,
    pub seen: Vec<SeenByClient>,
    /// Whether calls are held back until the server's SETTINGS have come.
    pub waits: bool,
    script: Rc<Script>,
    calls: Vec<Progress>,
    numbers: HashMap<CallId, usize>,
    clock: Clock,
    unparsed: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Progress {
    Waiting,
    Running { id: CallId, sent: usize, queued: bool, half_closed: bool, ended: bool, turns: usize },
    Over,
}

impl Client {
    pub fn new(script: &Rc<Script>) -> Self {
        let options = ClientOptions {
            http: script.client.config(),
            scheme: "http",
            authority: "localhost".into(),
            user_agent: "script/1".into(),
            ..ClientOptions::default()
        };
        Self {
            engine: ClientConnection::new(options),
            seen: vec![SeenByClient::default(); script.calls.len()],
            // Before that the server's limit is not known.
            waits: script.server.streams.is_some(),
            script: script.clone(),
            calls: vec![Progress::Waiting; script.calls.len()],
            numbers: HashMap::new(),
            clock: Clock::default(),
            unparsed: Vec::new(),
        }
    }

    /// Every call has ended and nothing is left of it.
    pub fn assert_done(&self) {
        assert!(self.calls.iter().all(|call| matches!(call, Progress::Over)), "{:?}", self.calls);
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
            let (ClientEvent::Writable(id) | ClientEvent::Ended(id)) = event else { continue };
            active = true;
            // A call that was forgotten may have had events before.
            let Some(&number) = self.numbers.get(&id) else { continue };
            if let Progress::Running { queued, ended, .. } = &mut self.calls[number] {
                *queued = false;
                *ended |= matches!(event, ClientEvent::Ended(_));
            }
        }
        let script = self.script.clone();
        for (number, call) in script.calls.iter().enumerate() {
            self.start(number, call);
            while self.send_next(number, call) {
                active = true;
            }
            active |= self.read(number, call);
        }
        active
    }

    fn start(&mut self, number: usize, call: &Call) {
        let early = self.waits && !self.engine.http().is_established();
        if !matches!(self.calls[number], Progress::Waiting)
            || early
            || self.engine.can_start().is_err()
        {
            return;
        }
        let path = call.kind.path();
        let request = Request {
            path: path.as_bytes(),
            metadata: &metadata(&call.request_metadata(number)),
            deadline: None,
            encoding: call.request_encoding,
            unary_response: !call.kind.streams_responses(),
            limits: None,
            previous_attempts: 0,
        };
        let id = self.engine.start(&request, self.clock.now()).expect("there is room");
        self.numbers.insert(id, number);
        self.calls[number] = Progress::Running {
            id,
            sent: 0,
            queued: false,
            half_closed: false,
            ended: false,
            turns: 0,
        };
    }

    /// Sends the next request, or ends them; whether there may be more to do.
    fn send_next(&mut self, number: usize, call: &Call) -> bool {
        let Progress::Running { id, sent, queued, half_closed, ended: false, .. } =
            &mut self.calls[number]
        else {
            return false;
        };
        if *queued || *half_closed {
            return false;
        }
        let Some(body) = call.requests.get(*sent) else {
            *half_closed = true;
            self.engine.half_close(*id);
            return false;
        };
        let content = call.request(number, *sent);
        *sent += 1;
        // A single request says itself that it is the last.
        let end = !call.kind.streams_requests();
        let result = match *sent % 2 {
            0 => self.engine.send_message(*id, Bytes::from(content), body.compress, end),
            _ => self.engine.send_message(*id, &content[..], body.compress, end),
        };
        *half_closed = end;
        *queued = result.expect("the call runs") == Sent::Queued;
        assert_eq!(*queued, self.engine.is_queued(*id));
        true
    }

    /// Reads a response, or all that are left of a call that has ended; whether anything was there.
    fn read(&mut self, number: usize, call: &Call) -> bool {
        let Progress::Running { id, ended, turns, .. } = &mut self.calls[number] else {
            return false;
        };
        let seen = &mut self.seen[number];
        *turns += 1;
        let (id, ended, turns) = (*id, *ended, *turns);
        if !ended && call.cancel.is_some_and(|cancel| turns > cancel) {
            seen.cancelled = true;
            self.engine.forget(id);
            self.calls[number] = Progress::Over;
            return true;
        }
        if !ended && !call.kind.streams_responses() {
            return false;
        }
        loop {
            match self.engine.take_message(id) {
                Next::Message(message) => {
                    seen.responses.push(Octets(message));
                    if !ended {
                        return true;
                    }
                }
                Next::Pending => {
                    assert!(!ended, "nothing more can come");
                    return false;
                }
                Next::Failed(status) => panic!("{call:?}: {status}"),
                // The outcome comes with an event of its own.
                Next::End if !ended => return false,
                Next::End => break,
            }
        }
        let initial = self.engine.take_initial_metadata(id).expect("it has ended");
        seen.initial = pairs(&initial);
        let outcome = self.engine.take_outcome(id).expect("it has ended");
        assert!(outcome.is_remote, "{call:?} {outcome:?}");
        seen.end(outcome.status.code, &outcome.status.message, pairs(&outcome.trailing));
        self.engine.forget(id);
        self.calls[number] = Progress::Over;
        true
    }
}

impl End for Client {
    fn input(&mut self, octets: &[u8]) {
        receive(&mut self.engine, &mut self.unparsed, octets, self.clock.now());
    }

    fn output(&mut self, max: usize) -> Vec<u8> {
        self.act();
        output(&mut self.engine, max)
    }
}
