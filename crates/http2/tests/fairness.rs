//! Messages share a connection: large ones do not hold up small ones, and no more waits in the output than was allowed
//! (RFC 9113 §5.2.1).

mod common;

use bytes::Bytes;
use common::Peer;
use oxgrpc_http2::{Config, Role, Sent};
use oxgrpc_testkit::frame::*;
use std::io::IoSlice;

const MIB: usize = 1 << 20;
/// The longest frame that a peer with default settings takes, with its head.
const TURN: usize = (1 << 14) + 9;

/// A client whose peer grants any window; `streams` are open.
fn client(config: Config, streams: usize) -> Peer {
    let mut peer = Peer::fresh(Role::Client, config)
        .shake_hands(&[(setting::INITIAL_WINDOW_SIZE, (1 << 31) - 1)]);
    peer.send(window_update(0, (1 << 31) - 65_536));
    for _ in 0..streams {
        peer.open();
    }
    peer
}

/// Octets that differ with their place and their stream.
fn content(stream: u32, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251 + stream as usize) as u8).collect()
}

/// Takes up to `max` octets out, as a socket does.
fn write(peer: &mut Peer, max: usize) -> Vec<u8> {
    peer.engine.fill();
    let mut slices = [IoSlice::new(&[]); 3];
    let count = peer.engine.slices(&mut slices);
    let mut octets = Vec::new();
    for slice in &slices[..count] {
        octets.extend(&slice[..slice.len().min(max - octets.len())]);
    }
    peer.engine.advance(octets.len());
    octets
}

fn send(peer: &mut Peer, id: u32, content: impl Into<Bytes>) -> Sent {
    let key = peer.key(id);
    peer.engine.send_data(key, b"", content.into(), true).expect("data can be sent")
}

#[test]
fn a_large_message_does_not_hold_up_small_ones() {
    let config = Config { max_output_bytes: 100_000, ..Config::default() };
    let mut peer = client(config, 20);
    assert_eq!(send(&mut peer, 1, content(1, 4 * MIB)), Sent::Queued);
    let mut octets = write(&mut peer, 50_000);
    for id in (3..40).step_by(2) {
        send(&mut peer, id, content(id, 500));
    }
    // What was in the output goes first; then each waits for one frame of the large message at most.
    let ahead = 100_000 + TURN;
    while octets.len() < 50_000 + ahead + TURN + 19 * 509 {
        octets.extend(write(&mut peer, 10_000));
    }
    let mut rest = &octets[..];
    let mut complete = 0;
    while let Some((frame, tail)) = parse(rest) {
        complete += usize::from(frame.stream > 1);
        rest = tail;
    }
    assert_eq!(complete, 19);
    assert!(peer.engine.queued_bytes() > 3 * MIB);
}

#[test]
fn large_messages_progress_together() {
    let mut peer = client(Config::default(), 4);
    for id in [1, 3, 5, 7] {
        send(&mut peer, id, content(id, MIB));
    }
    let mut sent = [0usize; 4];
    let mut octets = Vec::new();
    while peer.engine.wants_write() {
        octets.extend(write(&mut peer, 30_000));
        while let Some((frame, rest)) = parse(&octets) {
            sent[frame.stream as usize / 2] += frame.payload.len();
            octets = rest.to_vec();
            let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
            // The first began alone: it filled the output before the others came.
            assert!(most - least <= (256 << 10) + 2 * TURN, "{sent:?}");
        }
    }
    assert_eq!(sent, [MIB; 4]);
}

#[test]
fn the_output_stays_within_its_bound() {
    for max in [0, 1, 10_000, 256 << 10] {
        let config = Config { max_output_bytes: max, ..Config::default() };
        let mut peer = client(config, 3);
        let bound = max + TURN;
        for id in [1, 3, 5] {
            send(&mut peer, id, content(id, MIB / 4));
            assert!(peer.engine.output_len() <= bound);
        }
        let mut total = 0;
        loop {
            let octets = write(&mut peer, 7000);
            assert!(peer.engine.output_len() <= bound);
            if octets.is_empty() {
                break;
            }
            total += octets.len();
        }
        match max {
            0 => assert_eq!(total, 0),
            _ => assert!(total > 3 * MIB / 4),
        }
    }
}

#[test]
fn small_messages_wait_when_the_output_is_full() {
    let config = Config { max_output_bytes: 1000, ..Config::default() };
    let mut peer = client(config, 20);
    let sent: Vec<_> = (0..20).map(|i| send(&mut peer, 2 * i + 1, content(1, 100))).collect();
    assert_eq!(sent.iter().filter(|sent| **sent == Sent::Written).count(), 10);
    let frames = peer.frames();
    assert_eq!(
        frames.iter().map(|frame| frame.stream).collect::<Vec<_>>(),
        (0..20).map(|i| 2 * i + 1).collect::<Vec<_>>()
    );
    let told: Vec<_> = std::iter::from_fn(|| peer.engine.next_sent()).map(|(_, tag)| tag).collect();
    assert_eq!(told, (10..20).map(|i| 2 * i + 1).collect::<Vec<_>>());
}

#[test]
fn what_is_lent_and_what_is_shared_gives_the_same_octets() {
    // Shared pieces of 4 KiB and more are spliced into the output, others copied.
    let lengths = [0, 1, 4095, 4096, 4097, 16_383, 16_384, 16_385, 70_000, 5];
    let mut outputs = Vec::new();
    for shared in [false, true] {
        let mut peer = client(Config::default(), 1);
        let key = peer.key(1);
        for len in lengths {
            let body = content(1, len);
            if shared {
                peer.engine.send_data(key, b"head", Bytes::from(body), false).unwrap();
            } else {
                peer.engine.send_data(key, b"head", &body[..], false).unwrap();
            }
        }
        outputs.push(peer.octets());
    }
    assert_eq!(outputs[0], outputs[1]);
    let frames = parse_all(&outputs[0]);
    let sent: Vec<u8> = frames.into_iter().flat_map(|frame| frame.payload).collect();
    let expected: Vec<u8> =
        lengths.into_iter().flat_map(|len| [b"head".to_vec(), content(1, len)].concat()).collect();
    assert_eq!(sent, expected);
}

#[test]
fn the_octets_do_not_depend_on_how_they_are_taken() {
    let run = |step: usize| {
        let mut peer = client(Config { max_output_bytes: 40_000, ..Config::default() }, 3);
        for id in [1, 3, 5] {
            send(&mut peer, id, content(id, 50_000));
        }
        let mut streams = [Vec::new(), Vec::new(), Vec::new()];
        let mut octets = Vec::new();
        loop {
            let written = write(&mut peer, step);
            if written.is_empty() {
                break;
            }
            octets.extend(written);
        }
        for frame in parse_all(&octets) {
            streams[frame.stream as usize / 2].extend(frame.payload);
        }
        streams
    };
    let expected = [1, 3, 5].map(|id| content(id, 50_000));
    for step in [1, 9, 1000, 4096, 16_393, usize::MAX] {
        assert!(run(step) == expected, "in steps of {step}");
    }
}

#[test]
fn what_is_copied_and_what_is_spliced_keep_their_places() {
    // Enough of both that the output drops what was written of its copies while splices wait.
    let mut peer = client(Config { max_output_bytes: 1 << 20, ..Config::default() }, 1);
    let key = peer.key(1);
    let mut expected = Vec::new();
    for len in [[3000; 40], [9000; 40], [200; 40]].concat() {
        let body = content(1, len);
        expected.extend(&body);
        peer.engine.send_data(key, b"", Bytes::from(body), false).unwrap();
    }
    let mut octets = Vec::new();
    while peer.engine.wants_write() {
        octets.extend(write(&mut peer, 20_011));
    }
    let sent: Vec<u8> = parse_all(&octets).into_iter().flat_map(|frame| frame.payload).collect();
    assert!(sent == expected);
}

#[test]
fn a_streams_content_keeps_its_order() {
    let mut peer = client(Config { max_output_bytes: 3000, ..Config::default() }, 2);
    let key = peer.key(1);
    let mut expected = Vec::new();
    for i in 0..200u32 {
        let body = content(i, (i as usize * 37) % 900);
        peer.engine.send_data(key, &i.to_be_bytes(), &body[..], false).unwrap();
        expected.extend(i.to_be_bytes());
        expected.extend(body);
    }
    let sent: Vec<u8> = peer.frames().into_iter().flat_map(|frame| frame.payload).collect();
    assert!(sent == expected);
}

#[test]
fn content_on_its_way_is_not_lost_when_its_stream_is_reset() {
    // What is in the output stays whole: a frame that was begun must be finished.
    let mut peer = client(Config::default(), 2);
    send(&mut peer, 1, content(1, MIB));
    let mut octets = write(&mut peer, 10_001);
    peer.engine.reset(peer.key(1), oxgrpc_http2::ErrorCode::CANCEL);
    octets.extend(peer.octets());
    let frames = parse_all(&octets);
    let (last, data) = frames.split_last().unwrap();
    assert_eq!(last.kind, kind::RST_STREAM);
    let sent: Vec<u8> = data.iter().flat_map(|frame| frame.payload.clone()).collect();
    assert!(content(1, MIB).starts_with(&sent));
}
