//! A client that keeps its connection alive, in virtual time (gRFC A8).

mod common;

use common::client::Client;
use oxgrpc_core::{ClientEvent, Engine, KeepaliveOptions};
use oxgrpc_testkit::frame::*;
use std::time::Duration;

fn client() -> Client {
    Client::with(|options| {
        options.keepalive = Some(KeepaliveOptions {
            time: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            permit_without_calls: false,
            max_pings_without_data: 2,
        });
    })
}

#[test]
fn a_quiet_call_is_kept_alive() {
    let mut client = client();
    client.unary();
    client.frames();
    for _ in 0..2 {
        client.advance(10_000);
        let frames = client.frames();
        assert_eq!((frames.len(), frames[0].kind, frames[0].flags), (1, kind::PING, 0));
        client.send(Frame { flags: flag::ACK, ..frames[0].clone() });
    }
    // Two without content are enough; then a minute passes.
    client.advance(10_000).advance(10_000);
    assert_eq!(client.frames(), []);
    client.advance(40_000);
    assert_eq!(client.frames().len(), 1);
    assert_eq!(client.events(), []);
}

#[test]
fn anything_that_comes_is_a_sign_of_life() {
    let mut client = client();
    client.unary();
    client.frames();
    client.advance(9_000).send(response(1));
    client.advance(9_000);
    assert_eq!(client.frames(), []);
    client.advance(1_000);
    assert_eq!(client.frames().len(), 1);
    client.send(window_update(0, 1)).advance(5_000).advance(0);
    assert!(!client.events().contains(&ClientEvent::Lost));
}

#[test]
fn a_server_that_says_nothing_is_lost() {
    let mut client = client();
    client.unary();
    client.advance(10_000).advance(4_999).advance(0);
    assert_eq!(client.events(), []);
    client.advance(1).advance(100);
    assert_eq!(client.events(), [ClientEvent::Lost]);
    assert_eq!(client.engine.next_deadline(), None);
}

#[test]
fn without_calls_nothing_is_sent() {
    let mut client = client();
    client.frames();
    for _ in 0..10 {
        client.advance(10_000);
    }
    assert_eq!((client.frames(), client.events()), (vec![], vec![]));
}
