//! How many messages a call has: a method that has one request or one response gets exactly one (statuscodes.md,
//! "cardinality violation").

mod common;

use common::client::Client;
use common::server::{STREAM, Server, UNARY};
use common::{Written, field, metadata};
use oxgrpc_core::{CallId, Code, Engine, Next, ServerEvent, Status};
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

/// How long a client may take to end its side behind its request.
const GRACE_MS: u64 = 100;
/// How much longer the loop has to read that end.
const LAST_LOOK_MS: u64 = 10;

#[test]
fn a_unary_method_gets_its_request_when_the_client_has_ended() {
    for end in [data(1, "").end_stream(), headers(1, &[("x-trailer", "1")]).end_stream()] {
        let mut server = Server::new();
        server.send(request(1, UNARY)).send(data(1, message("x")));
        assert_eq!(server.events(), []);
        server.advance(GRACE_MS - 1);
        assert_eq!(server.events(), []);
        server.send(end);
        let (call, accepted) = server.accept();
        assert_eq!(accepted.method, Some(0));
        assert_eq!(
            server.engine.take_only_message(call, server.clock.now()),
            Next::Message(b"x".to_vec())
        );
        assert_eq!(server.engine.take_message(call), Next::End);
        server.advance(GRACE_MS).advance(LAST_LOOK_MS);
        assert_eq!(server.events(), []);
        assert_eq!(server.engine.next_deadline(), None);
    }
}

/// A call of a client that never ends its side, accepted.
fn unended(server: &mut Server) -> CallId {
    server.send(request(1, UNARY)).send(data(1, message("x")));
    server.advance(GRACE_MS);
    assert_eq!(server.events(), []);
    server.advance(LAST_LOOK_MS);
    server.accept().0
}

#[test]
fn a_client_that_never_ends_is_answered() {
    let mut server = Server::new();
    let call = unended(&mut server);
    assert_eq!(server.engine.take_message(call), Next::Message(b"x".to_vec()));
    server.engine.send_message(call, &b"y"[..], false).unwrap();
    server.engine.finish(call, &Status::OK, &metadata(&[]));
    let written = server.written();
    assert!(
        matches!(written[..], [_, Written::Data(..), Written::Fields(_, true), Written::Reset(0)]),
        "{written:?}"
    );
    assert_eq!(server.engine.calls(), 0);
    server.expect_alive();
}

#[test]
fn what_follows_once_the_handler_may_run_is_ignored() {
    let floods = [message("y"), vec![0], vec![7; 5], message("y").repeat(10_000), b"".to_vec()];
    for (more, is_read, ends) in floods
        .iter()
        .flat_map(|more| [(more, true, true), (more, false, true), (more, true, false)])
    {
        let mut server = Server::new();
        let call = unended(&mut server);
        if is_read {
            assert_eq!(server.engine.take_message(call), Next::Message(b"x".to_vec()));
        }
        for piece in more.chunks(16_000) {
            server.send(data(1, piece));
        }
        if ends {
            server.send(data(1, "").end_stream());
        }
        assert_eq!(server.events(), []);
        if !is_read {
            assert_eq!(server.engine.take_message(call), Next::Message(b"x".to_vec()));
        }
        assert_eq!(server.engine.http().held_bytes(), 0);
        server.engine.finish(call, &Status::OK, &metadata(&[]));
        assert!(matches!(server.written().first(), Some(Written::Fields(_, true))));
        assert_eq!(server.engine.calls(), 0);
        server.expect_alive();
    }
}

#[test]
fn a_client_that_has_begun_a_second_request_is_refused() {
    let second = message("y");
    for (ms, end) in [(0, true), (GRACE_MS, true), (GRACE_MS, false)] {
        let mut server = Server::new();
        server.send(request(1, UNARY)).send(data(1, message("x"))).send(data(1, &second[..3]));
        server.advance(ms);
        assert_eq!(server.events(), []);
        let rest = data(1, &second[3..]);
        server.send(if end { rest.end_stream() } else { rest });
        assert_eq!(server.events(), []);
        assert_refused(&mut server);
    }
    // It does not have to go on.
    let mut server = Server::new();
    server.send(request(1, UNARY)).send(data(1, message("x"))).send(data(1, &second[..3]));
    server.advance(GRACE_MS);
    assert_eq!(server.engine.calls(), 1);
    server.advance(LAST_LOOK_MS);
    assert_eq!(server.events(), []);
    assert_refused(&mut server);
}

#[test]
fn the_last_look_may_still_bring_the_end_or_a_second_request() {
    for refused in [false, true] {
        let mut server = Server::new();
        server.send(request(1, UNARY)).send(data(1, message("x")));
        server.advance(10 * GRACE_MS);
        let more = if refused { message("y") } else { vec![] };
        server.send(data(1, more).end_stream());
        match refused {
            true => assert_refused(&mut server),
            false => drop(server.accept()),
        }
    }
}

#[test]
fn a_full_window_leaves_room_to_end() {
    let mut server = Server::with(|options| options.http.initial_stream_window_bytes = 1000);
    server.send(request(1, UNARY)).send(data(1, message([0; 995])));
    let update = server.frames_on(1);
    assert!(matches!(&update[..], [frame] if frame.kind == kind::WINDOW_UPDATE), "{update:?}");
    server.send(data(1, "").end_stream());
    server.accept();
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

/// What a call with these requests looks like on the wire, in frames of several kinds.
fn calls_with(requests: &[&str]) -> Vec<Vec<u8>> {
    let messages: Vec<Vec<u8>> = requests.iter().map(message).collect();
    let whole = messages.concat();
    let head = request(1, UNARY).encode();
    let end = data(1, "").end_stream().encode();
    let frames = |pieces: &[Vec<u8>]| {
        pieces.iter().map(|piece| data(1, piece).encode()).collect::<Vec<_>>().concat()
    };
    let octets: Vec<Vec<u8>> = whole.iter().map(|octet| vec![*octet]).collect();
    vec![
        [head.clone(), data(1, &whole).end_stream().encode()].concat(),
        [head.clone(), frames(&messages), end.clone()].concat(),
        [head.clone(), frames(&octets), end.clone()].concat(),
        [head, data(1, &whole).encode(), headers(1, &[("x-trailer", "1")]).end_stream().encode()]
            .concat(),
    ]
}

/// Sends octets in two segments, with every cut, and octet by octet. The client may pause between segments.
fn segmented(octets: &[u8], mut check: impl FnMut(&mut Server)) {
    for pause_ms in [0, GRACE_MS - 1] {
        for cut in 1..octets.len() {
            let mut server = Server::new();
            server.send_octets(&octets[..cut]);
            assert_eq!(server.events(), []);
            server.advance(pause_ms).send_octets(&octets[cut..]);
            check(&mut server);
        }
    }
    let mut server = Server::new();
    for octet in octets.chunks(1) {
        assert_eq!(server.events(), []);
        server.send_octets(octet);
    }
    check(&mut server);
}

#[test]
fn a_unary_method_with_one_request_is_answered_however_that_is_cut() {
    for octets in calls_with(&["request"]) {
        segmented(&octets, |server| {
            let (call, _) = server.accept();
            assert_eq!(server.engine.take_message(call), Next::Message(b"request".to_vec()));
        });
    }
}

#[test]
fn a_unary_method_with_two_requests_is_refused_however_they_are_cut() {
    for requests in [&["x", "y"][..], &["", ""], &["x", "y", "z"]] {
        for octets in calls_with(requests) {
            segmented(&octets, |server| {
                assert_eq!(server.events(), []);
                assert_refused(server);
            });
        }
    }
}

/// A call that is accepted, and has sent these frames, before it is known that its method takes one request.
fn known_late(frames: &[&Frame]) -> (Server, CallId) {
    let mut server = Server::reporting_unknown();
    server.send(request(1, "/s/Late"));
    let (call, _) = server.accept();
    for frame in frames {
        server.send((*frame).clone());
    }
    (server, call)
}

fn take_only(server: &mut Server, call: CallId) -> Next<Vec<u8>> {
    server.engine.take_only_message(call, server.clock.now())
}

#[test]
fn a_method_that_is_known_late_gets_its_request_when_the_client_has_ended() {
    let (x, end) = (data(1, message("x")), data(1, "").end_stream());
    let frames = [&x, &end];
    for known_after in 0..2 {
        let (before, after) = frames.split_at(known_after);
        let (mut server, call) = known_late(before);
        assert_eq!(take_only(&mut server, call), Next::Pending);
        for frame in after {
            assert_eq!(server.events(), []);
            server.send((*frame).clone());
        }
        assert_eq!(server.events(), [ServerEvent::Readable(call)]);
        assert_eq!(take_only(&mut server, call), Next::Message(b"x".to_vec()));
    }
    let (mut server, call) = known_late(&[&x, &end]);
    assert_eq!(take_only(&mut server, call), Next::Message(b"x".to_vec()));
}

#[test]
fn a_method_that_is_known_late_is_refused_without_its_request_or_with_a_second() {
    let (x, y, end) = (data(1, message("x")), data(1, message("y")), data(1, "").end_stream());
    for frames in [&[&x, &y][..], &[&end]] {
        let (mut server, call) = known_late(&[]);
        assert_eq!(take_only(&mut server, call), Next::Pending);
        for frame in frames {
            server.send((*frame).clone());
        }
        assert_eq!(server.events(), [ServerEvent::Cancelled(call)]);
        assert_refused(&mut server);
        assert_eq!(take_only(&mut server, call), Next::End);

        let (mut server, call) = known_late(frames);
        let Next::Failed(status) = take_only(&mut server, call) else { panic!("it is refused") };
        server.engine.finish(call, &status, &metadata(&[]));
        assert_refused(&mut server);
    }
}

#[test]
fn a_method_that_is_known_late_is_not_kept_from_a_client_that_never_ends() {
    let (mut server, call) = known_late(&[&data(1, message("x"))]);
    assert_eq!(take_only(&mut server, call), Next::Pending);
    server.advance(GRACE_MS).advance(LAST_LOOK_MS);
    assert_eq!(server.events(), [ServerEvent::Readable(call)]);
    assert_eq!(take_only(&mut server, call), Next::Message(b"x".to_vec()));
    server.send(data(1, message("y")));
    assert_eq!(server.events(), []);
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

#[test]
fn responses_count_however_they_are_cut() {
    for (count, code) in [(0, Code::Unimplemented), (1, Code::Ok), (2, Code::Unimplemented)] {
        let frames =
            [vec![response(1)], vec![data(1, message("x")); count], vec![trailers(1)]].concat();
        let merged = [response(1), data(1, message("x").repeat(count)), trailers(1)];
        for octets in [encode_all(&frames), encode_all(&merged)] {
            for cut in 0..octets.len() {
                let mut client = Client::new();
                let call = client.unary();
                client.send_octets(&octets[..cut]).send_octets(&octets[cut..]);
                assert_eq!(client.status(call).0, code, "{count} responses, cut at {cut}");
            }
        }
    }
}
