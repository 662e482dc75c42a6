//! What we do not know is ignored: frame types, flags, settings, error codes, reserved bits (RFC 9113 §4.1, §5.5, §7).

mod common;

use common::{Peer, Seen};
use oxgrpc_http2::ErrorCode;
use oxgrpc_testkit::frame::*;

#[test]
fn frames_of_unknown_types_are_ignored_on_any_stream() {
    for mut peer in Peer::both() {
        for unknown in 0x0a..=0xff {
            for stream in [0, 1, 2, 0x7fff_ffff] {
                peer.send(Frame::new(unknown, 0xff, stream, "whatever"));
            }
        }
        peer.expect_ignored();
    }
}

#[test]
fn unknown_frames_may_come_between_those_of_a_stream() {
    let mut peer = Peer::server();
    let unknown = Frame::new(0xbe, 1, 1, "");
    peer.send_all(&[request(1, "/s/m"), unknown.clone(), data(1, "x"), unknown, trailers(1)]);
    let events: Vec<_> = peer.events().iter().map(Seen::brief).collect();
    assert_eq!(events, [("headers", 1), ("data", 1), ("trailers", 1)]);
}

#[test]
fn undefined_flags_are_ignored() {
    let known = flag::END_STREAM | flag::END_HEADERS | flag::PADDED | flag::PRIORITY;
    let mut peer = Peer::server();
    peer.send_all(&[
        request(1, "/s/m").with(!known),
        // On DATA only END_STREAM and PADDED mean something, on the others nothing or ACK.
        data(1, "x").with(!(flag::END_STREAM | flag::PADDED)),
        settings(&[]).with(!flag::ACK),
        ping([0; 8]).with(!flag::ACK),
        window_update(1, 1).with(0xff),
        priority(1, 0).with(0xff),
        go_away(0, 0, "").with(0xff),
    ]);
    let events: Vec<_> = peer.events().iter().map(Seen::brief).collect();
    assert_eq!(events, [("headers", 1), ("data", 1), ("settings", 0), ("goaway", 0)]);
    assert_eq!(peer.frames(), [settings_ack(), pong([0; 8])]);
    peer.send(reset(1, 0).with(0xff));
    assert_eq!(peer.events(), [Seen::Reset { stream: 1, code: ErrorCode::NO_ERROR }]);
}

#[test]
fn the_reserved_bit_of_a_stream_id_is_ignored() {
    let mut peer = Peer::server();
    for mut frame in [request(1, "/s/m"), data(1, "x"), ping([0; 8]), window_update(0, 1)] {
        frame.stream |= 1 << 31;
        peer.send(frame);
    }
    let events: Vec<_> = peer.events().iter().map(Seen::brief).collect();
    assert_eq!(events, [("headers", 1), ("data", 1)]);
    peer.expect_alive();
}

#[test]
fn unknown_settings_are_ignored_among_known_ones() {
    let mut peer = Peer::client();
    let entries =
        [(0, 7), (7, 7), (0x1a2a, u32::MAX), (setting::MAX_CONCURRENT_STREAMS, 0), (0xffff, 0)];
    peer.send(settings(&entries));
    assert_eq!((peer.events(), peer.frames()), (vec![Seen::Settings], vec![settings_ack()]));
    assert!(peer.engine.can_open().is_err());
}

#[test]
fn unknown_error_codes_are_kept() {
    let code = ErrorCode(0xfeed);
    let mut peer = Peer::client();
    peer.open();
    peer.send(reset(1, code.0)).send(go_away(1, code.0, ""));
    let expected = [
        Seen::Reset { stream: 1, code },
        Seen::GoAway { last_stream: 1, code, debug: String::new() },
    ];
    assert_eq!(peer.events(), expected);
    assert_eq!(code.name(), None);
    assert_eq!(code.to_string(), "error code 0xfeed");
}

#[test]
fn known_error_codes_have_the_names_of_the_rfc() {
    let names = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    for (code, name) in names.into_iter().enumerate() {
        assert_eq!(ErrorCode(code as u32).to_string(), name);
    }
    assert_eq!(ErrorCode(14).name(), None);
}
