//! Requests: the header section that a client writes and what a server reads out of one (PROTOCOL-HTTP2, "Requests").

mod common;

use common::client::Client;
use common::server::{STREAM, Server, UNARY, request_with};
use common::{Written, field, metadata, owned, pairs};
use oxgrpc_core::{Code, Metadata, ServerEvent, StartError, Status};
use oxgrpc_testkit::frame::*;
use oxgrpc_testkit::grpc::message;
use std::time::Duration;

/// What the server says at once, without a call.
#[track_caller]
fn refused(server: &mut Server) -> Vec<(String, String)> {
    assert_eq!(server.events(), []);
    match server.written().remove(0) {
        Written::Fields(fields, true) => fields,
        other => panic!("{other:?} is no answer"),
    }
}

#[test]
fn a_request_says_what_the_protocol_asks_for() {
    let mut client = Client::new();
    let fields = client.headers_of(&metadata(&[("x-key", b"value")]), None);
    let expected = [
        (":scheme", "http"),
        (":method", "POST"),
        (":path", "/s/Method"),
        (":authority", "server:50051"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "test-agent/1"),
        ("grpc-accept-encoding", "identity, deflate, gzip"),
        ("x-key", "value"),
    ];
    assert_eq!(fields, owned(&expected));
    // A call that is repeated says the same, however it is compressed.
    assert_eq!(client.headers_of(&metadata(&[("x-key", b"value")]), None), fields);
}

#[test]
fn binary_metadata_goes_out_without_padding() {
    let values = metadata(&[("k-bin", b"\x01"), ("k-bin", b"\x01\x02\x03"), ("e-bin", b"")]);
    let fields = Client::new().headers_of(&values, None);
    let sent = owned(&[("k-bin", "AQ"), ("k-bin", "AQID"), ("e-bin", "")]);
    assert_eq!(fields[fields.len() - 3..], sent);
}

#[test]
fn binary_metadata_is_read_with_padding_or_without_and_joined() {
    let more = [("k-bin", "AQ=="), ("k-bin", "AQ"), ("k-bin", "AQ==,Ag, Aw"), ("e-bin", "")];
    let mut server = Server::new();
    server.send(request_with(1, STREAM, &more));
    let (_, accepted) = server.accept();
    let (one, two, three) = ("\\x01", "\\x02", "\\x03");
    let expected = [one, one, one, two, three].map(|value| ("k-bin", value));
    assert_eq!(pairs(&accepted.metadata), owned(&[&expected[..], &[("e-bin", "")]].concat()));

    let mut client = Client::new();
    let fields = [(":status", "200"), ("grpc-status", "5"), ("k-bin", "AQ==,Ag")];
    let trailing = client.answered(&fields).trailing;
    assert_eq!(pairs(&trailing), owned(&[("k-bin", one), ("k-bin", two)]));
}

#[test]
fn binary_metadata_that_is_not_base64_ends_the_call() {
    let mut server = Server::new();
    server.send(request_with(1, STREAM, &[("k-bin", "*")]));
    let fields = refused(&mut server);
    assert_eq!(field(&fields, "grpc-status"), Some("13"));
    assert_eq!(field(&fields, "grpc-message"), Some("Metadata 'k-bin' is not base64"));
    let outcome =
        Client::new().answered(&[(":status", "200"), ("grpc-status", "0"), ("k-bin", "*")]);
    assert_eq!(outcome.status.code, Code::Internal);
}

#[test]
fn a_server_sees_the_applications_metadata_in_its_order() {
    let mut server = Server::new();
    let more = [
        ("x-b", "1"),
        ("user-agent", "them/1"),
        ("x-a", "spaces within"),
        ("grpc-accept-encoding", "gzip"),
        ("grpc-tags-bin", "AQ"),
        ("x-b", "2"),
    ];
    server.send(request_with(1, STREAM, &more));
    let (_, accepted) = server.accept();
    let expected =
        [("x-b", "1"), ("x-a", "spaces within"), ("grpc-tags-bin", "\\x01"), ("x-b", "2")];
    assert_eq!(pairs(&accepted.metadata), owned(&expected));
    assert_eq!(accepted.user_agent.as_deref(), Some(&b"them/1"[..]));
    assert_eq!(accepted.method, Some(1));
    assert_eq!(accepted.deadline, None);
}

#[test]
fn white_space_around_a_value_makes_a_request_malformed() {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", STREAM),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("x", "a b"),
        ("grpc-timeout", "1S"),
        ("k-bin", "AQ,Ag"),
    ];
    for (at, (name, value)) in fields.into_iter().enumerate() {
        for padded in [format!(" {value}"), format!("{value} "), format!("\t{value}")] {
            let mut fields = fields;
            fields[at].1 = &padded;
            let mut server = Server::new();
            server.send(headers(1, &fields));
            assert_eq!(server.events(), []);
            let written = server.written();
            let [Written::Fields(answer, true), Written::Reset(1)] = &written[..] else {
                panic!("{name}: {written:?}")
            };
            assert_eq!(field(answer, "grpc-status"), Some("13"));
            let text =
                format!("The value of '{name}' starts or ends with white space (RFC 9113 §8.2.1)");
            let message = field(answer, "grpc-message").unwrap_or_default();
            assert_eq!(message.replace("%C2%A7", "§"), text);
            server.expect_alive();
        }
    }
    let mut server = Server::new();
    server.send(headers(1, &fields));
    assert!(matches!(server.events()[..], [ServerEvent::Call(_)]));
}

#[test]
fn white_space_around_metadata_is_not_sent() {
    let given = metadata(&[("x", b" a b "), ("y", b" "), ("k-bin", b" ")]);
    let mut client = Client::new();
    let fields = client.headers_of(&given, None);
    let sent = ["x", "y", "k-bin"].map(|name| field(&fields, name));
    assert_eq!(sent, [Some("a b"), Some(""), Some("IA")]);
}

#[test]
fn a_call_without_any_time_left_is_not_reported() {
    for path in [UNARY, STREAM] {
        let mut server = Server::new();
        server.send(request_with(1, path, &[("grpc-timeout", "0n")]));
        server.send(data(1, message("x")).end_stream());
        assert_eq!(server.events(), []);
        let Written::Fields(fields, true) = server.written().remove(0) else { panic!("no end") };
        assert_eq!(field(&fields, "grpc-status"), Some("4"));
        assert_eq!(server.engine.calls(), 0);
    }
}

#[test]
fn secrets_are_never_indexed() {
    let mut client = Client::new();
    for _ in 0..2 {
        client.start_with(&metadata(&[("authorization", b"s3cret")]), None).unwrap();
        let block = client.frames().remove(0).payload;
        // A literal with the name's index 23 in the static table (RFC 7541 §6.2.3); the value may be Huffman-coded.
        assert!(block.windows(2).any(|pair| pair == [0x1f, 0x08]), "{}", block.escape_ascii());
    }
}

#[test]
fn the_content_type_must_be_grpcs() {
    let with = |content_type| {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", STREAM),
            ("content-type", content_type),
        ];
        headers(1, &fields)
    };
    for content_type in ["application/grpc", "application/grpc+json", "application/grpc; a=b"] {
        let mut server = Server::new();
        server.send(with(content_type));
        assert!(matches!(server.events()[..], [ServerEvent::Call(_)]), "{content_type}");
    }
    for content_type in ["application/json", "application/grpc-web", "application/grpcx", ""] {
        let mut server = Server::new();
        server.send(with(content_type));
        assert_eq!(refused(&mut server), owned(&[(":status", "415")]), "{content_type}");
        server.expect_alive();
    }
    let mut server = Server::new();
    server.send(headers(1, &[(":method", "POST"), (":scheme", "http"), (":path", STREAM)]));
    assert_eq!(refused(&mut server), owned(&[(":status", "415")]));
}

#[test]
fn the_method_must_be_post() {
    let mut server = Server::new();
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", STREAM),
        ("content-type", "application/grpc"),
    ];
    server.send(headers(1, &fields).end_stream());
    assert_eq!(refused(&mut server), owned(&[(":status", "405")]));
}

#[test]
fn a_method_that_the_server_does_not_have_is_unimplemented() {
    let paths = [&b"/s/None"[..], b"/", b"/s/Unary/", b"/s/\xff\xfe", b"/S/unary"];
    for path in paths {
        let start = block(&[(":method", "POST"), (":scheme", "http")]);
        let rest = block(&[("content-type", "application/grpc")]);
        let block = [start, oxgrpc_testkit::block::field(b":path", path), rest].concat();
        let frame = Frame::new(kind::HEADERS, flag::END_HEADERS, 1, block);

        let mut server = Server::new();
        server.send(frame.clone()).send(data(1, message("x")).end_stream());
        let fields = refused(&mut server);
        assert_eq!(field(&fields, ":status"), Some("200"));
        assert_eq!(field(&fields, "grpc-status"), Some("12"), "{}", path.escape_ascii());
        server.expect_alive();

        // A server with generic handlers gets the path as it came.
        let mut server = Server::reporting_unknown();
        server.send(frame);
        let (_, accepted) = server.accept();
        assert_eq!((accepted.method, &*accepted.path), (None, path));
    }
}

#[test]
fn a_refused_request_may_still_bring_content() {
    let mut server = Server::new();
    server.send(request(1, "/s/None"));
    let written = server.written();
    assert!(matches!(written[..], [Written::Fields(_, true), Written::Reset(0)]), "{written:?}");
    server.send(data(1, message([7; 1000]))).send(data(1, "").end_stream());
    assert_eq!(server.events(), []);
    server.expect_alive();
    assert_eq!(server.engine.calls(), 0);
}

#[test]
fn a_header_section_that_is_too_large_is_answered() {
    let large = "x".repeat(20_000);
    let mut server = Server::new();
    let frame = request_with(1, UNARY, &[("x-a", &large)]);
    for piece in frame.in_pieces(16_000) {
        server.send(piece);
    }
    let fields = refused(&mut server);
    assert_eq!(field(&fields, "grpc-status"), Some("8"));
    server.expect_alive();
}

#[test]
fn metadata_that_the_server_does_not_take_is_not_sent() {
    let mut client = Client::against(&[(setting::MAX_HEADER_LIST_SIZE, 1000)], |_| {});
    let metadata = metadata(&[("x-a", &[b'x'; 1000])]);
    client.unary();
    client.frames();
    let Err(StartError::Failed(status)) = client.start_with(&metadata, None) else {
        panic!("it is started")
    };
    assert_eq!(status.code, Code::ResourceExhausted);
    assert!(status.message.ends_with("vs. 1000)"), "{}", status.message);
    assert_eq!(client.frames(), []);
    assert_eq!(client.engine.calls(), 1);
}

#[test]
fn a_timeout_has_at_most_eight_digits_and_is_never_shorter() {
    let cases = [
        (Duration::from_nanos(1), "1n"),
        (Duration::from_nanos(99_999_999), "99999999n"),
        (Duration::from_nanos(100_000_001), "100001u"),
        (Duration::from_millis(100_000), "100000m"),
        (Duration::from_secs(99_999), "99999000m"),
        (Duration::from_secs(100_000), "100000S"),
        (Duration::from_secs(100_000_000), "1666667M"),
        (Duration::from_secs(60 * 100_000_000), "1666667H"),
    ];
    for (timeout, wire) in cases {
        let fields = Client::new().headers_of(&Metadata::new(), Some(timeout));
        assert_eq!(field(&fields, "grpc-timeout"), Some(wire));
    }
    let fields = Client::new().headers_of(&Metadata::new(), None);
    assert_eq!(field(&fields, "grpc-timeout"), None);
}

#[test]
fn a_timeout_is_read_in_all_units() {
    let cases = [
        ("7n", Duration::from_nanos(7)),
        ("7u", Duration::from_micros(7)),
        ("7m", Duration::from_millis(7)),
        ("7S", Duration::from_secs(7)),
        ("7M", Duration::from_secs(7 * 60)),
        ("7H", Duration::from_secs(7 * 3600)),
        ("99999999m", Duration::from_millis(99_999_999)),
        ("00000001S", Duration::from_secs(1)),
    ];
    for (wire, timeout) in cases {
        let mut server = Server::new();
        server.send(request_with(1, STREAM, &[("grpc-timeout", wire)]));
        let (_, accepted) = server.accept();
        assert_eq!(accepted.deadline, Some(server.clock.now() + timeout), "{wire}");
    }
    // What nobody lives to see does no harm.
    let mut server = Server::new();
    server.send(request_with(1, STREAM, &[("grpc-timeout", "99999999H")]));
    server.accept();
    server.advance(1000);
    assert_eq!(server.events(), []);
}

#[test]
fn a_timeout_that_is_none_ends_the_call() {
    for wire in ["", "S", "1", "123456789S", "-1S", "1s", "1.5S", "1 S"] {
        let mut server = Server::new();
        server.send(request_with(1, STREAM, &[("grpc-timeout", wire)]));
        assert_eq!(field(&refused(&mut server), "grpc-status"), Some("13"), "{wire}");
    }
}

#[test]
fn metadata_that_the_client_does_not_take_costs_it_only_that_call() {
    let large = metadata(&[("x-a", &[b'x'; 1000])]);
    for initial in [true, false] {
        let mut server = Server::raw(|_| {}, false);
        server.send_octets(PREFACE).send(settings(&[(setting::MAX_HEADER_LIST_SIZE, 1000)]));
        server.send(settings_ack());
        let call = server.streaming(1);
        server.frames();
        if initial {
            server.engine.send_initial_metadata(call, &large);
            assert_eq!(server.events(), [ServerEvent::Cancelled(call)]);
        } else {
            server.engine.finish(call, &Status::OK, &large);
        }
        let written = server.written();
        let [Written::Fields(fields, true), Written::Reset(0)] = &written[..] else {
            panic!("{written:?}")
        };
        assert_eq!(field(fields, "grpc-status"), Some("8"));
        let text = field(fields, "grpc-message").expect("a message");
        assert!(text.starts_with("SERVER: Sent metadata larger than the peer's max"), "{text}");
        server.expect_alive();
    }
}

#[test]
fn attempts_before_this_one_are_told_unless_there_were_none() {
    let mut client = Client::new();
    for (previous, told) in [(0, None), (1, Some("1")), (12, Some("12"))] {
        client.start(|request| request.previous_attempts = previous).expect("it is started");
        let written = client.written().remove(0);
        let Written::Fields(fields, false) = written else { panic!("{written:?}") };
        let of_attempts = fields.iter().find(|(name, _)| name == "grpc-previous-rpc-attempts");
        assert_eq!(of_attempts.map(|(_, value)| value.as_str()), told);
    }
}
