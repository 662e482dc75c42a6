//! How many messages a call has: a method that has one request or one response gets exactly one (statuscodes.md,
//! "cardinality violation").

mod common;

use common::client::Client;
use common::server::{STREAM, Server, UNARY};
use common::{Written, field};
use oxgrpc_core::{Code, Engine, Next, ServerEvent};
use oxgrpc_testkit::frame::*;
use oxgrpc_testkit::grpc::message;

/// The server has answered that the method is not implemented for such a call.
#[track_caller]
fn assert_refused(server: &mut Server) {
    let written = server.written();
    let Some(Written::Fields(fields, true)) = written.first() else { panic!("{written:?}") };
    assert_eq!(field(fields, "grpc-status"), Some("12"));
    let text = "The method requires exactly one request message.";
    assert_eq!(field(fields, "grpc-message"), Some(text));
    assert_eq!(server.engine.calls(), 0);
    assert_eq!(server.engine.http().held_bytes(), 0);
    server.expect_alive();
}

#[test]
fn a_unary_method_gets_its_request_before_the_client_ends() {
    let mut server = Server::new();
    server.send(request(1, UNARY)).send(data(1, message("x")));
    let (call, accepted) = server.accept();
    assert_eq!(accepted.method, Some(0));
    assert_eq!(server.engine.take_message(call), Next::Message(b"x".to_vec()));
    server.send(data(1, "").end_stream());
    assert_eq!(server.events(), []);
    assert_eq!(server.engine.take_message(call), Next::End);
}

#[test]
fn a_unary_method_without_a_request_is_refused() {
    let requests: [&[Frame]; 3] = [
        &[request(1, UNARY).end_stream()],
        &[request(1, UNARY), data(1, "").end_stream()],
        &[request(1, UNARY), headers(1, &[("x-trailer", "1")]).end_stream()],
    ];
    for frames in requests {
        let mut server = Server::new();
        server.send_octets(&encode_all(frames));
        assert_eq!(server.events(), []);
        assert_refused(&mut server);
    }
}

#[test]
fn a_unary_method_with_two_requests_is_refused() {
    let two = [message("x"), message("y")].concat();
    for split in [false, true] {
        let mut server = Server::new();
        server.send(request(1, UNARY));
        if split {
            server.send(data(1, message("x"))).send(data(1, message("y")).end_stream());
        } else {
            server.send(data(1, &two).end_stream());
        }
        assert_eq!(server.events(), []);
        assert_refused(&mut server);
    }
}

#[test]
fn a_second_request_cancels_a_unary_handler_that_runs() {
    let mut server = Server::new();
    server.send(request(1, UNARY)).send(data(1, message("x")));
    let (call, _) = server.accept();
    server.send(data(1, message("y")));
    assert_eq!(server.events(), [ServerEvent::Cancelled(call)]);
    assert_refused(&mut server);
}

#[test]
fn a_streaming_method_has_any_number_of_requests() {
    let mut server = Server::new();
    server.send(request(1, STREAM).end_stream());
    let (call, _) = server.accept();
    assert_eq!(server.engine.take_message(call), Next::End);
    server.send(request(3, STREAM)).send(data(3, [message("x"), message("y")].concat()));
    let (call, _) = server.accept();
    assert_eq!(server.read_all(call), [b"x", b"y"]);
}

#[test]
fn a_call_with_one_response_fails_with_another_number() {
    for (count, what) in [(0, "no response"), (2, "several responses"), (300, "several responses")]
    {
        let mut client = Client::new();
        let call = client.unary();
        client.send(response(1));
        for _ in 0..count {
            client.send(data(1, message("x")));
        }
        client.send(trailers(1));
        let text = format!("Received {what} for a method that has one");
        assert_eq!(client.status(call), (Code::Unimplemented, text));
    }
    let outcome = Client::new().answered(&[(":status", "200"), ("grpc-status", "0")]);
    assert_eq!(outcome.status.code, Code::Unimplemented);
}

#[test]
fn the_servers_error_stands_above_the_number_of_responses() {
    for count in [0, 1] {
        let mut client = Client::new();
        let call = client.unary();
        client.send(response(1));
        for _ in 0..count {
            client.send(data(1, message("x")));
        }
        client.send(headers(1, &[("grpc-status", "5")]).end_stream());
        assert_eq!(client.status(call).0, Code::NotFound);
    }
}

#[test]
fn a_call_with_a_stream_of_responses_has_any_number() {
    for count in [0, 1, 5] {
        let mut client = Client::new();
        let call = client.streaming();
        client.send(response(1));
        for _ in 0..count {
            client.send(data(1, message("x")));
        }
        client.send(trailers(1));
        assert_eq!(client.status(call).0, Code::Ok);
        assert_eq!(client.read_all(call).len(), count);
    }
}
