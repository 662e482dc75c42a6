//! What we may send: the peer's windows, for each stream and for the connection (RFC 9113 §5.2, §6.9).

mod common;

use common::{Peer, REQUEST, Seen};
use oxgrpc_http2::{Config, ErrorCode, Role, Sent};
use oxgrpc_testkit::frame::*;

const FLOW_CONTROL_ERROR: ErrorCode = ErrorCode::FLOW_CONTROL_ERROR;
const WINDOW: usize = 65_535;
const MAX: u32 = (1 << 31) - 1;

/// A client whose peer gives each stream `initial` octets, and the connection as much as ever matters here.
fn client(initial: u32) -> Peer {
    let mut peer = Peer::fresh(Role::Client, Config::default())
        .shake_hands(&[(setting::INITIAL_WINDOW_SIZE, initial)]);
    peer.send(window_update(0, 1 << 30));
    peer
}

/// The streams of the DATA frames that come out, each with its length.
fn sent(peer: &mut Peer) -> Vec<(u32, usize)> {
    let frames = peer.frames_of(kind::DATA);
    frames.iter().map(|frame| (frame.stream, frame.payload.len())).collect()
}

/// Octets that come out.
fn octets(peer: &mut Peer) -> usize {
    sent(peer).iter().map(|(_, len)| len).sum()
}

#[test]
fn a_stream_gets_no_more_than_its_window() {
    let mut peer = client(100);
    peer.open();
    assert_eq!(peer.data(1, &[7; 250], true), Sent::Queued);
    assert_eq!((sent(&mut peer), peer.engine.queued_bytes()), (vec![(1, 100)], 150));
    peer.send(window_update(1, 100));
    assert_eq!((sent(&mut peer), peer.engine.queued_bytes()), (vec![(1, 100)], 50));
    assert_eq!(peer.engine.next_sent(), None);
    assert!(peer.engine.is_queued(peer.key(1)));
    peer.send(window_update(1, 100));
    assert_eq!(peer.frames(), [data(1, [7; 50]).end_stream()]);
    assert!(!peer.engine.is_queued(peer.key(1)));
    assert_eq!(peer.engine.next_sent(), Some((peer.key(1), 1)));
    assert_eq!((peer.engine.next_sent(), peer.engine.queued_bytes()), (None, 0));
}

#[test]
fn all_streams_together_get_no_more_than_the_connections_window() {
    let mut peer = Peer::client();
    peer.open();
    peer.open();
    assert_eq!(peer.data(1, &[7; 40_000], false), Sent::Written);
    assert_eq!(peer.data(3, &[7; 40_000], false), Sent::Queued);
    assert_eq!(octets(&mut peer), WINDOW);
    // A stream's window does not help.
    peer.send(window_update(3, 1000));
    assert_eq!(octets(&mut peer), 0);
    peer.send(window_update(0, 1000));
    assert_eq!(sent(&mut peer), [(3, 1000)]);
}

#[test]
fn what_is_empty_needs_no_window() {
    let mut peer = client(0);
    peer.open();
    assert_eq!(peer.data(1, b"", true), Sent::Written);
    assert_eq!(peer.frames(), [data(1, "").end_stream()]);
    peer.open();
    assert_eq!(peer.trailers(3, &[("a", "b")]), Sent::Written);
    assert_eq!(peer.frames_of(kind::HEADERS).len(), 1);
}

#[test]
fn trailers_wait_behind_content() {
    let mut peer = client(10);
    peer.open();
    peer.data(1, &[7; 15], false);
    assert_eq!(peer.trailers(1, &[("a", "b")]), Sent::Queued);
    assert_eq!(peer.frames(), [data(1, [7; 10])]);
    peer.send(window_update(1, 10));
    let frames = peer.frames();
    assert_eq!(frames[0], data(1, [7; 5]));
    assert_eq!((frames[1].kind, frames[1].flags), (kind::HEADERS, 5));
    assert_eq!(frames.len(), 2);
}

#[test]
fn an_end_may_come_after_content_that_waits() {
    let mut peer = client(10);
    peer.open();
    peer.data(1, &[7; 15], false);
    assert_eq!(peer.data(1, b"", true), Sent::Queued);
    peer.send(window_update(1, 10));
    assert_eq!(peer.frames(), [data(1, [7; 10]), data(1, [7; 5]).end_stream()]);
}

#[test]
fn a_stalled_stream_does_not_stop_others() {
    let mut peer = client(100);
    for _ in 0..3 {
        peer.open();
    }
    assert_eq!(peer.data(1, &[7; 1000], false), Sent::Queued);
    assert_eq!(peer.data(3, &[7; 100], false), Sent::Written);
    assert_eq!(peer.data(5, &[7; 100], false), Sent::Written);
    assert_eq!(sent(&mut peer), [(1, 100), (3, 100), (5, 100)]);
}

#[test]
fn all_streams_progress_when_the_connections_window_is_scarce() {
    let mut peer = Peer::client();
    peer.open();
    peer.data(1, &[7; WINDOW], false);
    assert_eq!(octets(&mut peer), WINDOW);
    for _ in 0..10 {
        let id = peer.open().id();
        peer.data(id, &[7; 5000], false);
    }
    let mut progress = [0; 10];
    for _ in 0..10 {
        peer.send(window_update(0, 1000));
        for (stream, len) in sent(&mut peer) {
            progress[(stream as usize - 3) / 2] += len;
        }
    }
    assert_eq!(progress, [1000; 10]);
}

#[test]
fn an_increment_of_zero_is_an_error() {
    Peer::client().send(window_update(0, 0)).expect_go_away(ErrorCode::PROTOCOL_ERROR);
    let mut peer = Peer::server();
    peer.request(1);
    peer.send(window_update(1, 0)).expect_failed(1, ErrorCode::PROTOCOL_ERROR);
}

#[test]
fn the_increments_reserved_bit_is_ignored() {
    let mut peer = client(0);
    peer.open();
    peer.data(1, &[7; 10], false);
    peer.send(window_update(1, 0x8000_0004));
    assert_eq!(sent(&mut peer), [(1, 4)]);
    peer.send(window_update(1, 0x8000_0000));
    peer.expect_failed(1, ErrorCode::PROTOCOL_ERROR);
}

#[test]
fn a_window_may_be_as_large_as_a_number_of_31_bits_but_not_larger() {
    for mut peer in Peer::both() {
        peer.send(window_update(0, MAX - WINDOW as u32)).expect_alive();
        peer.send(window_update(0, 1)).expect_go_away(FLOW_CONTROL_ERROR);
    }
    let mut peer = Peer::server();
    peer.request(1);
    peer.send(window_update(1, MAX - WINDOW as u32)).expect_alive();
    peer.send(window_update(1, 1)).expect_failed(1, FLOW_CONTROL_ERROR);
}

#[test]
fn settings_must_not_lift_a_streams_window_over_the_top() {
    let mut peer = Peer::server();
    peer.request(1);
    peer.send(window_update(1, 1000));
    peer.send(settings(&[(setting::INITIAL_WINDOW_SIZE, MAX - 1000)])).expect_alive();
    peer.send(settings(&[(setting::INITIAL_WINDOW_SIZE, MAX - 999)]));
    peer.expect_go_away(FLOW_CONTROL_ERROR);
}

#[test]
fn settings_make_a_window_negative_and_it_must_be_earned_back() {
    // The example of §6.9.2, with one octet more at the end.
    let mut peer = client(65_535);
    peer.open();
    peer.data(1, &[7; 60_000], false);
    assert_eq!(octets(&mut peer), 60_000);
    peer.send(settings(&[(setting::INITIAL_WINDOW_SIZE, 16_384)]));
    peer.data(1, &[7; 10], false);
    assert_eq!(octets(&mut peer), 0);
    peer.send(window_update(1, 60_000 - 16_384));
    assert_eq!(octets(&mut peer), 0);
    peer.send(window_update(1, 1));
    assert_eq!(octets(&mut peer), 1);
}

#[test]
fn settings_open_the_windows_of_stalled_streams() {
    let mut peer = client(0);
    for _ in 0..3 {
        let id = peer.open().id();
        assert_eq!(peer.data(id, &[7; 50], false), Sent::Queued);
    }
    assert_eq!(octets(&mut peer), 0);
    peer.send(settings(&[(setting::INITIAL_WINDOW_SIZE, 30)]));
    assert_eq!(sent(&mut peer), [(1, 30), (3, 30), (5, 30)]);
    peer.send(settings(&[(setting::INITIAL_WINDOW_SIZE, 60)]));
    assert_eq!(sent(&mut peer), [(1, 20), (3, 20), (5, 20)]);
}

#[test]
fn settings_leave_the_connections_window_alone() {
    let mut peer = Peer::client();
    peer.send(settings(&[(setting::INITIAL_WINDOW_SIZE, MAX)]));
    peer.open();
    assert_eq!(peer.data(1, &[7; 70_000], false), Sent::Queued);
    assert_eq!(octets(&mut peer), WINDOW);
}

#[test]
fn windows_may_open_before_there_is_anything_to_send() {
    let mut peer = client(0);
    peer.open_with(&REQUEST, false);
    peer.send(window_update(1, 10));
    assert_eq!(peer.data(1, &[7; 10], true), Sent::Written);
}

#[test]
fn content_that_waits_is_dropped_with_its_stream() {
    let mut peer = client(10);
    peer.open();
    peer.open();
    peer.data(1, &[7; 100], false);
    peer.data(3, &[7; 100], false);
    peer.frames();
    peer.send(reset(1, ErrorCode::CANCEL.0));
    assert_eq!(peer.events(), [Seen::Reset { stream: 1, code: ErrorCode::CANCEL }]);
    assert_eq!(peer.engine.queued_bytes(), 90);
    peer.engine.reset(peer.key(3), ErrorCode::CANCEL);
    assert_eq!(peer.engine.queued_bytes(), 0);
    peer.send(window_update(1, 100)).send(window_update(3, 100));
    assert_eq!(peer.frames(), [reset(3, ErrorCode::CANCEL.0)]);
}

#[test]
fn a_dropped_streams_share_goes_to_the_others() {
    let mut peer = Peer::client();
    for _ in 0..2 {
        let id = peer.open().id();
        peer.data(id, &[7; 60_000], false);
    }
    peer.frames();
    peer.engine.reset(peer.key(1), ErrorCode::CANCEL);
    peer.send(window_update(0, 1000));
    assert_eq!(sent(&mut peer), [(3, 1000)]);
}
