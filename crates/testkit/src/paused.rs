//! An engine against a peer that is written with tokio: over a pipe in memory, on one thread and on a clock that only
//! moves when nobody can do anything. So the end is known without waiting for it, be it good or a deadlock.

use crate::pipe::End;
use std::future::Future;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};

/// Octets that are read or written at a time.
const TURN: usize = 10_000;

/// Lets both play until nobody has anything to do; returns the engine. The pipe takes `room` octets in each direction.
/// The peer must not end before.
pub fn play<E, P>(engine: E, room: usize, peer: impl FnOnce(DuplexStream) -> P) -> E
where
    E: End + 'static,
    P: Future<Output = ()> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let (wire, their_wire) = duplex(room);
        let (stop, stopped) = oneshot::channel();
        let engine = spawn_local(drive(engine, wire, stopped));
        let peer = spawn_local(peer(their_wire));
        // This passes when nobody has anything to do.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!peer.is_finished(), "the peer has panicked");
        stop.send(()).expect("the engine is still driven");
        engine.await.expect("the engine does not panic")
    })
}

/// Drives an engine until `stop`.
async fn drive<E: End>(mut engine: E, wire: DuplexStream, mut stop: oneshot::Receiver<()>) -> E {
    let (mut reader, mut writer) = tokio::io::split(wire);
    let mut input = vec![0; TURN];
    let mut output = Vec::new();
    loop {
        if output.is_empty() {
            output = engine.output(TURN);
        }
        tokio::select! {
            read = reader.read(&mut input) => {
                let len = read.expect("a pipe does not fail");
                assert!(len > 0, "the peer has gone");
                engine.input(&input[..len]);
            }
            written = writer.write(&output), if !output.is_empty() => {
                output.drain(..written.expect("a pipe does not fail"));
            }
            _ = &mut stop => return engine,
        }
    }
}
