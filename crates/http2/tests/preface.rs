//! What comes first on a connection, and what is said to a peer that speaks something else (RFC 9113 §3.4).

mod common;

use common::{Peer, Seen};
use oxgrpc_http2::{Config, ErrorCode, Role};
use oxgrpc_testkit::frame::*;

const PROTOCOL_ERROR: ErrorCode = ErrorCode::PROTOCOL_ERROR;

fn fresh(role: Role) -> Peer {
    Peer::fresh(role, Config::default())
}

#[test]
fn a_client_begins_with_the_magic_octets_and_settings() {
    let octets = fresh(Role::Client).octets();
    let frames = parse_all(octets.strip_prefix(PREFACE).unwrap());
    let announced = [(setting::ENABLE_PUSH, 0), (setting::MAX_HEADER_LIST_SIZE, 16 << 10)];
    assert_eq!(frames, [settings(&announced), window_update(0, (16 << 20) - 65_535)]);
}

#[test]
fn a_server_begins_with_settings_and_does_not_wait_for_the_client() {
    let frames = parse_all(&fresh(Role::Server).octets());
    let announced = [(setting::MAX_HEADER_LIST_SIZE, 16 << 10)];
    assert_eq!(frames, [settings(&announced), window_update(0, (16 << 20) - 65_535)]);
}

#[test]
fn a_client_may_send_requests_before_it_has_seen_our_settings() {
    let mut peer = fresh(Role::Server);
    let hello = [settings(&[]), request(1, "/s/m"), data(1, "early").end_stream()];
    peer.send_octets(&[PREFACE, &encode_all(&hello)].concat());
    let events: Vec<_> = peer.events().iter().map(Seen::brief).collect();
    assert_eq!(events, [("settings", 0), ("headers", 1), ("data", 1)]);
    peer.expect_alive();
    assert!(!peer.engine.settings_are_acknowledged());
}

#[test]
fn the_preface_may_come_octet_by_octet() {
    let mut peer = fresh(Role::Server);
    let octets = [PREFACE, &encode_all(&[settings(&[]), request(1, "/s/m")])].concat();
    for octet in &octets {
        peer.send_octets(&[*octet]);
    }
    let events: Vec<_> = peer.events().iter().map(Seen::brief).collect();
    assert_eq!(events, [("settings", 0), ("headers", 1)]);
    peer.expect_alive();
}

#[test]
fn a_connection_is_established_when_all_of_the_first_settings_have_come() {
    for role in [Role::Client, Role::Server] {
        let mut peer = fresh(role);
        if role == Role::Server {
            peer.send_octets(PREFACE);
        }
        for octet in settings(&[(setting::MAX_CONCURRENT_STREAMS, 5)]).encode() {
            assert!(!peer.engine.is_established(), "{role:?}");
            peer.send_octets(&[octet]);
        }
        assert!(peer.engine.is_established(), "{role:?}");
        assert_eq!(peer.events(), [Seen::Settings]);
    }
}

#[test]
fn a_wrong_octet_anywhere_in_the_preface_ends_the_connection() {
    for at in 0..PREFACE.len() {
        let mut preface = PREFACE.to_vec();
        preface[at] ^= 0x20;
        let mut peer = fresh(Role::Server);
        for octet in &preface[..at] {
            peer.send_octets(&[*octet]);
            assert_eq!(peer.engine.violation(), None);
        }
        peer.send_octets(&preface[at..=at]);
        peer.expect_go_away(PROTOCOL_ERROR);
    }
}

#[test]
fn a_server_tells_what_its_peer_speaks_instead() {
    let tls_hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc];
    let cases: [(&[u8], &str); 6] = [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.x"),
        (b"POST /s/m HTTP/1.1\r\n\r\n", "HTTP/1.x"),
        (b"PUT / HTTP/1.1\r\n\r\n", "HTTP/1.x"),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", "HTTP/1.x"),
        (&tls_hello, "TLS"),
        (b"\0\0\0\x04\0\0\0\0\0", "§3.4"),
    ];
    for (octets, word) in cases {
        let mut peer = fresh(Role::Server);
        let rule = peer.send_octets(octets).expect_go_away(PROTOCOL_ERROR);
        assert!(rule.contains(word), "{rule}");
    }
}

#[test]
fn http1_is_recognised_although_its_first_octet_matches() {
    let mut peer = fresh(Role::Server);
    let rule = peer.send_octets(b"P").send_octets(b"OST /").expect_go_away(PROTOCOL_ERROR);
    assert!(rule.contains("HTTP/1.x"), "{rule}");
    let mut peer = fresh(Role::Server);
    let rule = peer.send_octets(b"P").send_octets(b"OP3").expect_go_away(PROTOCOL_ERROR);
    assert!(rule.contains("§3.4"), "{rule}");
}

#[test]
fn a_client_tells_what_its_peer_answers_instead() {
    let cases: [(&[u8], &str); 3] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP/1.x"),
        (&[0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x0a, 0, 0], "TLS"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "§3.4"),
    ];
    for (octets, word) in cases {
        let mut peer = fresh(Role::Client);
        let rule = peer.send_octets(octets).expect_go_away(PROTOCOL_ERROR);
        assert!(rule.contains(word), "{rule}");
    }
}

#[test]
fn the_first_frame_must_be_settings() {
    let others = [
        settings_ack(),
        ping([0; 8]),
        window_update(0, 1),
        request(1, "/s/m"),
        go_away(0, 0, ""),
        Frame::new(0xbe, 0, 0, "unknown"),
    ];
    for frame in others {
        let mut server = fresh(Role::Server);
        let rule = server.send_octets(PREFACE).send(frame.clone()).expect_go_away(PROTOCOL_ERROR);
        assert!(rule.contains("not SETTINGS"), "{rule}");
        fresh(Role::Client).send(frame).expect_go_away(PROTOCOL_ERROR);
    }
}

#[test]
fn a_transport_may_end_between_frames_only() {
    let octets = [PREFACE, &encode_all(&[settings(&[]), ping([0; 8])])].concat();
    let (magic, hello) = (PREFACE.len(), PREFACE.len() + 9);
    for end in 0..=octets.len() {
        let mut peer = fresh(Role::Server);
        peer.send_octets(&octets[..end]);
        assert_eq!(peer.engine.violation(), None);
        let rule = peer.engine.end_of_input(peer.unparsed());
        match end {
            0 => assert_eq!(rule, None),
            _ if end < magic => assert!(rule.unwrap().contains("preface")),
            _ if end == magic || end == hello || end == octets.len() => assert_eq!(rule, None),
            _ => assert!(rule.unwrap().contains("frame")),
        }
    }
}

#[test]
fn a_transport_must_not_end_within_a_header_section() {
    let mut peer = Peer::server();
    peer.send(request(1, "/s/m").without(flag::END_HEADERS));
    assert_eq!(peer.unparsed(), 0);
    assert!(peer.engine.end_of_input(0).unwrap().contains("header section"));
}
