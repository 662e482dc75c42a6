//! PING: answered at once, counted when they flood (RFC 9113 §6.7, §10.5).

mod common;

use common::{Peer, Seen};
use oxgrpc_http2::ErrorCode;
use oxgrpc_testkit::frame::*;

const CALM: ErrorCode = ErrorCode::ENHANCE_YOUR_CALM;
/// Control frames that may come at once, and how many more each second.
const BURST: u32 = 4096;
const PER_SECOND: u32 = 1024;

#[test]
fn a_ping_is_answered_with_its_octets() {
    for mut peer in Peer::both() {
        peer.send(ping(*b"12345678")).send(ping([0xff; 8]));
        assert_eq!(peer.frames(), [pong(*b"12345678"), pong([0xff; 8])]);
        assert_eq!(peer.events(), []);
    }
}

#[test]
fn our_ping_is_sent_and_its_answer_reported() {
    for mut peer in Peer::both() {
        peer.engine.ping(*b"abcdefgh");
        assert_eq!(peer.frames(), [ping(*b"abcdefgh")]);
        peer.send(pong(*b"abcdefgh"));
        assert_eq!(peer.events(), [Seen::Pong(*b"abcdefgh")]);
        assert_eq!(peer.frames(), []);
    }
}

#[test]
fn an_answer_that_was_not_asked_for_is_left_to_the_layer_above() {
    let mut peer = Peer::server();
    peer.send(pong([9; 8]));
    assert_eq!(peer.events(), [Seen::Pong([9; 8])]);
    peer.expect_alive();
}

#[test]
fn a_pings_answer_does_not_wait_behind_content() {
    let mut peer = Peer::client();
    peer.open();
    peer.data(1, &[7; 65_535], false);
    peer.data(1, &[7; 65_535], false);
    peer.frames();
    peer.send(ping([1; 8]));
    assert_eq!(peer.frames(), [pong([1; 8])]);
}

type Sender = fn(&mut Peer);

/// Frames that cost the receiver more than the sender.
const COSTLY: [(&str, Sender); 7] = [
    ("PING", |peer| {
        peer.send(ping([0; 8]));
    }),
    ("SETTINGS", |peer| {
        peer.send(settings(&[]));
    }),
    ("PRIORITY", |peer| {
        peer.send(priority(1, 0));
    }),
    ("empty DATA", |peer| {
        peer.send(data(1, ""));
    }),
    ("DATA with nothing but a pad length", |peer| {
        peer.send(data(1, "").padded(0));
    }),
    ("DATA with nothing but padding", |peer| {
        peer.send(data(1, "").padded(1));
    }),
    ("empty DATA for a stream that is gone", |peer| {
        let stream = peer.key(1);
        peer.engine.reset(stream, ErrorCode::CANCEL);
        peer.send(data(1, ""));
    }),
];

#[test]
fn a_flood_of_costly_frames_ends_the_connection() {
    for (name, send) in COSTLY {
        let mut peer = Peer::server();
        peer.request(1);
        let spent = 1; // by the first SETTINGS
        for i in spent..=BURST {
            assert_eq!(peer.engine.violation(), None, "{name} {i}");
            send(&mut peer);
            peer.frames();
        }
        assert_eq!(peer.engine.violation().map(|v| v.code()), Some(CALM), "{name}");
    }
}

#[test]
fn empty_continuations_are_a_flood_too() {
    let mut peer = Peer::server();
    peer.send(request(1, "/s/m").without(flag::END_HEADERS));
    for _ in 1..BURST {
        peer.send(continuation(1, ""));
    }
    assert_eq!(peer.engine.violation(), None);
    peer.send(continuation(1, "")).expect_go_away(CALM);
}

#[test]
fn a_client_is_protected_from_floods_too() {
    let mut peer = Peer::client();
    for _ in 0..BURST {
        peer.send(ping([0; 8]));
    }
    peer.expect_go_away(CALM);
}

#[test]
fn an_honest_rate_passes_for_ever() {
    let mut peer = Peer::server();
    for i in 0..20_000 {
        if i % 100 == 0 {
            peer.advance(100); // 1000 a second
        }
        peer.send(ping([0; 8]));
        peer.frames();
    }
    peer.expect_alive();
}

#[test]
fn patience_returns_with_time() {
    let mut peer = Peer::server();
    for _ in 1..BURST {
        peer.send(ping([0; 8]));
    }
    peer.advance(250);
    for _ in 0..PER_SECOND / 4 {
        peer.send(ping([0; 8]));
    }
    assert_eq!(peer.engine.violation(), None);
    peer.send(ping([0; 8])).expect_go_away(CALM);
}

#[test]
fn a_peer_that_does_not_read_our_answers_is_not_read_either() {
    let mut peer = Peer::server();
    let mut count = 0;
    while peer.engine.wants_read() {
        peer.advance(1).send(ping([0; 8]));
        count += 1;
        assert!(count < 100_000, "answers pile up");
    }
    assert!(peer.engine.output_len() <= 2 << 20, "{}", peer.engine.output_len());
    assert_eq!(peer.frames().len(), count);
    assert!(peer.engine.wants_read());
}
