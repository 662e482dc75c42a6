//! RST_STREAM (RFC 9113 §6.4), and storms of streams that end before their time (§10.5; CVE-2023-44487,
//! CVE-2025-8671).

mod common;

use common::{Peer, REQUEST, Seen};
use oxgrpc_http2::{Config, ErrorCode};
use oxgrpc_testkit::frame::*;

const CANCEL: ErrorCode = ErrorCode::CANCEL;
const CALM: ErrorCode = ErrorCode::ENHANCE_YOUR_CALM;
/// Streams that may end before their time at once, and how many more each second.
const BURST: u32 = 8192;
const PER_SECOND: u32 = 2048;

#[test]
fn the_peers_reset_is_reported_with_its_code() {
    for code in [ErrorCode::NO_ERROR, CANCEL, ErrorCode::REFUSED_STREAM, ErrorCode(0xdead_beef)] {
        let mut server = Peer::server();
        server.request(1);
        server.send(reset(1, code.0));
        assert_eq!(server.events(), [Seen::Reset { stream: 1, code }]);
        let mut client = Peer::client();
        client.open();
        client.send(reset(1, code.0));
        assert_eq!(client.events(), [Seen::Reset { stream: 1, code }]);
        assert_eq!((server.engine.open_streams(), client.engine.open_streams()), (0, 0));
        // Resets are not answered.
        assert_eq!(server.frames(), []);
    }
}

#[test]
fn our_reset_is_sent_once() {
    let mut peer = Peer::server();
    let stream = peer.request(1);
    peer.engine.reset(stream, ErrorCode::INTERNAL_ERROR);
    peer.engine.reset(stream, CANCEL);
    peer.expect_reset(1, ErrorCode::INTERNAL_ERROR);
    assert_eq!((peer.events(), peer.engine.open_streams()), (vec![], 0));
}

#[test]
fn our_reset_does_not_follow_the_peers() {
    let mut peer = Peer::server();
    let stream = peer.request(1);
    peer.send(reset(1, CANCEL.0));
    peer.engine.reset(stream, CANCEL);
    assert_eq!(peer.frames(), []);
}

#[test]
fn a_stream_that_was_answered_early_may_be_reset() {
    // §8.1: a server that needs no more of the request.
    let mut peer = Peer::server();
    let stream = peer.request(1);
    peer.respond(1);
    peer.trailers(1, &[("grpc-status", "0")]);
    peer.engine.reset(stream, ErrorCode::NO_ERROR);
    let kinds: Vec<_> = peer.frames().iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, [kind::HEADERS, kind::RST_STREAM]);
}

#[test]
fn a_key_does_not_come_to_mean_another_stream() {
    let mut peer = Peer::server();
    let old = peer.request(1);
    peer.send(reset(1, CANCEL.0));
    peer.request(3);
    peer.engine.reset(old, CANCEL);
    peer.engine.set_tag(old, 77);
    assert_eq!(peer.engine.open_streams(), 1);
    peer.send(reset(3, CANCEL.0));
    assert_eq!(peer.events(), [Seen::Reset { stream: 3, code: CANCEL }]);
    assert_eq!(peer.frames(), []);
}

/// How many of `count` turns pass before the connection ends.
fn turns(peer: &mut Peer, count: u32, mut turn: impl FnMut(&mut Peer, u32)) -> u32 {
    for i in 0..count {
        turn(peer, 2 * i + 1);
        if peer.engine.violation().is_some() {
            return i;
        }
        peer.events();
        peer.frames();
    }
    count
}

type Turn = fn(&mut Peer, u32);

#[test]
fn a_storm_of_resets_ends_the_connection() {
    let storms: [(&str, Turn); 5] = [
        ("the client cancels", |peer, id| {
            peer.send(request(id, "/s/m")).send(reset(id, CANCEL.0));
        }),
        ("the client makes us reset", |peer, id| {
            peer.send(request(id, "/s/m")).send(window_update(id, 0));
        }),
        ("the client goes on after its end", |peer, id| {
            peer.send(request(id, "/s/m").end_stream()).send(data(id, "x"));
        }),
        ("the requests are malformed", |peer, id| {
            peer.send(headers(id, &REQUEST[1..]));
        }),
        ("there are more than the limit allows", |peer, id| {
            if id == 1 {
                peer.request(1);
            }
            peer.send(request(id + 2, "/s/m"));
        }),
    ];
    for (name, storm) in storms {
        let config = Config { max_concurrent_streams: Some(1), ..Config::default() };
        let mut peer = Peer::server_with(config);
        assert_eq!(turns(&mut peer, BURST + 1, storm), BURST, "{name}");
        peer.expect_go_away(CALM);
    }
}

#[test]
fn tokens_return_with_time() {
    let cancel: Turn = |peer, id| {
        peer.send(request(id, "/s/m")).send(reset(id, CANCEL.0));
    };
    let mut peer = Peer::server();
    assert_eq!(turns(&mut peer, BURST, cancel), BURST);
    peer.advance(500);
    let later: Turn = |peer, id| {
        let id = id + 2 * BURST;
        peer.send(request(id, "/s/m")).send(reset(id, CANCEL.0));
    };
    assert_eq!(turns(&mut peer, BURST, later), PER_SECOND / 2);
    peer.expect_go_away(CALM);
}

#[test]
fn an_honest_rate_of_cancellations_passes_for_ever() {
    let mut peer = Peer::server();
    let passed = turns(&mut peer, 60_000, |peer, id| {
        if id % 100 == 1 {
            peer.advance(25); // 50 streams in 25 ms are 2000 a second
        }
        peer.send(request(id, "/s/m")).send(reset(id, CANCEL.0));
    });
    assert_eq!(passed, 60_000);
}

#[test]
fn streams_that_complete_pay_for_those_that_do_not() {
    let mut peer = Peer::server();
    let passed = turns(&mut peer, 3 * BURST, |peer, id| {
        if id % 4 == 1 {
            peer.send(request(id, "/s/m").end_stream());
            peer.respond(id);
            peer.trailers(id, &[("grpc-status", "0")]);
        } else {
            peer.send(request(id, "/s/m")).send(reset(id, CANCEL.0));
        }
    });
    assert_eq!(passed, 3 * BURST);
}

#[test]
fn a_server_that_resets_our_streams_is_no_storm() {
    let mut peer = Peer::client();
    let passed = turns(&mut peer, 2 * BURST, |peer, id| {
        peer.open();
        peer.send(reset(id, ErrorCode::REFUSED_STREAM.0));
    });
    assert_eq!(passed, 2 * BURST);
}

#[test]
fn resets_of_our_own_are_no_storm() {
    let mut peer = Peer::server();
    let passed = turns(&mut peer, 2 * BURST, |peer, id| {
        let stream = peer.request(id);
        peer.engine.reset(stream, ErrorCode::INTERNAL_ERROR);
    });
    assert_eq!(passed, 2 * BURST);
}
