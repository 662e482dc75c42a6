//! Our engine against the `h2` crate, each as client and as server: both see what the other sent.

mod h2_peer;
mod script;

use h2_peer::Seens;
use oxgrpc_http2::Role;
use oxgrpc_testkit::paused;
use oxgrpc_testkit::pipe::End;
use oxgrpc_testkit::property::cases;
use proptest::prelude::*;
use script::actor::Actor;
use script::{Script, Seen};
use std::future::Future;
use std::rc::Rc;
use tokio::io::DuplexStream;

struct Side(Actor);

impl End for Side {
    fn input(&mut self, octets: &[u8]) {
        self.0.receive(octets);
    }

    fn output(&mut self, max: usize) -> Vec<u8> {
        self.0.act();
        let octets = self.0.output(max);
        self.0.engine.advance(octets.len());
        octets
    }
}

/// Plays the script with our engine in `role`; `peer` plays the other side.
fn play<F, P>(role: Role, script: Script, peer: F)
where
    F: FnOnce(DuplexStream, Rc<Script>, Seens) -> P,
    P: Future<Output = ()> + 'static,
{
    let script = Rc::new(script);
    let theirs = Seens::new(vec![Seen::default(); script.calls.len()].into());
    let mut actor = Actor::new(role, &script);
    // h2 0.4 does not announce again what it read of a stream's window before that shrank with its first SETTINGS:
    // a client that has sent more by then waits for ever.
    actor.waits |= script.server.stream_window < 65_535;
    let room = script.cuts.iter().copied().max().unwrap_or(1);
    let Side(actor) =
        paused::play(Side(actor), room, |wire| peer(wire, script.clone(), theirs.clone()));
    let theirs = theirs.take();
    match role {
        Role::Client => script.assert_seen(&actor.seen, &theirs),
        Role::Server => script.assert_seen(&theirs, &actor.seen),
    }
    assert!(actor.is_done());
    let engine = &actor.engine;
    assert_eq!(engine.violation(), None);
    assert_eq!((engine.open_streams(), engine.held_bytes(), engine.queued_bytes()), (0, 0, 0));
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn our_client_and_its_server_see_the_same(script in script::script()) {
        play(Role::Client, script, h2_peer::server);
    }

    #[test]
    fn its_client_and_our_server_see_the_same(script in script::script()) {
        play(Role::Server, script, h2_peer::client);
    }
}
