//! How long a server keeps a connection (gRFC A9), and how it finds out that a client is gone (A8), in virtual time.

mod common;

use common::server::{STREAM, Server, UNARY};
use oxgrpc_core::{
    Engine, Farewell, KeepaliveOptions, LifetimeOptions, Metadata, ServerEvent, Status,
};
use oxgrpc_testkit::frame::*;
use std::time::Duration;

const LAST: u32 = (1 << 31) - 1;
const SECOND: u64 = 1_000;

/// A connection that has just begun.
fn server(random: f64, change: impl FnOnce(&mut LifetimeOptions)) -> Server {
    let mut server = Server::raw(|options| change(&mut options.lifetime), false);
    server.engine.begin(server.clock.now(), random);
    server.greeted()
}

fn idle(seconds: u64) -> Server {
    server(0.5, |lifetime| lifetime.max_idle = Some(Duration::from_secs(seconds)))
}

fn aged(seconds: u64, grace: Option<u64>) -> Server {
    server(0.5, |lifetime| {
        lifetime.max_age = Some(Duration::from_secs(seconds));
        lifetime.max_age_grace = grace.map(Duration::from_secs);
    })
}

/// Lets time pass second by second; returns how many went by before something was written or said.
fn quiet_for(server: &mut Server, seconds: u64) -> u64 {
    for passed in 0..seconds {
        if server.engine.http().wants_write() {
            return passed;
        }
        server.advance(SECOND);
    }
    seconds
}

/// The end has been announced; the client confirms that it has heard.
#[track_caller]
fn assert_announced(server: &mut Server) {
    let frames = server.frames();
    assert_eq!(frames[0], go_away(LAST, 0, ""));
    let [asked] = &frames[1..] else { panic!("{frames:?} is no GOAWAY and a PING") };
    assert!(!server.engine.http().is_shut_down());
    server.send(Frame { flags: flag::ACK, ..asked.clone() });
    assert_eq!(server.frames().last().map(|frame| frame.kind), Some(kind::GOAWAY));
    assert!(server.engine.http().is_shut_down());
}

#[test]
fn a_client_that_does_not_begin_is_not_waited_for() {
    let mut server = Server::raw(|_| {}, false);
    server.engine.begin(server.clock.now(), 0.5);
    server.send_octets(&PREFACE[..7]);
    server.advance(120 * SECOND - 1);
    assert_eq!(server.events(), []);
    server.advance(1);
    assert_eq!(server.events(), [ServerEvent::Over(Farewell::NeverBegan)]);
    assert_eq!(server.engine.next_deadline(), None);
}

#[test]
fn how_long_a_client_is_waited_for_can_be_chosen() {
    let timeout = Duration::from_secs(3);
    let mut server = Server::raw(|options| options.lifetime.handshake_timeout = timeout, false);
    server.engine.begin(server.clock.now(), 0.5);
    server.advance(3 * SECOND);
    assert_eq!(server.events(), [ServerEvent::Over(Farewell::NeverBegan)]);
}

#[test]
fn a_client_that_has_begun_is_kept() {
    let mut server = server(0.5, |_| {});
    assert_eq!(server.engine.next_deadline(), None);
    assert_eq!(quiet_for(&mut server, 100_000), 100_000);
    assert_eq!(server.events(), []);
}

#[test]
fn a_connection_without_calls_goes() {
    let mut server = idle(30);
    assert_eq!(quiet_for(&mut server, 100), 30);
    assert_announced(&mut server);
    assert_eq!(server.engine.calls(), 0);
}

#[test]
fn a_connection_with_a_call_stays_and_goes_after_it() {
    let mut server = idle(30);
    server.advance(29 * SECOND);
    let call = server.streaming(1);
    server.frames();
    assert_eq!(quiet_for(&mut server, 1_000), 1_000);
    server.send(data(1, "").end_stream());
    server.engine.finish(call, &Status::OK, &Metadata::new());
    server.engine.rest(server.clock.now());
    server.frames();
    assert_eq!(quiet_for(&mut server, 100), 30);
    assert_announced(&mut server);
}

#[test]
fn the_clock_of_idleness_begins_anew_with_each_call() {
    let mut server = idle(30);
    for stream in (1..41).step_by(2) {
        server.advance(25 * SECOND);
        server.streaming(stream);
        server.send(reset(stream, 8));
        server.events();
        server.frames();
    }
    assert_eq!(quiet_for(&mut server, 100), 30);
}

#[test]
fn a_call_of_which_nobody_said_that_it_is_over_is_found_to_be() {
    // What is queued goes out while no time is told.
    let mut server = idle(30);
    let call = server.streaming(1);
    server.send(data(1, "").end_stream());
    server.engine.finish(call, &Status::OK, &Metadata::new());
    server.frames();
    let quiet = quiet_for(&mut server, 100);
    assert!((30..=60).contains(&quiet), "{quiet}");
}

#[test]
fn an_old_connection_is_let_go_gently() {
    let mut server = aged(60, None);
    server.streaming(1);
    server.frames();
    assert_eq!(quiet_for(&mut server, 100), 60);
    // What crossed the announcement is served.
    server.send(request(3, STREAM));
    assert!(matches!(server.events()[..], [ServerEvent::Call(_)]));
    let asked = server.frames().pop().expect("a PING");
    server.send(Frame { flags: flag::ACK, ..asked });
    assert_eq!(server.frames(), [go_away(3, 0, "")]);
    // And nothing ends the calls that are left.
    assert_eq!(quiet_for(&mut server, 10_000), 10_000);
    assert_eq!(server.events(), []);
    assert_eq!(server.engine.calls(), 2);
}

#[test]
fn calls_of_an_old_connection_have_a_while_left() {
    let mut server = aged(60, Some(10));
    server.streaming(1);
    server.advance(60 * SECOND);
    server.frames();
    server.advance(10 * SECOND - 1);
    assert_eq!(server.events(), []);
    server.advance(1);
    assert_eq!(server.events(), [ServerEvent::Over(Farewell::Outlived)]);
    assert_eq!(server.engine.next_deadline(), None);
}

#[test]
fn a_client_that_does_not_confirm_is_refused_all_the_same() {
    let mut server = aged(60, None);
    server.advance(60 * SECOND);
    server.frames();
    server.advance(20 * SECOND);
    assert_eq!(server.frames(), [go_away(0, 0, "")]);
    server.send(request(1, UNARY)).send(data(1, "x").end_stream());
    assert_eq!(server.events(), []);
}

#[test]
fn ages_differ_by_a_tenth() {
    for (random, seconds) in [(0.0, 90), (0.5, 100), (1.0, 110)] {
        let age = Duration::from_secs(100);
        let mut server = server(random, |lifetime| lifetime.max_age = Some(age));
        assert_eq!(quiet_for(&mut server, 1_000), seconds);
    }
}

#[test]
fn a_client_that_has_vanished_is_noticed() {
    let keepalive = KeepaliveOptions {
        time: Duration::from_secs(7_200),
        timeout: Duration::from_secs(20),
        permit_without_calls: false,
        max_pings_without_data: 2,
    };
    let mut server = Server::with(|options| options.keepalive = Some(keepalive));
    server.streaming(1);
    server.frames();
    assert_eq!(quiet_for(&mut server, 10_000), 7_200);
    let frames = server.frames();
    assert_eq!((frames.len(), frames[0].kind), (1, kind::PING));
    server.send(Frame { flags: flag::ACK, ..frames[0].clone() });
    assert_eq!(quiet_for(&mut server, 10_000), 7_200);
    server.frames();
    server.advance(20 * SECOND);
    assert_eq!(server.events(), []);
    server.advance(SECOND);
    assert_eq!(server.events(), [ServerEvent::Over(Farewell::Lost)]);
}
