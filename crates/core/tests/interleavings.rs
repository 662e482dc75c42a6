//! Every stream that is read comes to its end, however a peer interleaves the streams and in whatever order they are read
//! (RFC 9113 §5.2.2): a peer that obeys our windows, and a proxy whose clients share one window towards it.

mod common;

use common::client::Client;
use common::server::Server;
use oxgrpc_core::{CallId, Engine, Next};
use oxgrpc_testkit::frame::*;
use oxgrpc_testkit::grpc::message;
use oxgrpc_testkit::property::cases;
use proptest::prelude::*;

/// The window that streams start with.
const WINDOW: usize = 65_535;

/// More rounds without any movement than this are a deadlock; each lets 10 ms pass.
const PATIENCE: usize = 1000;

/// Our end of the connection, which receives.
enum Receiver {
    Client(Box<Client>),
    Server(Box<Server>),
}

impl Receiver {
    fn new(is_client: bool, change: impl FnOnce(&mut oxgrpc_core::Config, &mut usize)) -> Self {
        match is_client {
            true => Self::Client(Box::new(Client::with(|options| {
                change(&mut options.http, &mut options.max_unread_bytes);
            }))),
            false => Self::Server(Box::new(Server::with(|options| {
                change(&mut options.http, &mut options.max_unread_bytes);
            }))),
        }
    }

    fn begin(&mut self, stream: u32) -> CallId {
        match self {
            Self::Client(client) => {
                let call = client.streaming();
                client.send(response(stream));
                client.events();
                call
            }
            Self::Server(server) => server.streaming(stream),
        }
    }

    fn send(&mut self, frame: Frame) {
        match self {
            Self::Client(client) => drop(client.send(frame)),
            Self::Server(server) => drop(server.send(frame)),
        }
    }

    fn end(&mut self, stream: u32) {
        match self {
            Self::Client(client) => drop(client.send(trailers(stream))),
            Self::Server(server) => drop(server.send(data(stream, "").end_stream())),
        }
    }

    fn take(&mut self, call: CallId) -> Next<Vec<u8>> {
        match self {
            Self::Client(client) => client.engine.take_message(call),
            Self::Server(server) => server.engine.take_message(call),
        }
    }

    fn frames(&mut self) -> Vec<Frame> {
        match self {
            Self::Client(client) => {
                client.events();
                client.frames()
            }
            Self::Server(server) => {
                server.events();
                server.frames()
            }
        }
    }

    fn advance(&mut self, milliseconds: u64) {
        match self {
            Self::Client(client) => drop(client.advance(milliseconds)),
            Self::Server(server) => drop(server.advance(milliseconds)),
        }
    }

    fn http(&self) -> &oxgrpc_core::Connection {
        match self {
            Self::Client(client) => client.engine.http(),
            Self::Server(server) => server.engine.http(),
        }
    }
}

/// A stream of the peer's.
struct Upload {
    stream: u32,
    call: CallId,
    content: Vec<u8>,
    /// Octets that the proxy has taken from its client, and those that it has passed on.
    taken: usize,
    passed: usize,
    /// What we let come.
    window: usize,
    ended: bool,
    messages: Vec<usize>,
    /// We have reset the stream.
    reset: bool,
    read_to_end: bool,
}

/// What a case consists of.
#[derive(Clone, Debug)]
struct Plan {
    is_client: bool,
    /// The lengths of the messages of each stream.
    streams: Vec<Vec<usize>>,
    /// Messages that are announced, are waited for and never come.
    stalled: u32,
    /// The one window that the proxy gives to its clients. A direct peer has none in between.
    shared_window: Option<usize>,
    /// Little may be unread, so that calls may have to end.
    is_tight: bool,
    /// What all else is drawn from: a cycle of choices could leave somebody out for ever.
    seed: u64,
}

fn plan() -> impl Strategy<Value = Plan> {
    let len =
        prop_oneof![0usize..100, 60_000usize..70_000, 100_000usize..400_000, Just(3 * WINDOW)];
    let streams = prop::collection::vec(prop::collection::vec(len, 1..4), 1..8);
    let shared_window = prop::option::of(prop_oneof![1usize..100, Just(WINDOW), 1usize..300_000]);
    (any::<bool>(), streams, 0u32..5, shared_window, any::<bool>(), any::<u64>()).prop_map(
        |(is_client, streams, stalled, shared_window, is_tight, seed)| Plan {
            is_client,
            streams,
            stalled,
            shared_window,
            is_tight,
            seed,
        },
    )
}

/// The peer's side, and who reads what.
struct Run {
    receiver: Receiver,
    uploads: Vec<Upload>,
    window: usize,
    shared_window: Option<usize>,
}

impl Run {
    fn new(plan: &Plan) -> Self {
        let receiver = Receiver::new(plan.is_client, |http, max_unread| {
            if plan.is_tight {
                http.connection_window_bytes = 100_000;
                *max_unread = 300_000;
            }
        });
        let window = receiver.http().connection_window_available();
        let mut run =
            Self { receiver, uploads: Vec::new(), window, shared_window: plan.shared_window };
        for _ in 0..plan.stalled {
            // 4 MiB, so that four of them take up all that is admitted at once.
            run.begin(vec![0, 0, 0x40, 0, 0, 7], vec![]);
        }
        for lens in &plan.streams {
            let content = lens.iter().flat_map(|&len| message(vec![7; len])).collect();
            run.begin(content, lens.clone());
        }
        run
    }

    fn begin(&mut self, content: Vec<u8>, messages: Vec<usize>) {
        let stream = 2 * self.uploads.len() as u32 + 1;
        let call = self.receiver.begin(stream);
        self.uploads.push(Upload {
            stream,
            call,
            content,
            taken: 0,
            passed: 0,
            window: WINDOW,
            ended: false,
            messages,
            reset: false,
            read_to_end: false,
        });
    }

    /// A stream that never comes to its end is announced by its first octets, and those have been read.
    fn stall(&mut self, count: u32) {
        for upload in &mut self.uploads[..count as usize] {
            self.receiver.send(data(upload.stream, &upload.content));
            self.window -= upload.content.len();
            upload.taken = upload.content.len();
            upload.passed = upload.taken;
            assert_eq!(self.receiver.take(upload.call), Next::Pending);
            upload.ended = true;
        }
    }

    /// Reads the WINDOW_UPDATEs and resets.
    fn listen(&mut self) {
        for frame in self.receiver.frames() {
            let at = (frame.stream as usize).saturating_sub(1) / 2;
            match (frame.kind, frame.stream) {
                (kind::WINDOW_UPDATE, 0) => self.window += frame.u32_at(0) as usize,
                (kind::WINDOW_UPDATE, _) => self.uploads[at].window += frame.u32_at(0) as usize,
                (kind::RST_STREAM, _) => {
                    let upload = &mut self.uploads[at];
                    upload.reset = true;
                    // Whoever sends it is told; what the proxy has of it is dropped.
                    upload.taken = upload.content.len();
                    upload.passed = upload.taken;
                }
                (kind::GOAWAY, _) => panic!("{}", frame.debug_data()),
                _ => {}
            }
        }
    }

    /// The proxy takes up to `most` octets from a client, if the clients' shared window allows.
    fn take_from_client(&mut self, at: usize, most: usize) -> bool {
        let buffered: usize = self.uploads.iter().map(|upload| upload.taken - upload.passed).sum();
        let room = self.shared_window.map_or(usize::MAX, |window| window.saturating_sub(buffered));
        let upload = &mut self.uploads[at];
        let len = (upload.content.len() - upload.taken).min(room).min(most);
        upload.taken += len;
        len > 0
    }

    /// The proxy passes on a frame, if our windows allow.
    fn pass(&mut self, at: usize) -> bool {
        let upload = &mut self.uploads[at];
        let waits = upload.taken - upload.passed;
        let len = waits.min(upload.window).min(self.window).min(16 << 10);
        if len > 0 {
            let piece = &upload.content[upload.passed..upload.passed + len];
            self.receiver.send(data(upload.stream, piece));
            upload.passed += len;
            upload.window -= len;
            self.window -= len;
        }
        let upload = &mut self.uploads[at];
        let ends = upload.passed == upload.content.len() && !upload.ended && !upload.reset;
        if ends {
            upload.ended = true;
            self.receiver.end(upload.stream);
        }
        len > 0 || ends
    }

    fn read(&mut self, at: usize) -> Result<bool, TestCaseError> {
        let upload = &mut self.uploads[at];
        match self.receiver.take(upload.call) {
            Next::Message(message) => {
                prop_assert_eq!(message.len(), upload.messages.remove(0));
                Ok(true)
            }
            Next::Pending => Ok(false),
            Next::End => {
                upload.read_to_end = true;
                Ok(true)
            }
            Next::Failed(status) => Err(TestCaseError::fail(status.message.into_owned())),
        }
    }
}

fn carry_out(plan: &Plan) -> Result<(), TestCaseError> {
    let mut run = Run::new(plan);
    run.stall(plan.stalled);
    let first = plan.stalled as usize;
    let mut state = plan.seed;
    // Knuth's MMIX generator; its upper bits are the random ones.
    let mut choose = move |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let reads_first = choose(run.uploads.len());
    let mut stood_still = 0;
    while run.uploads[first..].iter().any(|upload| !upload.read_to_end) {
        run.listen();
        let mut moves = false;
        let (from, count) = (choose(run.uploads.len()), run.uploads.len());
        for at in (0..count).map(|at| (from + at) % count).filter(|&at| at >= first) {
            if choose(3) > 0 {
                moves |= run.take_from_client(at, 1 + choose(40_000));
            }
            if choose(3) > 0 {
                moves |= run.pass(at);
            }
            run.listen();
        }
        // Behind a proxy all are read, whenever it may be; without one they may as well be read one after the other.
        let order = (0..count).map(|at| (reads_first + at) % count);
        let unread = order.filter(|&at| at >= first && !run.uploads[at].read_to_end);
        let readers: Vec<usize> = match run.shared_window {
            Some(_) => unread.filter(|_| choose(3) == 0).collect(),
            None => unread.take(1).collect(),
        };
        for at in readers {
            moves |= run.read(at)?;
        }
        stood_still = if moves { 0 } else { stood_still + 1 };
        prop_assert!(stood_still < PATIENCE, "a deadlock");
        if !moves {
            run.receiver.advance(10);
        }
    }
    for upload in &run.uploads[first..] {
        prop_assert!(upload.messages.is_empty() || upload.reset && plan.is_tight, "{:?}", plan);
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn every_stream_that_is_read_comes_to_its_end(plan in plan()) {
        carry_out(&plan)?;
    }
}
