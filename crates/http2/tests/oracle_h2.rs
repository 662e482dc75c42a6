//! Our engine against the `h2` crate, each as client and as server: both see what the other sent.
//!
//! They speak over a pipe in memory, on one thread and on a clock that only moves when nobody can do anything: so
//! the end is known, be it good or a deadlock.

mod h2_peer;
mod script;

use h2_peer::Seens;
use oxgrpc_http2::Role;
use oxgrpc_testkit::property::cases;
use proptest::prelude::*;
use script::actor::Actor;
use script::{Script, Seen};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};

/// Drives our engine until `stop`.
async fn drive(mut actor: Actor, wire: DuplexStream, mut stop: oneshot::Receiver<()>) -> Actor {
    let (mut reader, mut writer) = tokio::io::split(wire);
    let mut input = vec![0; 10_000];
    loop {
        actor.act();
        let output = actor.output(10_000);
        tokio::select! {
            read = reader.read(&mut input) => {
                let len = read.expect("a pipe does not fail");
                assert!(len > 0, "the peer has gone");
                actor.receive(&input[..len]);
            }
            written = writer.write(&output), if !output.is_empty() => {
                actor.engine.advance(written.expect("a pipe does not fail"));
            }
            _ = &mut stop => return actor,
        }
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let actor = LocalSet::new().block_on(&runtime, async {
        let (wire, their_wire) = duplex(script.cuts.iter().copied().max().unwrap_or(1));
        let (stop, stopped) = oneshot::channel();
        let mut actor = Actor::new(role, &script);
        // h2 0.4 does not announce again what it read of a stream's window before that shrank with its first SETTINGS:
        // a client that has sent more by then waits for ever.
        actor.waits |= script.server.stream_window < 65_535;
        let actor = spawn_local(drive(actor, wire, stopped));
        let peer = spawn_local(peer(their_wire, script.clone(), theirs.clone()));
        // This passes when nobody has anything to do.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!peer.is_finished(), "the peer has panicked");
        stop.send(()).expect("our engine is still driven");
        actor.await.expect("our engine does not panic")
    });
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
