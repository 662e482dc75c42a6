//! SETTINGS: their values, their acknowledgements and what each changes (RFC 9113 §6.5).

mod common;

use common::{Peer, REQUEST, Seen, list};
use oxgrpc_http2::{Config, ErrorCode, HeaderList, Indexing, Role, Settings};
use oxgrpc_testkit::block::{indexed, indexing, size_update};
use oxgrpc_testkit::frame::*;

const PROTOCOL_ERROR: ErrorCode = ErrorCode::PROTOCOL_ERROR;
const MAX: u32 = u32::MAX;

#[test]
fn each_settings_frame_is_acknowledged_in_its_place() {
    for mut peer in Peer::both() {
        peer.send_all(&[
            settings(&[]),
            ping([1; 8]),
            settings(&[(setting::MAX_FRAME_SIZE, 1 << 15)]),
        ]);
        assert_eq!(peer.frames(), [settings_ack(), pong([1; 8]), settings_ack()]);
        assert_eq!(peer.events(), [Seen::Settings, Seen::Settings]);
    }
}

#[test]
fn acknowledgements_are_counted() {
    for mut peer in Peer::both() {
        assert!(peer.engine.settings_are_acknowledged());
        peer.engine.send_settings(Settings::default());
        peer.engine.send_settings(Settings::default());
        peer.send(settings_ack());
        assert!(!peer.engine.settings_are_acknowledged());
        peer.send(settings_ack());
        assert!(peer.engine.settings_are_acknowledged());
        assert_eq!(peer.events(), []);
        peer.send(settings_ack()).expect_go_away(PROTOCOL_ERROR);
    }
}

#[test]
fn invalid_values_end_the_connection_with_their_own_code() {
    let invalid = [
        (setting::ENABLE_PUSH, 2, PROTOCOL_ERROR),
        (setting::ENABLE_PUSH, MAX, PROTOCOL_ERROR),
        (setting::INITIAL_WINDOW_SIZE, 1 << 31, ErrorCode::FLOW_CONTROL_ERROR),
        (setting::INITIAL_WINDOW_SIZE, MAX, ErrorCode::FLOW_CONTROL_ERROR),
        (setting::MAX_FRAME_SIZE, (1 << 14) - 1, PROTOCOL_ERROR),
        (setting::MAX_FRAME_SIZE, 1 << 24, PROTOCOL_ERROR),
    ];
    for (id, value, code) in invalid {
        for mut peer in Peer::both() {
            peer.send(settings(&[(id, value)])).expect_go_away(code);
        }
    }
}

#[test]
fn the_values_at_the_edge_are_valid() {
    let valid = [
        (setting::HEADER_TABLE_SIZE, 0),
        (setting::HEADER_TABLE_SIZE, MAX),
        (setting::ENABLE_PUSH, 0),
        (setting::MAX_CONCURRENT_STREAMS, 0),
        (setting::MAX_CONCURRENT_STREAMS, MAX),
        (setting::INITIAL_WINDOW_SIZE, 0),
        (setting::INITIAL_WINDOW_SIZE, (1 << 31) - 1),
        (setting::MAX_FRAME_SIZE, 1 << 14),
        (setting::MAX_FRAME_SIZE, (1 << 24) - 1),
        (setting::MAX_HEADER_LIST_SIZE, 0),
        (setting::MAX_HEADER_LIST_SIZE, MAX),
    ];
    for mut peer in Peer::both() {
        for entry in valid {
            peer.send(settings(&[entry])).expect_alive();
        }
    }
}

#[test]
fn an_invalid_value_counts_even_if_a_valid_one_follows() {
    let twice = [(setting::INITIAL_WINDOW_SIZE, MAX), (setting::INITIAL_WINDOW_SIZE, 1000)];
    Peer::server().send(settings(&twice)).expect_go_away(ErrorCode::FLOW_CONTROL_ERROR);
}

#[test]
fn a_client_may_ask_for_push_but_a_server_must_not_offer_it() {
    Peer::server().send(settings(&[(setting::ENABLE_PUSH, 1)])).expect_alive();
    Peer::client().send(settings(&[(setting::ENABLE_PUSH, 1)])).expect_go_away(PROTOCOL_ERROR);
}

#[test]
fn the_last_value_of_a_repeated_setting_holds() {
    let mut peer = Peer::client();
    peer.send(settings(&[
        (setting::MAX_CONCURRENT_STREAMS, 0),
        (setting::MAX_CONCURRENT_STREAMS, 1),
    ]));
    peer.open();
    assert!(peer.engine.can_open().is_err());
}

#[test]
fn the_peers_header_list_limit_is_known() {
    let mut peer = Peer::fresh(Role::Client, Config::default());
    let fields = list(&REQUEST);
    let exceeds = |peer: &Peer| {
        peer.engine.exceeds_peer_limit(&HeaderList { prepared: None, fields: &fields })
    };
    let size: usize = REQUEST.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
    assert_eq!(exceeds(&peer), None);
    for (limit, exceeded) in [(size, None), (size - 1, Some((size, size - 1)))] {
        peer.send(settings(&[(setting::MAX_HEADER_LIST_SIZE, limit as u32)]));
        assert_eq!(exceeds(&peer), exceeded);
    }
}

#[test]
fn what_is_prepared_counts_against_the_header_list_limit() {
    let mut peer = Peer::client();
    peer.send(settings(&[(setting::MAX_HEADER_LIST_SIZE, 67)]));
    let mut prepared = oxgrpc_http2::Prepared::new([(&b"a"[..], &b"1"[..])]);
    let fields = [(&b"b"[..], &b"2"[..], Indexing::Literal)];
    let list = HeaderList { prepared: Some(&mut prepared), fields: &fields };
    assert_eq!(peer.engine.exceeds_peer_limit(&list), Some((68, 67)));
}

#[test]
fn the_encoder_keeps_to_the_peers_table() {
    let mut peer = Peer::fresh(Role::Client, Config::default())
        .shake_hands(&[(setting::HEADER_TABLE_SIZE, 0)]);
    let mut reader = BlockReader::with_table_of(0);
    for _ in 0..3 {
        let fields = [(&b"x-always"[..], &b"1"[..], Indexing::Always)];
        peer.engine.open(HeaderList { prepared: None, fields: &fields }, true, 0).unwrap();
        let block = peer.frames().remove(0).payload;
        assert_eq!(reader.read(&block), [("x-always".into(), "1".into())]);
    }
}

/// A server that has sent these settings; the test has not acknowledged them yet.
fn changed(settings: Settings) -> Peer {
    let mut peer = Peer::server();
    peer.reads = false;
    peer.request(1);
    peer.engine.send_settings(settings);
    assert_eq!(peer.frames_of(kind::SETTINGS).len(), 1);
    peer
}

#[test]
fn our_new_window_holds_for_all_streams_from_the_acknowledgement_on() {
    let mut peer = changed(Settings { initial_window_size: Some(100_000), ..Settings::default() });
    assert_eq!(peer.engine.stream_window_available(peer.key(1)), 65_535);
    peer.send(settings_ack());
    assert_eq!(peer.engine.stream_window_available(peer.key(1)), 100_000);
    peer.request(3);
    assert_eq!(peer.engine.stream_window_available(peer.key(3)), 100_000);
    for _ in 0..6 {
        peer.send(data(1, [7; 16_384]));
    }
    peer.expect_alive();
    assert_eq!(peer.events().iter().map(Seen::brief).collect::<Vec<_>>(), [("data", 1); 6]);
}

#[test]
fn our_new_frame_size_holds_from_the_acknowledgement_on() {
    let settings = Settings { max_frame_size: Some(20_000), ..Settings::default() };
    let mut peer = changed(settings);
    peer.send(settings_ack()).send(data(1, [7; 20_000]));
    assert_eq!(peer.events(), [Seen::data(1, [7; 20_000], false)]);
    let mut peer = changed(settings);
    peer.send_octets(&data(1, "").head_for(20_000)).expect_go_away(ErrorCode::FRAME_SIZE_ERROR);
}

/// A request with `prefix` in front of its fields.
fn with_prefix(stream: u32, prefix: &[u8]) -> Frame {
    let mut frame = request(stream, "/s/m");
    frame.payload.splice(0..0, prefix.iter().copied());
    frame
}

#[test]
fn our_larger_table_holds_from_the_acknowledgement_on() {
    let larger = Settings { header_table_size: Some(8192), ..Settings::default() };
    let mut peer = changed(larger);
    peer.send(settings_ack()).send(with_prefix(3, &size_update(8192))).expect_alive();
    changed(larger)
        .send(with_prefix(3, &size_update(8192)))
        .expect_go_away(ErrorCode::COMPRESSION_ERROR);
}

#[test]
fn our_smaller_table_must_be_taken_over_with_the_next_block() {
    // §4.3.1: a field block after the acknowledgement begins with the update.
    let smaller = Settings { header_table_size: Some(100), ..Settings::default() };
    let mut peer = changed(smaller);
    peer.send(request(3, "/s/m")).send(settings_ack());
    peer.send(with_prefix(5, &size_update(100))).send(request(7, "/s/m")).expect_alive();
    let mut late = changed(smaller);
    late.send(settings_ack()).send(request(3, "/s/m")).expect_go_away(ErrorCode::COMPRESSION_ERROR);
}

#[test]
fn our_smaller_table_evicts() {
    let mut peer = changed(Settings { header_table_size: Some(0), ..Settings::default() });
    let mut frame = request(3, "/s/m");
    frame.payload.extend(indexing(b"x-gone", b"1"));
    peer.send(frame).send(settings_ack()).send(with_prefix(5, &size_update(0)));
    peer.expect_alive();
    let mut frame = request(7, "/s/m");
    frame.payload.extend(indexed(62));
    peer.send(frame).expect_go_away(ErrorCode::COMPRESSION_ERROR);
}
