//! Our client against our server over a wire that cuts anywhere: whatever the calls and the windows, both applications
//! see what the other sent, and nothing is left when all is over.

mod script;

use oxgrpc_testkit::pipe::settle;
use oxgrpc_testkit::property::cases;
use proptest::prelude::*;
use script::Script;
use script::client::Client;
use script::generate::script;
use script::server::Server;
use std::rc::Rc;

fn play(script: Script) {
    let script = Rc::new(script);
    let (mut client, mut server) = (Client::new(&script), Server::new(&script));
    settle(&mut client, &mut server, &script.cuts);
    client.assert_done();
    server.assert_done();
    script.assert_seen(&client.seen, &server.seen);
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn both_sides_see_the_same(script in script()) {
        play(script);
    }
}
