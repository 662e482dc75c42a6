//! Field blocks on the wire: cut into CONTINUATION frames, broken, endless, oversized (RFC 9113 §4.3, §6.2, §6.10).

mod common;

use common::{Peer, Seen};
use oxgrpc_http2::{Config, ErrorCode};
use oxgrpc_testkit::block::{indexed, indexing, integer, size_update};
use oxgrpc_testkit::frame::*;

const PROTOCOL_ERROR: ErrorCode = ErrorCode::PROTOCOL_ERROR;
const COMPRESSION_ERROR: ErrorCode = ErrorCode::COMPRESSION_ERROR;

/// A request whose block is `prefix`, then what a request must have.
fn request_with(stream: u32, prefix: &[u8]) -> Frame {
    let mut frame = request(stream, "/s/m");
    frame.payload = [prefix, &frame.payload].concat();
    frame
}

/// A request whose block ends with `suffix`.
fn request_and(stream: u32, suffix: &[u8]) -> Frame {
    let mut frame = request(stream, "/s/m");
    frame.payload.extend(suffix);
    frame
}

#[test]
fn a_section_may_be_cut_anywhere() {
    let whole = request(1, "/s/m").end_stream();
    let mut peer = Peer::server();
    peer.send(whole.clone());
    let expected = peer.events();
    for len in 1..whole.payload.len() {
        let mut peer = Peer::server();
        peer.send_all(&whole.in_pieces(len));
        assert_eq!(peer.events(), expected);
    }
}

#[test]
fn a_response_and_trailers_may_be_cut_too() {
    let mut peer = Peer::client();
    peer.open();
    peer.send_all(&response(1).in_pieces(3)).send_all(&trailers(1).in_pieces(3));
    let events: Vec<_> = peer.events().iter().map(Seen::brief).collect();
    assert_eq!(events, [("headers", 1), ("trailers", 1)]);
}

#[test]
fn fragments_may_be_empty() {
    let mut peer = Peer::server();
    let request = request(1, "/s/m");
    peer.send_all(&[
        Frame::new(kind::HEADERS, 0, 1, ""),
        continuation(1, ""),
        continuation(1, &request.payload),
        continuation(1, "").with(flag::END_HEADERS),
    ]);
    assert_eq!(peer.events()[0].section().fields.len(), 6);
}

#[test]
fn the_first_fragment_may_be_padded_and_prioritized() {
    let mut pieces = request(1, "/s/m").in_pieces(20);
    pieces[0] = pieces[0].clone().prioritized(0).padded(9);
    let mut peer = Peer::server();
    peer.send_all(&pieces);
    assert_eq!(peer.events()[0].section().fields.len(), 6);
}

#[test]
fn nothing_may_come_between_the_pieces() {
    let between = [
        data(1, "x"),
        data(3, "x"),
        request(3, "/s/m"),
        priority(3, 0),
        reset(1, 8),
        settings(&[]),
        settings_ack(),
        ping([0; 8]),
        go_away(0, 0, ""),
        window_update(0, 1),
        window_update(1, 1),
        continuation(3, ""),
        continuation(0, ""),
        Frame::new(0xbe, 0, 1, "unknown"),
    ];
    for frame in between {
        let mut server = Peer::server();
        server.send(request(1, "/s/m").without(flag::END_HEADERS)).send(frame.clone());
        server.expect_go_away(PROTOCOL_ERROR);
        let mut client = Peer::client();
        client.open();
        client.send(response(1).without(flag::END_HEADERS)).send(frame);
        client.expect_go_away(PROTOCOL_ERROR);
    }
}

#[test]
fn a_continuation_needs_a_section_to_continue() {
    for stream in [0, 1, 2, 3] {
        let mut peer = Peer::server();
        peer.request(1);
        peer.send(continuation(stream, "").with(flag::END_HEADERS));
        peer.expect_go_away(PROTOCOL_ERROR);
    }
}

#[test]
fn a_section_without_end_is_cut_short() {
    // CVE-2024-27316: the sender pays for a head, the receiver for a fragment each.
    for mut peer in Peer::both() {
        if peer.engine.role() == oxgrpc_http2::Role::Client {
            peer.open();
        }
        peer.send(Frame::new(kind::HEADERS, 0, 1, ""));
        let mut sent = 0;
        while peer.engine.violation().is_none() {
            peer.send(continuation(1, [0; 1 << 14]));
            sent += 1 << 14;
            assert!(sent <= 80 << 10, "{sent} octets are kept");
        }
        assert!(sent > 64 << 10);
        peer.expect_go_away(ErrorCode::ENHANCE_YOUR_CALM);
    }
}

#[test]
fn a_section_in_pieces_may_be_longer_than_what_we_keep() {
    for (limit, len) in [(300, 60_000), (100_000, 390_000)] {
        let config = Config { max_header_list_bytes: limit, ..Config::default() };
        let mut peer = Peer::server_with(config);
        let whole = request_and(1, &field(b"long", &vec![b'x'; len]));
        peer.send_all(&whole.in_pieces(1 << 14));
        assert!(peer.events()[0].section().is_oversized);
    }
}

#[test]
fn an_oversized_section_is_reported_with_what_fits() {
    let mut peer = Peer::server_with(Config { max_header_list_bytes: 300, ..Config::default() });
    let long = "x".repeat(200);
    peer.send(request_and(1, &field(b"long", long.as_bytes())));
    let events = peer.events();
    let section = events[0].section();
    assert!(section.is_oversized);
    let fields =
        ":methodPOST:schemehttp:path/s/m:authoritylocalhosttetrailerscontent-typeapplication/grpc";
    assert_eq!(section.list_size, fields.len() + 6 * 32 + "long".len() + 200 + 32);
    assert!(section.list_size > 300);
    assert_eq!(section.get("long"), None);
    // The layer above can answer it.
    peer.respond(1);
    peer.expect_alive();
}

#[test]
fn a_section_at_the_limit_is_not_oversized() {
    const SIZE: u32 = 3 * 32 + ":methodPOST:schemehttp:path/".len() as u32;
    for (limit, is_oversized) in [(SIZE, false), (SIZE - 1, true)] {
        let mut peer =
            Peer::server_with(Config { max_header_list_bytes: limit, ..Config::default() });
        peer.send(headers(1, &[(":method", "POST"), (":scheme", "http"), (":path", "/")]));
        let events = peer.events();
        assert_eq!(events[0].section().is_oversized, is_oversized);
    }
}

#[test]
fn an_oversized_response_and_trailers_are_reported_too() {
    let config = Config { max_header_list_bytes: 100, ..Config::default() };
    let long = "x".repeat(100);
    let mut peer = Peer::client_with(config);
    peer.open();
    peer.send(headers(1, &[(":status", "200"), ("long", &long)]));
    peer.send(headers(1, &[("long", &long), ("grpc-status", "0")]).end_stream());
    let oversized: Vec<_> = peer.events().iter().map(|e| e.section().is_oversized).collect();
    assert_eq!(oversized, [true, true]);
    assert_eq!(peer.engine.open_streams(), 1);
}

#[test]
fn what_was_too_large_to_keep_is_in_the_table_all_the_same() {
    let mut peer = Peer::server_with(Config { max_header_list_bytes: 400, ..Config::default() });
    let long = [b'x'; 300];
    peer.send(request_and(1, &[indexing(b"long", &long), indexing(b"small", b"1")].concat()));
    assert!(peer.events()[0].section().is_oversized);
    peer.send(request_and(3, &indexed(62)));
    assert_eq!(peer.events()[0].section().get("small"), Some("1"));
}

#[test]
fn a_block_that_cannot_be_decoded_ends_the_connection() {
    let broken: [(&str, Vec<u8>); 10] = [
        ("index 0", indexed(0)),
        ("an index beyond the table", indexed(62)),
        ("a name's index beyond the table", [integer(62, 6, 0x40), vec![0]].concat()),
        ("no value", vec![0x00, 1, b'a']),
        ("a value cut short", vec![0x00, 1, b'a', 5, b'b']),
        ("an integer cut short", vec![0xff]),
        ("an integer without end", vec![0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]),
        ("a size update after a field", size_update(0)),
        ("wrong Huffman padding", vec![0x00, 1, b'a', 0x81, 0b0001_1000]),
        ("EOS in a Huffman string", vec![0x00, 1, b'a', 0x84, 0xff, 0xff, 0xff, 0xff]),
    ];
    for (what, suffix) in broken {
        let mut peer = Peer::server();
        peer.send(request_and(1, &suffix));
        assert!(peer.engine.violation().is_some(), "{what}");
        peer.expect_go_away(COMPRESSION_ERROR);
    }
}

#[test]
fn size_updates_come_first_and_stay_within_our_setting() {
    let mut peer = Peer::server();
    let updates = [size_update(0), size_update(4096)].concat();
    peer.send(request_with(1, &updates)).send(request_with(3, &size_update(0)));
    assert_eq!(peer.events().len(), 2);
    peer.send(request_with(5, &size_update(4097))).expect_go_away(COMPRESSION_ERROR);
}

#[test]
fn a_block_is_decoded_whatever_becomes_of_its_stream() {
    let config = Config { max_concurrent_streams: Some(1), ..Config::default() };
    type Prepare = fn(&mut Peer) -> u32;
    let cases: [(&str, Prepare); 5] = [
        ("refused", |peer| {
            peer.request(1);
            3
        }),
        ("malformed", |_| 1),
        ("reset by us", |peer| {
            let key = peer.request(1);
            peer.engine.reset(key, ErrorCode::CANCEL);
            1
        }),
        ("after GOAWAY", |peer| {
            peer.engine.go_away(ErrorCode::NO_ERROR, "");
            1
        }),
        ("depending on itself", |_| 1),
    ];
    for (what, prepare) in cases {
        let mut peer = Peer::server_with(config.clone());
        let id = prepare(&mut peer);
        let mut frame = request_and(id, &indexing(b"x-kept", b"1"));
        match what {
            "malformed" => frame.payload.extend(field(b"connection", b"close")),
            "depending on itself" => frame = frame.prioritized(id),
            _ => {}
        }
        peer.send(frame);
        // The table has the field, and only that: its index is known, the next is not.
        peer.send(Frame::new(kind::HEADERS, flag::END_HEADERS, id + 2, indexed(62)));
        assert_eq!(peer.engine.violation(), None, "{what}");
        peer.send(Frame::new(kind::HEADERS, flag::END_HEADERS, id + 4, indexed(63)));
        peer.expect_go_away(COMPRESSION_ERROR);
    }
}

#[test]
fn end_stream_on_headers_holds_when_the_section_is_whole() {
    let mut peer = Peer::server();
    let pieces = request(1, "/s/m").end_stream().in_pieces(30);
    peer.send(pieces[0].clone());
    assert_eq!((peer.events().len(), peer.engine.open_streams()), (0, 0));
    peer.send_all(&pieces[1..]);
    assert!(matches!(peer.events()[..], [Seen::Headers { end_stream: true, .. }]));
    peer.send(data(1, "late"));
    peer.expect_failed(1, ErrorCode::STREAM_CLOSED);
}
