//! The end of a connection: GOAWAY from either side, draining, and how many calls may run at once (PROTOCOL-HTTP2,
//! "Connection Management"; RFC 9113 §6.8 and §5.1.2).

mod common;

use common::Written;
use common::client::Client;
use common::field;
use common::server::{STREAM, Server, UNARY};
use oxgrpc_core::{
    ClientEvent, Code, Engine, ErrorCode, Metadata, Sent, ServerEvent, StartError, Status, Unseen,
    UsageError,
};
use oxgrpc_testkit::frame::*;
use oxgrpc_testkit::grpc::message;

const LAST: u32 = (1 << 31) - 1;

#[track_caller]
fn assert_not_now(client: &mut Client, why: UsageError) {
    assert_eq!(client.engine.can_start(), Err(why));
    assert_eq!(client.start(|_| {}), Err(StartError::NotNow(why)));
    assert_eq!(client.frames(), []);
}

#[test]
fn a_goaway_ends_the_calls_that_the_server_did_not_take() {
    let mut client = Client::new();
    let (taken, refused) = (client.unary(), client.unary());
    client.send(go_away(1, 11, "too many pings"));
    let events = client.events();
    let code = ErrorCode::ENHANCE_YOUR_CALM;
    let debug = "too many pings".to_string();
    assert_eq!(events, [ClientEvent::Ended(refused), ClientEvent::GoAway { code, debug }]);
    let status = client.engine.take_outcome(refused).expect("it has ended").status;
    assert_eq!(status.code, Code::Unavailable);
    assert!(status.message.contains("too many pings"), "{status}");
    // The other goes on.
    client.send(response(1)).send(data(1, message("x"))).send(trailers(1));
    assert_eq!(client.status(taken).0, Code::Ok);
    client.frames();
    assert_not_now(&mut client, UsageError::GoingAway);
}

#[test]
fn a_graceful_goaway_in_two_steps_loses_no_call() {
    let mut client = Client::new();
    let crossed = client.unary();
    client.send(go_away(LAST, 0, ""));
    assert!(matches!(client.events()[..], [ClientEvent::GoAway { .. }]));
    client.frames();
    assert_not_now(&mut client, UsageError::GoingAway);
    client.send(go_away(1, 0, ""));
    assert!(matches!(client.events()[..], [ClientEvent::GoAway { .. }]));
    client.send(response(1)).send(data(1, message("x"))).send(trailers(1));
    assert_eq!(client.status(crossed).0, Code::Ok);
}

#[test]
fn a_goaway_does_not_touch_calls_that_have_ended() {
    let mut client = Client::new();
    let call = client.unary();
    client.send(response(1)).send(data(1, message("x"))).send(trailers(1));
    client.send(go_away(0, 0, ""));
    assert_eq!(client.status(call).0, Code::Ok);
    assert_eq!(client.read_all(call), [b"x"]);
}

#[test]
fn a_refused_stream_is_unavailable_and_others_go_on() {
    let mut client = Client::new();
    let (refused, other) = (client.unary(), client.unary());
    client.send(reset(1, 7));
    assert_eq!(client.status(refused).0, Code::Unavailable);
    client.send(response(3)).send(data(3, message("x"))).send(trailers(3));
    assert_eq!(client.status(other).0, Code::Ok);
    assert_eq!(client.engine.can_start(), Ok(()));
}

/// What a transparent retry asks: has the server's program seen the call (gRFC A6)?
#[test]
fn a_call_that_the_server_has_not_seen_says_so() {
    let mut client = Client::new();
    let (taken, above, refused) = (client.unary(), client.unary(), client.unary());
    let (reset_otherwise, answered, left) = (client.unary(), client.unary(), client.unary());
    client.frames();
    client.send(reset(5, 7)).send(reset(7, 8)).send(go_away(11, 0, "")).send(go_away(1, 0, ""));
    client.send(trailers(1));
    let unseen =
        |client: &mut Client, call| client.engine.take_outcome(call).expect("it has ended").unseen;
    assert_eq!(unseen(&mut client, taken), None);
    assert_eq!(unseen(&mut client, above), Some(Unseen::Refused));
    assert_eq!(unseen(&mut client, refused), Some(Unseen::Refused));
    assert_eq!(unseen(&mut client, reset_otherwise), None);
    assert_eq!(unseen(&mut client, answered), Some(Unseen::Refused));
    assert_eq!(unseen(&mut client, left), Some(Unseen::Refused));
}

#[test]
fn a_call_whose_first_octet_never_left_was_not_seen() {
    let mut client = Client::new();
    let gone = client.unary();
    client.frames();
    let (partly, not_at_all) = (client.unary(), client.unary());
    client.engine.http_mut().advance(1);
    client.engine.close(&Status::new(Code::Unavailable, "lost"));
    for (call, unseen) in [(gone, None), (partly, None), (not_at_all, Some(Unseen::NeverLeft))] {
        let outcome = client.engine.take_outcome(call).expect("it has ended");
        assert_eq!((outcome.status.code, outcome.unseen), (Code::Unavailable, unseen));
    }
}

#[test]
fn a_call_that_a_goaway_overtakes_before_it_is_written_never_left() {
    let mut client = Client::new();
    client.frames();
    let call = client.unary();
    client.send(go_away(0, 0, ""));
    let outcome = client.engine.take_outcome(call).expect("it has ended");
    assert_eq!(outcome.unseen, Some(Unseen::NeverLeft));
}

#[test]
fn a_client_keeps_to_the_servers_limit_of_calls() {
    let mut client = Client::against(&[(setting::MAX_CONCURRENT_STREAMS, 2)], |_| {});
    let first = client.unary();
    client.unary();
    client.frames();
    assert_not_now(&mut client, UsageError::StreamLimit);
    client.answer(1, &[(":status", "200"), ("grpc-status", "5")]);
    assert_eq!(client.status(first).0, Code::NotFound);
    client.unary();
    // A raised limit is reported.
    client.frames();
    assert_not_now(&mut client, UsageError::StreamLimit);
    client.send(settings(&[(setting::MAX_CONCURRENT_STREAMS, 3)]));
    assert_eq!(client.events(), [ClientEvent::Settings]);
    assert_eq!(client.engine.can_start(), Ok(()));
}

#[test]
fn a_server_refuses_calls_above_its_limit() {
    let mut server = Server::with(|options| options.http.max_concurrent_streams = Some(1));
    let call = server.streaming(1);
    server.send(request(3, STREAM));
    assert_eq!((server.events(), server.frames()), (vec![], vec![reset(3, 7)]));
    server.send(data(1, "").end_stream());
    server.engine.finish(call, &Status::OK, &Metadata::new());
    assert!(!server.engine.handler_ended());
    server.streaming(5);
}

/// A stream that was reset is gone for the client; its call's handler may have much to clean up.
#[test]
fn calls_wait_while_as_many_handlers_run_as_there_may_be_streams() {
    let mut server = Server::with(|options| options.http.max_concurrent_streams = Some(2));
    for stream in [1, 3] {
        let call = server.streaming(stream);
        server.send(reset(stream, 8));
        assert_eq!(server.events(), [ServerEvent::Cancelled(call)]);
    }
    // One of those that wait is reset, too: it makes room for nobody, and nobody hears of it.
    server.send(request(5, STREAM)).send(request(7, STREAM)).send(reset(5, 8));
    assert_eq!((server.events(), server.frames()), (vec![], vec![]));
    assert!(server.engine.handler_ended());
    let (call, _) = server.accept();
    server.send(request(9, STREAM));
    assert_eq!(server.events(), []);
    server.engine.finish(call, &Status::OK, &Metadata::new());
    assert_eq!(server.events(), []);
    assert!(server.engine.handler_ended());
    server.accept();
    assert!(!server.engine.handler_ended(), "no call waits");
}

#[test]
fn a_server_announces_its_limit() {
    let mut server = Server::raw(|options| options.http.max_concurrent_streams = Some(7), false);
    let frames = server.frames();
    assert!(frames[0].settings().contains(&(setting::MAX_CONCURRENT_STREAMS, 7)));
}

#[test]
fn a_server_that_shuts_down_serves_what_has_come() {
    let mut server = Server::new();
    let call = server.streaming(1);
    server.engine.shut_down();
    let frames = server.frames();
    assert_eq!(frames[0], go_away(LAST, 0, ""));
    assert_eq!(frames[1].kind, kind::PING);
    // What crossed the announcement is still taken; what comes after the round trip is not.
    let crossed = server.streaming(3);
    server.send(Frame { flags: flag::ACK, ..frames[1].clone() });
    assert_eq!(server.frames(), [go_away(3, 0, "")]);
    server.send(request(5, STREAM)).send(data(5, message("late")).end_stream());
    assert_eq!((server.events(), server.frames()), (vec![], vec![]));
    for (call, stream) in [(call, 1), (crossed, 3)] {
        server.send(data(stream, message("x")).end_stream());
        assert_eq!(server.read_all(call), [b"x"]);
        assert_eq!(server.engine.send_message(call, &b"y"[..], false), Ok(Sent::Written));
        server.engine.finish(call, &Status::OK, &Metadata::new());
    }
    let ends = server.frames().iter().filter(|frame| frame.flags & flag::END_STREAM != 0).count();
    assert_eq!((ends, server.engine.calls()), (2, 0));
}

#[test]
fn a_server_that_stops_ends_its_calls_with_a_status() {
    let mut server = Server::new();
    let running = server.streaming(1);
    server.send(request(3, UNARY)).send(data(3, [0]));
    server.send(request(5, UNARY)).send(data(5, message("x")).end_stream());
    server.engine.finish_all(&Status::new(Code::Unavailable, "Server shutting down"));
    server.engine.go_away("Server shutting down");
    assert_eq!(server.events(), [ServerEvent::Cancelled(running)]);
    let frames = server.frames();
    for stream in [1, 3, 5] {
        let mut on_stream = frames.iter().filter(|frame| frame.stream == stream);
        let fields = server.fields(on_stream.next().expect("an answer"));
        assert_eq!(field(&fields, "grpc-status"), Some("14"));
    }
    assert_eq!(frames.last(), Some(&go_away(5, 0, "Server shutting down")));
    assert_eq!(server.engine.calls(), 0);
}

#[test]
fn a_connection_that_breaks_the_rules_is_closed_with_a_reason() {
    let mut server = Server::new();
    let call = server.streaming(1);
    server.send(data(0, "x"));
    let violation = server.engine.http().violation().expect("the connection has ended");
    let last = server.frames().pop().expect("a frame");
    assert_eq!((last.kind, last.debug_data()), (kind::GOAWAY, violation.rule().to_string()));
    // The driver closes the socket then.
    server.engine.close();
    assert_eq!(server.events(), [ServerEvent::Cancelled(call)]);
    assert!(server.engine.send_message(call, &b"x"[..], false).is_err());
    assert_eq!(server.written(), [] as [Written; 0]);
}
