//! How long frames may be: ours, the peer's, and those of a fixed length (RFC 9113 §4.2, §6).

mod common;

use common::{Peer, REQUEST, Seen};
use oxgrpc_http2::{Config, ErrorCode, Sent};
use oxgrpc_testkit::frame::*;

const FRAME_SIZE_ERROR: ErrorCode = ErrorCode::FRAME_SIZE_ERROR;
const MIN: usize = 1 << 14;

#[test]
fn a_frame_as_long_as_the_limit_is_taken() {
    let mut peer = Peer::server();
    peer.request(1);
    peer.send(data(1, [7; MIN]));
    assert_eq!(peer.events(), [Seen::data(1, [7; MIN], false)]);
}

#[test]
fn a_longer_frame_is_refused_before_its_payload_has_come() {
    for mut peer in Peer::both() {
        let head = data(1, "").head_for(MIN + 1);
        let rule = peer.send_octets(&head).expect_go_away(FRAME_SIZE_ERROR);
        assert!(rule.contains("MAX_FRAME_SIZE"), "{rule}");
    }
}

#[test]
fn a_longer_frame_of_an_unknown_type_is_refused_too() {
    let head = Frame::new(0xbe, 0, 0, "").head_for(MIN + 1);
    Peer::server().send_octets(&head).expect_go_away(FRAME_SIZE_ERROR);
}

#[test]
fn the_limit_is_what_we_announced() {
    let config = Config { max_frame_bytes: 20_000, ..Config::default() };
    let mut peer = Peer::server_with(config);
    peer.request(1);
    peer.send(data(1, [7; 20_000]));
    assert_eq!(peer.events(), [Seen::data(1, [7; 20_000], false)]);
    peer.send_octets(&data(1, "").head_for(20_001)).expect_go_away(FRAME_SIZE_ERROR);
}

#[test]
fn a_configured_limit_outside_the_protocols_is_brought_within_it() {
    for (configured, announced) in [(1, None), (u32::MAX, Some((1 << 24) - 1))] {
        let config = Config { max_frame_bytes: configured, ..Config::default() };
        let mut peer = Peer::fresh(oxgrpc_http2::Role::Server, config);
        let settings = peer.frames()[0].settings();
        let found = settings.iter().find(|(id, _)| *id == setting::MAX_FRAME_SIZE);
        assert_eq!(found.map(|(_, value)| *value), announced);
    }
}

#[test]
fn frames_of_a_fixed_length_must_have_it() {
    let wrong = [
        Frame::new(kind::PING, 0, 0, [0; 7]),
        Frame::new(kind::PING, 0, 0, [0; 9]),
        Frame::new(kind::PING, flag::ACK, 0, ""),
        Frame::new(kind::RST_STREAM, 0, 1, [0; 3]),
        Frame::new(kind::RST_STREAM, 0, 1, [0; 5]),
        Frame::new(kind::WINDOW_UPDATE, 0, 0, [1; 3]),
        Frame::new(kind::WINDOW_UPDATE, 0, 1, [1; 5]),
        Frame::new(kind::SETTINGS, 0, 0, [0; 5]),
        Frame::new(kind::SETTINGS, 0, 0, [0; 7]),
        Frame::new(kind::SETTINGS, flag::ACK, 0, [0; 6]),
        Frame::new(kind::GOAWAY, 0, 0, [0; 7]),
        Frame::new(kind::HEADERS, flag::PRIORITY | flag::END_HEADERS, 1, [0; 4]),
        Frame::new(kind::DATA, flag::PADDED, 1, ""),
        Frame::new(kind::HEADERS, flag::PADDED | flag::END_HEADERS, 1, ""),
    ];
    for frame in wrong {
        let mut server = Peer::server();
        server.request(1);
        server.send(frame.clone()).expect_go_away(FRAME_SIZE_ERROR);
        let mut client = Peer::client();
        client.open();
        client.send(frame).expect_go_away(FRAME_SIZE_ERROR);
    }
}

#[test]
fn a_priority_frame_of_a_wrong_length_costs_its_stream_only() {
    for len in [4, 6] {
        let mut peer = Peer::server();
        peer.request(1);
        peer.send(Frame::new(kind::PRIORITY, 0, 1, vec![0; len]));
        peer.expect_failed(1, FRAME_SIZE_ERROR);
    }
}

#[test]
fn on_an_idle_stream_it_costs_the_connection() {
    // RST_STREAM must not be sent on an idle stream (§6.4).
    Peer::server().send(Frame::new(kind::PRIORITY, 0, 1, [0; 4])).expect_go_away(FRAME_SIZE_ERROR);
}

/// The lengths of the DATA frames that carry `len` octets to a peer with these settings.
fn data_lengths(len: usize, settings: &[(u16, u32)]) -> Vec<usize> {
    let mut peer = Peer::fresh(oxgrpc_http2::Role::Client, Config::default());
    peer = peer.shake_hands(settings);
    peer.send(window_update(0, 1 << 24));
    let id = peer.open().id();
    assert_eq!(peer.data(id, &vec![7; len], true), Sent::Written);
    let frames = peer.frames();
    let (last, others) = frames.split_last().expect("a frame");
    assert!(last.flags & flag::END_STREAM != 0);
    assert!(others.iter().all(|frame| frame.flags & flag::END_STREAM == 0));
    assert_eq!(frames.iter().map(|frame| frame.payload.len()).sum::<usize>(), len);
    frames.iter().map(|frame| frame.payload.len()).collect()
}

#[test]
fn our_data_is_cut_to_the_peers_limit() {
    const WINDOW: (u16, u32) = (setting::INITIAL_WINDOW_SIZE, 1 << 24);
    assert_eq!(data_lengths(MIN, &[WINDOW]), [MIN]);
    assert_eq!(data_lengths(MIN + 1, &[WINDOW]), [MIN, 1]);
    assert_eq!(data_lengths(40_000, &[WINDOW]), [MIN, MIN, 40_000 - 2 * MIN]);
    assert_eq!(data_lengths(40_000, &[WINDOW, (setting::MAX_FRAME_SIZE, 20_000)]), [20_000; 2]);
    // However much the peer takes, a frame is no longer than a turn.
    let most = (setting::MAX_FRAME_SIZE, (1 << 24) - 1);
    assert_eq!(data_lengths(100_000, &[WINDOW, most]), [64 << 10, 100_000 - (64 << 10)]);
}

#[test]
fn our_header_blocks_are_cut_to_the_peers_limit() {
    let mut peer = Peer::client();
    let long = "x".repeat(40_000);
    let fields = [&REQUEST[..], &[("long", &long)]].concat();
    peer.open_with(&fields, true);
    let frames = peer.frames();
    let shape: Vec<_> =
        frames.iter().map(|frame| (frame.kind, frame.flags, frame.stream)).collect();
    // 'x' takes seven bits of Huffman code.
    assert_eq!(
        shape,
        [
            (kind::HEADERS, flag::END_STREAM, 1),
            (kind::CONTINUATION, 0, 1),
            (kind::CONTINUATION, flag::END_HEADERS, 1),
        ]
    );
    assert!(frames.iter().all(|frame| frame.payload.len() <= MIN));
    let block: Vec<u8> = frames.into_iter().flat_map(|frame| frame.payload).collect();
    let read = BlockReader::default().read(&block);
    assert_eq!(read.last(), Some(&("long".into(), long)));
}

#[test]
fn a_limit_that_rises_later_holds_for_what_follows() {
    let mut peer = Peer::client();
    let id = peer.open().id();
    peer.data(id, &[7; 20_000], false);
    assert_eq!(peer.frames().len(), 2);
    peer.send(settings(&[(setting::MAX_FRAME_SIZE, 20_000)]));
    peer.data(id, &[7; 20_000], false);
    assert_eq!(peer.frames_of(kind::DATA).len(), 1);
}
