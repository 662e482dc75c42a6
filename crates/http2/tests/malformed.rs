//! Messages that break HTTP's rules: a stream error each, on the side that receives them (RFC 9113 §8.1 to §8.5).

mod common;

use common::{Peer, REQUEST, Seen};
use oxgrpc_http2::ErrorCode;
use oxgrpc_testkit::frame::*;

const PROTOCOL_ERROR: ErrorCode = ErrorCode::PROTOCOL_ERROR;

/// Sends a request with these fields; returns the broken rule, if one is.
fn request_rule(fields: &[(&str, &str)]) -> Option<&'static str> {
    let mut peer = Peer::server();
    peer.send(headers(1, fields));
    match peer.engine.open_streams() {
        0 => Some(peer.expect_failed(1, PROTOCOL_ERROR)),
        _ => {
            assert!(matches!(peer.events()[..], [Seen::Headers { .. }]));
            peer.expect_alive();
            None
        }
    }
}

/// The same for a response.
fn response_rule(fields: &[(&str, &str)]) -> Option<&'static str> {
    let mut peer = Peer::client();
    peer.open();
    peer.send(headers(1, fields));
    match peer.engine.open_streams() {
        0 => Some(peer.expect_failed(1, PROTOCOL_ERROR)),
        _ => None,
    }
}

/// The same for the trailers of a request.
fn trailers_rule(fields: &[(&str, &str)]) -> Option<&'static str> {
    let mut peer = Peer::server();
    peer.request(1);
    peer.send(headers(1, fields).end_stream());
    match peer.engine.open_streams() {
        0 => Some(peer.expect_failed(1, PROTOCOL_ERROR)),
        _ => None,
    }
}

/// A request with one more field.
fn with<'a>(name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    [&REQUEST[..], &[(name, value)]].concat()
}

#[track_caller]
fn assert_broken(rule: Option<&str>, word: &str) {
    assert!(rule.is_some_and(|rule| rule.contains(word)), "{rule:?} is not about {word}");
}

#[test]
fn names_have_no_upper_case_white_space_controls_or_colons() {
    for name in ["Upper", "uppeR", "a b", "tab\t", "nul\0", "a:b", "::", "del\x7f", "ü", ""] {
        for rule in [request_rule(&with(name, "x")), trailers_rule(&[(name, "x")])] {
            assert_broken(rule, "field name");
        }
        assert_broken(response_rule(&[(":status", "200"), (name, "x")]), "field name");
    }
}

#[test]
fn other_names_are_taken_as_they_are() {
    for name in ["a", "0", "!#$%&'*+-.^_`|~", "x-bin", "grpc-status", "a(b)"] {
        assert_eq!(request_rule(&with(name, "x")), None, "{name}");
    }
}

#[test]
fn values_have_no_nul_cr_or_lf() {
    for value in ["a\0", "\ra", "a\nb", "\r\n"] {
        assert_broken(request_rule(&with("x", value)), "field value");
        assert_broken(response_rule(&[(":status", "200"), ("x", value)]), "field value");
        assert_broken(trailers_rule(&[("x", value)]), "field value");
        assert_broken(
            request_rule(&[&[(":authority", value)], &REQUEST[..3]].concat()),
            "field value",
        );
    }
}

#[test]
fn other_values_are_taken_as_they_are() {
    // White space at the ends too: gRPC allows it, and grpcio sends it.
    for value in ["", " a ", "\t", "ü", "\x01\x7f", ",;="] {
        let mut peer = Peer::server();
        peer.send(headers(1, &with("x", value)));
        assert_eq!(peer.events()[0].section().get("x"), Some(value));
    }
}

#[test]
fn fields_of_the_connection_have_no_place() {
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        assert_broken(request_rule(&with(name, "x")), "connection-specific");
        assert_broken(response_rule(&[(":status", "200"), (name, "x")]), "connection-specific");
        assert_broken(trailers_rule(&[(name, "x")]), "connection-specific");
    }
}

#[test]
fn te_may_only_announce_trailers() {
    assert_eq!(request_rule(&with("te", "trailers")), None);
    for value in ["", "gzip", "trailers, gzip", "Trailers"] {
        assert_broken(request_rule(&with("te", value)), "te ");
    }
}

#[test]
fn a_request_has_its_three_pseudo_fields() {
    for missing in 0..3 {
        let mut fields = REQUEST.to_vec();
        fields.remove(missing);
        assert_broken(request_rule(&fields), "lacks");
    }
    assert_eq!(request_rule(&REQUEST[..3]), None);
    assert_broken(request_rule(&[]), "lacks");
}

#[test]
fn a_path_is_not_empty() {
    assert_broken(
        request_rule(&[(":method", "POST"), (":scheme", "http"), (":path", "")]),
        "empty",
    );
    assert_eq!(request_rule(&[(":method", "OPTIONS"), (":scheme", "http"), (":path", "*")]), None);
}

#[test]
fn pseudo_fields_come_once_and_first() {
    for (name, value) in REQUEST {
        assert_broken(request_rule(&with(name, value)), "repeated");
    }
    assert_broken(request_rule(&[&[("x", "y")], &REQUEST[..]].concat()), "follows");
    assert_broken(request_rule(&[&REQUEST[..3], &[("x", "y"), REQUEST[3]]].concat()), "follows");
    assert_broken(response_rule(&[("x", "y"), (":status", "200")]), "follows");
    assert_broken(response_rule(&[(":status", "200"), (":status", "200")]), "repeated");
}

#[test]
fn pseudo_fields_belong_to_their_kind_of_message() {
    assert_broken(request_rule(&with(":status", "200")), ":status");
    assert_broken(request_rule(&with(":protocol", "websocket")), ":protocol");
    for (name, value) in REQUEST {
        assert_broken(response_rule(&[(":status", "200"), (name, value)]), "request's");
        assert_broken(trailers_rule(&[(name, value)]), "trailers");
    }
    assert_broken(trailers_rule(&[(":status", "200")]), "trailers");
    for name in [":", ":unknown", ":Path"] {
        assert!(request_rule(&with(name, "x")).is_some());
        assert!(response_rule(&[(":status", "200"), (name, "x")]).is_some());
    }
}

#[test]
fn connect_names_an_authority_and_nothing_else() {
    // §8.5.
    let (method, authority) = ((":method", "CONNECT"), (":authority", "host:1"));
    assert_eq!(request_rule(&[method, authority]), None);
    assert_broken(request_rule(&[method]), "CONNECT");
    assert_broken(request_rule(&[method, authority, (":scheme", "http")]), "CONNECT");
    assert_broken(request_rule(&[method, authority, (":path", "/")]), "CONNECT");
}

#[test]
fn a_response_has_a_status_of_three_digits() {
    for status in ["", "20", "2000", "2x0", "099", " 200", "-20"] {
        assert_broken(response_rule(&[(":status", status)]), ":status");
    }
    assert_broken(response_rule(&[("content-type", "application/grpc")]), ":status");
    for status in ["200", "204", "304", "404", "503", "999"] {
        assert_eq!(response_rule(&[(":status", status)]), None);
    }
}

#[test]
fn what_is_malformed_is_not_reported_and_the_next_request_is_well() {
    let mut peer = Peer::server();
    peer.send(headers(1, &with("connection", "close")).end_stream());
    peer.expect_failed(1, PROTOCOL_ERROR);
    peer.request(3);
}

#[test]
fn trailers_end_the_stream() {
    let mut peer = Peer::server();
    peer.request(1);
    peer.send(trailers(1).without(flag::END_STREAM));
    assert_broken(Some(peer.expect_failed(1, PROTOCOL_ERROR)), "trailers");
}

#[test]
fn content_does_not_come_before_the_response() {
    let mut peer = Peer::client();
    peer.open();
    peer.send(data(1, "x"));
    assert_broken(Some(peer.expect_failed(1, PROTOCOL_ERROR)), "before HEADERS");
}
