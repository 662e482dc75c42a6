//! Our SETTINGS_INITIAL_WINDOW_SIZE: it holds from the peer's acknowledgement on, and may leave a window negative
//! (RFC 9113 §6.9.2, §6.9.3).

mod common;

use common::{Peer, Seen};
use oxgrpc_http2::{Config, ErrorCode, Role};
use oxgrpc_testkit::frame::*;

/// A server that grants 1000 octets; its client has opened a stream without having seen that.
fn early() -> Peer {
    let config = Config {
        initial_stream_window_bytes: 1000,
        max_stream_window_bytes: 1000,
        connection_window_bytes: 100_000,
        ..Config::default()
    };
    let mut peer = Peer::fresh(Role::Server, config);
    peer.reads = false;
    peer.send_octets(PREFACE).send(settings(&[])).send(request(1, "/s/m"));
    peer
}

fn release(peer: &mut Peer, octets: usize) -> Vec<Frame> {
    peer.engine.release(peer.key(1), octets);
    peer.frames()
}

#[test]
fn a_smaller_window_holds_when_the_peer_has_acknowledged_it() {
    // §6.9.3: what was sent before counts against the default window.
    let mut peer = early();
    for len in [16_384, 16_384, 16_384, 16_383] {
        peer.send(data(1, vec![7; len]));
    }
    peer.expect_alive();
    peer.send(settings_ack());
    assert_eq!(peer.engine.stream_window_available(peer.key(1)), 0);
    assert_eq!(release(&mut peer, 65_535).last(), Some(&window_update(1, 65_535)));
    assert_eq!(peer.engine.stream_window_available(peer.key(1)), 1000);
    peer.send(data(1, [7; 1001])).expect_failed(1, ErrorCode::FLOW_CONTROL_ERROR);
}

#[test]
fn what_is_empty_needs_no_window_even_where_it_is_negative() {
    let mut peer = early();
    peer.send(data(1, [7; 1001])).send(settings_ack()).send(data(1, "").end_stream());
    assert_eq!(peer.events().last(), Some(&Seen::data(1, "", true)));
}

#[test]
fn what_was_read_before_a_window_shrank_is_announced_when_it_has() {
    let mut peer = early();
    peer.reads = true;
    peer.send(data(1, [7; 5000]));
    peer.frames();
    // To the peer the window is 4000 octets below nothing.
    peer.send(settings_ack());
    assert_eq!(peer.frames(), [window_update(1, 5000)]);
}

#[test]
fn a_grant_fits_into_31_bits_even_where_the_window_is_negative() {
    let mut peer = early();
    peer.send(data(1, [7; 16_384])).send(settings_ack());
    peer.frames();
    peer.engine.grant(peer.key(1), usize::MAX);
    assert_eq!(peer.frames(), [window_update(1, (1 << 31) - 1)]);
}

#[test]
fn a_larger_window_holds_when_the_peer_has_acknowledged_it() {
    let config = Config { initial_stream_window_bytes: 1 << 20, ..Config::default() };
    let mut peer = Peer::fresh(Role::Server, config);
    peer.send_octets(PREFACE).send(settings(&[])).send(request(1, "/s/m"));
    assert_eq!(peer.engine.stream_window_available(peer.key(1)), 65_535);
    peer.send(settings_ack());
    assert_eq!(peer.engine.stream_window_available(peer.key(1)), 1 << 20);
}

#[test]
fn a_configured_window_over_31_bits_is_cut_to_them() {
    let most = (1 << 31) - 1;
    let config = Config {
        initial_stream_window_bytes: u32::MAX,
        max_stream_window_bytes: u32::MAX,
        connection_window_bytes: u32::MAX,
        ..Config::default()
    };
    let mut peer = Peer::fresh(Role::Client, config);
    let frames = peer.frames();
    assert!(frames[0].settings().contains(&(setting::INITIAL_WINDOW_SIZE, most)));
    assert_eq!(frames[1], window_update(0, most - 65_535));
    let mut peer = peer.shake_hands(&[]);
    let stream = peer.open();
    assert_eq!(peer.engine.stream_window_available(stream), most as usize);
}
