//! Messages that are longer than their stream's window (RFC 9113 §5.2.2): how many are admitted at once, that none waits for
//! the end of another, and who ends when too much is unread.

mod common;

use common::client::Client;
use common::field;
use common::server::Server;
use oxgrpc_core::{CallId, Engine, Next, ServerEvent};
use oxgrpc_testkit::frame::*;
use oxgrpc_testkit::grpc::message;

/// The window that streams start with.
const WINDOW: usize = 65_535;

/// The prefix of a message of 4 MiB: four of them are all that is admitted at once.
const FOUR_MIB: [u8; 5] = [0, 0, 0x40, 0, 0];

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

/// A server with four messages that are announced, admitted and do not come: streams 1 to 7.
fn with_stalled_announcements() -> Server {
    let mut server = Server::new();
    for stream in [1, 3, 5, 7] {
        let call = server.streaming(stream);
        server.send(data(stream, FOUR_MIB));
        assert_eq!(server.engine.take_message(call), Next::Pending);
    }
    server.frames();
    server
}

/// A call whose message has used up its window and waits.
fn waiting(server: &mut Server, stream: u32) -> CallId {
    let call = server.streaming(stream);
    fill(server, stream, &message(vec![7; 1 << 20])[..WINDOW]);
    assert_eq!(server.engine.take_message(call), Next::Pending);
    assert_eq!(opened(&server.advance(0).frames(), stream), 0);
    call
}

#[test]
fn a_message_longer_than_the_window_is_admitted_for_a_reader() {
    let large = message(vec![7; 1 << 20]);
    let (start, end) = large.split_at(60_000);
    let mut server = Server::new();
    let call = server.streaming(1);
    server.frames();
    fill(&mut server, 1, start);
    assert_eq!(opened(&server.frames(), 1), 0);
    assert_eq!(server.engine.take_message(call), Next::Pending);
    let frames = server.frames();
    assert_eq!(WINDOW - start.len() + opened(&frames, 1), end.len() + 1);
    fill(&mut server, 1, end);
    assert_eq!(server.events(), [ServerEvent::Readable(call)]);
    assert_eq!(server.read_all(call).concat(), large[5..]);
    assert_eq!(server.engine.http().held_bytes(), 0);
}

#[test]
fn a_window_is_never_used_up_by_a_message_that_is_waited_for() {
    // nghttp2 needs an open window to end a stream: Node's server would never end these.
    for len in [WINDOW - 6, WINDOW - 5, WINDOW - 4, 100_000] {
        let mut client = Client::new();
        client.unary();
        client.frames();
        let content = message(vec![7; len]);
        client.send(response(1));
        let mut room = WINDOW;
        for piece in content.chunks(16 << 10) {
            client.send(data(1, piece));
            room = room + opened(&client.frames(), 1) - piece.len();
            assert!(room > 0, "after {len} octets");
        }
    }
}

#[test]
fn only_so_many_large_messages_are_admitted_at_once() {
    let mut server = Server::new();
    let prefix = [0, 0, 0x40, 0, 0]; // 4 MiB.
    let calls: Vec<CallId> = (0..5).map(|i| server.streaming(1 + 2 * i)).collect();
    for (call, stream) in calls.iter().zip([1, 3, 5, 7, 9]) {
        server.send(data(stream, prefix));
        assert_eq!(server.engine.take_message(*call), Next::Pending);
    }
    let frames = server.frames();
    let admitted: Vec<bool> = [1, 3, 5, 7, 9].map(|stream| opened(&frames, stream) > 0).into();
    assert_eq!(admitted, [true, true, true, true, false]);
    // A call that goes away makes room.
    server.send(reset(3, 8));
    assert!(opened(&server.frames(), 9) > 4_000_000);
}

#[test]
fn a_call_that_has_ended_does_not_keep_others_large_messages_out() {
    let mut client = Client::with(|options| options.limits.max_receive_bytes = 64 << 20);
    let calls = [client.streaming(), client.streaming()];
    for (call, stream) in calls.into_iter().zip([1, 3]) {
        client.send(response(stream)).send(data(stream, [0, 1, 0x20, 0, 0])); // 18 MiB.
        assert_eq!(client.engine.take_message(call), Next::Pending);
    }
    let frames = client.frames();
    assert_eq!((opened(&frames, 1) > 0, opened(&frames, 3)), (true, 0));
    // It has ended within its message, and its outcome is not taken yet.
    client.send(reset(1, 2));
    assert!(opened(&client.frames(), 3) > 18_000_000);
}

#[test]
fn a_message_that_waits_gets_steps_while_those_admitted_stand_still() {
    let mut server = with_stalled_announcements();
    let call = waiting(&mut server, 9);
    let content = message(vec![7; 1 << 20]);
    let mut come = WINDOW;
    let mut steps = Vec::new();
    while come < content.len() {
        assert_eq!(opened(&server.advance(45).frames(), 9), 0);
        let step = opened(&server.advance(10).frames(), 9);
        let len = step.min(content.len() - come);
        fill(&mut server, 9, &content[come..come + len]);
        come += len;
        steps.push(step - 1);
    }
    assert_eq!(steps, [64 << 10, 128 << 10, 256 << 10, 512 << 10, 2]);
    assert_eq!(server.events(), [ServerEvent::Readable(call)]);
    assert_eq!(server.read_all(call).concat(), content[5..]);
    // What comes soon afterwards need not wait.
    let call = server.streaming(11);
    server.send(data(11, FOUR_MIB));
    assert_eq!(server.engine.take_message(call), Next::Pending);
    assert!(opened(&server.frames(), 11) > 400 << 10);
}

#[test]
fn a_message_that_waits_does_not_disturb_those_that_move() {
    let mut server = with_stalled_announcements();
    waiting(&mut server, 9);
    for _ in 0..24 {
        server.send(data(1, vec![7; 16 << 10]));
        assert_eq!(opened(&server.advance(40).frames(), 9), 0);
    }
}

#[test]
fn a_message_that_waits_is_served_however_slowly_others_move() {
    let mut server = with_stalled_announcements();
    waiting(&mut server, 9);
    let mut served = 0;
    for _ in 0..100 {
        server.send(data(1, vec![7; 16 << 10]));
        let step = opened(&server.advance(40).frames(), 9);
        served += usize::from(step > 0);
        fill(&mut server, 9, &vec![7; step]);
    }
    assert!((3..5).contains(&served), "{served} times in 4 s");
    // Octet by octet is no headway at all.
    let mut server = with_stalled_announcements();
    waiting(&mut server, 9);
    for _ in 0..10 {
        server.send(data(1, [7])).advance(10);
    }
    assert!(opened(&server.frames(), 9) > 0);
}

#[test]
fn stalled_announcements_do_not_stop_an_honest_call() {
    let mut server = with_stalled_announcements();
    let upload = message(vec![7; 200 << 10]);
    server.send(request(9, "/s/Unary"));
    let (mut window, mut come, mut waited) = (WINDOW, 0, 0);
    while come < upload.len() {
        let len = window.min(upload.len() - come);
        fill(&mut server, 9, &upload[come..come + len]);
        (come, window) = (come + len, window - len);
        while window == 0 && come < upload.len() {
            waited += 10;
            window = opened(&server.advance(10).frames(), 9);
        }
        assert!(waited < 1000);
    }
    server.send(data(9, "").end_stream());
    let (call, _) = server.accept();
    assert_eq!(server.read_all(call).concat(), upload[5..]);
}

#[test]
fn nothing_is_watched_once_nobody_waits() {
    let mut server = with_stalled_announcements();
    assert_eq!(server.engine.next_deadline(), None);
    waiting(&mut server, 9);
    assert!(server.engine.next_deadline().is_some());
    server.advance(60).advance(60).advance(60);
    server.send(reset(9, 8));
    server.events();
    for _ in 0..20 {
        server.advance(60);
    }
    assert_eq!(server.engine.next_deadline(), None);
    // And what was learned is forgotten.
    waiting(&mut server, 11);
}

#[test]
fn a_call_that_comes_to_wait_between_two_batches_is_watched() {
    let mut server = with_stalled_announcements();
    let call = server.streaming(9);
    fill(&mut server, 9, &message(vec![7; 1 << 20])[..WINDOW]);
    server.frames();
    assert_eq!(server.engine.next_deadline(), None);
    assert_eq!(server.engine.take_message(call), Next::Pending);
    assert_eq!(opened(&server.advance(0).advance(60).frames(), 9), 64 << 10 | 1);
}

#[test]
fn the_youngest_of_those_that_hold_much_ends_when_too_much_is_unread() {
    let mut server = Server::with(|options| {
        options.http.connection_window_bytes = WINDOW as u32;
        options.max_unread_bytes = 1 << 20;
    });
    let half = &message(vec![7; 60_000])[..59_000];
    let mut ended = Vec::new();
    let mut stream = 1;
    while ended.is_empty() {
        server.send(request(stream, "/s/Unary"));
        // An honest call among them, and the last to come.
        let little = [&half[..40], half][usize::from(stream % 4 == 1)];
        fill(&mut server, stream, little);
        let frames = server.frames();
        ended.extend(
            frames.iter().filter(|frame| frame.kind == kind::RST_STREAM).map(|frame| frame.stream),
        );
        stream += 2;
        assert!(stream < 1000);
    }
    assert!(ended.iter().all(|stream| stream % 4 == 1) && ended[0] > 30, "{ended:?}");
    let held = server.engine.http().held_bytes();
    assert!(held <= 1 << 20, "{held} octets are held");
}

#[test]
fn a_reader_that_comes_to_wait_when_too_much_is_unread_is_not_the_one_to_end() {
    let mut server = Server::with(|options| {
        options.http.connection_window_bytes = WINDOW as u32;
        options.max_unread_bytes = 0;
    });
    let old = server.streaming(1);
    server.send(data(1, message("old")));
    // A call that nobody reads takes up the connection's window.
    let young = server.streaming(3);
    fill(&mut server, 3, &message(vec![7; WINDOW])[..WINDOW - 8]);
    assert_eq!(server.read_all(old), [b"old"]);
    assert_eq!(server.engine.take_message(old), Next::Pending);
    server.frames();
    server.advance(0);
    assert_eq!(server.events(), [ServerEvent::Cancelled(young)]);
    assert!(opened(&server.frames(), 0) > 0);
    assert_eq!(server.engine.take_message(old), Next::Pending);
}

#[test]
fn a_client_ends_no_more_calls_than_it_has_to() {
    let mut client = Client::with(|options| {
        options.http.connection_window_bytes = WINDOW as u32;
        options.max_unread_bytes = 200_000;
    });
    let half = &message(vec![7; 60_000])[..50_000];
    let mut ended = Vec::new();
    for stream in (1..20).step_by(2) {
        client.unary();
        client.send(response(stream));
        for piece in half.chunks(10_000) {
            client.send(data(stream, piece));
        }
        let resets = client.frames().into_iter().filter(|frame| frame.kind == kind::RST_STREAM);
        ended.extend(resets.map(|frame| frame.stream));
    }
    // Four fit. Each that comes costs the youngest of those that hold much already.
    assert_eq!(ended, [7, 9, 11, 13, 15, 17]);
    assert!(client.engine.http().held_bytes() <= 200_000 + (16 << 10));
}

#[test]
fn calls_that_never_send_all_of_their_messages_are_bounded() {
    let mut server = Server::with(|options| options.max_unread_bytes = 64 << 20);
    let half = &message(vec![7; 60_000])[..60_000];
    let mut ended = Vec::new();
    for (stream, piece) in (1..4000)
        .step_by(2)
        .flat_map(|stream| half.chunks(15_000).map(move |piece| (stream, piece)))
    {
        if piece.len() > server.engine.http().connection_window_available() {
            break;
        }
        if piece.as_ptr() == half.as_ptr() {
            server.send(request(stream, "/s/Unary"));
        }
        server.send(data(stream, piece));
        let frames = server.frames();
        for frame in frames.iter().filter(|frame| frame.kind == kind::HEADERS) {
            let fields = server.fields(frame);
            assert_eq!(field(&fields, "grpc-status"), Some("8"), "{fields:?}");
            ended.push(frame.stream);
        }
        let held = server.engine.http().held_bytes();
        assert!(held < 66 << 20, "{held} octets are held");
    }
    assert!(ended.len() > 500, "{} calls have ended", ended.len());
    assert!(ended[0] > 2000, "{}, an old call, has ended", ended[0]);
    // Those that are left can still be served.
    server.send(data(1, &message(vec![7; 60_000])[60_000..]).end_stream());
    let (call, _) = server.accept();
    assert_eq!(server.read_all(call).len(), 1);
}
