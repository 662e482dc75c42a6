//! Our engine playing one side of a script. It opens calls as early as it may, sends while the engine takes it without
//! queueing, and reads what comes one turn later.

use super::{Call, End, Ending, Fields, Message, Script, Seen, content};
use bytes::Bytes;
use oxgrpc_http2::{
    Connection, ErrorCode, Event, HeaderList, Indexing, Prepared, Pseudo, Role, Sent, Settings,
    StreamKey,
};
use oxgrpc_testkit::clock::Clock;
use std::io::IoSlice;
use std::rc::Rc;

pub struct Actor {
    pub engine: Connection,
    pub seen: Vec<Seen>,
    /// Whether a client holds its calls back until the server's SETTINGS have come.
    pub waits: bool,
    script: Rc<Script>,
    sends: Vec<Progress>,
    clock: Clock,
    unparsed: Vec<u8>,
    unread: Vec<(StreamKey, usize)>,
    prepared: Prepared,
}

/// How far one of our messages has got.
#[derive(Clone, Copy, Debug)]
enum Progress {
    Waiting,
    Sending { stream: StreamKey, chunk: usize, at: usize, queued: bool },
    Done,
}

const INDEXING: [Indexing; 4] =
    [Indexing::Always, Indexing::WhenRepeated, Indexing::Literal, Indexing::Never];

impl Actor {
    pub fn new(role: Role, script: &Rc<Script>) -> Self {
        let knobs = if role == Role::Client { script.client } else { script.server };
        let prepared: &[(&[u8], &[u8])] = match role {
            Role::Client => {
                &[(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"localhost")]
            }
            Role::Server => &[(b":status", b"200")],
        };
        let mut engine = Connection::new(role, knobs.config());
        let table = Some(knobs.table);
        engine.send_settings(Settings { header_table_size: table, ..Settings::default() });
        Self {
            engine,
            seen: vec![Seen::default(); script.calls.len()],
            // Before that the server's limit is not known.
            waits: script.server.streams.is_some(),
            script: script.clone(),
            sends: vec![Progress::Waiting; script.calls.len()],
            clock: Clock::default(),
            unparsed: Vec::new(),
            unread: Vec::new(),
            prepared: Prepared::new(prepared.iter().copied()),
        }
    }

    fn is_client(&self) -> bool {
        self.engine.role() == Role::Client
    }

    fn message(&self, call: usize) -> Message {
        let Call { request, response } = &self.script.calls[call];
        if self.is_client() { request.clone() } else { response.clone() }
    }

    /// Whether every call that this side knows of has ended in both directions.
    pub fn is_done(&self) -> bool {
        let ended = |(send, seen): (&Progress, &Seen)| {
            matches!(send, Progress::Done) && seen.end != End::Missing
        };
        let reset = |call: &Call| call.request.resets().or(call.response.resets()).is_some();
        let mut calls = self.script.calls.iter().zip(self.sends.iter().zip(&self.seen));
        calls.all(|(call, state)| ended(state) || reset(call) && self.engine.open_streams() == 0)
            && self.sends.iter().all(|send| !self.is_client() || matches!(send, Progress::Done))
    }

    /// Takes what the wire brings.
    pub fn receive(&mut self, octets: &[u8]) {
        self.unparsed.extend_from_slice(octets);
        let unparsed = std::mem::take(&mut self.unparsed);
        let mut input = &unparsed[..];
        loop {
            match self.engine.receive(&mut input, self.clock.now()) {
                Ok(Some(event)) => self.note(event),
                Ok(None) => break,
                Err(violation) => panic!("{:?}: {violation}", self.engine.role()),
            }
        }
        self.unparsed = input.to_vec();
        assert!(self.unparsed.len() < (1 << 20) + 9);
    }

    fn note(&mut self, event: Event<'_>) {
        match event {
            Event::Headers { stream, tag, fields, end_stream } => {
                assert!(!fields.is_oversized());
                let call = match fields.pseudo(Pseudo::Path) {
                    Some(path) => {
                        let call = path.iter().fold(0, |n, digit| match digit {
                            b'0'..=b'9' => n * 10 + usize::from(digit - b'0'),
                            _ => n,
                        });
                        self.engine.set_tag(stream, call as u32);
                        self.sends[call] =
                            Progress::Sending { stream, chunk: 0, at: 0, queued: false };
                        call
                    }
                    None => tag as usize,
                };
                self.seen[call].fields = Some(regular(&fields));
                self.seen[call].end = if end_stream { End::Complete } else { End::Missing };
                self.engine.recycle(fields);
            }
            Event::Data { stream, tag, data, end_stream } => {
                let seen = &mut self.seen[tag as usize];
                seen.content.extend_from_slice(data);
                if end_stream {
                    seen.end = End::Complete;
                }
                self.unread.push((stream, data.len()));
            }
            Event::Trailers { tag, fields, .. } => {
                let seen = &mut self.seen[tag as usize];
                seen.trailers = Some(regular(&fields));
                seen.end = End::Complete;
            }
            Event::Reset { tag, code } => {
                self.seen[tag as usize].end = End::Reset(code.0);
                self.sends[tag as usize] = Progress::Done;
            }
            Event::Failed { tag, violation } => panic!("stream {tag}: {violation}"),
            Event::Settings => {}
            other => panic!("{other:?} was not asked for"),
        }
    }

    /// Does all that can be done now.
    pub fn act(&mut self) {
        for (stream, octets) in std::mem::take(&mut self.unread) {
            self.engine.release(stream, octets);
        }
        while let Some((_, tag)) = self.engine.next_sent() {
            if let Progress::Sending { queued, .. } = &mut self.sends[tag as usize] {
                *queued = false;
            }
        }
        for call in 0..self.sends.len() {
            if self.is_client() && matches!(self.sends[call], Progress::Waiting) {
                self.open(call);
            }
            while self.send_next(call) {}
        }
        self.engine.fill();
    }

    fn open(&mut self, call: usize) {
        if self.engine.can_open().is_err() || self.waits && !self.engine.is_established() {
            return;
        }
        let path = format!("/call/{call}");
        let message = self.message(call);
        let fields = section(Some((":path", path.as_bytes())), &message.fields);
        let list = HeaderList { prepared: Some(&mut self.prepared), fields: &fields };
        let stream = self.engine.open(list, false, call as u32).expect("there is room");
        self.sends[call] = Progress::Sending { stream, chunk: 0, at: 0, queued: false };
    }

    /// Sends the next piece of a message; whether there may be more to do.
    fn send_next(&mut self, call: usize) -> bool {
        let Progress::Sending { stream, chunk, at, queued: false } = self.sends[call] else {
            return false;
        };
        let message = self.message(call);
        if chunk == 0 && !self.is_client() {
            let fields = section(None, &message.fields);
            let list = HeaderList { prepared: Some(&mut self.prepared), fields: &fields };
            self.engine.send_headers(stream, list, false).expect("the stream is open");
        }
        let is_last = chunk + 1 >= message.chunks.len();
        let ends = is_last && message.ending == Ending::Data;
        let len = message.chunks.get(chunk).copied().unwrap_or(0);
        let mut sent = Sent::Written;
        if ends || chunk < message.chunks.len() {
            let octets = content(call, self.is_client(), at, len);
            let (head, body) = octets.split_at(len.min(5));
            let body = Bytes::copy_from_slice(body);
            sent = match chunk % 2 {
                0 => self.engine.send_data(stream, head, body, ends),
                _ => self.engine.send_data(stream, head, &body[..], ends),
            }
            .expect("the stream is open");
        }
        let queued = sent == Sent::Queued;
        self.sends[call] = Progress::Sending { stream, chunk: chunk + 1, at: at + len, queued };
        if !is_last {
            return true;
        }
        match &message.ending {
            Ending::Data => {}
            Ending::Trailers(fields) => {
                let fields = section(None, fields);
                let list = HeaderList { prepared: None, fields: &fields };
                self.engine.send_trailers(stream, list).expect("the stream is open");
            }
            Ending::Reset(code) => self.engine.reset(stream, ErrorCode(*code)),
        }
        self.sends[call] = Progress::Done;
        false
    }

    /// Gives up to `max` octets of the output; `advance` says how many of them were written.
    pub fn output(&self, max: usize) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 8];
        let count = self.engine.slices(&mut slices);
        let mut octets = Vec::new();
        for slice in &slices[..count] {
            octets.extend_from_slice(&slice[..slice.len().min(max - octets.len())]);
        }
        octets
    }
}

fn section<'a>(
    first: Option<(&'a str, &'a [u8])>,
    fields: &'a Fields,
) -> Vec<(&'a [u8], &'a [u8], Indexing)> {
    let first = first.into_iter().map(|(name, value)| (name.as_bytes(), value));
    let fields = fields.iter().map(|(name, value)| (name.as_bytes(), &value[..]));
    let indexed = first.chain(fields).enumerate();
    indexed.map(|(i, (name, value))| (name, value, INDEXING[i % INDEXING.len()])).collect()
}

fn regular(fields: &oxgrpc_http2::Fields) -> Fields {
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).expect("a name in ASCII");
    fields.regular().map(|field| (text(field.name), field.value.to_vec())).collect()
}
