//! Calls that end before their time by their client's fault: a storm of them ends the connection (RFC 9113 §10.5,
//! CVE-2025-8671), and no honest client makes one.

mod common;

use common::server::{STREAM, Server, UNARY, request_with};
use oxgrpc_core::{Code, Engine, Farewell, Metadata, Next, ServerEvent, Status};
use oxgrpc_testkit::frame::*;
use oxgrpc_testkit::grpc::message;

/// More than a connection has tokens for, even with those that come back meanwhile.
const STORM: u32 = 12_000;

/// Fewer, and they come at once.
const BURST: u32 = 8_000;

/// What one call does to a server.
type Kind = fn(&mut Server, u32);

fn bad_flag(server: &mut Server, stream: u32) {
    server.send(request(stream, STREAM)).send(data(stream, [7, 0, 0, 0, 1, 0]));
}

fn too_large_a_message(server: &mut Server, stream: u32) {
    server.send(request(stream, UNARY)).send(data(stream, [0, 0x80, 0, 0, 0]));
}

fn cut_message(server: &mut Server, stream: u32) {
    server.send(request(stream, STREAM)).send(data(stream, [0, 0, 0, 0, 9, 0]).end_stream());
}

fn no_message(server: &mut Server, stream: u32) {
    server.send(request(stream, UNARY)).send(data(stream, "").end_stream());
}

fn two_messages(server: &mut Server, stream: u32) {
    let messages = [message("x"), message("y")].concat();
    server.send(request(stream, UNARY)).send(data(stream, messages));
}

fn bad_gzip(server: &mut Server, stream: u32) {
    server.send(request_with(stream, STREAM, &[("grpc-encoding", "gzip")]));
    server.send(data(stream, [1, 0, 0, 0, 1, b'x']));
    if server.engine.http().violation().is_some() {
        return;
    }
    let (call, _) = server.accept();
    let Next::Failed(status) = server.engine.take_message(call) else { panic!("it was inflated") };
    server.engine.finish(call, &status, &Metadata::new());
    server.engine.handler_ended();
}

fn short_deadline(server: &mut Server, stream: u32) {
    server.send(request_with(stream, STREAM, &[("grpc-timeout", "10u")]));
    // As many at once as come within a millisecond or so.
    if stream % 16 == 1 {
        server.advance(1);
    }
}

fn short_deadline_of_a_whole_request(server: &mut Server, stream: u32) {
    server.send(request_with(stream, UNARY, &[("grpc-timeout", "10u")]));
    server.send(data(stream, message("x")).end_stream());
    if stream % 16 == 1 {
        server.advance(1);
    }
}

fn unknown_method(server: &mut Server, stream: u32) {
    server.send(request(stream, "/s/Unknown"));
}

fn declined(server: &mut Server, stream: u32) {
    let call = server.streaming(stream);
    server.engine.decline(call, &Status::new(Code::ResourceExhausted, "Concurrent RPC limit"));
}

const FAULTS: [(&str, Kind); 8] = [
    ("bad flag", bad_flag),
    ("too large a message", too_large_a_message),
    ("cut message", cut_message),
    ("no message", no_message),
    ("two messages", two_messages),
    ("bad gzip", bad_gzip),
    ("short deadline", short_deadline),
    ("short deadline of a whole request", short_deadline_of_a_whole_request),
];

/// Those that a server makes for want of something: fewer tokens each.
const REFUSALS: [(&str, Kind); 2] = [("unknown method", unknown_method), ("declined", declined)];

/// Plays calls from one stream on; returns the frames of the last.
fn play(server: &mut Server, first: u32, count: u32, kind: Kind) -> Vec<Frame> {
    let mut frames = Vec::new();
    for stream in (first..).step_by(2).take(count as usize) {
        kind(server, stream);
        frames = server.frames();
        if server.engine.http().violation().is_some() {
            break;
        }
    }
    frames
}

#[track_caller]
fn assert_told_to_be_calm(name: &str, frames: &[Frame]) {
    let last = frames.last().unwrap_or_else(|| panic!("{name}: no GOAWAY"));
    assert_eq!((last.kind, last.error_code()), (kind::GOAWAY, 0xb), "{name}: {last:?}");
    assert!(last.debug_data().contains("end before their time"), "{name}: {last:?}");
}

#[test]
fn a_storm_of_each_kind_ends_the_connection() {
    for (name, kind) in FAULTS {
        let frames = play(&mut Server::new(), 1, STORM, kind);
        assert_told_to_be_calm(name, &frames);
    }
    for (name, kind) in REFUSALS {
        let frames = play(&mut Server::new(), 1, 4 * STORM, kind);
        assert_told_to_be_calm(name, &frames);
    }
}

#[test]
fn a_storm_that_only_time_shows_is_reported() {
    let mut server = Server::new();
    for stream in (1..).step_by(2).take(STORM as usize) {
        server.send(request_with(stream, STREAM, &[("grpc-timeout", "10m")]));
    }
    assert_eq!(server.engine.http().violation(), None);
    server.advance(10);
    let violation = server.engine.http().violation().expect("a storm");
    let events = server.events();
    assert_eq!(events.last(), Some(&ServerEvent::Over(Farewell::Broken(violation))));
    assert_told_to_be_calm("deadlines", &server.frames());
}

#[test]
fn bursts_of_every_kind_are_forgiven_and_again_after_a_while() {
    for (name, kind) in FAULTS.into_iter().chain(REFUSALS) {
        let mut server = Server::new();
        for first in [1, 100_001] {
            play(&mut server, first, BURST, kind);
            assert_eq!(server.engine.http().violation(), None, "{name}");
            server.advance(4_000);
        }
    }
}

#[test]
fn a_call_that_ends_well_makes_up_for_one_that_does_not() {
    let mut server = Server::new();
    for stream in (1..).step_by(4).take(3 * STORM as usize) {
        too_large_a_message(&mut server, stream);
        server.send(request(stream + 2, UNARY));
        server.send(data(stream + 2, message("x")).end_stream());
        let (call, _) = server.accept();
        server.engine.finish(call, &Status::OK, &Metadata::new());
        server.engine.handler_ended();
        server.frames();
        assert_eq!(server.engine.http().violation(), None, "{stream}");
    }
}

#[test]
fn deadlines_that_gave_a_call_its_time_are_not_counted() {
    let mut server = Server::new();
    for batch in 0..10 {
        let first = 1 + 2 * BURST * batch;
        for stream in (first..).step_by(2).take(BURST as usize) {
            server.send(request_with(stream, STREAM, &[("grpc-timeout", "100m")]));
        }
        server.advance(100);
        server.frames();
        assert_eq!((server.engine.calls(), server.engine.http().violation()), (0, None));
    }
}
