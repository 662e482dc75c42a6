//! What makes up a message: informational responses, trailers, and content as long as announced (RFC 9113 §8.1).

mod common;

use common::{Peer, REQUEST, Seen};
use oxgrpc_http2::ErrorCode;
use oxgrpc_testkit::frame::*;

const PROTOCOL_ERROR: ErrorCode = ErrorCode::PROTOCOL_ERROR;

fn with_length(length: &str) -> Vec<(&str, &str)> {
    [&REQUEST[..], &[("content-length", length)]].concat()
}

/// A client that awaits the response on stream 1.
fn waiting() -> Peer {
    let mut peer = Peer::client();
    peer.open_with(&REQUEST, true);
    peer.frames();
    peer
}

fn status(status: &str) -> Frame {
    headers(1, &[(":status", status)])
}

fn briefly(peer: &mut Peer) -> Vec<&'static str> {
    peer.events().iter().map(|event| event.brief().0).collect()
}

#[test]
fn a_message_may_have_content_trailers_both_or_neither() {
    let cases: [(&[Frame], &[&str]); 5] = [
        (&[status("200").end_stream()], &["headers"]),
        (&[status("200"), data(1, "x").end_stream()], &["headers", "data"]),
        (&[status("200"), trailers(1)], &["headers", "trailers"]),
        (&[status("200"), data(1, "x"), trailers(1)], &["headers", "data", "trailers"]),
        (&[status("200"), headers(1, &[]).end_stream()], &["headers", "trailers"]),
    ];
    for (frames, expected) in cases {
        let mut peer = waiting();
        peer.send_all(frames);
        assert_eq!(briefly(&mut peer), expected);
        assert_eq!(peer.engine.open_streams(), 0);
        let mut peer = Peer::server();
        peer.send(request(1, "/s/m").with(frames[0].flags)).send_all(&frames[1..]);
        assert_eq!(briefly(&mut peer), expected);
    }
}

#[test]
fn informational_responses_come_before_the_final_one_and_are_not_reported() {
    let mut peer = waiting();
    peer.send_all(&[status("100"), status("103"), status("199")]).expect_ignored();
    peer.send_all(&[status("200"), trailers(1)]);
    let events = peer.events();
    assert_eq!(events[0].section().get(":status"), Some("200"));
    assert_eq!(
        events.iter().map(Seen::brief).collect::<Vec<_>>(),
        [("headers", 1), ("trailers", 1)]
    );
}

#[test]
fn an_informational_response_neither_ends_the_stream_nor_has_content() {
    let mut peer = waiting();
    peer.send(status("100").end_stream()).expect_failed(1, PROTOCOL_ERROR);
    let mut peer = waiting();
    peer.send(status("100")).send(data(1, "x")).expect_failed(1, PROTOCOL_ERROR);
    let mut peer = waiting();
    peer.send(status("100")).send(trailers(1)).expect_failed(1, PROTOCOL_ERROR);
}

#[test]
fn an_informational_response_does_not_follow_the_final_one() {
    let mut peer = waiting();
    peer.send(status("200")).send(status("100")).expect_failed(1, PROTOCOL_ERROR);
}

#[test]
fn the_length_of_an_informational_response_means_nothing() {
    let mut peer = waiting();
    peer.send(headers(1, &[(":status", "103"), ("content-length", "5")]));
    peer.send_all(&[status("200"), data(1, "x").end_stream()]);
    assert_eq!(briefly(&mut peer), ["headers", "data"]);
}

#[test]
fn content_is_as_long_as_announced() {
    let mut peer = Peer::server();
    peer.send(headers(1, &with_length("5"))).send(data(1, "abc").padded(9));
    peer.send(data(1, "de").end_stream());
    peer.send(headers(3, &with_length("1"))).send(data(3, "a")).send(trailers(3));
    peer.send(headers(5, &with_length("0")).end_stream());
    peer.send(headers(7, &with_length("00"))).send(data(7, "").end_stream());
    assert_eq!(
        briefly(&mut peer),
        ["headers", "data", "data", "headers", "data", "trailers", "headers", "headers", "data"]
    );
    peer.expect_alive();
}

#[test]
fn content_of_another_length_is_malformed() {
    let cases: [(&str, &[Frame]); 6] = [
        ("2", &[data(1, "abc")]),
        ("2", &[data(1, "a"), data(1, "bc").end_stream()]),
        ("2", &[data(1, "a").end_stream()]),
        ("2", &[data(1, "a"), trailers(1)]),
        ("2", &[trailers(1)]),
        ("0", &[data(1, "a")]),
    ];
    for (length, frames) in cases {
        let mut server = Peer::server();
        server.send(headers(1, &with_length(length))).send_all(frames);
        let rule = server.expect_failed(1, PROTOCOL_ERROR);
        assert!(rule.contains("content-length"), "{rule}");
        let mut client = waiting();
        client.send(headers(1, &[(":status", "200"), ("content-length", length)])).send_all(frames);
        client.expect_failed(1, PROTOCOL_ERROR);
    }
    let mut server = Peer::server();
    server.send(headers(1, &with_length("1")).end_stream()).expect_failed(1, PROTOCOL_ERROR);
}

#[test]
fn a_length_is_one_number() {
    let far = "18446744073709551616"; // 2^64
    for length in ["", "-1", "+1", "1x", "1 ", "1,1", "0x1", far] {
        let mut peer = Peer::server();
        peer.send(headers(1, &with_length(length))).expect_failed(1, PROTOCOL_ERROR);
    }
    for (second, is_valid) in [("7", true), ("8", false)] {
        let mut peer = Peer::server();
        let fields = [&with_length("7")[..], &[("content-length", second)]].concat();
        peer.send(headers(1, &fields));
        assert_eq!(peer.engine.open_streams() == 1, is_valid);
    }
}

#[test]
fn the_length_of_a_response_without_content_means_nothing() {
    for code in ["204", "304"] {
        let mut peer = waiting();
        peer.send(headers(1, &[(":status", code), ("content-length", "5")]).end_stream());
        assert_eq!(briefly(&mut peer), ["headers"]);
    }
}

#[test]
fn fields_keep_their_order_their_repetitions_and_their_secrets() {
    use oxgrpc_testkit::block::{field, never_indexed};
    let mut frame = request(1, "/s/m");
    for octets in [
        field(b"b", b"1"),
        never_indexed(b"authorization", b"Bearer"),
        field(b"a", b"2"),
        field(b"b", b""),
        field(b"b", b"1"),
    ] {
        frame.payload.extend(octets);
    }
    let mut peer = Peer::server();
    peer.send(frame);
    let events = peer.events();
    let section = events[0].section();
    let tail: Vec<_> = section.fields[6..].iter().map(|(n, v)| (&**n, &**v)).collect();
    assert_eq!(tail, [("b", "1"), ("authorization", "Bearer"), ("a", "2"), ("b", ""), ("b", "1")]);
    assert_eq!(section.never_indexed, ["authorization"]);
}
