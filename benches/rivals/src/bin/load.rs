//! A load of unary calls from oxgrpc's own engine on one thread: fast enough to be no server's limit.
//!
//! `load ADDRESS CONNECTIONS CONCURRENCY PAYLOAD SECONDS` keeps CONCURRENCY calls in flight on each connection and prints
//! one line of JSON.

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use oxgrpc_core::{
    CallId, ClientConnection, ClientEvent, ClientOptions, Code, Encoding, Engine, Metadata, Next,
    Request,
};
use oxgrpc_io::{Socket, Target};
use std::collections::HashMap;
use std::io::IoSlice;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

struct Connection {
    socket: Socket,
    engine: ClientConnection<Vec<u8>>,
    rest: Vec<u8>,
    started: HashMap<CallId, Instant>,
}

struct Load {
    payload: Vec<u8>,
    concurrency: usize,
    latencies: Vec<u32>,
    measuring: bool,
}

impl Connection {
    fn start(&mut self, load: &Load) {
        let metadata = Metadata::new();
        let request = Request {
            path: b"/bench.Echo/Unary",
            metadata: &metadata,
            deadline: None,
            encoding: Encoding::Identity,
            unary_response: true,
            limits: None,
            previous_attempts: 0,
        };
        let now = Instant::now();
        let id = self.engine.start(&request, now).expect("the server takes calls");
        self.engine.send_message(id, &load.payload[..], false, true).expect("it takes messages");
        self.started.insert(id, now);
    }

    fn flush(&mut self) {
        let http = self.engine.http_mut();
        loop {
            http.fill();
            let mut slices = [IoSlice::new(&[]); 64];
            let count = http.slices(&mut slices);
            if count == 0 {
                return;
            }
            match self.socket.write(&slices[..count]).expect("the server reads") {
                Some(len) => http.advance(len),
                None => return,
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8], load: &mut Load) {
        let kept = self.rest.len();
        buffer[..kept].copy_from_slice(&self.rest);
        let Some(len) = self.socket.read(&mut buffer[kept..]).expect("the server answers") else {
            return;
        };
        assert_ne!(len, 0, "the server closed the connection");
        let mut input = &buffer[..kept + len];
        self.engine.receive(&mut input, Instant::now()).expect("the server keeps the rules");
        self.rest = input.to_vec();
        while let Some(event) = self.engine.next_event() {
            match event {
                ClientEvent::Settings if self.started.is_empty() => {
                    for _ in 0..load.concurrency {
                        self.start(load);
                    }
                }
                ClientEvent::Ended(id) => {
                    let outcome = self.engine.take_outcome(id).expect("it has ended");
                    assert_eq!(outcome.status.code, Code::Ok, "{}", outcome.status);
                    let Next::Message(message) = self.engine.take_message(id) else {
                        panic!("no response");
                    };
                    assert_eq!(message.len(), load.payload.len());
                    self.engine.forget(id);
                    let started = self.started.remove(&id).expect("it was started");
                    if load.measuring {
                        load.latencies.push(started.elapsed().as_micros() as u32);
                    }
                    self.start(load);
                }
                _ => {}
            }
        }
        self.flush();
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, connections, concurrency, payload, seconds] = &arguments[..] else {
        panic!("load ADDRESS CONNECTIONS CONCURRENCY PAYLOAD SECONDS");
    };
    let number = |text: &String| text.parse::<usize>().expect("a number");
    let Ok(Target::Addresses(addresses)) = Target::parse(address) else { panic!("an address") };
    let mut load = Load {
        payload: vec![b'x'; number(payload)],
        concurrency: number(concurrency),
        latencies: Vec::with_capacity(1 << 22),
        measuring: false,
    };
    let mut poll = Poll::new().expect("epoll");
    let mut all: Vec<Connection> = (0..number(connections))
        .map(|index| {
            let socket = Socket::connect(addresses.last().expect("an address")).expect("a server");
            let mut fd = SourceFd(&socket.as_raw_fd());
            poll.registry()
                .register(&mut fd, Token(index), Interest::READABLE | Interest::WRITABLE)
                .expect("epoll takes it");
            let engine = ClientConnection::new(ClientOptions {
                scheme: "http",
                authority: "localhost".into(),
                user_agent: "load".into(),
                ..ClientOptions::default()
            });
            Connection { socket, engine, rest: Vec::new(), started: HashMap::new() }
        })
        .collect();
    let mut buffer = vec![0; 1 << 20];
    let mut events = Events::with_capacity(1024);
    let warm = Instant::now() + Duration::from_millis(300);
    let length = Duration::from_secs_f64(seconds.parse().expect("seconds"));
    let mut begun = None;
    loop {
        poll.poll(&mut events, Some(Duration::from_millis(100))).expect("epoll");
        for event in &events {
            let connection = &mut all[event.token().0];
            if event.is_writable() {
                connection.flush();
            }
            if event.is_readable() {
                // Edge-triggered: a short read may leave more behind, a long one cannot be told from it.
                connection.read(&mut buffer, &mut load);
                connection.read(&mut buffer, &mut load);
            }
        }
        let now = Instant::now();
        match begun {
            None if now >= warm => {
                println!("begin");
                load.measuring = true;
                begun = Some(now);
            }
            Some(begun) if now - begun >= length => {
                let elapsed = (now - begun).as_secs_f64();
                let latencies = &mut load.latencies;
                latencies.sort_unstable();
                let at = |share: f64| latencies[(latencies.len() as f64 * share) as usize];
                println!(
                    "{{\"count\": {}, \"seconds\": {elapsed}, \"p50_us\": {}, \"p99_us\": {}, \
                     \"cpu_seconds\": {}}}",
                    latencies.len(),
                    at(0.5),
                    at(0.99),
                    cpu_seconds()
                );
                return;
            }
            _ => {}
        }
    }
}

/// What this process has used so far, warming up included: an upper bound.
fn cpu_seconds() -> f64 {
    // SAFETY: `usage` is plain data that getrusage fills in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
