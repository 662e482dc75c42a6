//! Cancellation in both directions, and commands for calls that are over (PROTOCOL-HTTP2, "Errors": RST_STREAM; gRPC
//! cancellation guide).

mod common;

use common::client::Client;
use common::server::{STREAM, Server, UNARY};
use common::{Written, metadata};
use oxgrpc_core::{CallId, Code, Encoding, Engine, Metadata, Next, ServerEvent, Status};
use oxgrpc_testkit::frame::*;
use oxgrpc_testkit::grpc::message;

#[test]
fn a_client_that_forgets_its_call_resets_it() {
    let mut client = Client::new();
    let call = client.streaming();
    client.frames();
    client.engine.forget(call);
    assert_eq!(client.frames(), [reset(1, 8)]);
    assert_eq!((client.events(), client.engine.calls()), (vec![], 0));
    // What was on its way is dropped, and takes up no window.
    client.send(response(1)).send(data(1, message([7; 1000]))).send(trailers(1));
    assert_eq!((client.events(), client.engine.http().held_bytes()), (vec![], 0));
    client.expect_alive();
}

#[test]
fn unread_messages_of_a_forgotten_call_take_up_no_window() {
    let mut client = Client::new();
    let call = client.streaming();
    client.send(response(1)).send(data(1, message([7; 1000]))).send(data(1, [0, 0]));
    assert_eq!(client.engine.http().held_bytes(), 1007);
    client.engine.forget(call);
    assert_eq!(client.engine.http().held_bytes(), 0);
}

#[test]
fn what_is_queued_for_a_forgotten_call_is_not_sent() {
    let mut client = Client::new();
    let (call, other) = (client.streaming(), client.streaming());
    client.engine.send_message(call, &[7; 100_000][..], false, false).unwrap();
    client.frames();
    client.engine.forget(call);
    assert_eq!(client.engine.http().queued_bytes(), 0);
    client.send(window_update(0, 1_000_000));
    assert_eq!(client.frames(), [reset(1, 8)]);
    client.engine.send_message(other, &b"x"[..], false, true).unwrap();
    assert_eq!(client.frames(), [data(3, message("x")).end_stream()]);
}

#[test]
fn a_call_that_has_ended_is_forgotten_without_a_reset() {
    let mut client = Client::new();
    let call = client.unary();
    client.engine.half_close(call);
    client.frames();
    client.send(response(1)).send(data(1, message("x"))).send(trailers(1));
    client.engine.forget(call);
    assert_eq!(client.frames_on(1), []);
}

#[test]
fn a_client_that_still_sends_stops_when_the_server_has_answered() {
    let mut client = Client::new();
    let call = client.streaming();
    client.engine.send_message(call, &[7; 100_000][..], false, false).unwrap();
    client.frames();
    client.answer(1, &[(":status", "200"), ("grpc-status", "5")]);
    assert_eq!(client.status(call).0, Code::NotFound);
    assert_eq!(client.frames(), [reset(1, 0)]);
    assert!(client.engine.send_message(call, &b"more"[..], false, true).is_err());
    assert_eq!((client.frames(), client.engine.http().queued_bytes()), (vec![], 0));
}

#[test]
fn a_server_learns_that_its_client_has_cancelled() {
    let mut server = Server::new();
    let call = server.streaming(1);
    server.engine.send_message(call, &b"x"[..], false).unwrap();
    server.frames();
    server.send(reset(1, 8));
    assert_eq!(server.events(), [ServerEvent::Cancelled(call)]);
    assert_eq!((server.frames(), server.engine.calls()), (vec![], 0));
}

#[test]
fn a_call_that_is_cancelled_before_it_is_accepted_is_not_reported() {
    let mut server = Server::new();
    // Before its message, with it, and after it was reported.
    server.send(request(1, UNARY)).send(reset(1, 8));
    server.send(request(3, UNARY)).send(data(3, message("x")).end_stream()).send(reset(3, 8));
    assert_eq!(server.events(), []);
    server.send(request(5, STREAM));
    let [ServerEvent::Call(call)] = server.events()[..] else { panic!("no call") };
    server.send(reset(5, 8));
    assert!(server.engine.accept(call).is_none());
    assert_eq!(server.events(), []);
}

#[test]
fn a_rule_that_the_client_breaks_cancels_its_call_alone() {
    let mut server = Server::new();
    let (broken, other) = (server.streaming(1), server.streaming(3));
    server.send(window_update(1, 0));
    assert_eq!(server.events(), [ServerEvent::Cancelled(broken)]);
    server.send(data(3, message("x")));
    assert_eq!(server.read_all(other), [b"x"]);
}

#[test]
fn a_handler_that_finishes_early_stops_its_client() {
    let mut server = Server::new();
    let call = server.streaming(1);
    server.send(data(1, message("unread")));
    server.engine.finish(call, &Status::new(Code::Aborted, ""), &Metadata::new());
    let written = server.written();
    assert!(matches!(written[..], [Written::Fields(_, true), Written::Reset(0)]), "{written:?}");
    server.send(data(1, message("on its way"))).send(data(1, "").end_stream());
    assert_eq!((server.events(), server.engine.http().held_bytes()), (vec![], 0));
    server.expect_alive();
}

/// All that can be told a server about a call.
fn use_server_call(server: &mut Server, call: CallId) {
    assert!(server.engine.accept(call).is_none());
    assert!(matches!(server.engine.take_message(call), Next::End));
    server.engine.set_encoding(call, Encoding::Gzip);
    server.engine.send_initial_metadata(call, &metadata(&[("x-a", b"1")]));
    assert!(server.engine.headers_are_sent(call));
    assert!(server.engine.send_message(call, &b"x"[..], true).is_err());
    assert!(!server.engine.is_queued(call));
    server.engine.finish(call, &Status::OK, &Metadata::new());
}

/// All that can be told a client about a call.
fn use_client_call(client: &mut Client, call: CallId) {
    assert!(client.engine.send_message(call, &b"x"[..], false, true).is_err());
    assert!(!client.engine.is_queued(call));
    client.engine.half_close(call);
    assert!(matches!(client.engine.take_message(call), Next::End));
    assert!(!client.engine.has_message(call));
    assert_eq!(client.engine.take_initial_metadata(call), None);
    assert_eq!(client.engine.take_outcome(call), None);
    client.engine.forget(call);
}

#[test]
fn a_call_that_is_over_can_be_used_without_harm() {
    let mut server = Server::new();
    let (finished, cancelled) = (server.streaming(1), server.streaming(3));
    server.engine.finish(finished, &Status::OK, &Metadata::new());
    server.send(reset(3, 8));
    // Another call has taken its place.
    let other = server.streaming_after(5, &[ServerEvent::Cancelled(cancelled)]);
    server.frames();
    use_server_call(&mut server, finished);
    use_server_call(&mut server, cancelled);
    assert_eq!((server.frames(), server.events()), (vec![], vec![]));
    server.send(data(5, message("x")));
    assert_eq!(server.read_all(other), [b"x"]);

    let mut client = Client::new();
    let forgotten = client.unary();
    client.engine.forget(forgotten);
    let other = client.unary();
    client.frames();
    use_client_call(&mut client, forgotten);
    assert_eq!((client.frames(), client.events()), (vec![], vec![]));
    client.send(response(3)).send(data(3, message("x"))).send(trailers(3));
    assert_eq!(client.status(other).0, Code::Ok);
}

#[test]
fn requests_end_once() {
    let mut client = Client::new();
    let call = client.unary();
    client.frames();
    client.engine.send_message(call, &b"x"[..], false, true).unwrap();
    client.engine.half_close(call);
    assert!(client.engine.send_message(call, &b"y"[..], false, true).is_err());
    assert_eq!(client.frames(), [data(1, message("x")).end_stream()]);
    // Also when the end is still queued.
    let call = client.unary();
    client.engine.send_message(call, &[7; 100_000][..], false, true).unwrap();
    client.engine.half_close(call);
    assert!(client.engine.send_message(call, &b"y"[..], false, true).is_err());
    client.send(window_update(0, 1 << 20)).send(window_update(3, 1 << 20));
    let frames = client.frames_on(3);
    let sent: usize = frames[1..].iter().map(|frame| frame.payload.len()).sum();
    let ends = frames.iter().filter(|frame| frame.flags & flag::END_STREAM != 0).count();
    assert_eq!((sent, ends), (100_005, 1));
}
