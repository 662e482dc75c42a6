//! Our client against our server over a wire that cuts anywhere: whatever the calls and the windows, both applications
//! see what the other sent, and nothing is left when all is over.

mod script;

use oxgrpc_core::Engine;
use oxgrpc_testkit::pipe::{End, settle};
use oxgrpc_testkit::property::cases;
use proptest::prelude::*;
use script::Script;
use script::client::Client;
use script::generate::script;
use script::server::Server;
use std::io::IoSlice;
use std::rc::Rc;

fn output(engine: &mut impl Engine, max: usize) -> Vec<u8> {
    let http = engine.http_mut();
    http.fill();
    let mut slices = [IoSlice::new(&[]); 8];
    let count = http.slices(&mut slices);
    let mut octets = Vec::new();
    for slice in &slices[..count] {
        octets.extend_from_slice(&slice[..slice.len().min(max - octets.len())]);
    }
    http.advance(octets.len());
    octets
}

impl End for Client {
    fn input(&mut self, octets: &[u8]) {
        self.receive(octets);
    }

    fn output(&mut self, max: usize) -> Vec<u8> {
        self.act();
        output(&mut self.engine, max)
    }
}

impl End for Server {
    fn input(&mut self, octets: &[u8]) {
        self.receive(octets);
    }

    fn output(&mut self, max: usize) -> Vec<u8> {
        self.act();
        output(&mut self.engine, max)
    }
}

fn play(script: Script) {
    let script = Rc::new(script);
    let (mut client, mut server) = (Client::new(&script), Server::new(&script));
    settle(&mut client, &mut server, &script.cuts);
    client.assert_done();
    server.assert_done();
    script.assert_seen(&client.seen, &server.seen);
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn both_sides_see_the_same(script in script()) {
        play(script);
    }
}
