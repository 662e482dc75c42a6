//! Deadlines on both sides, in virtual time (PROTOCOL-HTTP2, "Requests": Timeout; gRPC deadlines guide).

mod common;

use common::client::Client;
use common::server::{STREAM, Server, UNARY, request_with};
use common::{Written, field};
use oxgrpc_core::{
    CallId, ClientEvent, Code, Engine, Metadata, Next, Sent, ServerEvent, StartError, Status,
};
use oxgrpc_testkit::frame::*;
use oxgrpc_testkit::grpc::message;
use std::time::Duration;

fn ms(milliseconds: u64) -> Option<Duration> {
    Some(Duration::from_millis(milliseconds))
}

#[test]
fn a_clients_call_ends_when_its_deadline_has_come() {
    let mut client = Client::new();
    let call = client.start_with(&Metadata::new(), ms(100)).unwrap();
    client.frames();
    assert_eq!(client.engine.next_deadline(), Some(client.clock.now() + ms(100).unwrap()));
    client.advance(99);
    assert_eq!((client.events(), client.frames()), (vec![], vec![]));
    client.advance(1);
    assert_eq!(client.status(call), (Code::DeadlineExceeded, "Deadline Exceeded".into()));
    // The server is told, and what it sent meanwhile does no harm.
    assert_eq!(client.frames(), [reset(1, 8)]);
    client.send(response(1)).send(data(1, message("late"))).send(trailers(1));
    assert_eq!(client.events(), []);
    client.expect_alive();
}

#[test]
fn a_server_that_gives_up_at_the_deadline_may_be_heard_before_the_timer() {
    for (milliseconds, code) in [(99, Code::Cancelled), (100, Code::DeadlineExceeded)] {
        let mut client = Client::new();
        let call = client.start_with(&Metadata::new(), ms(100)).unwrap();
        client.clock.advance(milliseconds);
        client.send(reset(1, 8));
        assert_eq!(client.status(call).0, code);
    }
}

#[test]
fn a_client_whose_deadline_is_over_sends_nothing() {
    let mut client = Client::new();
    let now = client.clock.now();
    for deadline in [now, now - Duration::from_secs(1)] {
        let Err(StartError::Failed(status)) =
            client.start(|request| request.deadline = Some(deadline))
        else {
            panic!("it is started")
        };
        assert_eq!(status.code, Code::DeadlineExceeded);
    }
    assert_eq!((client.frames(), client.engine.calls()), (vec![], 0));
}

/// A call with a stream of responses and a deadline, to which the server has sent two messages.
fn stream_with_two_messages(client: &mut Client, milliseconds: u64) -> CallId {
    let deadline = client.clock.now() + Duration::from_millis(milliseconds);
    let call = client.start(|request| {
        request.deadline = Some(deadline);
        request.unary_response = false;
    });
    client.send(response(1)).send(data(1, [message("one"), message("two")].concat()));
    call.expect("a call can be started")
}

#[test]
fn messages_from_before_the_deadline_cannot_be_read_after_it() {
    let mut client = Client::new();
    let call = stream_with_two_messages(&mut client, 100);
    client.advance(99);
    assert_eq!(client.engine.take_message(call), Next::Message(b"one".to_vec()));
    client.advance(1);
    assert_eq!(client.status(call).0, Code::DeadlineExceeded);
    assert_eq!(client.engine.take_message(call), Next::End);
}

#[test]
fn nor_can_those_of_a_server_that_is_heard_before_the_timer() {
    let mut client = Client::new();
    let call = stream_with_two_messages(&mut client, 100);
    client.clock.advance(100);
    client.send(reset(1, 8));
    assert_eq!(client.status(call).0, Code::DeadlineExceeded);
    assert_eq!(client.engine.take_message(call), Next::End);
}

#[test]
fn a_stream_that_is_unread_at_its_deadline_ends_a_second_time() {
    for trailers in [trailers(1), headers(1, &[("grpc-status", "5")]).end_stream()] {
        let mut client = Client::new();
        let call = stream_with_two_messages(&mut client, 100);
        client.send(trailers);
        assert_ne!(client.status(call).0, Code::DeadlineExceeded);
        assert_eq!(client.engine.take_message(call), Next::Message(b"one".to_vec()));
        client.advance(100);
        assert_eq!(client.status(call).0, Code::DeadlineExceeded);
        assert_eq!(client.engine.take_message(call), Next::End);
    }
}

#[test]
fn a_stream_that_is_read_at_its_deadline_keeps_its_status() {
    let mut client = Client::new();
    let call = stream_with_two_messages(&mut client, 100);
    client.send(trailers(1));
    assert_eq!(client.read_all(call).len(), 2);
    assert_eq!(client.status(call).0, Code::Ok);
    client.advance(100);
    assert_eq!(client.events(), []);
    assert_eq!(client.engine.take_message(call), Next::End);
}

#[test]
fn an_answer_before_the_deadline_counts() {
    let mut client = Client::new();
    let call = client.start_with(&Metadata::new(), ms(100)).unwrap();
    client.advance(99);
    client.send(response(1)).send(data(1, message("x"))).send(trailers(1));
    assert_eq!(client.status(call).0, Code::Ok);
    client.advance(1000);
    assert_eq!(client.events(), []);
    assert_eq!(client.engine.take_outcome(call).map(|outcome| outcome.status), Some(Status::OK));
}

#[test]
fn calls_end_in_the_order_of_their_deadlines() {
    let mut client = Client::new();
    let late = client.start_with(&Metadata::new(), ms(200)).unwrap();
    let soon = client.start_with(&Metadata::new(), ms(100)).unwrap();
    let never = client.start_with(&Metadata::new(), None).unwrap();
    client.advance(150);
    assert_eq!(client.events(), [ClientEvent::Ended(soon)]);
    client.advance(50);
    assert_eq!(client.events(), [ClientEvent::Ended(late)]);
    assert_eq!(client.engine.next_deadline(), None);
    assert_eq!(client.engine.take_outcome(never), None);
}

#[test]
fn a_deadline_does_not_touch_the_call_that_comes_after() {
    let mut client = Client::new();
    let first = client.start_with(&Metadata::new(), ms(100)).unwrap();
    client.engine.forget(first);
    let second = client.unary();
    client.advance(1000);
    assert_eq!(client.events(), []);
    assert_eq!(client.engine.take_outcome(second), None);
}

#[test]
fn a_servers_call_ends_when_its_deadline_has_come() {
    let mut server = Server::new();
    server.send(request_with(1, STREAM, &[("grpc-timeout", "100m")]));
    let (call, accepted) = server.accept();
    assert_eq!(accepted.deadline, server.engine.next_deadline());
    server.advance(99);
    assert_eq!((server.events(), server.written()), (vec![], vec![]));
    server.advance(1);
    assert_eq!(server.events(), [ServerEvent::Cancelled(call)]);
    let written = server.written();
    let [Written::Fields(fields, true), Written::Reset(0)] = &written[..] else {
        panic!("{written:?}")
    };
    assert_eq!(field(fields, "grpc-status"), Some("4"));
    assert_eq!(field(fields, "grpc-message"), Some("Deadline Exceeded"));
    // The handler may not know yet.
    assert!(server.engine.send_message(call, &b"late"[..], false).is_err());
    server.engine.finish(call, &Status::OK, &Metadata::new());
    assert_eq!((server.written(), server.engine.calls()), (vec![], 0));
}

#[test]
fn responses_that_wait_for_the_client_do_not_hold_up_the_status() {
    let mut server = Server::new();
    server.send(request_with(1, STREAM, &[("grpc-timeout", "100m")]));
    let (call, _) = server.accept();
    let sent = server.engine.send_message(call, &[0; 100_000][..], false);
    assert_eq!(sent, Ok(Sent::Queued));
    server.written();
    server.advance(100);
    assert_eq!(server.events(), [ServerEvent::Cancelled(call)]);
    let written = server.written();
    let [Written::Fields(fields, true), Written::Reset(0)] = &written[..] else {
        panic!("{written:?}")
    };
    assert_eq!(field(fields, "grpc-status"), Some("4"));
    assert_eq!(server.engine.http().queued_bytes(), 0);
    server.expect_alive();
}

#[test]
fn a_request_that_is_not_whole_by_its_deadline_is_not_reported() {
    let mut server = Server::new();
    server.send(request_with(1, UNARY, &[("grpc-timeout", "100m")])).send(data(1, [0, 0, 0]));
    server.advance(100);
    let Written::Fields(fields, true) = server.written().remove(0) else { panic!("no answer") };
    assert_eq!(field(&fields, "grpc-status"), Some("4"));
    assert_eq!((server.events(), server.engine.calls()), (vec![], 0));
}

#[test]
fn a_call_whose_deadline_comes_before_it_is_accepted_is_not_reported() {
    let mut server = Server::new();
    server.send(request_with(1, UNARY, &[("grpc-timeout", "100m")]));
    server.send(data(1, message("x")).end_stream());
    server.advance(100);
    assert_eq!(server.events(), []);
    assert_eq!(server.engine.calls(), 0);
}

#[test]
fn a_finished_call_has_no_deadline() {
    let mut server = Server::new();
    server.send(request_with(1, STREAM, &[("grpc-timeout", "100m")]));
    let (call, _) = server.accept();
    server.engine.finish(call, &Status::OK, &Metadata::new());
    server.written();
    server.advance(100);
    assert_eq!((server.events(), server.written()), (vec![], vec![]));
}
