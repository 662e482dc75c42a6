//! Messages on the wire: framing, cuts and limits (PROTOCOL-HTTP2, "Length-Prefixed-Message"; statuscodes.md for what
//! breaks).

mod common;

use common::Written;
use common::client::Client;
use common::server::{Server, UNARY};
use oxgrpc_core::{Code, Engine, MessageLimits, Next, Sent, ServerEvent};
use oxgrpc_testkit::frame::*;
use oxgrpc_testkit::grpc::{flagged, message};

const TOO_LARGE: &str = "Received message larger than max";

#[test]
fn a_message_has_a_flag_and_a_length_in_front() {
    let mut client = Client::new();
    let call = client.unary();
    client.frames();
    assert_eq!(client.engine.send_message(call, &b"hello"[..], false, true), Ok(Sent::Written));
    assert_eq!(client.written(), [Written::Data(b"\0\0\0\0\x05hello".to_vec(), true)]);
}

#[test]
fn an_empty_message_is_a_message() {
    let mut client = Client::new();
    let call = client.streaming();
    client.send(response(1)).send(data(1, message(""))).send(trailers(1));
    assert_eq!(client.engine.take_message(call), Next::Message(Vec::new()));
    assert_eq!(client.engine.take_message(call), Next::End);
}

#[test]
fn messages_may_be_cut_anywhere() {
    let content = [message("first"), message(""), message([7; 300])].concat();
    let expected = [b"first".to_vec(), vec![], vec![7; 300]];
    for cut in 0..=content.len() {
        let mut client = Client::new();
        let call = client.streaming();
        client.send(response(1));
        client.send(data(1, &content[..cut])).send(data(1, &content[cut..])).send(trailers(1));
        assert_eq!(client.read_all(call), expected, "cut at {cut}");
        assert_eq!(client.status(call).0, Code::Ok);

        let mut server = Server::new();
        let call = server.streaming(1);
        server.send(data(1, &content[..cut])).send(data(1, &content[cut..]).end_stream());
        assert_eq!(server.read_all(call), expected, "cut at {cut}");
    }
}

#[test]
fn octets_may_come_one_by_one() {
    let mut server = Server::new();
    let mut frames = request(1, UNARY).encode();
    for octet in message("abc") {
        frames.extend(data(1, [octet]).encode());
    }
    frames.extend(data(1, "").end_stream().encode());
    for octet in frames {
        server.send_octets(&[octet]);
    }
    let (call, _) = server.accept();
    assert_eq!(server.read_all(call), [b"abc"]);
}

#[test]
fn a_reader_is_told_of_each_message_it_waits_for() {
    let mut server = Server::new();
    let call = server.streaming(1);
    for text in ["a", "b"] {
        assert_eq!(server.engine.take_message(call), Next::Pending);
        server.send(data(1, message(text)));
        assert_eq!(server.events(), [ServerEvent::Readable(call)]);
        assert_eq!(server.engine.take_message(call), Next::Message(text.into()));
    }
    assert_eq!(server.engine.take_message(call), Next::Pending);
    server.send(data(1, "").end_stream());
    assert_eq!(server.events(), [ServerEvent::Readable(call)]);
    assert_eq!(server.engine.take_message(call), Next::End);
    // Nobody waits, so nobody is told.
    let call = server.streaming(3);
    server.send(data(3, message("a")));
    assert_eq!(server.events(), []);
    assert_eq!(server.read_all(call), [b"a"]);
}

#[test]
fn a_server_receives_up_to_its_limit_and_names_both_sizes() {
    let mut server = Server::with(|options| options.limits.max_receive_bytes = 10);
    server.send(request(1, UNARY)).send(data(1, message([0; 10])).end_stream());
    let (call, _) = server.accept();
    assert_eq!(server.read_all(call), [[0; 10]]);

    server.send(request(3, UNARY)).send(data(3, message([0; 11])));
    let frames = server.frames_on(3);
    assert_eq!(frames[1..], [reset(3, 0)]);
    let fields = server.fields(&frames[0]);
    assert_eq!(common::field(&fields, "grpc-status"), Some("8"));
    let text = format!("SERVER: {TOO_LARGE} (11 vs. 10)");
    assert_eq!(common::field(&fields, "grpc-message"), Some(&*text));
    assert_eq!(server.events(), []);
    server.expect_alive();
}

#[test]
fn a_handler_learns_that_a_request_is_too_large() {
    let mut server = Server::with(|options| options.limits.max_receive_bytes = 10);
    let call = server.streaming(1);
    server.send(data(1, message("fits"))).send(data(1, message([0; 11])));
    assert_eq!(server.events(), [ServerEvent::Cancelled(call)]);
}

#[test]
fn a_client_receives_up_to_its_limit_and_names_both_sizes() {
    let mut client = Client::with(|options| options.limits.max_receive_bytes = 10);
    let call = client.streaming();
    client.send(response(1)).send(data(1, [message([0; 10]), message([0; 11])].concat()));
    assert_eq!(
        client.status(call),
        (Code::ResourceExhausted, format!("CLIENT: {TOO_LARGE} (11 vs. 10)"))
    );
    // What came before can still be read.
    assert_eq!(client.read_all(call), [[0; 10]]);
    assert_eq!(client.engine.take_message(call), Next::End);
    assert_eq!(client.frames_on(1).last(), Some(&reset(1, 8)));
    client.expect_alive();
}

#[test]
fn the_default_limit_is_4_mib() {
    let mut client = Client::new();
    let call = client.unary();
    client.send(response(1)).send(data(1, [0, 0, 0x40, 0, 1]));
    assert_eq!(
        client.status(call),
        (Code::ResourceExhausted, format!("CLIENT: {TOO_LARGE} (4194305 vs. 4194304)"))
    );
}

#[test]
fn a_prefix_of_2_gib_is_refused_or_takes_no_memory() {
    let prefix = [0, 0x80, 0, 0, 0];
    let mut client = Client::new();
    let call = client.unary();
    client.send(response(1)).send(data(1, prefix));
    assert_eq!(
        client.status(call),
        (Code::ResourceExhausted, format!("CLIENT: {TOO_LARGE} (2147483648 vs. 4194304)"))
    );
    let mut client = Client::with(|options| options.limits.max_receive_bytes = usize::MAX);
    let call = client.streaming();
    client.send(response(1)).send(data(1, prefix)).send(data(1, [7; 1000]));
    assert_eq!(client.engine.take_message(call), Next::Pending);
    assert_eq!(client.engine.http().held_bytes(), 1005);
    client.expect_alive();
}

#[test]
fn messages_are_sent_up_to_the_limit_and_both_sizes_named() {
    let mut client = Client::with(|options| options.limits.max_send_bytes = 10);
    let call = client.streaming();
    client.frames();
    assert_eq!(client.engine.send_message(call, &[0; 10][..], false, false), Ok(Sent::Written));
    let status = client.engine.send_message(call, &[0; 11][..], false, false).unwrap_err();
    assert_eq!(status.code, Code::ResourceExhausted);
    assert_eq!(status.message, "CLIENT: Sent message larger than max (11 vs. 10)");
    assert_eq!(client.written(), [Written::Data(message([0; 10]), false)]);

    let mut server = Server::with(|options| options.limits.max_send_bytes = 10);
    let call = server.streaming(1);
    let status = server.engine.send_message(call, &[0; 11][..], false).unwrap_err();
    assert_eq!(status.code, Code::ResourceExhausted);
    assert_eq!(status.message, "SERVER: Sent message larger than max (11 vs. 10)");
}

#[test]
fn a_flag_other_than_0_and_1_ends_the_call() {
    let mut client = Client::new();
    let call = client.unary();
    client.send(response(1)).send(data(1, flagged(2, "x")));
    assert_eq!(client.status(call).0, Code::Internal);
    client.expect_alive();
}

#[test]
fn a_stream_that_ends_within_a_message_ends_with_an_error() {
    let whole = message("hello");
    for cut in 1..whole.len() {
        let mut client = Client::new();
        let call = client.unary();
        client.send(response(1)).send(data(1, &whole[..cut])).send(trailers(1));
        assert_eq!(client.status(call).0, Code::Internal, "cut at {cut}");

        let mut server = Server::new();
        let call = server.streaming(1);
        server.send(data(1, &whole[..cut]).end_stream());
        assert_eq!(server.events(), [ServerEvent::Cancelled(call)]);
        let frames = server.frames_on(1);
        let fields = server.fields(&frames[0]);
        assert_eq!(common::field(&fields, "grpc-status"), Some("13"), "cut at {cut}");
    }
}

#[test]
fn the_servers_error_stands_above_a_broken_message() {
    let mut client = Client::new();
    let call = client.unary();
    client.send(response(1)).send(data(1, [0, 0]));
    client.send(headers(1, &[("grpc-status", "5"), ("grpc-message", "gone")]).end_stream());
    assert_eq!(client.status(call), (Code::NotFound, "gone".into()));
}

#[test]
fn a_call_may_have_limits_of_its_own() {
    let limits = MessageLimits { max_receive_bytes: 5, max_send_bytes: 6 };
    let mut client = Client::new();
    let limited = client.start(|request| request.limits = Some(limits)).expect("it is started");
    let other = client.unary();
    let status = client.engine.send_message(limited, &[0; 7][..], false, true).unwrap_err();
    assert_eq!(status.message, "CLIENT: Sent message larger than max (7 vs. 6)");
    assert_eq!(client.engine.send_message(other, &[0; 7][..], false, true), Ok(Sent::Written));
    client.send(response(1)).send(data(1, message("123456")));
    let (code, text) = client.status(limited);
    assert_eq!(code, Code::ResourceExhausted);
    assert_eq!(text, "CLIENT: Received message larger than max (6 vs. 5)");
    client.send(response(3)).send(data(3, message("123456"))).send(trailers(3));
    assert_eq!(client.status(other).0, Code::Ok);
}
