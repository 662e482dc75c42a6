//! How often a client may ask whether its server lives (gRFC A8, "Server Enforcement"), in virtual time.

mod common;

use common::server::Server;
use oxgrpc_core::{Engine, Metadata, PingRules, ServerEvent, Status};
use oxgrpc_testkit::frame::*;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

fn server(change: impl FnOnce(&mut PingRules)) -> Server {
    Server::with(|options| {
        options.pings = PingRules::default();
        change(&mut options.pings);
    })
}

/// A PING after so long: whether it was answered, and that is all.
fn is_answered(server: &mut Server, after: u64) -> bool {
    server.advance(after);
    server.frames();
    server.send(ping(*b"8 octets"));
    server.engine.http().violation().is_none() && server.frames() == [pong(*b"8 octets")]
}

#[track_caller]
fn assert_told_to_be_calm(server: &mut Server, calls: &[ServerEvent]) {
    let frames = server.frames();
    let last = frames.last().expect("a GOAWAY");
    assert_eq!((last.kind, last.debug_data()), (kind::GOAWAY, "too_many_pings".to_string()));
    assert_eq!(last.error_code(), 0xb, "ENHANCE_YOUR_CALM");
    // The driver closes the connection then.
    server.engine.close();
    assert_eq!(server.events(), calls);
}

#[test]
fn two_early_pings_are_forgiven_and_the_third_is_not() {
    let mut server = server(|_| {});
    let call = server.streaming(1);
    for _ in 0..3 {
        assert!(is_answered(&mut server, MINUTE));
    }
    server.advance(MINUTE);
    server.frames();
    server.send(ping(*b"8 octets"));
    assert_told_to_be_calm(&mut server, &[ServerEvent::Cancelled(call)]);
}

#[test]
fn pings_that_keep_their_distance_are_answered_for_ever() {
    let mut server = server(|_| {});
    server.streaming(1);
    for _ in 0..100 {
        assert!(is_answered(&mut server, 5 * MINUTE));
    }
}

#[test]
fn several_pings_at_once_are_counted_each() {
    let mut server = server(|_| {});
    server.streaming(1);
    server.frames();
    let pings: Vec<u8> = [ping([0; 8]), ping([1; 8]), ping([2; 8]), ping([3; 8])]
        .iter()
        .flat_map(Frame::encode)
        .collect();
    server.send_octets(&pings);
    assert!(server.engine.http().violation().is_some());
}

#[test]
fn strikes_are_forgotten_when_something_was_sent() {
    let mut server = server(|_| {});
    let call = server.streaming(1);
    for _ in 0..50 {
        for _ in 0..3 {
            assert!(is_answered(&mut server, SECOND));
        }
        server.engine.send_message(call, &b"content"[..], false).expect("it is open");
    }
    // The status is sent, too.
    server.engine.finish(call, &Status::OK, &Metadata::new());
    server.send(data(1, "").end_stream());
    server.frames();
    assert!(is_answered(&mut server, SECOND));
}

#[test]
fn without_a_call_pings_are_two_hours_apart() {
    let mut server = server(|_| {});
    for _ in 0..3 {
        assert!(is_answered(&mut server, HOUR));
    }
    server.advance(HOUR);
    server.frames();
    server.send(ping(*b"8 octets"));
    assert_told_to_be_calm(&mut server, &[]);
}

#[test]
fn without_a_call_the_same_distance_may_be_permitted() {
    let mut server = server(|pings| pings.permit_without_calls = true);
    for _ in 0..20 {
        assert!(is_answered(&mut server, 5 * MINUTE));
    }
}

#[test]
fn a_call_that_has_ended_permits_nothing() {
    let mut server = server(|_| {});
    let call = server.streaming(1);
    server.engine.finish(call, &Status::OK, &Metadata::new());
    assert_eq!(server.engine.calls(), 0);
    let answered = (0..4).filter(|_| is_answered(&mut server, 10 * MINUTE)).count();
    assert_eq!(answered, 3);
}

#[test]
fn the_distance_and_the_strikes_can_be_chosen() {
    let mut server = server(|pings| {
        pings.min_interval = std::time::Duration::from_secs(10);
        pings.max_strikes = 5;
    });
    server.streaming(1);
    for _ in 0..20 {
        assert!(is_answered(&mut server, 10 * SECOND));
    }
    let answered = (0..10).filter(|_| is_answered(&mut server, SECOND)).count();
    assert_eq!(answered, 5);
}

#[test]
fn no_number_of_strikes_is_any_number() {
    let mut server = server(|pings| pings.max_strikes = 0);
    for _ in 0..100 {
        assert!(is_answered(&mut server, SECOND));
    }
}

#[test]
fn answers_to_pings_are_no_pings() {
    let mut server = server(|_| {});
    for _ in 0..10 {
        server.send(pong(*b"8 octets"));
    }
    assert_eq!(server.engine.http().violation(), None);
}
