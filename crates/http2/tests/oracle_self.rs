//! Our client against our server over a wire that cuts anywhere: both see what the other sent, no more waits than may,
//! and nothing is left when all is over.

mod script;

use oxgrpc_http2::Role;
use oxgrpc_testkit::pipe::{End, settle};
use oxgrpc_testkit::property::cases;
use proptest::prelude::*;
use script::Script;
use script::actor::Actor;
use std::rc::Rc;

/// The longest frame that anybody sends here, with its head.
const TURN: usize = (64 << 10) + 9;
/// Header sections and answers do not wait for room.
const SECTIONS: usize = 64 << 10;

struct Side(Actor, usize);

impl End for Side {
    fn input(&mut self, octets: &[u8]) {
        self.0.receive(octets);
    }

    fn output(&mut self, max: usize) -> Vec<u8> {
        self.0.act();
        assert!(self.0.engine.output_len() <= self.1 + TURN + SECTIONS);
        let octets = self.0.output(max);
        self.0.engine.advance(octets.len());
        octets
    }
}

fn play(script: Script) {
    let script = Rc::new(script);
    let mut client = Side(Actor::new(Role::Client, &script), script.client.output);
    let mut server = Side(Actor::new(Role::Server, &script), script.server.output);
    settle(&mut client, &mut server, &script.cuts);
    script.assert_seen(&client.0.seen, &server.0.seen);
    for (side, knobs) in [(&client, script.client), (&server, script.server)] {
        let engine = &side.0.engine;
        assert!(side.0.is_done());
        assert_eq!(engine.violation(), None);
        assert_eq!(engine.open_streams(), 0);
        assert_eq!((engine.held_bytes(), engine.queued_bytes(), engine.output_len()), (0, 0, 0));
        // What was read has been announced again, but for less than half.
        let window = knobs.connection_window as usize;
        assert!(engine.connection_window_available() > window / 2);
        assert!(engine.connection_window_available() <= window);
        assert!(engine.settings_are_acknowledged());
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn both_sides_see_the_same(script in script::script()) {
        play(script);
    }
}
