//! GOAWAY: the end of a connection, at once or with grace, from either side (RFC 9113 §6.8).

mod common;

use common::{Peer, Seen};
use oxgrpc_http2::{ErrorCode, UsageError};
use oxgrpc_testkit::frame::*;

const NO_ERROR: ErrorCode = ErrorCode::NO_ERROR;
const PROTOCOL_ERROR: ErrorCode = ErrorCode::PROTOCOL_ERROR;
const LAST: u32 = (1 << 31) - 1;

/// A server with a stream, that has sent GOAWAY.
fn going_away() -> Peer {
    let mut peer = Peer::server();
    peer.request(3);
    peer.engine.go_away(ErrorCode::ENHANCE_YOUR_CALM, "too many pings");
    assert_eq!(peer.frames(), [go_away(3, ErrorCode::ENHANCE_YOUR_CALM.0, "too many pings")]);
    peer
}

#[test]
fn goaway_names_the_last_stream_the_code_and_the_reason() {
    going_away();
    let mut peer = Peer::server();
    peer.engine.go_away(NO_ERROR, "");
    assert_eq!(peer.frames(), [go_away(0, 0, "")]);
    assert!(peer.engine.is_shut_down());
}

#[test]
fn streams_from_before_our_goaway_go_on() {
    let mut peer = going_away();
    peer.send(data(3, "x")).send(trailers(3));
    let events: Vec<_> = peer.events().iter().map(Seen::brief).collect();
    assert_eq!(events, [("data", 3), ("trailers", 3)]);
    peer.respond(3);
    peer.data(3, b"answer", true);
    assert_eq!(peer.frames(), [data(3, "answer").end_stream()]);
    assert_eq!(peer.engine.open_streams(), 0);
}

#[test]
fn streams_from_after_our_goaway_are_ignored_with_all_that_comes_on_them() {
    let late = [
        request(5, "/s/m"),
        data(5, "x"),
        data(5, "").padded(3),
        window_update(5, 10),
        priority(5, 0),
        trailers(5),
        reset(5, ErrorCode::CANCEL.0),
        data(7, "x"),
        request(9, "/s/m").end_stream(),
        headers(11, &[("malformed", "")]),
    ];
    for frame in late {
        going_away().send(frame).expect_ignored();
    }
}

#[test]
fn after_our_goaway_the_rules_hold_for_the_streams_before_it() {
    going_away().send(data(1, "x")).expect_go_away(PROTOCOL_ERROR);
    going_away().send(request(4, "/s/m")).expect_go_away(PROTOCOL_ERROR);
    let mut peer = going_away();
    peer.send(window_update(3, 0)).expect_failed(3, PROTOCOL_ERROR);
}

#[test]
fn a_second_goaway_of_ours_changes_nothing() {
    let mut peer = going_away();
    peer.engine.go_away(NO_ERROR, "");
    peer.engine.shut_down();
    assert_eq!(peer.frames(), []);
}

#[test]
fn a_violation_after_our_goaway_has_a_goaway_of_its_own() {
    let mut peer = going_away();
    peer.send(request(5, "/s/m")); // ignored
    peer.send(data(0, "x"));
    let frames = peer.frames();
    assert_eq!((frames[0].u32_at(0), frames[0].error_code()), (3, PROTOCOL_ERROR.0));
}

#[test]
fn a_violation_names_the_last_stream_that_was_opened() {
    let mut peer = Peer::server();
    peer.request(1);
    peer.request(7);
    peer.send(data(0, "x"));
    assert_eq!(peer.frames()[0].u32_at(0), 7);
}

#[test]
fn a_graceful_shutdown_takes_a_round_trip() {
    let mut peer = Peer::server();
    peer.request(1);
    peer.engine.shut_down();
    let frames = peer.frames();
    assert_eq!(frames[0], go_away(LAST, 0, ""));
    assert_eq!((frames[1].kind, frames[1].flags, frames.len()), (kind::PING, 0, 2));
    assert!(peer.engine.is_going_away() && !peer.engine.is_shut_down());
    // What crossed the announcement is still served.
    peer.request(3);
    peer.send(Frame { flags: flag::ACK, ..frames[1].clone() });
    assert_eq!((peer.frames(), peer.events()), (vec![go_away(3, 0, "")], vec![]));
    assert!(peer.engine.is_shut_down());
    // Once more it would be the answer to somebody else's ping.
    peer.send(Frame { flags: flag::ACK, ..frames[1].clone() });
    assert!(matches!(peer.events()[..], [Seen::Pong(_)]));
    peer.send(request(5, "/s/m")).send(data(5, "x")).expect_ignored();
    peer.send(data(3, "x").end_stream());
    assert_eq!(peer.events(), [Seen::data(3, "x", true)]);
}

#[test]
fn other_pings_do_not_end_the_first_phase() {
    let mut peer = Peer::server();
    peer.engine.shut_down();
    peer.frames();
    peer.engine.ping([5; 8]);
    peer.send(pong([5; 8]));
    assert_eq!(peer.events(), [Seen::Pong([5; 8])]);
    assert_eq!(peer.frames(), [ping([5; 8])]);
    peer.request(1);
}

#[test]
fn a_graceful_shutdown_can_be_cut_short() {
    let mut peer = Peer::server();
    peer.request(1);
    peer.engine.shut_down();
    let shutdown = peer.frames();
    peer.engine.go_away(NO_ERROR, "out of patience");
    assert_eq!(peer.frames(), [go_away(1, 0, "out of patience")]);
    peer.send(request(3, "/s/m")).expect_ignored();
    // The answer to the first phase's ping comes too late to matter.
    peer.send(Frame { flags: flag::ACK, ..shutdown[1].clone() }).expect_ignored();
}

#[test]
fn a_shutdown_is_announced_once() {
    let mut peer = Peer::server();
    peer.engine.shut_down();
    peer.frames();
    peer.engine.shut_down();
    assert_eq!(peer.frames(), []);
}

#[test]
fn the_peers_goaway_is_reported() {
    let mut peer = Peer::client();
    peer.open();
    peer.send(go_away(1, ErrorCode::ENHANCE_YOUR_CALM.0, "too_many_pings"));
    let expected = Seen::GoAway {
        last_stream: 1,
        code: ErrorCode::ENHANCE_YOUR_CALM,
        debug: "too_many_pings".into(),
    };
    assert_eq!(peer.events(), [expected]);
    assert!(peer.engine.is_going_away());
}

#[test]
fn a_client_opens_no_stream_after_either_goaway() {
    let mut peer = Peer::client();
    peer.send(go_away(LAST, 0, ""));
    assert_eq!(peer.engine.can_open(), Err(UsageError::GoingAway));
    let mut peer = Peer::client();
    peer.engine.go_away(NO_ERROR, "");
    assert_eq!(peer.engine.can_open(), Err(UsageError::GoingAway));
    let mut peer = Peer::client();
    peer.engine.shut_down();
    assert_eq!(peer.engine.can_open(), Err(UsageError::GoingAway));
}

#[test]
fn open_streams_survive_the_peers_goaway() {
    let mut peer = Peer::client();
    peer.open();
    peer.send(go_away(1, 0, "")).send(response(1)).send(trailers(1));
    let events: Vec<_> = peer.events().iter().map(Seen::brief).collect();
    assert_eq!(events, [("goaway", 0), ("headers", 1), ("trailers", 1)]);
    peer.data(1, b"rest", true);
    assert_eq!(peer.frames(), [data(1, "rest").end_stream()]);
}

#[test]
fn the_peers_last_stream_may_sink_but_not_rise() {
    for mut peer in Peer::both() {
        for last in [LAST, 9, 9, 3, 0] {
            peer.send(go_away(last, 0, ""));
        }
        assert_eq!(peer.events().len(), 5);
        peer.send(go_away(1, 0, "")).expect_go_away(PROTOCOL_ERROR);
    }
}

#[test]
fn a_server_serves_on_after_a_clients_goaway() {
    let mut peer = Peer::server();
    peer.request(1);
    peer.send(go_away(0, 0, ""));
    peer.respond(1);
    peer.request(3);
}

#[test]
fn the_reserved_bit_of_the_last_stream_is_ignored() {
    let mut peer = Peer::client();
    peer.send(go_away(0x8000_0005, 0, ""));
    assert!(matches!(peer.events()[..], [Seen::GoAway { last_stream: 5, .. }]));
}
