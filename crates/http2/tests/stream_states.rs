//! Every frame type in every state of a stream, on both sides (RFC 9113 §5.1).

mod common;

use common::{Peer, REQUEST, Seen};
use oxgrpc_http2::ErrorCode;
use oxgrpc_testkit::frame::*;

const PROTOCOL_ERROR: ErrorCode = ErrorCode::PROTOCOL_ERROR;
const STREAM_CLOSED: ErrorCode = ErrorCode::STREAM_CLOSED;

/// What a frame does.
#[derive(Clone, Copy, Debug)]
enum Does {
    /// It is reported under this name, or only has an effect inside ("").
    Event(&'static str),
    /// Nothing at all.
    Nothing,
    /// The stream is reset.
    Reset(ErrorCode),
    /// The connection ends.
    End(ErrorCode),
}

use Does::{End, Event, Nothing, Reset};

const INSIDE: Does = Event("");
const IDLE: Does = End(PROTOCOL_ERROR);

/// One frame of each type that belongs to a stream, with its name.
fn frames(stream: u32) -> [(&'static str, Frame); 8] {
    [
        ("DATA", data(stream, "x")),
        ("HEADERS", trailers(stream)),
        ("PRIORITY", priority(stream, 0)),
        ("RST_STREAM", reset(stream, ErrorCode::CANCEL.0)),
        ("PUSH_PROMISE", push_promise(stream, 2, &REQUEST)),
        ("WINDOW_UPDATE", window_update(stream, 1)),
        ("CONTINUATION", continuation(stream, "").with(flag::END_HEADERS)),
        ("unknown", Frame::new(0xbe, 0xff, stream, "what?")),
    ]
}

/// Sends each frame to a stream that `prepare` has brought into the state, and checks what it does.
///
/// `expected` is for DATA, HEADERS, RST_STREAM and WINDOW_UPDATE. PRIORITY and unknown frames are ignored in every
/// state; PUSH_PROMISE and a CONTINUATION without HEADERS are never right.
fn check(stream: u32, prepare: impl Fn() -> Peer, expected: [Does; 4]) {
    let [data, headers, reset, window_update] = expected;
    let never = End(PROTOCOL_ERROR);
    let expected = [data, headers, Nothing, reset, never, window_update, never, Nothing];
    for ((name, frame), does) in frames(stream).into_iter().zip(expected) {
        let mut peer = prepare();
        peer.frames();
        peer.events();
        peer.send(frame);
        println!("{name} should be {does:?}");
        match does {
            Nothing => {
                peer.expect_ignored();
            }
            Event(name) => {
                let events: Vec<_> = peer.events().iter().map(Seen::brief).collect();
                let wanted = if name.is_empty() { vec![] } else { vec![(name, stream)] };
                assert_eq!(events, wanted);
                peer.expect_alive();
            }
            Reset(code) => {
                peer.expect_failed(stream, code);
            }
            End(code) => {
                peer.expect_go_away(code);
            }
        }
    }
}

fn server_with_open() -> Peer {
    let mut peer = Peer::server();
    peer.request(1);
    peer
}

fn server_half_closed_remote() -> Peer {
    let mut peer = Peer::server();
    peer.send(request(1, "/s/m").end_stream());
    peer
}

fn server_half_closed_local() -> Peer {
    let mut peer = server_with_open();
    peer.respond(1);
    peer.data(1, b"", true);
    peer
}

#[test]
fn idle_on_a_server() {
    // HEADERS would open it; as trailers of nothing they are a malformed request.
    check(1, Peer::server, [IDLE, Reset(PROTOCOL_ERROR), IDLE, IDLE]);
}

#[test]
fn idle_on_a_client() {
    check(1, Peer::client, [IDLE; 4]);
    // A server's own stream: without push it stays idle for ever.
    check(2, Peer::client, [IDLE; 4]);
}

#[test]
fn open_on_a_server() {
    check(1, server_with_open, [Event("data"), Event("trailers"), Event("reset"), INSIDE]);
}

#[test]
fn open_on_a_client() {
    let prepare = || {
        let mut peer = Peer::client();
        peer.open();
        peer.send(response(1));
        peer
    };
    check(1, prepare, [Event("data"), Event("trailers"), Event("reset"), INSIDE]);
}

#[test]
fn open_on_a_client_before_the_response() {
    let prepare = || {
        let mut peer = Peer::client();
        peer.open();
        peer
    };
    // Content comes after the header section, and that has a status (§8.1).
    let malformed = Reset(PROTOCOL_ERROR);
    check(1, prepare, [malformed, malformed, Event("reset"), INSIDE]);
}

#[test]
fn half_closed_local_on_a_server() {
    check(1, server_half_closed_local, [Event("data"), Event("trailers"), Event("reset"), INSIDE]);
}

#[test]
fn half_closed_local_on_a_client() {
    let prepare = || {
        let mut peer = Peer::client();
        peer.open_with(&REQUEST, true);
        peer.send(response(1));
        peer
    };
    check(1, prepare, [Event("data"), Event("trailers"), Event("reset"), INSIDE]);
}

#[test]
fn half_closed_remote_on_a_server() {
    let closed = Reset(STREAM_CLOSED);
    check(1, server_half_closed_remote, [closed, closed, Event("reset"), INSIDE]);
}

#[test]
fn half_closed_remote_on_a_client() {
    let prepare = || {
        let mut peer = Peer::client();
        peer.open();
        peer.send(response(1)).send(trailers(1));
        peer
    };
    let closed = Reset(STREAM_CLOSED);
    check(1, prepare, [closed, closed, Event("reset"), INSIDE]);
}

#[test]
fn closed_by_both_ends_on_a_server() {
    let prepare = || {
        let mut peer = server_half_closed_local();
        peer.send(data(1, "").end_stream());
        assert_eq!(peer.engine.open_streams(), 0);
        peer
    };
    let closed = End(STREAM_CLOSED);
    check(1, prepare, [closed, closed, Nothing, Nothing]);
}

#[test]
fn closed_by_the_peers_reset_on_a_server() {
    let prepare = || {
        let mut peer = server_with_open();
        peer.send(reset(1, ErrorCode::CANCEL.0));
        peer
    };
    let closed = End(STREAM_CLOSED);
    check(1, prepare, [closed, closed, Nothing, Nothing]);
}

#[test]
fn closed_by_our_reset_on_a_server() {
    let ours = || {
        let mut peer = server_with_open();
        peer.engine.reset(peer.key(1), ErrorCode::CANCEL);
        peer
    };
    check(1, ours, [Nothing; 4]);
    let for_a_fault = || {
        let mut peer = server_half_closed_remote();
        peer.send(data(1, "late"));
        peer
    };
    check(1, for_a_fault, [Nothing; 4]);
    let for_a_malformed_request = || {
        let mut peer = Peer::server();
        peer.send(headers(1, &[(":method", "POST")]));
        peer
    };
    check(1, for_a_malformed_request, [Nothing; 4]);
}

#[test]
fn closed_on_a_client() {
    // We may have reset it, so that anything may still be under way.
    let by_both = || {
        let mut peer = Peer::client();
        peer.open_with(&REQUEST, true);
        peer.send(response(1)).send(trailers(1));
        assert_eq!(peer.engine.open_streams(), 0);
        peer
    };
    check(1, by_both, [Nothing; 4]);
    let by_our_reset = || {
        let mut peer = Peer::client();
        let stream = peer.open();
        peer.engine.reset(stream, ErrorCode::CANCEL);
        peer
    };
    check(1, by_our_reset, [Nothing; 4]);
}

#[test]
fn a_closed_stream_is_sent_nothing_more() {
    // §5.1: nothing but PRIORITY may be sent on a closed stream, not even to complain about its frames.
    let prepare = || {
        let mut peer = server_half_closed_local();
        peer.send(data(1, "").end_stream());
        peer.frames();
        peer.events();
        peer
    };
    prepare().send(window_update(1, 0)).expect_ignored();
    prepare().send(priority(1, 1)).expect_ignored();
    prepare().send(Frame::new(kind::PRIORITY, 0, 1, "")).expect_ignored();
}

#[test]
fn a_stream_that_was_skipped_is_closed() {
    let expected = [End(PROTOCOL_ERROR), End(PROTOCOL_ERROR), Nothing, Nothing];
    let prepare = || {
        let mut peer = Peer::server();
        peer.request(5);
        peer
    };
    check(3, prepare, expected);
}

#[test]
fn frames_for_even_streams_of_a_client_are_frames_for_idle_ones() {
    check(2, server_with_open, [IDLE; 4]);
}

#[test]
fn what_is_under_way_for_a_reset_stream_is_ignored_however_many_end_meanwhile() {
    let mut peer = Peer::server();
    let stream = peer.request(1);
    peer.engine.reset(stream, ErrorCode::CANCEL);
    for id in (3..2003).step_by(2) {
        peer.send(request(id, "/s/m").end_stream());
        peer.respond(id);
        peer.trailers(id, &[("grpc-status", "0")]);
    }
    peer.events();
    peer.frames();
    peer.send(data(1, "late")).send(trailers(1)).expect_ignored();
}
