//! Server push: disabled on both sides (RFC 9113 §8.4, §6.6).

mod common;

use common::{Peer, REQUEST};
use oxgrpc_http2::{Config, ErrorCode, Role};
use oxgrpc_testkit::frame::*;

const PROTOCOL_ERROR: ErrorCode = ErrorCode::PROTOCOL_ERROR;

#[test]
fn a_client_forbids_push_from_the_start() {
    let hello = Peer::fresh(Role::Client, Config::default()).frames();
    assert!(hello[0].settings().contains(&(setting::ENABLE_PUSH, 0)));
    // A server has no say in it (§6.5.2).
    let hello = Peer::fresh(Role::Server, Config::default()).frames();
    assert!(hello[0].settings().iter().all(|(id, _)| *id != setting::ENABLE_PUSH));
}

#[test]
fn a_promise_to_a_client_ends_the_connection() {
    let mut peer = Peer::client();
    peer.open();
    let rule = peer.send(push_promise(1, 2, &REQUEST)).expect_go_away(PROTOCOL_ERROR);
    assert!(rule.contains("push"), "{rule}");
}

#[test]
fn a_promise_from_a_client_ends_the_connection() {
    let mut peer = Peer::server();
    peer.request(1);
    peer.send(push_promise(1, 2, &REQUEST)).expect_go_away(PROTOCOL_ERROR);
}

#[test]
fn a_promise_is_wrong_even_before_the_settings_are_acknowledged() {
    let mut peer = Peer::fresh(Role::Client, Config::default());
    peer.open();
    peer.send(settings(&[])).send(push_promise(1, 2, &REQUEST)).expect_go_away(PROTOCOL_ERROR);
}

#[test]
fn a_pushed_response_without_a_promise_ends_the_connection() {
    let mut peer = Peer::client();
    peer.open();
    peer.send(response(2)).expect_go_away(PROTOCOL_ERROR);
}

#[test]
fn a_server_cannot_open_streams() {
    let peer = Peer::server();
    assert_eq!(peer.engine.can_open(), Err(oxgrpc_http2::UsageError::WrongRole));
}
