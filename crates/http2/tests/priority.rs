//! PRIORITY and the priority fields of HEADERS: deprecated, read and not acted on (RFC 9113 §5.3, §6.3).

mod common;

use common::{Peer, Seen};
use oxgrpc_http2::ErrorCode;
use oxgrpc_testkit::frame::*;

const PROTOCOL_ERROR: ErrorCode = ErrorCode::PROTOCOL_ERROR;

#[test]
fn priorities_are_ignored_wherever_they_come() {
    let mut peer = Peer::server();
    // For an idle stream, an open one and one of ours; on streams that are idle, exclusive and not.
    for (stream, depends_on) in [(9, 0), (9, 11), (2, 1), (9, 0x8000_0001)] {
        peer.send(priority(stream, depends_on)).expect_ignored();
    }
    peer.request(1);
    peer.send(priority(1, 9)).expect_ignored();
}

#[test]
fn a_priority_does_not_open_a_stream() {
    let mut peer = Peer::server();
    peer.send(priority(9, 0));
    assert_eq!(peer.engine.open_streams(), 0);
    peer.request(1);
    peer.request(9);
}

#[test]
fn the_fields_of_headers_are_skipped() {
    let mut peer = Peer::server();
    peer.send(request(1, "/s/m").prioritized(0x8000_0003));
    peer.send(request(3, "/s/m").prioritized(1).padded(7).end_stream());
    let events = peer.events();
    assert_eq!(events[0].section(), events[1].section());
    assert!(matches!(events[1], Seen::Headers { end_stream: true, .. }));
}

#[test]
fn a_response_may_have_them_too() {
    let mut peer = Peer::client();
    peer.open();
    peer.send(response(1).prioritized(0)).send(trailers(1).prioritized(0));
    let events: Vec<_> = peer.events().iter().map(Seen::brief).collect();
    assert_eq!(events, [("headers", 1), ("trailers", 1)]);
}

#[test]
fn a_stream_must_not_depend_on_itself() {
    let mut peer = Peer::server();
    peer.request(1);
    peer.send(priority(1, 1)).expect_failed(1, PROTOCOL_ERROR);
    peer.send(request(3, "/s/m").prioritized(3)).expect_failed(3, PROTOCOL_ERROR);
    peer.request(5);
    peer.send(trailers(5).prioritized(5)).expect_failed(5, PROTOCOL_ERROR);
    peer.send(request(7, "/s/m").prioritized(0x8000_0007)).expect_failed(7, PROTOCOL_ERROR);
    assert_eq!(peer.engine.open_streams(), 0);
}

#[test]
fn an_idle_stream_that_depends_on_itself_ends_the_connection() {
    // There is no stream to reset (§6.4).
    Peer::server().send(priority(1, 1)).expect_go_away(PROTOCOL_ERROR);
}

#[test]
fn a_flood_of_priorities_ends_the_connection() {
    let mut peer = Peer::server();
    // The first SETTINGS took a token too.
    for _ in 1..4096 {
        peer.send(priority(1, 0));
    }
    assert_eq!(peer.engine.violation(), None);
    peer.send(priority(1, 0)).expect_go_away(ErrorCode::ENHANCE_YOUR_CALM);
}
