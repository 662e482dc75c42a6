//! What a unary call costs in the engine alone: ours against the `h2` crate, driven the same way.
//!
//! Client and server face each other in one thread through two buffers, without sockets and without a runtime: each turn
//! one side takes all that the other wrote, as an event loop's callback would. A hundred calls are in flight. h2 is polled
//! by hand with a waker that does nothing. Prints nanoseconds a call for each end, in alternating rounds.

use bytes::Bytes;
use h2::{RecvStream, SendStream, client, server};
use http::{HeaderMap, HeaderValue, Request, Response};
use oxgrpc_core::{
    ClientConnection, ClientEvent, ClientOptions, Encoding, Engine, Metadata, Method, Methods, Next,
    ServerConnection, ServerEvent, ServerOptions, Status,
};
use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const IN_FLIGHT: usize = 100;
const CALLS: usize = 100_000;
const ROUNDS: usize = 7;
const PAYLOAD: [u8; 64] = [b'x'; 64];
const PATH: &str = "/bench.Echo/Unary";

/// Time spent at each end.
#[derive(Default)]
struct Cost {
    client: Duration,
    server: Duration,
}

fn timed<R>(total: &mut Duration, work: impl FnOnce() -> R) -> R {
    let begun = Instant::now();
    let result = work();
    *total += begun.elapsed();
    result
}

// Our engine.

fn output(engine: &mut impl Engine, wire: &mut Vec<u8>) {
    let http = engine.http_mut();
    loop {
        http.fill();
        let mut slices = [IoSlice::new(&[]); 64];
        let count = http.slices(&mut slices);
        if count == 0 {
            return;
        }
        let mut len = 0;
        for slice in &slices[..count] {
            wire.extend_from_slice(slice);
            len += slice.len();
        }
        http.advance(len);
    }
}

fn input(engine: &mut impl Engine, wire: &mut Vec<u8>, now: Instant) {
    let mut rest = &wire[..];
    engine.receive(&mut rest, now).expect("our engines keep the rules");
    let taken = wire.len() - rest.len();
    wire.drain(..taken);
}

fn ours() -> Cost {
    let mut methods = Methods::default();
    methods.insert(PATH.as_bytes(), Method { index: 0, request_streaming: false });
    let mut server = ServerConnection::<Vec<u8>>::new(ServerOptions::default(), Arc::new(methods));
    let mut client = ClientConnection::<Vec<u8>>::new(ClientOptions {
        scheme: "http",
        authority: "localhost".into(),
        user_agent: "bench".into(),
        ..ClientOptions::default()
    });
    let (mut there, mut back) = (Vec::new(), Vec::new());
    let now = Instant::now();
    let none = Metadata::new();
    let mut cost = Cost::default();
    let (mut started, mut ended) = (0, 0);
    while ended < CALLS {
        timed(&mut cost.client, || {
            input(&mut client, &mut back, now);
            while let Some(event) = client.next_event() {
                if let ClientEvent::Ended(id) = event {
                    assert!(client.take_outcome(id).is_some_and(|outcome| outcome.status.is_ok()));
                    assert!(matches!(client.take_message(id), Next::Message(m) if m.len() == 64));
                    client.forget(id);
                    ended += 1;
                }
            }
            while started < CALLS && started - ended < IN_FLIGHT {
                let request = oxgrpc_core::Request {
                    path: PATH.as_bytes(),
                    metadata: &none,
                    deadline: None,
                    encoding: Encoding::Identity,
                    unary_response: true,
                    limits: None,
                    previous_attempts: 0,
                };
                let id = client.start(&request, now).expect("it takes calls");
                client.send_message(id, &PAYLOAD[..], false, true).expect("it takes messages");
                started += 1;
            }
            output(&mut client, &mut there);
        });
        timed(&mut cost.server, || {
            input(&mut server, &mut there, now);
            while let Some(event) = server.next_event() {
                if let ServerEvent::Call(id) = event {
                    server.accept(id).expect("a call");
                    let Next::Message(message) = server.take_message(id) else { panic!("no request") };
                    server.send_message(id, &message[..], false).expect("it takes responses");
                    server.finish(id, &Status::OK, &none);
                }
            }
            output(&mut server, &mut back);
        });
    }
    cost
}

// The h2 crate.

/// One direction's buffer.
type Wire = Rc<RefCell<Vec<u8>>>;

struct End {
    read: Wire,
    write: Wire,
}

// h2 asks for Send only where tokio spawns; here everything stays in one thread.
impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.read.borrow_mut();
        if wire.is_empty() {
            return Poll::Pending;
        }
        let len = wire.len().min(buf.remaining());
        buf.put_slice(&wire[..len]);
        wire.drain(..len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.write.borrow_mut().extend_from_slice(octets);
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A message framed as gRPC does.
fn framed(message: &[u8]) -> Bytes {
    [&[0, 0, 0, 0, message.len() as u8][..], message].concat().into()
}

fn take(stream: &mut RecvStream, context: &mut Context<'_>, message: &mut Vec<u8>) -> bool {
    while let Poll::Ready(data) = stream.poll_data(context) {
        let Some(data) = data else { return true };
        let data = data.expect("content");
        stream.flow_control().release_capacity(data.len()).expect("a window");
        message.extend_from_slice(&data);
    }
    false
}

struct ServerCall {
    body: RecvStream,
    message: Vec<u8>,
    respond: server::SendResponse<Bytes>,
}

struct ClientCall {
    response: client::ResponseFuture,
    body: Option<RecvStream>,
    message: Vec<u8>,
    _requests: SendStream<Bytes>,
}

fn with_h2() -> Cost {
    let (there, back) = (Wire::default(), Wire::default());
    let mut context = Context::from_waker(Waker::noop());
    let mut client_handshake = Box::pin(
        client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(16 << 20)
            .handshake::<_, Bytes>(End { read: back.clone(), write: there.clone() }),
    );
    let mut server_handshake = Box::pin(
        server::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(16 << 20)
            .max_concurrent_streams(1000)
            .handshake::<_, Bytes>(End { read: there, write: back }),
    );
    let Poll::Ready(Ok((mut send, mut client))) = client_handshake.as_mut().poll(&mut context) else {
        panic!("no handshake");
    };
    let mut server = loop {
        let _ = Pin::new(&mut client).poll(&mut context);
        if let Poll::Ready(server) = server_handshake.as_mut().poll(&mut context) {
            break server.expect("a handshake");
        }
    };
    let mut cost = Cost::default();
    let (mut started, mut ended) = (0, 0);
    let mut client_calls: Vec<ClientCall> = Vec::new();
    let mut server_calls: Vec<ServerCall> = Vec::new();
    while ended < CALLS {
        timed(&mut cost.client, || {
            let _ = Pin::new(&mut client).poll(&mut context);
            client_calls.retain_mut(|call| {
                if call.body.is_none() {
                    let Poll::Ready(response) = Pin::new(&mut call.response).poll(&mut context) else {
                        return true;
                    };
                    call.body = Some(response.expect("a response").into_body());
                }
                let Some(body) = &mut call.body else { return true };
                if !take(body, &mut context, &mut call.message) {
                    return true;
                }
                let Poll::Ready(Ok(Some(trailers))) = body.poll_trailers(&mut context) else {
                    return true;
                };
                assert_eq!(trailers["grpc-status"], "0");
                assert_eq!(call.message[5..].to_vec().len(), 64);
                ended += 1;
                false
            });
            while started < CALLS && started - ended < IN_FLIGHT {
                if !matches!(send.poll_ready(&mut context), Poll::Ready(Ok(()))) {
                    break;
                }
                let request = Request::post("http://localhost/bench.Echo/Unary")
                    .header("te", "trailers")
                    .header("content-type", "application/grpc")
                    .header("user-agent", "bench")
                    .header("grpc-accept-encoding", "identity, deflate, gzip")
                    .body(())
                    .expect("a request");
                let (response, mut requests) = send.send_request(request, false).expect("room");
                requests.send_data(framed(&PAYLOAD), true).expect("a window");
                let message = Vec::new();
                client_calls.push(ClientCall { response, body: None, message, _requests: requests });
                started += 1;
            }
            let _ = Pin::new(&mut client).poll(&mut context);
        });
        timed(&mut cost.server, || {
            while let Poll::Ready(Some(accepted)) = server.poll_accept(&mut context) {
                let (request, respond) = accepted.expect("a request");
                assert_eq!(request.uri().path(), PATH);
                let body = request.into_body();
                server_calls.push(ServerCall { body, message: Vec::new(), respond });
            }
            server_calls.retain_mut(|call| {
                if !take(&mut call.body, &mut context, &mut call.message) {
                    return true;
                }
                let response = Response::builder()
                    .header("content-type", "application/grpc")
                    .header("grpc-accept-encoding", "identity, deflate, gzip")
                    .body(())
                    .expect("a response");
                let mut stream = call.respond.send_response(response, false).expect("room");
                let message = call.message[5..].to_vec();
                stream.send_data(framed(&message), false).expect("a window");
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                stream.send_trailers(trailers).expect("an end");
                false
            });
            let _ = server.poll_accept(&mut context);
        });
    }
    cost
}

fn main() {
    // One round of ours alone, for callgrind.
    if std::env::args().nth(1).is_some_and(|argument| argument == "ours") {
        ours();
        return;
    }
    let mut rows: [Vec<(f64, f64)>; 2] = Default::default();
    for round in 0..ROUNDS {
        for which in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let cost = if which == 0 { ours() } else { with_h2() };
            let ns = |duration: Duration| duration.as_nanos() as f64 / CALLS as f64;
            rows[which].push((ns(cost.client), ns(cost.server)));
        }
    }
    for (name, samples) in ["oxgrpc-core", "h2"].into_iter().zip(&mut rows) {
        let mut median = |pick: fn(&(f64, f64)) -> f64| {
            samples.sort_by(|a, b| pick(a).total_cmp(&pick(b)));
            pick(&samples[samples.len() / 2])
        };
        let (client, server) = (median(|sample| sample.0), median(|sample| sample.1));
        println!("{name:<12} client {client:6.0} ns/call   server {server:6.0} ns/call");
    }
}
