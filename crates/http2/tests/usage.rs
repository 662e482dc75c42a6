//! Commands that cannot be carried out: each mistake has its name, and none reaches the wire.

mod common;

use common::{Peer, REQUEST, list};
use oxgrpc_http2::{Config, Connection, ErrorCode, HeaderList, NO_TAG, Role, Settings, UsageError};
use oxgrpc_testkit::frame::*;

/// What each command on a stream answers.
fn commands(peer: &mut Peer, id: u32) -> [Result<(), UsageError>; 4] {
    let key = peer.key(id);
    let fields = list(&[(":status", "200")]);
    let section = || HeaderList { prepared: None, fields: &fields };
    [
        peer.engine.send_headers(key, section(), false),
        peer.engine.send_data(key, b"", &b"x"[..], false).map(|_| ()),
        peer.engine.send_data(key, b"", bytes::Bytes::from_static(b"x"), true).map(|_| ()),
        peer.engine.send_trailers(key, section()).map(|_| ()),
    ]
}

fn open(engine: &mut Connection) -> Result<(), UsageError> {
    let fields = list(&REQUEST);
    engine.open(HeaderList { prepared: None, fields: &fields }, false, NO_TAG).map(|_| ())
}

/// A server and a client that have each ended stream 1 on their side.
fn ended() -> [Peer; 2] {
    let mut server = Peer::server();
    server.request(1);
    server.respond(1);
    server.trailers(1, &[("grpc-status", "0")]);
    let mut client = Peer::client();
    client.open_with(&REQUEST, true);
    server.frames();
    client.frames();
    [server, client]
}

#[test]
fn nothing_can_be_sent_after_the_local_end() {
    for mut peer in ended() {
        assert_eq!(commands(&mut peer, 1), [Err(UsageError::SendClosed); 4]);
        peer.expect_ignored();
    }
}

#[test]
fn nothing_can_be_sent_behind_an_end_that_waits() {
    for with_trailers in [true, false] {
        let mut peer = Peer::client();
        peer.open();
        peer.data(1, &[7; 70_000], !with_trailers);
        if with_trailers {
            peer.trailers(1, &[("a", "b")]);
        }
        assert_eq!(commands(&mut peer, 1), [Err(UsageError::SendClosed); 4]);
    }
}

#[test]
fn headers_cannot_overtake_content_that_waits() {
    let mut peer = Peer::server();
    peer.request(1);
    peer.respond(1);
    peer.data(1, &[7; 70_000], false);
    let fields = list(&[("late", "")]);
    let key = peer.key(1);
    let sent = peer.engine.send_headers(key, HeaderList { prepared: None, fields: &fields }, true);
    assert_eq!(sent, Err(UsageError::SendClosed));
}

#[test]
fn a_stream_that_is_gone_takes_nothing() {
    type End = fn(&mut Peer);
    let ends: [End; 3] = [
        |peer| {
            peer.send(reset(1, ErrorCode::CANCEL.0));
        },
        |peer| peer.engine.reset(peer.key(1), ErrorCode::CANCEL),
        |peer| {
            peer.send(window_update(1, 0));
        },
    ];
    for end in ends {
        for mut peer in Peer::both() {
            match peer.engine.role() {
                Role::Client => peer.open(),
                Role::Server => peer.request(1),
            };
            end(&mut peer);
            peer.frames();
            assert_eq!(commands(&mut peer, 1), [Err(UsageError::StreamClosed); 4]);
            assert_eq!(peer.frames(), []);
        }
    }
}

#[test]
fn a_stream_that_both_ends_have_ended_is_gone() {
    let [mut server, mut client] = ended();
    server.send(data(1, "").end_stream());
    client.send(response(1)).send(trailers(1));
    for mut peer in [server, client] {
        assert_eq!(commands(&mut peer, 1), [Err(UsageError::StreamClosed); 4]);
    }
}

#[test]
fn a_server_opens_no_streams() {
    let mut peer = Peer::server();
    assert_eq!(open(&mut peer.engine), Err(UsageError::WrongRole));
    peer.expect_ignored();
}

#[test]
fn a_limit_and_a_goaway_stop_new_streams() {
    let mut peer = Peer::client();
    peer.send(settings(&[(setting::MAX_CONCURRENT_STREAMS, 0)]));
    assert_eq!(open(&mut peer.engine), Err(UsageError::StreamLimit));
    peer.send(go_away(0, 0, ""));
    assert_eq!(open(&mut peer.engine), Err(UsageError::GoingAway));
    peer.frames();
    assert_eq!(peer.frames(), []);
}

/// A connection with streams that the peer's fault has just ended; what was written is read.
fn failed(role: Role) -> Peer {
    let mut peer = match role {
        Role::Client => Peer::client(),
        Role::Server => Peer::server(),
    };
    peer.reads = false;
    match role {
        Role::Client => peer.open(),
        Role::Server => peer.request(1),
    };
    if role == Role::Client {
        peer.send(response(1));
    }
    for _ in 0..3 {
        peer.send(data(1, [7; 1 << 14]));
    }
    peer.send(data(0, "")).expect_go_away(ErrorCode::PROTOCOL_ERROR);
    peer
}

#[test]
fn after_the_connection_has_failed_every_command_says_so() {
    let mut peer = failed(Role::Client);
    assert_eq!(open(&mut peer.engine), Err(UsageError::ConnectionClosed));
    for role in [Role::Client, Role::Server] {
        let mut peer = failed(role);
        assert_eq!(commands(&mut peer, 1), [Err(UsageError::ConnectionClosed); 4]);
    }
}

#[test]
fn nothing_is_written_behind_the_goaway_of_a_failure() {
    for role in [Role::Client, Role::Server] {
        let mut peer = failed(role);
        let key = peer.key(1);
        commands(&mut peer, 1).iter().for_each(|answer| assert!(answer.is_err()));
        peer.engine.release(key, 3 << 14);
        peer.engine.grant(key, 1 << 20);
        peer.engine.grant_connection(1 << 30);
        peer.engine.reset(key, ErrorCode::CANCEL);
        peer.engine.ping([0; 8]);
        peer.engine.send_settings(Settings::default());
        peer.engine.go_away(ErrorCode::NO_ERROR, "");
        peer.engine.shut_down();
        assert_eq!(peer.frames(), []);
    }
}

#[test]
fn a_violation_is_repeated_and_takes_no_input() {
    let mut peer = failed(Role::Server);
    let octets = ping([0; 8]).encode();
    let mut input = &octets[..];
    let first = peer.engine.violation().unwrap();
    let again = peer.engine.receive(&mut input, peer.clock.now()).unwrap_err();
    assert_eq!((again, input.len()), (first, octets.len()));
}

#[test]
fn content_that_waits_when_the_connection_fails_is_not_sent() {
    let mut peer = Peer::client();
    peer.open();
    peer.data(1, &[7; 70_000], true);
    peer.frames();
    peer.send(window_update(1, 70_000)).send(window_update(0, 70_000)).send(data(0, ""));
    let kinds: Vec<_> = peer.frames().iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, [kind::GOAWAY]);
    assert_eq!(peer.engine.next_sent(), None);
}

#[test]
fn what_waits_for_a_transport_that_is_gone_can_be_dropped() {
    let mut peer = Peer::fresh(Role::Client, Config::default());
    assert!(peer.engine.wants_write());
    peer.engine.discard_output();
    assert!(!peer.engine.wants_write());
    assert_eq!(peer.octets(), b"");
}

#[test]
fn mistakes_are_told_in_words() {
    let words = [
        (UsageError::ConnectionClosed, "the connection is closed"),
        (UsageError::GoingAway, "the connection is going away"),
        (UsageError::StreamLimit, "the peer's limit of concurrent streams is reached"),
        (UsageError::StreamClosed, "the stream is closed"),
        (UsageError::SendClosed, "the local side of the stream has ended"),
        (UsageError::WrongRole, "the role does not allow this command"),
    ];
    for (error, text) in words {
        assert_eq!(error.to_string(), text);
    }
}
