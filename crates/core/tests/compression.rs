//! Message compression (gRPC compression.md): each message on its own, bounded when inflated, and what is answered to an
//! encoding that nobody knows.

mod common;

use common::client::Client;
use common::server::{STREAM, Server, UNARY, request_with};
use common::{Written, field};
use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder, ZlibDecoder, ZlibEncoder};
use oxgrpc_core::{Code, Encoding, Engine, Next, ServerEvent};
use oxgrpc_testkit::frame::*;
use oxgrpc_testkit::grpc::{flagged, message, messages};
use std::io::Read;

fn read(mut source: impl Read) -> Vec<u8> {
    let mut out = Vec::new();
    source.read_to_end(&mut out).expect("memory does not fail");
    out
}

fn gzip(content: &[u8]) -> Vec<u8> {
    read(GzEncoder::new(content, Compression::fast()))
}

fn deflate(content: &[u8]) -> Vec<u8> {
    read(ZlibEncoder::new(content, Compression::fast()))
}

fn encoded_response(stream: u32, encoding: &str) -> Frame {
    let fields =
        [(":status", "200"), ("content-type", "application/grpc"), ("grpc-encoding", encoding)];
    headers(stream, &fields)
}

#[test]
fn a_client_reads_what_its_server_compresses() {
    for (encoding, wire) in [("gzip", gzip(b"hello")), ("deflate", deflate(b"hello"))] {
        let mut client = Client::new();
        let call = client.streaming();
        let content = [flagged(1, wire), message("plain")].concat();
        client.send(encoded_response(1, encoding)).send(data(1, content)).send(trailers(1));
        assert_eq!(client.read_all(call), [&b"hello"[..], b"plain"], "{encoding}");
        assert_eq!(client.status(call).0, Code::Ok);
    }
}

#[test]
fn a_server_reads_what_its_client_compresses() {
    for (encoding, wire) in [("gzip", gzip(b"hello")), ("deflate", deflate(b"hello"))] {
        let mut server = Server::new();
        server.send(request_with(1, UNARY, &[("grpc-encoding", encoding)]));
        server.send(data(1, flagged(1, wire)).end_stream());
        let (call, _) = server.accept();
        assert_eq!(server.read_all(call), [b"hello"], "{encoding}");
    }
}

#[test]
fn a_driver_learns_what_reading_a_message_costs() {
    let bomb = gzip(&vec![0; (4 << 20) + 1]);
    let large = gzip(&[0; 60_000]);
    let mut client = Client::new();
    let mut server = Server::new();
    let call = client.streaming();
    client.send(encoded_response(1, "gzip"));
    server.send(request_with(1, STREAM, &[("grpc-encoding", "gzip")]));
    let (accepted, _) = server.accept();
    let content = [message("plain"), flagged(1, large), message(""), flagged(1, bomb)].concat();
    let (cut, rest) = content.split_at(message("plain").len() + 20);
    client.send(data(1, cut));
    server.send(data(1, cut));
    let (client_engine, server_engine) = (&mut client.engine, &mut server.engine);
    assert_eq!(client_engine.take_message(call), Next::Message(b"plain".to_vec()));
    assert_eq!(server_engine.take_message(accepted), Next::Message(b"plain".to_vec()));
    // The next one is not whole.
    assert!(!client_engine.next_is_compressed(call));
    assert!(!server_engine.next_is_compressed(accepted));
    for part in rest.chunks(16_000) {
        client.send(data(1, part));
        server.send(data(1, part));
    }
    let (client, server) = (&mut client.engine, &mut server.engine);
    for (is_compressed, cost) in [(true, 60_000), (false, 0), (true, 4 << 20), (false, 0)] {
        assert_eq!(client.next_is_compressed(call), is_compressed);
        assert_eq!(server.next_is_compressed(accepted), is_compressed);
        client.take_message(call);
        server.take_message(accepted);
        assert_eq!((client.take_inflated(), server.take_inflated()), (cost, cost));
    }
}

#[test]
fn a_client_compresses_the_messages_it_is_told_to() {
    let mut client = Client::new();
    let call = client.start(|request| request.encoding = Encoding::Gzip).unwrap();
    let Written::Fields(fields, false) = client.written().remove(0) else { panic!("no fields") };
    assert_eq!(field(&fields, "grpc-encoding"), Some("gzip"));
    for (compress, content) in [(true, [7; 1000]), (false, [8; 1000])] {
        client.engine.send_message(call, &content[..], compress, false).unwrap();
    }
    let content: Vec<u8> = client.frames().iter().flat_map(|frame| frame.payload.clone()).collect();
    let messages = messages(&content);
    assert_eq!((messages[0].0, read(GzDecoder::new(&messages[0].1[..]))), (1, vec![7; 1000]));
    assert!(messages[0].1.len() < 100);
    assert_eq!(messages[1], (0, vec![8; 1000]));
}

#[test]
fn a_server_compresses_and_says_how() {
    let mut server = Server::new();
    server.send(request_with(1, STREAM, &[("grpc-accept-encoding", "identity, deflate, gzip")]));
    let (call, _) = server.accept();
    server.engine.set_encoding(call, Encoding::Deflate);
    server.engine.send_message(call, &[7; 1000][..], true).unwrap();
    let written = server.written();
    let [Written::Fields(fields, false), Written::Data(content, false)] = &written[..] else {
        panic!("{written:?}")
    };
    assert_eq!(field(fields, "grpc-encoding"), Some("deflate"));
    let messages = messages(content);
    assert_eq!((messages[0].0, read(ZlibDecoder::new(&messages[0].1[..]))), (1, vec![7; 1000]));
    // The header section has gone: it is too late to change.
    server.engine.set_encoding(call, Encoding::Gzip);
    server.engine.send_message(call, &[7; 1000][..], true).unwrap();
    let Written::Data(content, _) = server.written().remove(0) else { panic!("no data") };
    assert!(read(ZlibDecoder::new(&content[5..])) == [7; 1000]);
}

#[test]
fn a_server_compresses_only_what_its_client_reads() {
    let cases: [(&[(&str, &str)], _); 4] = [
        (&[("grpc-accept-encoding", "deflate,gzip")], Some("gzip")),
        (&[("grpc-accept-encoding", "identity,deflate")], None),
        (&[("grpc-accept-encoding", "snappy, x-gzip")], None),
        (&[], None),
    ];
    for (accepts, encoding) in cases {
        let mut server = Server::new();
        server.send(request_with(1, STREAM, accepts));
        let (call, _) = server.accept();
        server.engine.set_encoding(call, Encoding::Gzip);
        server.engine.send_message(call, &[7; 1000][..], true).unwrap();
        let written = server.written();
        let [Written::Fields(fields, false), Written::Data(content, false)] = &written[..] else {
            panic!("{written:?}")
        };
        assert_eq!(field(fields, "grpc-encoding"), encoding, "{accepts:?}");
        assert_eq!(messages(content)[0].0, u8::from(encoding.is_some()), "{accepts:?}");
    }
}

#[test]
fn what_does_not_get_shorter_is_sent_as_it_is() {
    let mut client = Client::new();
    let call = client.start(|request| request.encoding = Encoding::Gzip).unwrap();
    client.frames();
    client.engine.send_message(call, &b"abc"[..], true, true).unwrap();
    assert_eq!(client.written(), [Written::Data(message("abc"), true)]);
}

#[test]
fn both_ends_say_what_they_accept() {
    let accepted = Some("identity, deflate, gzip");
    let mut client = Client::new();
    client.unary();
    let Written::Fields(fields, _) = client.written().remove(0) else { panic!("no fields") };
    assert_eq!(field(&fields, "grpc-accept-encoding"), accepted);
    let mut server = Server::new();
    let call = server.streaming(1);
    server.engine.send_message(call, &b"x"[..], false).unwrap();
    let Written::Fields(fields, _) = server.written().remove(0) else { panic!("no fields") };
    assert_eq!(field(&fields, "grpc-accept-encoding"), accepted);
    assert_eq!(field(&fields, "grpc-encoding"), None);
}

#[test]
fn a_server_answers_an_unknown_encoding_with_those_it_knows() {
    let mut server = Server::new();
    server.send(request_with(1, UNARY, &[("grpc-encoding", "snappy")]).end_stream());
    let written = server.written();
    let [Written::Fields(fields, true)] = &written[..] else { panic!("{written:?}") };
    assert_eq!(field(fields, "grpc-status"), Some("12"));
    assert_eq!(
        field(fields, "grpc-message"),
        Some("Compression algorithm 'snappy' is not supported")
    );
    assert_eq!(field(fields, "grpc-accept-encoding"), Some("identity, deflate, gzip"));
    server.expect_alive();
}

#[test]
fn a_client_fails_a_call_whose_encoding_it_does_not_know() {
    let mut client = Client::new();
    let call = client.unary();
    client.send(encoded_response(1, "snappy"));
    assert_eq!(
        client.status(call),
        (Code::Internal, "Compression algorithm 'snappy' is not supported".into())
    );
    assert_eq!(client.frames_on(1).last(), Some(&reset(1, 8)));
}

#[test]
fn a_compressed_flag_without_an_encoding_is_an_error() {
    let mut client = Client::new();
    let call = client.streaming();
    client.send(response(1)).send(data(1, flagged(1, gzip(b"hello"))));
    let Next::Failed(status) = client.engine.take_message(call) else { panic!("it is read") };
    assert_eq!(status.code, Code::Internal);

    let mut server = Server::new();
    server.send(request(1, UNARY)).send(data(1, flagged(1, gzip(b"hello"))).end_stream());
    let (call, _) = server.accept();
    let Next::Failed(status) = server.engine.take_message(call) else { panic!("it is read") };
    assert_eq!(status.code, Code::Internal);
}

#[test]
fn a_text_in_another_encoding_than_was_said_is_an_error() {
    for wire in [deflate(b"hello"), b"nonsense".to_vec(), gzip(b"hello")[..12].to_vec(), vec![]] {
        let mut client = Client::new();
        let call = client.streaming();
        client.send(encoded_response(1, "gzip")).send(data(1, flagged(1, &wire)));
        let Next::Failed(status) = client.engine.take_message(call) else { panic!("it is read") };
        assert_eq!(status.code, Code::Internal, "{}", wire.escape_ascii());
    }
}

#[test]
fn a_bomb_ends_the_call_and_the_limit_is_named() {
    let bomb = gzip(&vec![0; 20 << 20]);
    assert!(bomb.len() < 1 << 20);
    let mut server = Server::new();
    server.send(request_with(1, UNARY, &[("grpc-encoding", "gzip")]));
    for piece in flagged(1, &bomb).chunks(16_000) {
        server.send(data(1, piece));
    }
    server.send(data(1, "").end_stream());
    let (call, _) = server.accept();
    let Next::Failed(status) = server.engine.take_message(call) else { panic!("it is read") };
    assert_eq!(status.code, Code::ResourceExhausted);
    let sizes = format!("more than 4194304 inflated from {} vs. 4194304", bomb.len());
    assert!(status.message.contains(&sizes), "{}", status.message);
    assert_eq!(server.engine.http().held_bytes(), 0);
    server.engine.finish(call, &status, &oxgrpc_core::Metadata::new());
    assert_eq!(server.events(), [] as [ServerEvent; 0]);
}

#[test]
fn the_limit_counts_inflated_octets() {
    let mut server = Server::with(|options| options.limits.max_receive_bytes = 1000);
    for (stream, len, fits) in [(1, 1000, true), (3, 1001, false)] {
        server.send(request_with(stream, UNARY, &[("grpc-encoding", "gzip")]));
        server.send(data(stream, flagged(1, gzip(&vec![7; len]))).end_stream());
        let (call, _) = server.accept();
        assert_eq!(matches!(server.engine.take_message(call), Next::Message(_)), fits, "{len}");
    }
}
