//! DATA: content, padding and the end of a stream (RFC 9113 §6.1).

mod common;

use common::{Peer, Seen};
use oxgrpc_http2::ErrorCode;
use oxgrpc_testkit::frame::*;

#[test]
fn content_comes_as_it_was_cut() {
    let mut peer = Peer::server();
    peer.request(1);
    peer.send_all(&[data(1, "a"), data(1, ""), data(1, "bc"), data(1, "d").end_stream()]);
    let expected = [("a", false), ("", false), ("bc", false), ("d", true)]
        .map(|(c, end)| Seen::data(1, c, end));
    assert_eq!(peer.events(), expected);
}

#[test]
fn an_empty_frame_may_end_the_stream() {
    let mut peer = Peer::client();
    peer.open();
    peer.send(response(1)).send(data(1, "").end_stream());
    assert_eq!(peer.events()[1], Seen::data(1, "", true));
}

#[test]
fn padding_is_stripped_whatever_its_length() {
    for padding in [0, 1, 254, 255] {
        let mut peer = Peer::server();
        peer.request(1);
        peer.send(data(1, "content").padded(padding).end_stream());
        assert_eq!(peer.events(), [Seen::data(1, "content", true)]);
    }
}

#[test]
fn padding_may_be_all_there_is() {
    let mut peer = Peer::server();
    peer.request(1);
    peer.send(data(1, "").padded(255)).send(data(1, "").padded(0));
    assert_eq!(peer.events(), [Seen::data(1, "", false), Seen::data(1, "", false)]);
}

#[test]
fn padding_need_not_be_zeros() {
    let mut peer = Peer::server();
    peer.request(1);
    peer.send(Frame::new(kind::DATA, flag::PADDED, 1, [2, b'x', 0xff, 0xff]));
    assert_eq!(peer.events(), [Seen::data(1, "x", false)]);
}

#[test]
fn padding_as_long_as_the_payload_ends_the_connection() {
    for payload in [&[1][..], &[3, 0, 0], &[255, 0]] {
        for kind in [kind::DATA, kind::HEADERS] {
            let mut peer = Peer::server();
            peer.request(1);
            peer.send(Frame::new(kind, flag::PADDED | flag::END_HEADERS, 1, payload));
            peer.expect_go_away(ErrorCode::PROTOCOL_ERROR);
        }
    }
}

#[test]
fn we_never_pad() {
    let mut peer = Peer::client();
    peer.open();
    peer.data(1, b"content", true);
    assert_eq!(peer.frames(), [data(1, "content").end_stream()]);
}

#[test]
fn a_head_and_a_body_become_one_frame() {
    let mut peer = Peer::client();
    let stream = peer.open();
    peer.engine.send_data(stream, b"head ", &b"body"[..], false).unwrap();
    assert_eq!(peer.frames(), [data(1, "head body")]);
}

#[test]
fn streams_are_kept_apart() {
    let mut peer = Peer::server();
    peer.request(1);
    peer.request(3);
    peer.send_all(&[data(1, "a"), data(3, "b"), data(1, "c").end_stream(), data(3, "d")]);
    let seen: Vec<_> = peer.events();
    assert_eq!(
        seen,
        [
            Seen::data(1, "a", false),
            Seen::data(3, "b", false),
            Seen::data(1, "c", true),
            Seen::data(3, "d", false),
        ]
    );
}

#[test]
fn a_frame_is_reported_when_all_of_it_has_come() {
    let mut peer = Peer::server();
    peer.request(1);
    let octets = data(1, "content").padded(3).encode();
    for octet in &octets[..octets.len() - 1] {
        peer.send_octets(&[*octet]);
        assert_eq!(peer.events(), []);
    }
    peer.send_octets(&octets[octets.len() - 1..]);
    assert_eq!(peer.events(), [Seen::data(1, "content", false)]);
}
