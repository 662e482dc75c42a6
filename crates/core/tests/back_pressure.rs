//! Back-pressure (PROTOCOL-HTTP2, "Flow Control"): a write is complete when its octets are within the windows, a reader
//! that does not read stops its peer, and one that waits is not stuck behind those that do not.

mod common;

use common::client::Client;
use common::server::{STREAM, Server};
use oxgrpc_core::{ClientEvent, Engine, Next, Sent, ServerEvent};
use oxgrpc_testkit::frame::*;
use oxgrpc_testkit::grpc::message;

/// The window that streams start with.
const WINDOW: usize = 65_535;

/// How much a peer lets in by these WINDOW_UPDATEs on a stream.
fn opened(frames: &[Frame], stream: u32) -> usize {
    let update = |frame: &&Frame| frame.kind == kind::WINDOW_UPDATE && frame.stream == stream;
    frames.iter().filter(update).map(|frame| frame.u32_at(0) as usize).sum()
}

/// Sends content in frames.
fn fill(server: &mut Server, stream: u32, content: &[u8]) {
    for piece in content.chunks(16 << 10) {
        server.send(data(stream, piece));
    }
}

#[test]
fn a_write_is_complete_when_it_is_within_the_windows() {
    let mut client = Client::new();
    let call = client.streaming();
    client.frames();
    let fits = vec![7; 30_000];
    for _ in 0..2 {
        assert_eq!(client.engine.send_message(call, &fits[..], false, false), Ok(Sent::Written));
    }
    assert_eq!(client.engine.send_message(call, &fits[..], false, false), Ok(Sent::Queued));
    assert!(client.engine.is_queued(call));
    let frames = client.frames_on(1);
    let content = frames.iter().filter(|frame| frame.kind == kind::DATA);
    let sent: usize = content.map(|frame| frame.payload.len()).sum();
    assert_eq!((sent, client.events()), (WINDOW, vec![]));
    // Both windows are in the way.
    client.send(window_update(1, 100_000));
    assert_eq!((client.frames(), client.events()), (vec![], vec![]));
    client.send(window_update(0, 3 * 30_005 - WINDOW as u32 - 1));
    assert_eq!((client.frames().len(), client.events()), (2, vec![]));
    client.send(window_update(0, 1));
    assert_eq!(client.frames_on(1), [data(1, [7])]);
    assert_eq!(client.events(), [ClientEvent::Writable(call)]);
    assert!(!client.engine.is_queued(call));
}

#[test]
fn a_call_that_is_over_takes_in_what_its_client_still_writes() {
    let mut server = Server::new();
    let call = server.streaming(1);
    fill(&mut server, 1, &message(vec![7; 60_000]));
    // More than the client's windows allow: the status waits, and perhaps the client until it has written everything.
    let large = vec![7; WINDOW];
    assert_eq!(server.engine.send_message(call, &large[..], false), Ok(Sent::Queued));
    server.engine.finish(call, &oxgrpc_core::Status::OK, &oxgrpc_core::Metadata::new());
    assert_eq!(server.engine.http().held_bytes(), 0);
    assert!(opened(&server.frames(), 1) >= 60_000);
    fill(&mut server, 1, &message(vec![7; 60_000]));
    assert_eq!(server.engine.http().held_bytes(), 0);
    server.send(data(1, "").end_stream()).send(window_update(1, 100)).send(window_update(0, 100));
    let last = server.frames_on(1).pop().expect("a frame");
    assert_eq!((last.kind, last.flags & flag::END_STREAM), (kind::HEADERS, 1));
    assert_eq!(server.events(), []);
    assert_eq!(server.engine.calls(), 0);
}

#[test]
fn a_status_waits_behind_the_messages() {
    let mut server = Server::new();
    let call = server.streaming(1);
    let large = vec![7; WINDOW];
    assert_eq!(server.engine.send_message(call, &large[..], false), Ok(Sent::Queued));
    server.engine.finish(call, &oxgrpc_core::Status::OK, &oxgrpc_core::Metadata::new());
    let frames = server.frames_on(1);
    let last = frames.iter().rfind(|frame| frame.kind != kind::WINDOW_UPDATE).expect("a frame");
    assert_eq!((last.kind, last.flags & flag::END_STREAM), (kind::DATA, 0));
    server.send(window_update(1, 100)).send(window_update(0, 100));
    let frames = server.frames_on(1);
    assert_eq!(frames[0].payload.len(), 5);
    assert_eq!((frames[1].kind, frames[1].flags & flag::END_STREAM), (kind::HEADERS, 1));
    // The client still sends: it is told to stop once it has all.
    server.events();
    assert_eq!(server.frames(), [reset(1, 0)]);
    assert_eq!(server.engine.calls(), 0);
}

#[test]
fn a_reader_that_does_not_read_stops_its_peer() {
    let mut server = Server::new();
    let call = server.streaming(1);
    server.frames();
    let piece = message([7; 995]);
    fill(&mut server, 1, &piece.repeat(65));
    assert_eq!(opened(&server.frames(), 1), 0);
    assert_eq!(server.engine.http().held_bytes(), 65_000);
    // What is read is announced again, if it is worth a frame.
    for _ in 0..40 {
        assert!(matches!(server.engine.take_message(call), Next::Message(_)));
    }
    assert!(opened(&server.frames(), 1) >= 32_768);
    assert_eq!(server.engine.http().held_bytes(), 25_000);
    // What the handler has not read is given back when it has finished.
    server.engine.finish(call, &oxgrpc_core::Status::OK, &oxgrpc_core::Metadata::new());
    assert_eq!(server.engine.http().held_bytes(), 0);
}

/// Carries octets between two engines until none move.
fn settle(client: &mut Client, server: &mut Server, mut act: impl FnMut(&mut Client, &mut Server)) {
    loop {
        act(client, server);
        let (there, back) = (client.octets(), server.octets());
        if there.is_empty() && back.is_empty() {
            return;
        }
        server.send_octets(&there);
        client.send_octets(&back);
    }
}

#[test]
fn uploads_that_take_up_the_connections_window_together_all_arrive() {
    let (mut client, mut server) = (Client::raw(|_| {}), Server::raw(|_| {}, false));
    let upload = vec![7; 60_000];
    for _ in 0..400 {
        let call = client.start(|request| request.path = b"/s/Unary").unwrap();
        client.engine.send_message(call, &upload[..], false, true).unwrap();
    }
    let mut arrived = 0;
    settle(&mut client, &mut server, |_, server| {
        for event in server.events() {
            let ServerEvent::Call(call) = event else { continue };
            server.engine.accept(call).expect("a call");
            assert_eq!(server.read_all(call), [&upload[..]]);
            arrived += 1;
        }
    });
    assert_eq!(arrived, 400);
}

#[test]
fn a_call_is_not_stuck_behind_others_that_nobody_reads() {
    let (mut client, mut server) = (Client::raw(|_| {}), Server::raw(|_| {}, false));
    let unread = vec![7; 60_000];
    let start = |client: &mut Client, content: &[u8]| {
        let call = client.start(|request| request.path = STREAM.as_bytes()).unwrap();
        client.engine.send_message(call, content, false, true).unwrap();
    };
    let mut calls = Vec::new();
    for _ in 0..300 {
        start(&mut client, &unread);
    }
    settle(&mut client, &mut server, |_, server| {
        for event in server.events() {
            let ServerEvent::Call(call) = event else { continue };
            server.engine.accept(call).expect("a call");
            calls.push(call);
        }
    });
    assert_eq!(calls.len(), 300);
    let full = server.engine.http().held_bytes();
    assert!((15 << 20..=16 << 20).contains(&full), "{full}");

    start(&mut client, b"read me");
    let mut read = Vec::new();
    settle(&mut client, &mut server, |_, server| {
        for event in server.events() {
            let (ServerEvent::Call(call) | ServerEvent::Readable(call)) = event else { continue };
            server.engine.accept(call);
            if let Next::Message(message) = server.engine.take_message(call) {
                read.push(message);
            }
        }
    });
    assert_eq!(read, [b"read me"]);
}

#[test]
fn a_call_whose_message_is_there_is_not_kept_from_its_end_by_others() {
    let mut client = Client::new();
    let response_of_unary = message("read me");
    let mut room = client.engine.http().connection_window_available() - response_of_unary.len();
    client.unary();
    client.send(response(1)).send(data(1, response_of_unary));
    client.frames();
    // Others take up all that is left of the connection's window, and nobody reads them.
    let mut stream = 1;
    while room > 0 {
        stream += 2;
        client.streaming();
        client.send(response(stream));
        let content = vec![0; room.min(WINDOW)];
        for piece in content.chunks(16 << 10) {
            client.send(data(stream, piece));
        }
        room -= content.len();
    }
    assert!(opened(&client.frames(), 0) > 0);
}

#[test]
fn requests_that_no_handler_takes_are_bounded() {
    let (mut client, mut server) = (Client::raw(|_| {}), Server::raw(|_| {}, false));
    let upload = vec![7; 4 << 20];
    for _ in 0..20 {
        let call = client.start(|request| request.path = b"/s/Unary").unwrap();
        client.engine.send_message(call, &upload[..], false, true).unwrap();
    }
    settle(&mut client, &mut server, |_, _| {});
    let held = server.engine.http().held_bytes();
    assert!(held <= (32 << 20) + 20 * WINDOW, "{held} octets are held");
    // Nothing is lost by that.
    let mut arrived = 0;
    settle(&mut client, &mut server, |_, server| {
        for event in server.events() {
            let ServerEvent::Call(call) = event else { continue };
            server.engine.accept(call).expect("a call");
            arrived += server.read_all(call).len();
        }
    });
    assert_eq!(arrived, 20);
}

#[test]
fn no_handler_begins_while_the_client_does_not_take_responses() {
    let mut server = Server::with(|options| options.max_unsent_bytes = 100_000);
    let first = server.streaming(1);
    let large = vec![7; 200_000];
    assert_eq!(server.engine.send_message(first, &large[..], false), Ok(Sent::Queued));
    assert!(server.engine.is_congested());
    server.send(request(3, STREAM));
    assert_eq!(server.events(), []);
    server.send(window_update(1, 1 << 20)).send(window_update(0, 1 << 20));
    server.frames();
    assert!(!server.engine.is_congested());
    assert!(matches!(
        server.events()[..],
        [ServerEvent::Writable(call), ServerEvent::Call(_)] if call == first
    ));
}

#[test]
fn calls_are_refused_when_they_take_up_too_much() {
    let mut server = Server::with(|options| options.max_calls_bytes = 10_000);
    let mut refused = Vec::new();
    for stream in (1..40).step_by(2) {
        server.send(request(stream, STREAM));
        refused.extend(server.frames_on(stream));
    }
    // They may be tried elsewhere: nobody has seen them.
    assert_eq!(refused.len(), 20 - server.events().len());
    assert!(refused.iter().all(|frame| *frame == reset(frame.stream, 7)) && refused.len() > 10);
    server.send(reset(1, 8)).send(reset(3, 8));
    server.send(request(41, STREAM));
    assert_eq!(server.events().len(), 1);
}

#[test]
fn a_client_that_writes_everything_before_it_reads_comes_to_its_end() {
    let (mut client, mut server) = (Client::raw(|_| {}), Server::raw(|_| {}, false));
    let piece = vec![7; 64 << 10];
    let mut left = 200;
    let mut call = None;
    let mut answered = None;
    let mut sent = 0;
    settle(&mut client, &mut server, |client, server| {
        let id = *call.get_or_insert_with(|| {
            client
                .start(|request| {
                    request.path = STREAM.as_bytes();
                    request.unary_response = false;
                })
                .expect("a call can be started")
        });
        // A message at a time, as a program writes that waits for each.
        while left > 0 && !client.engine.is_queued(id) {
            left -= 1;
            client.engine.send_message(id, &piece[..], false, left == 0).unwrap();
        }
        // The server answers each before it reads the next.
        for event in server.events() {
            if let ServerEvent::Call(id) = event {
                server.engine.accept(id).expect("a call");
                answered = Some(id);
            }
        }
        while let Some(id) = answered.filter(|id| !server.engine.is_queued(*id))
            && let Next::Message(message) = server.engine.take_message(id)
        {
            server.engine.send_message(id, &message[..], false).unwrap();
            sent += 1;
        }
    });
    assert_eq!((left, sent), (0, 200));
    assert!(client.engine.http().held_bytes() <= 17 << 20);
}
