//! How a call ends: the server's status, or what an HTTP status, a reset or a broken response is taken for
//! (PROTOCOL-HTTP2, "Responses" and "Errors"; http-grpc-status-mapping.md; statuscodes.md).

mod common;

use common::client::Client;
use common::server::{Server, UNARY};
use common::{Written, field, metadata, owned, pairs};
use oxgrpc_core::{ClientEvent, Code, Metadata, Status};
use oxgrpc_testkit::frame::*;
use oxgrpc_testkit::grpc::message;

const HTTP_OK: (&str, &str) = (":status", "200");
const GRPC: (&str, &str) = ("content-type", "application/grpc");

#[test]
fn every_code_passes_in_both_directions() {
    for code in Code::ALL {
        let mut client = Client::new();
        let number = code.wire();
        let outcome = client.answered(&[HTTP_OK, GRPC, ("grpc-status", number)]);
        // A call that has a response cannot succeed without one.
        let expected = if code == Code::Ok { Code::Unimplemented } else { code };
        assert_eq!((outcome.status.code, outcome.is_remote), (expected, true));

        let mut server = Server::new();
        let call = server.streaming(1);
        server.engine.finish(call, &Status::new(code, ""), &Metadata::new());
        let Written::Fields(fields, true) = server.written().remove(0) else { panic!("no end") };
        assert_eq!(field(&fields, "grpc-status"), Some(number));
        assert_eq!(field(&fields, "grpc-message"), None);
    }
}

#[test]
fn a_number_that_is_no_code_is_unknown() {
    for number in ["17", "99", "-1", "", "ok", "4294967296", "\u{fffd}"] {
        let outcome = Client::new().answered(&[HTTP_OK, GRPC, ("grpc-status", number)]);
        assert_eq!(outcome.status.code, Code::Unknown, "{number}");
    }
}

#[test]
fn a_message_is_percent_decoded_and_never_hides_the_status() {
    let cases = [
        ("plain text", "plain text"),
        ("100%25", "100%"),
        ("%C3%A9%e2%82%ac", "é€"),
        ("line%0Abreak", "line\nbreak"),
        ("%", "%"),
        ("%4", "%4"),
        ("%zz%41", "%zzA"),
        ("%FFx", "\u{fffd}x"),
        ("raw é", "raw é"),
        ("", ""),
    ];
    for (wire, text) in cases {
        let fields = [HTTP_OK, GRPC, ("grpc-status", "5"), ("grpc-message", wire)];
        let status = Client::new().answered(&fields).status;
        assert_eq!((status.code, &*status.message), (Code::NotFound, text), "{wire}");
    }
}

#[test]
fn of_several_statuses_the_first_failure_counts() {
    type Fields<'a> = &'a [(&'a str, &'a str)];
    let cases: [(Fields<'_>, Code, &str); 6] = [
        (&[("grpc-status", "0"), ("grpc-status", "13")], Code::Internal, ""),
        (&[("grpc-status", "13"), ("grpc-status", "0")], Code::Internal, ""),
        (
            &[
                ("grpc-status", "13"),
                ("grpc-message", "a"),
                ("grpc-status", "14"),
                ("grpc-message", "b"),
            ],
            Code::Internal,
            "a",
        ),
        (
            &[
                ("grpc-status", "0"),
                ("grpc-message", "a"),
                ("grpc-status", "5"),
                ("grpc-message", "b"),
            ],
            Code::NotFound,
            "b",
        ),
        (
            &[
                ("grpc-status", "5"),
                ("grpc-message", "a"),
                ("grpc-status", "0"),
                ("grpc-message", "b"),
            ],
            Code::NotFound,
            "a",
        ),
        (
            &[("grpc-message", "a"), ("grpc-status", "5"), ("grpc-status", "99")],
            Code::NotFound,
            "a",
        ),
    ];
    for (fields, code, message) in cases {
        let status = Client::new().answered(&[&[HTTP_OK, GRPC], fields].concat()).status;
        assert_eq!(status, Status::new(code, message), "{fields:?}");
    }
}

#[test]
fn white_space_around_a_response_is_understood() {
    let fields = [HTTP_OK, GRPC, ("grpc-status", "5 "), ("grpc-message", "failed: "), ("x", " v ")];
    let outcome = Client::new().answered(&fields);
    assert_eq!(outcome.status, Status::new(Code::NotFound, "failed: "));
    assert_eq!(pairs(&outcome.trailing), owned(&[("x", "v")]));
}

#[test]
fn details_that_are_not_base64_do_not_hide_the_status() {
    for (details, is_lost) in [("*!*", true), ("AQ", false)] {
        let fields = [
            HTTP_OK,
            GRPC,
            ("grpc-status", "5"),
            ("grpc-message", "none"),
            ("grpc-status-details-bin", details),
            ("x", "y"),
        ];
        let outcome = Client::new().answered(&fields);
        assert_eq!(outcome.status, Status::new(Code::NotFound, "none"));
        assert_eq!(outcome.lost_details, is_lost);
        assert_eq!(outcome.trailing.len(), if is_lost { 1 } else { 2 });
    }
}

#[test]
fn a_message_is_percent_encoded() {
    for (text, wire) in [
        ("100 %", "100 %25"),
        ("é\n\u{7f}", "%C3%A9%0A%7F"),
        ("a~", "a~"),
        (" failed: ", "%20failed:%20"),
    ] {
        let mut server = Server::new();
        let call = server.streaming(1);
        server.engine.finish(call, &Status::new(Code::NotFound, text), &Metadata::new());
        let Written::Fields(fields, true) = server.written().remove(0) else { panic!("no end") };
        assert_eq!(field(&fields, "grpc-message"), Some(wire));
    }
}

#[test]
fn a_response_of_trailers_only_has_everything() {
    let mut client = Client::new();
    let call = client.unary();
    let fields =
        [HTTP_OK, GRPC, ("grpc-status", "7"), ("grpc-message", "no"), ("x-why", "because")];
    client.answer(1, &fields);
    let outcome = client.outcome(call);
    assert_eq!(outcome.status, Status::new(Code::PermissionDenied, "no"));
    assert_eq!(pairs(&outcome.trailing), owned(&[("x-why", "because")]));
    assert_eq!(client.engine.take_initial_metadata(call), Some(Metadata::new()));

    let mut server = Server::new();
    let call = server.streaming(1);
    let status = Status::new(Code::PermissionDenied, "no");
    server.engine.finish(call, &status, &metadata(&[("x-why", b"because")]));
    let written = server.written();
    let [Written::Fields(fields, true), Written::Reset(0)] = &written[..] else {
        panic!("{written:?}")
    };
    let expected = [
        HTTP_OK,
        GRPC,
        ("grpc-accept-encoding", "identity, deflate, gzip"),
        ("grpc-status", "7"),
        ("grpc-message", "no"),
        ("x-why", "because"),
    ];
    assert_eq!(*fields, owned(&expected));
}

#[test]
fn headers_and_trailers_come_apart() {
    let mut client = Client::new();
    let call = client.unary();
    client.send(headers(1, &[HTTP_OK, GRPC, ("x-a", "1")]));
    assert_eq!(client.events(), [ClientEvent::Headers(call)]);
    let initial = client.engine.take_initial_metadata(call).expect("it has come");
    assert_eq!(pairs(&initial), owned(&[("x-a", "1")]));
    client.send(data(1, message("x")));
    client.send(headers(1, &[("grpc-status", "0"), ("x-b", "2")]).end_stream());
    let outcome = client.outcome(call);
    assert_eq!(outcome.status, Status::OK);
    assert_eq!(pairs(&outcome.trailing), owned(&[("x-b", "2")]));
    assert_eq!(client.read_all(call), [b"x"]);
}

#[test]
fn an_end_without_a_status_is_an_error() {
    let outcome = Client::new().answered(&[HTTP_OK, GRPC]);
    assert_eq!((outcome.status.code, outcome.is_remote), (Code::Unknown, true));

    let mut client = Client::new();
    let call = client.unary();
    client.send(response(1)).send(data(1, message("x")));
    client.send(headers(1, &[("x-a", "1")]).end_stream());
    assert_eq!(client.status(call).0, Code::Unknown);

    let mut client = Client::new();
    let call = client.unary();
    client.send(response(1)).send(data(1, message("x")).end_stream());
    assert_eq!(client.status(call).0, Code::Internal);
}

#[test]
fn another_http_status_becomes_a_code() {
    let cases = [
        ("400", Code::Internal),
        ("401", Code::Unauthenticated),
        ("403", Code::PermissionDenied),
        ("404", Code::Unimplemented),
        ("429", Code::Unavailable),
        ("502", Code::Unavailable),
        ("503", Code::Unavailable),
        ("504", Code::Unavailable),
        ("500", Code::Unknown),
        ("204", Code::Unknown),
    ];
    for (http, code) in cases {
        let fields = [(":status", http), ("content-type", "text/html")];
        let status = Client::new().answered(&fields).status;
        let text = format!("Received http2 header with status: {http}");
        assert_eq!((status.code, &*status.message), (code, &*text));
    }
    // Also where a page follows, of which nothing is read as messages.
    let mut client = Client::new();
    let call = client.unary();
    client.send(headers(1, &[(":status", "503"), ("content-type", "text/html")]));
    client.send(data(1, "<html>").end_stream());
    assert_eq!(client.status(call).0, Code::Unavailable);
    assert_eq!(client.read_all(call), [] as [Vec<u8>; 0]);
    client.expect_alive();
}

#[test]
fn a_grpc_status_stands_above_an_http_status() {
    let outcome = Client::new().answered(&[(":status", "503"), GRPC, ("grpc-status", "5")]);
    assert_eq!(outcome.status.code, Code::NotFound);
}

#[test]
fn informational_responses_are_passed_over() {
    let mut client = Client::new();
    let call = client.unary();
    client.send(headers(1, &[(":status", "103"), ("x-early", "1")]));
    client.send(response(1)).send(data(1, message("x"))).send(trailers(1));
    assert_eq!(client.status(call).0, Code::Ok);
    assert_eq!(client.engine.take_initial_metadata(call), Some(Metadata::new()));
}

#[test]
fn a_reset_becomes_a_code() {
    let cases = [
        (0, Code::Internal),
        (1, Code::Internal),
        (2, Code::Internal),
        (3, Code::Internal),
        (5, Code::Internal),
        (6, Code::Internal),
        (7, Code::Unavailable),
        (8, Code::Cancelled),
        (9, Code::Internal),
        (11, Code::ResourceExhausted),
        (12, Code::PermissionDenied),
        (0xfeed, Code::Internal),
    ];
    for (reset_code, code) in cases {
        let mut client = Client::new();
        let call = client.unary();
        client.send(response(1)).send(reset(1, reset_code));
        let outcome = client.outcome(call);
        let text = format!("Received RST_STREAM with error code {reset_code}");
        assert_eq!((outcome.status, outcome.is_remote), (Status::new(code, text), false));
    }
}

#[test]
fn a_reset_behind_the_trailers_changes_nothing() {
    // A server stops a client that still sends with NO_ERROR (RFC 9113 §8.1).
    let mut client = Client::new();
    let call = client.unary();
    client.send(response(1)).send(data(1, message("x"))).send(trailers(1)).send(reset(1, 0));
    assert_eq!(client.status(call).0, Code::Ok);
    assert_eq!(client.read_all(call), [b"x"]);
    client.expect_alive();
}

#[test]
fn a_rule_that_the_server_breaks_ends_its_call_alone() {
    let mut client = Client::new();
    let (broken, other) = (client.unary(), client.unary());
    client.send(headers(1, &[("x-a", "without :status")]));
    let (code, text) = client.status(broken);
    assert_eq!(code, Code::Internal);
    assert!(text.contains(":status"), "{text}");
    client.send(response(3)).send(data(3, message("x"))).send(trailers(3));
    assert_eq!(client.status(other).0, Code::Ok);
}

#[test]
fn another_content_type_than_grpcs_is_an_error() {
    let mut client = Client::new();
    let call = client.unary();
    client.send(headers(1, &[HTTP_OK, ("content-type", "text/html")]));
    assert_eq!(
        client.status(call),
        (Code::Unknown, "Response has content-type 'text/html'".into())
    );
    assert_eq!(client.frames_on(1).last(), Some(&reset(1, 8)));
    for content_type in ["application/grpc+proto", "application/grpc;charset=utf-8"] {
        let mut client = Client::new();
        let call = client.unary();
        client.send(headers(1, &[HTTP_OK, ("content-type", content_type)]));
        assert_eq!(client.events(), [ClientEvent::Headers(call)]);
    }
}

#[test]
fn the_loss_of_the_connection_ends_all_calls() {
    let mut client = Client::new();
    let calls = [client.unary(), client.streaming()];
    client.send(response(3)).send(data(3, message("came before")));
    let lost = Status::new(Code::Unavailable, "Socket closed");
    client.engine.close(&lost);
    let mut ended = client.events();
    ended.retain(|event| matches!(event, ClientEvent::Ended(_)));
    assert_eq!(ended, calls.map(ClientEvent::Ended));
    for call in calls {
        let outcome = client.engine.take_outcome(call).expect("it has ended");
        assert_eq!((outcome.status, outcome.is_remote), (lost.clone(), false));
    }
    assert_eq!(client.read_all(calls[1]), [b"came before"]);

    let mut server = Server::new();
    let call = server.streaming(1);
    server.send(request(3, UNARY));
    server.engine.close();
    assert_eq!(server.events(), [oxgrpc_core::ServerEvent::Cancelled(call)]);
}
