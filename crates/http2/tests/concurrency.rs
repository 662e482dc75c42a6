//! How many streams may be open at once, in both directions (RFC 9113 §5.1.2).

mod common;

use common::{Peer, REQUEST, Seen, list};
use oxgrpc_http2::{Config, ErrorCode, HeaderList, NO_TAG, Role, Settings, UsageError};
use oxgrpc_testkit::frame::*;

const REFUSED_STREAM: ErrorCode = ErrorCode::REFUSED_STREAM;

fn server(limit: u32) -> Peer {
    Peer::server_with(Config { max_concurrent_streams: Some(limit), ..Config::default() })
}

fn client(limit: u32) -> Peer {
    Peer::fresh(Role::Client, Config::default())
        .shake_hands(&[(setting::MAX_CONCURRENT_STREAMS, limit)])
}

/// Opens a stream if there is room; `can_open` must know beforehand.
fn try_open(peer: &mut Peer) -> Result<(), UsageError> {
    let foretold = peer.engine.can_open();
    let fields = list(&REQUEST);
    let list = HeaderList { prepared: None, fields: &fields };
    let opened = peer.engine.open(list, false, NO_TAG).map(|_| ());
    assert_eq!(opened, foretold);
    opened
}

#[test]
fn a_server_announces_its_limit_and_a_client_has_none() {
    let config = Config { max_concurrent_streams: Some(100), ..Config::default() };
    for (role, announces) in [(Role::Server, true), (Role::Client, false)] {
        let mut peer = Peer::fresh(role, config.clone());
        let announced = peer.frames()[0].settings();
        assert_eq!(announced.contains(&(setting::MAX_CONCURRENT_STREAMS, 100)), announces);
    }
}

#[test]
fn a_stream_over_the_limit_is_refused_and_never_reported() {
    let mut peer = server(2);
    peer.request(1);
    peer.request(3);
    peer.send(request(5, "/s/m")).expect_reset(5, REFUSED_STREAM);
    assert_eq!((peer.events(), peer.engine.open_streams()), (vec![], 2));
}

#[test]
fn what_follows_on_a_refused_stream_is_ignored() {
    let mut peer = server(1);
    peer.request(1);
    peer.send(request(3, "/s/m")).expect_reset(3, REFUSED_STREAM);
    let rest = [data(3, "x"), window_update(3, 9), trailers(3), reset(3, ErrorCode::CANCEL.0)];
    peer.send_all(&rest).expect_ignored();
}

#[test]
fn half_closed_streams_count() {
    let mut peer = server(2);
    peer.send(request(1, "/s/m").end_stream());
    peer.request(3);
    peer.respond(3);
    peer.trailers(3, &[("grpc-status", "0")]);
    peer.frames();
    peer.send(request(5, "/s/m")).expect_reset(5, REFUSED_STREAM);
}

#[test]
fn each_way_to_end_a_stream_makes_room_for_another() {
    type End = fn(&mut Peer);
    let ends: [(&str, End); 4] = [
        ("both sides end", |peer| {
            peer.respond(1);
            peer.trailers(1, &[("grpc-status", "0")]);
            peer.send(data(1, "").end_stream());
        }),
        ("the peer resets", |peer| {
            peer.send(reset(1, ErrorCode::CANCEL.0));
        }),
        ("we reset", |peer| peer.engine.reset(peer.key(1), ErrorCode::CANCEL)),
        ("the peer breaks a rule", |peer| {
            peer.send(window_update(1, 0));
        }),
    ];
    for (name, end) in ends {
        let mut peer = server(1);
        peer.request(1);
        end(&mut peer);
        println!("{name}");
        peer.request(3);
        assert_eq!(peer.engine.open_streams(), 1);
    }
}

#[test]
fn a_limit_of_zero_refuses_all() {
    server(0).send(request(1, "/s/m")).expect_reset(1, REFUSED_STREAM);
}

#[test]
fn a_limit_that_is_lowered_later_lets_open_streams_go_on() {
    let mut peer = server(9);
    for id in [1, 3, 5] {
        peer.request(id);
    }
    peer.engine.send_settings(Settings { max_concurrent_streams: Some(1), ..Settings::default() });
    assert_eq!(peer.frames(), [settings(&[(setting::MAX_CONCURRENT_STREAMS, 1)])]);
    peer.send(settings_ack());
    peer.send(data(5, "x").end_stream());
    assert_eq!(peer.events(), [Seen::data(5, "x", true)]);
    peer.send(request(7, "/s/m")).expect_reset(7, REFUSED_STREAM);
}

#[test]
fn a_client_keeps_to_the_servers_limit() {
    let mut peer = client(2);
    assert_eq!(try_open(&mut peer), Ok(()));
    assert_eq!(try_open(&mut peer), Ok(()));
    assert_eq!(try_open(&mut peer), Err(UsageError::StreamLimit));
    assert_eq!(peer.frames().len(), 2);
}

#[test]
fn a_client_opens_again_when_a_stream_has_ended_on_both_sides() {
    let mut peer = client(1);
    peer.open_with(&REQUEST, true);
    peer.send(response(1));
    assert_eq!(try_open(&mut peer), Err(UsageError::StreamLimit));
    peer.send(trailers(1));
    assert_eq!(try_open(&mut peer), Ok(()));
}

#[test]
fn a_stream_with_content_still_to_send_counts_although_the_response_is_complete() {
    let mut peer = client(1);
    let id = peer.open().id();
    peer.data(id, &[7; 70_000], true);
    peer.send(response(1)).send(trailers(1));
    assert_eq!(try_open(&mut peer), Err(UsageError::StreamLimit));
    peer.send(window_update(0, 10_000)).send(window_update(1, 10_000));
    assert!(peer.frames().last().unwrap().flags & flag::END_STREAM != 0);
    assert_eq!(try_open(&mut peer), Ok(()));
}

#[test]
fn the_servers_limit_may_change() {
    let mut peer = client(0);
    assert_eq!(try_open(&mut peer), Err(UsageError::StreamLimit));
    peer.send(settings(&[(setting::MAX_CONCURRENT_STREAMS, 1)]));
    assert_eq!(peer.events(), [Seen::Settings]);
    assert_eq!(try_open(&mut peer), Ok(()));
    peer.send(settings(&[(setting::MAX_CONCURRENT_STREAMS, 0)]));
    assert_eq!(try_open(&mut peer), Err(UsageError::StreamLimit));
    // A setting that is left out stays as it was.
    peer.send(settings(&[]));
    assert_eq!(try_open(&mut peer), Err(UsageError::StreamLimit));
}

#[test]
fn without_a_limit_there_is_none() {
    let mut peer = Peer::client();
    for _ in 0..2000 {
        peer.open();
    }
    assert_eq!(peer.engine.open_streams(), 2000);
    let mut peer = Peer::server();
    for id in 0..2000 {
        peer.request(2 * id + 1);
    }
    assert_eq!(peer.engine.open_streams(), 2000);
}
