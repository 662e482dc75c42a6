//! What the peer may send: our windows, how they close and open again (RFC 9113 §5.2, §6.9).

mod common;

use common::{Peer, Seen};
use oxgrpc_http2::{Config, ErrorCode};
use oxgrpc_testkit::frame::*;

const FLOW_CONTROL_ERROR: ErrorCode = ErrorCode::FLOW_CONTROL_ERROR;

/// Windows of 1000 octets for a stream and of 100,000 for the connection, that stay so.
fn small() -> Config {
    Config {
        initial_stream_window_bytes: 1000,
        max_stream_window_bytes: 1000,
        connection_window_bytes: 100_000,
        ..Config::default()
    }
}

/// A server with an open stream whose reader does not read by itself.
fn unread(config: Config) -> Peer {
    let mut peer = Peer::server_with(config);
    peer.reads = false;
    peer.request(1);
    peer
}

fn release(peer: &mut Peer, id: u32, octets: usize) -> Vec<Frame> {
    peer.engine.release(peer.key(id), octets);
    peer.frames()
}

#[test]
fn a_stream_may_be_filled_but_not_overrun() {
    let mut peer = unread(small());
    peer.send(data(1, [7; 1000])).expect_alive();
    assert_eq!(peer.engine.stream_window_available(peer.key(1)), 0);
    peer.send(data(1, "")).expect_alive();
    peer.send(data(1, [7; 1])).expect_failed(1, FLOW_CONTROL_ERROR);
}

#[test]
fn the_connection_may_be_filled_but_not_overrun() {
    let mut peer = unread(small());
    for id in (3..=199).step_by(2) {
        peer.request(id);
    }
    for id in (1..=199).step_by(2) {
        peer.send(data(id, [7; 1000]));
    }
    peer.expect_alive();
    assert_eq!(peer.engine.connection_window_available(), 0);
    assert_eq!(peer.engine.held_bytes(), 100_000);
    peer.request(201);
    peer.send(data(201, [7; 1])).expect_go_away(FLOW_CONTROL_ERROR);
}

#[test]
fn a_window_is_announced_again_when_half_of_it_is_read() {
    let mut peer = unread(small());
    peer.send(data(1, [7; 800]));
    assert_eq!(release(&mut peer, 1, 499), []);
    assert_eq!(release(&mut peer, 1, 1), [window_update(1, 500)]);
    assert_eq!(peer.engine.stream_window_available(peer.key(1)), 700);
    assert_eq!(release(&mut peer, 1, 300), []);
    assert_eq!(peer.engine.held_bytes(), 0);
}

#[test]
fn the_connections_window_is_announced_by_the_same_rule() {
    let mut peer = unread(Config { connection_window_bytes: 70_000, ..small() });
    for id in (3..=139).step_by(2) {
        peer.request(id);
    }
    for id in (1..=139).step_by(2) {
        peer.send(data(id, [7; 1000]).end_stream());
    }
    for id in (1..69).step_by(2) {
        assert_eq!(release(&mut peer, id, 1000), []);
    }
    assert_eq!(release(&mut peer, 69, 1000), [window_update(0, 35_000)]);
}

#[test]
fn padding_counts_and_is_given_back_at_once() {
    let mut peer = unread(small());
    peer.send(data(1, [7; 400]).padded(199));
    assert_eq!(peer.engine.stream_window_available(peer.key(1)), 400);
    assert_eq!(peer.engine.held_bytes(), 400);
    // 600 octets came; with 100 of content read, 300 are to be announced; with 300, 500.
    assert_eq!(release(&mut peer, 1, 100), []);
    assert_eq!(release(&mut peer, 1, 200), [window_update(1, 500)]);
}

#[test]
fn padding_alone_keeps_the_windows_moving() {
    let mut peer = unread(small());
    for _ in 0..1000 {
        peer.send(data(1, "").padded(255));
    }
    peer.expect_alive();
    assert_eq!(peer.engine.held_bytes(), 0);
}

#[test]
fn padding_can_overrun_a_window() {
    let mut peer = unread(small());
    peer.send(data(1, [7; 900]).padded(100)).expect_failed(1, FLOW_CONTROL_ERROR);
}

#[test]
fn content_for_streams_that_are_gone_does_not_use_up_the_connection() {
    let mut peer = unread(small());
    peer.request(3);
    peer.engine.reset(peer.key(1), ErrorCode::CANCEL);
    peer.engine.go_away(ErrorCode::NO_ERROR, "");
    for _ in 0..100 {
        peer.send(data(1, [7; 16_000])); // reset
        peer.send(data(5, [7; 16_000])); // after GOAWAY
    }
    let given: u32 = peer.frames_of(kind::WINDOW_UPDATE).iter().map(|f| f.u32_at(0)).sum();
    assert!(given > 3_100_000, "{given}");
    assert_eq!(peer.engine.held_bytes(), 0);
    assert!(peer.engine.connection_window_available() > 50_000);
    peer.send(data(3, "still here"));
    assert_eq!(peer.events(), [Seen::data(3, "still here", false)]);
}

#[test]
fn content_that_breaks_a_rule_does_not_use_up_the_connection() {
    let mut peer = unread(small());
    for id in (3..2003).step_by(2) {
        peer.request(id);
        peer.send(data(id, [7; 2000])); // over the stream's window
    }
    assert_eq!(peer.engine.violation(), None);
    assert_eq!(peer.engine.held_bytes(), 0);
}

#[test]
fn content_left_unread_is_released_after_the_stream_has_ended() {
    let mut peer = unread(small());
    peer.send(data(1, [7; 1000]).end_stream());
    peer.engine.reset(peer.key(1), ErrorCode::CANCEL);
    assert_eq!(peer.engine.held_bytes(), 1000);
    release(&mut peer, 1, 1000);
    assert_eq!(peer.engine.held_bytes(), 0);
}

#[test]
fn a_stream_that_has_ended_needs_no_window() {
    let mut peer = unread(small());
    peer.send(data(1, [7; 1000]).end_stream());
    assert_eq!(release(&mut peer, 1, 1000), []);
    peer.engine.grant(peer.key(1), 5000);
    assert_eq!(peer.frames(), []);
}

#[test]
fn a_reader_that_keeps_up_gets_a_larger_window() {
    let config = Config { max_stream_window_bytes: 4000, ..small() };
    let mut peer = unread(config);
    let mut seen = vec![];
    for _ in 0..4 {
        let window = peer.engine.stream_window_available(peer.key(1));
        seen.push(window);
        peer.send(data(1, vec![7; window]));
        release(&mut peer, 1, window);
    }
    assert_eq!(seen, [1000, 2000, 4000, 4000]);
}

#[test]
fn streams_grow_by_no_more_than_half_of_the_connections_window() {
    let config =
        Config { initial_stream_window_bytes: 10_000, max_stream_window_bytes: 1 << 20, ..small() };
    let mut peer = unread(config);
    let ids = [1, 3, 5, 7, 9];
    let grow = |peer: &mut Peer, id| {
        let window = peer.engine.stream_window_available(peer.key(id));
        for piece in vec![7; window].chunks(16_384) {
            peer.send(data(id, piece));
        }
        release(peer, id, window);
        peer.engine.stream_window_available(peer.key(id)) - 10_000
    };
    for id in &ids[1..] {
        peer.request(*id);
    }
    for _ in 0..5 {
        let grown: usize = ids.iter().map(|id| grow(&mut peer, *id)).sum();
        assert!(grown <= 50_000, "{grown}");
    }
    // A stream that ends gives its growth back.
    assert_eq!(grow(&mut peer, 9), 10_000);
    for id in &ids[..4] {
        peer.send(reset(*id, 8));
    }
    assert_eq!(grow(&mut peer, 9), 30_000);
}

#[test]
fn a_grant_lets_a_message_through_that_is_longer_than_the_window() {
    let mut peer = unread(small());
    peer.send(data(1, [7; 800]));
    peer.engine.grant(peer.key(1), 5000);
    assert_eq!(peer.frames(), [window_update(1, 4800)]);
    peer.send(data(1, [7; 5000])).expect_alive();
    // The window is back at its size when all of it is read.
    release(&mut peer, 1, 5800);
    assert_eq!(peer.engine.stream_window_available(peer.key(1)), 1000);
    // What is there already need not be granted.
    peer.engine.grant(peer.key(1), 1000);
    assert_eq!(peer.frames(), []);
}

#[test]
fn a_grant_may_be_for_the_connection() {
    let mut peer = unread(small());
    peer.engine.grant_connection(100_000);
    assert_eq!(peer.frames(), []);
    peer.engine.grant_connection(150_000);
    assert_eq!(peer.frames(), [window_update(0, 50_000)]);
    peer.engine.grant_connection(usize::MAX);
    assert_eq!(peer.frames(), [window_update(0, (1 << 31) - 1 - 150_000)]);
}
