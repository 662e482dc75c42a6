//! The examples of RFC 7541 Appendix C, read and written through a connection.
//!
//! C.5 and C.6 have a table of 256 octets. Where we read, a size update in front of the first block makes it so; where
//! we write, the peer's SETTINGS_HEADER_TABLE_SIZE does, and the update is ours.

mod common;

use common::Peer;
use oxgrpc_http2::{Config, ErrorCode, HeaderList, Indexing, NO_TAG, Role};
use oxgrpc_testkit::block::{indexed, size_update};
use oxgrpc_testkit::frame::*;

type Fields = &'static [(&'static str, &'static str)];

fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).expect("two digits"))
        .collect()
}

const REQUESTS: [Fields; 3] = [
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
        ("cache-control", "no-cache"),
    ],
    &[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ],
];
const REQUESTS_TABLE: Fields = &[
    ("custom-key", "custom-value"),
    ("cache-control", "no-cache"),
    (":authority", "www.example.com"),
];
const C3: [&str; 3] = [
    "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
    "8286 84be 5808 6e6f 2d63 6163 6865",
    "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
];
const C4: [&str; 3] = [
    "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
    "8286 84be 5886 a8eb 1064 9cbf",
    "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
];

const COOKIE: &str = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
const RESPONSES: [Fields; 3] = [
    &[
        (":status", "302"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ],
    &[
        (":status", "307"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ],
    &[
        (":status", "200"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        ("location", "https://www.example.com"),
        ("content-encoding", "gzip"),
        ("set-cookie", COOKIE),
    ],
];
const RESPONSES_TABLE: Fields = &[
    ("set-cookie", COOKIE),
    ("content-encoding", "gzip"),
    ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
];
const C5: [&str; 3] = [
    "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133
     3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
    "4803 3330 37c1 c0bf",
    "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a
     6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d
     6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
];
const C6: [&str; 3] = [
    "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d
     29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
    "4883 640e ffc1 c0bf",
    "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d
     d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106
     3d50 07",
];

fn owned(fields: Fields) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn headers_of(stream: u32, block: Vec<u8>) -> Frame {
    Frame::new(kind::HEADERS, flag::END_HEADERS, stream, block)
}

/// The dynamic table holds these entries and no more.
fn expect_table(peer: &mut Peer, stream: u32, entries: Fields) {
    // Entries that may not stand in a header section are known all the same; trailers show the others.
    let regular: Vec<_> = (0..entries.len()).filter(|i| !entries[*i].0.starts_with(':')).collect();
    let block = regular.iter().flat_map(|i| indexed(62 + i)).collect();
    peer.send(headers_of(stream, block).end_stream());
    let expected: Vec<_> = regular.iter().map(|i| owned(entries)[*i].clone()).collect();
    assert_eq!(peer.events()[0].section().fields, expected);
    peer.send(headers_of(stream + 2, indexed(61 + entries.len())));
    assert_eq!(peer.engine.violation(), None);
    peer.send(headers_of(stream + 4, indexed(62 + entries.len())));
    peer.expect_go_away(ErrorCode::COMPRESSION_ERROR);
}

fn reads_requests(blocks: [&str; 3]) {
    let mut peer = Peer::server();
    for (i, (block, fields)) in blocks.into_iter().zip(REQUESTS).enumerate() {
        peer.send(headers_of(2 * i as u32 + 1, unhex(block)));
        assert_eq!(peer.events()[0].section().fields, owned(fields));
    }
    expect_table(&mut peer, 5, REQUESTS_TABLE);
}

fn reads_responses(blocks: [&str; 3]) {
    let mut peer = Peer::client();
    for _ in 0..5 {
        peer.open();
    }
    for (i, (block, fields)) in blocks.into_iter().zip(RESPONSES).enumerate() {
        let update = if i == 0 { size_update(256) } else { vec![] };
        peer.send(headers_of(2 * i as u32 + 1, [update, unhex(block)].concat()));
        assert_eq!(peer.events()[0].section().fields, owned(fields));
    }
    expect_table(&mut peer, 5, RESPONSES_TABLE);
}

#[test]
fn c2_literals_and_an_indexed_field_are_read() {
    let with_indexing = unhex("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572");
    let without_indexing = unhex("040c 2f73 616d 706c 652f 7061 7468");
    let never_indexed = unhex("1008 7061 7373 776f 7264 0673 6563 7265 74");
    let indexed_field = unhex("82");
    let mut peer = Peer::server();
    // C.2.4, a scheme, C.2.2, C.2.1 and C.2.3: together a request.
    let block =
        [indexed_field, vec![0x86], without_indexing, with_indexing, never_indexed].concat();
    peer.send(headers_of(1, block));
    let events = peer.events();
    let section = events[0].section();
    let expected: Fields = &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/sample/path"),
        ("custom-key", "custom-header"),
        ("password", "secret"),
    ];
    assert_eq!(section.fields, owned(expected));
    assert_eq!(section.never_indexed, ["password"]);
    expect_table(&mut peer, 1, &[("custom-key", "custom-header")]);
}

#[test]
fn c3_requests_without_huffman_code_are_read() {
    reads_requests(C3);
}

#[test]
fn c4_requests_with_huffman_code_are_read() {
    reads_requests(C4);
}

#[test]
fn c5_responses_without_huffman_code_are_read() {
    reads_responses(C5);
}

#[test]
fn c6_responses_with_huffman_code_are_read() {
    reads_responses(C6);
}

fn always(fields: Fields) -> Vec<(&'static [u8], &'static [u8], Indexing)> {
    fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes(), Indexing::Always)).collect()
}

#[test]
fn c4_requests_are_written_octet_for_octet() {
    let mut peer = Peer::client();
    for (block, fields) in C4.into_iter().zip(REQUESTS) {
        let fields = always(fields);
        peer.engine.open(HeaderList { prepared: None, fields: &fields }, true, NO_TAG).unwrap();
        assert_eq!(peer.frames()[0].payload, unhex(block));
    }
}

#[test]
fn c6_responses_are_written_octet_for_octet() {
    let mut peer = Peer::fresh(Role::Server, Config::default());
    peer.send_octets(PREFACE);
    let mut peer = peer.shake_hands(&[(setting::HEADER_TABLE_SIZE, 256)]);
    // We leave "307" as it is: three octets of Huffman code save nothing.
    let blocks = [C6[0], "4803 3330 37c1 c0bf", C6[2]];
    for (i, (block, fields)) in blocks.into_iter().zip(RESPONSES).enumerate() {
        let stream = peer.request(2 * i as u32 + 1);
        let fields = always(fields);
        let list = HeaderList { prepared: None, fields: &fields };
        peer.engine.send_headers(stream, list, true).unwrap();
        let update = if i == 0 { size_update(256) } else { vec![] };
        assert_eq!(peer.frames()[0].payload, [update, unhex(block)].concat());
    }
}
