//! Whatever comes, in whatever pieces: the engine waits for more or ends with a GOAWAY, and holds no more than it may.

mod common;

use common::{Peer, REQUEST};
use oxgrpc_http2::{Config, ErrorCode, Role};
use oxgrpc_testkit::frame::*;
use oxgrpc_testkit::property::cases;
use proptest::prelude::*;

const STREAMS: u32 = 10;
const WINDOW: u32 = 70_000;

fn config() -> Config {
    Config {
        max_concurrent_streams: Some(STREAMS),
        initial_stream_window_bytes: 1000,
        connection_window_bytes: WINDOW,
        max_header_list_bytes: 1000,
        max_output_bytes: 5000,
        ..Config::default()
    }
}

/// An established engine with streams in several states.
fn peer(role: Role) -> Peer {
    match role {
        Role::Server => {
            let mut peer = Peer::server_with(config());
            peer.request(1);
            peer.send(request(3, "/s/m").end_stream());
            let stream = peer.request(5);
            peer.engine.reset(stream, ErrorCode::CANCEL);
            peer
        }
        Role::Client => {
            let mut peer = Peer::client_with(config());
            peer.open();
            peer.open_with(&REQUEST, true);
            let stream = peer.open();
            peer.engine.reset(stream, ErrorCode::CANCEL);
            peer.send(response(1));
            peer
        }
    }
}

/// What the layer above does between two pieces of input, also to streams that are gone.
fn act(peer: &mut Peer, what: u8) {
    let known = peer.known();
    let key = known[usize::from(what / 5) % known.len()];
    match what % 5 {
        0 => peer.engine.reset(key, ErrorCode::INTERNAL_ERROR),
        1 => peer.engine.grant(key, 3000),
        2 => drop(peer.engine.send_data(key, b"head", &[7; 3000][..], what > 128)),
        3 if peer.engine.can_open().is_ok() && peer.engine.open_streams() < STREAMS as usize => {
            peer.open_with(&REQUEST, what > 128);
        }
        _ => peer.engine.release(key, 10),
    }
}

/// Feeds `octets` in pieces; after each the rules of the house hold.
fn feed(role: Role, octets: &[u8], cuts: &[(usize, u8)]) {
    let mut peer = peer(role);
    peer.reads = cuts.len().is_multiple_of(2);
    peer.frames();
    let mut rest = octets;
    for (cut, what) in cuts.iter().cycle() {
        let (piece, tail) = rest.split_at((*cut).min(rest.len()));
        rest = tail;
        peer.send_octets(piece);
        let engine = &peer.engine;
        let violation = engine.violation();
        assert!(engine.open_streams() <= STREAMS as usize);
        assert!(engine.held_bytes() <= WINDOW as usize || violation.is_some());
        assert!(peer.unparsed() <= 9 + (1 << 14) || violation.is_some());
        assert!(engine.output_len() <= 5000 + 40 * (1000 + piece.len()));
        let last = peer.frames().pop();
        if let Some(violation) = violation {
            let last = last.expect("a GOAWAY");
            assert_eq!((last.kind, last.error_code()), (kind::GOAWAY, violation.code().0));
            act(&mut peer, *what);
            peer.send_octets(b"more");
            assert_eq!(peer.octets(), b"");
            return;
        }
        act(&mut peer, *what);
        if rest.is_empty() {
            return;
        }
    }
}

fn cuts() -> impl Strategy<Value = Vec<(usize, u8)>> {
    prop::collection::vec((prop_oneof![1usize..20, 1usize..3000], any::<u8>()), 1..10)
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Client), Just(Role::Server)]
}

/// A frame of a known type on one of the first streams, its flags and payload anything.
fn any_frame() -> impl Strategy<Value = Frame> {
    let payload = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..20),
        1 => prop::collection::vec(any::<u8>(), 0..600),
        2 => prop::sample::select(vec![4usize, 5, 6, 8]).prop_flat_map(|len| {
            prop::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], len)
        }),
    ];
    (0u8..11, any::<u8>(), 0u32..12, payload)
        .prop_map(|(kind, flags, stream, payload)| Frame::new(kind, flags, stream, payload))
}

/// A frame that is right, somewhere.
fn good_frame() -> impl Strategy<Value = Frame> {
    let stream = || prop_oneof![Just(1u32), Just(3), 1u32..30];
    let len = prop_oneof![0usize..50, 0usize..2000];
    prop_oneof![
        3 => stream().prop_map(|id| request(id | 1, "/s/m")),
        2 => stream().prop_map(response),
        2 => stream().prop_map(trailers),
        4 => (stream(), len, any::<u8>())
            .prop_map(|(id, len, pad)| data(id, vec![7; len]).padded(pad)),
        1 => (stream(), any::<bool>()).prop_map(|(id, end)| {
            if end { data(id, "end").end_stream() } else { data(id, "") }
        }),
        1 => stream().prop_map(|id| reset(id, 8)),
        2 => (stream(), 1u32..100_000).prop_map(|(id, more)| window_update(id, more)),
        2 => (1u32..100_000).prop_map(|more| window_update(0, more)),
        1 => stream().prop_map(|id| priority(id, 0)),
        1 => any::<[u8; 8]>().prop_map(ping),
        1 => (1u16..7, prop_oneof![0u32..2, 16_384u32..70_000])
            .prop_map(|(id, value)| settings(&[(id, value)])),
        1 => (0u32..20).prop_map(|last| go_away(last, 0, "bye")),
    ]
}

/// A change to a script's octets: where, what and how much, in fractions of 2^16.
fn mutate(octets: &mut Vec<u8>, (kind, at, arg): (u8, u16, u16)) {
    let at = (octets.len() * usize::from(at)) >> 16;
    let len = (usize::from(arg) % 64).min(octets.len() - at);
    match kind % 5 {
        0 if at < octets.len() => octets[at] ^= 1 << (arg % 8),
        1 if at < octets.len() => octets[at] = arg as u8,
        2 => drop(octets.drain(at..at + len)),
        3 => {
            let again = octets[at..at + len].to_vec();
            octets.splice(at..at, again);
        }
        _ => octets.truncate(at.max(octets.len() / 2)),
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn random_octets(
        role in role(),
        octets in prop::collection::vec(any::<u8>(), 0..2000),
        cuts in cuts(),
    ) {
        feed(role, &octets, &cuts);
    }

    #[test]
    fn random_octets_instead_of_a_preface(
        role in role(),
        matching in 0..PREFACE.len(),
        octets in prop::collection::vec(any::<u8>(), 0..100),
        cut in 1usize..30,
    ) {
        let mut peer = Peer::fresh(role, config());
        peer.frames();
        for piece in [&PREFACE[..matching], &octets].concat().chunks(cut) {
            peer.send_octets(piece);
        }
        match peer.engine.violation() {
            Some(_) => prop_assert_eq!(peer.frames().last().map(|last| last.kind), Some(kind::GOAWAY)),
            None => prop_assert!(peer.frames().iter().all(|frame| frame.flags == flag::ACK)),
        }
    }

    #[test]
    fn random_frames(
        role in role(),
        frames in prop::collection::vec(any_frame(), 1..30),
        cuts in cuts(),
    ) {
        feed(role, &encode_all(&frames), &cuts);
    }

    #[test]
    fn frames_that_are_right_in_a_wrong_order(
        role in role(),
        frames in prop::collection::vec(good_frame(), 1..60),
        cuts in cuts(),
    ) {
        feed(role, &encode_all(&frames), &cuts);
    }

    #[test]
    fn scripts_with_mutations(
        role in role(),
        frames in prop::collection::vec(good_frame(), 1..40),
        mutations in prop::collection::vec(any::<(u8, u16, u16)>(), 1..8),
        cuts in cuts(),
    ) {
        let mut octets = encode_all(&frames);
        for mutation in mutations {
            mutate(&mut octets, mutation);
        }
        feed(role, &octets, &cuts);
    }

    #[test]
    fn random_field_blocks(
        role in role(),
        octets in prop::collection::vec(any::<u8>(), 0..300),
        piece in 1usize..100,
    ) {
        let mut peer = peer(role);
        peer.events();
        peer.frames();
        let id = if role == Role::Client { 3 } else { 7 };
        let block = [&[0x88][..], &octets].concat();
        peer.send_all(&Frame::new(kind::HEADERS, flag::END_HEADERS, id, block).in_pieces(piece));
        match peer.engine.violation() {
            Some(violation) => prop_assert_eq!(violation.code(), ErrorCode::COMPRESSION_ERROR),
            None => {
                let briefly: Vec<_> = peer.events().iter().map(|event| event.brief().0).collect();
                prop_assert!(briefly == ["headers"] || briefly == ["failed"], "{:?}", briefly);
            }
        }
    }

    #[test]
    fn the_pieces_do_not_matter(
        role in role(),
        frames in prop::collection::vec(good_frame(), 1..40),
        cuts in prop::collection::vec(1usize..500, 1..10),
    ) {
        let octets = encode_all(&frames);
        let mut whole = peer(role);
        whole.events();
        whole.send_octets(&octets);
        let mut cut = peer(role);
        cut.events();
        let mut rest = &octets[..];
        for len in cuts.iter().cycle() {
            let (piece, tail) = rest.split_at((*len).min(rest.len()));
            cut.send_octets(piece);
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(whole.engine.violation(), cut.engine.violation());
        prop_assert_eq!(whole.events(), cut.events());
        prop_assert_eq!(whole.octets(), cut.octets());
    }
}
