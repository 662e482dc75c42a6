//! Stream ids: whose they are, that they ascend, and which frames have one (RFC 9113 §5.1.1, §6).

mod common;

use common::{Peer, REQUEST};
use oxgrpc_http2::ErrorCode;
use oxgrpc_testkit::frame::*;

const PROTOCOL_ERROR: ErrorCode = ErrorCode::PROTOCOL_ERROR;

#[test]
fn ids_may_skip_but_not_go_back() {
    let mut peer = Peer::server();
    for id in [1, 3, 101, 0x7fff_ffff] {
        peer.request(id);
    }
    let rule = peer.send(request(103, "/s/m")).expect_go_away(PROTOCOL_ERROR);
    assert!(rule.contains("goes back"), "{rule}");
}

#[test]
fn a_client_must_not_open_even_streams() {
    let rule = Peer::server().send(request(2, "/s/m")).expect_go_away(PROTOCOL_ERROR);
    assert!(rule.contains("even"), "{rule}");
}

#[test]
fn frames_of_streams_do_not_belong_to_the_connection() {
    for frame in [data(0, "x"), request(0, "/"), priority(0, 1), reset(0, 8)] {
        for mut peer in Peer::both() {
            peer.send(frame.clone()).expect_go_away(PROTOCOL_ERROR);
        }
    }
}

#[test]
fn frames_of_the_connection_do_not_belong_to_streams() {
    let strayed = [
        Frame { stream: 1, ..settings(&[]) },
        Frame { stream: 1, ..settings_ack() },
        Frame { stream: 1, ..ping([0; 8]) },
        Frame { stream: 1, ..go_away(0, 0, "") },
    ];
    for frame in strayed {
        let mut server = Peer::server();
        server.request(1);
        server.send(frame.clone()).expect_go_away(PROTOCOL_ERROR);
        let mut client = Peer::client();
        client.open();
        client.send(frame).expect_go_away(PROTOCOL_ERROR);
    }
}

#[test]
fn ids_of_our_streams_ascend_from_one_and_are_odd() {
    let mut peer = Peer::client();
    let ids: Vec<_> = (0..5).map(|_| peer.open_with(&REQUEST, true).id()).collect();
    assert_eq!(ids, [1, 3, 5, 7, 9]);
    assert_eq!(peer.frames().iter().map(|frame| frame.stream).collect::<Vec<_>>(), ids);
}

#[test]
fn refused_and_malformed_requests_use_up_their_ids_too() {
    let mut peer = Peer::server();
    peer.send(headers(5, &REQUEST[1..])).expect_failed(5, PROTOCOL_ERROR);
    peer.send(request(3, "/s/m")).expect_go_away(PROTOCOL_ERROR);
}

#[test]
fn an_id_is_used_once() {
    let mut peer = Peer::server();
    peer.send(request(1, "/s/m").end_stream());
    peer.respond(1);
    peer.trailers(1, &[("grpc-status", "0")]);
    peer.send(request(1, "/s/m")).expect_go_away(ErrorCode::STREAM_CLOSED);
}
