//! The `h2` crate playing one side of a conversation, with gRPC's framing and encodings done by hand.

pub(crate) mod client;
pub(crate) mod server;

use crate::script::{Octets, Pairs};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder, ZlibDecoder, ZlibEncoder};
use h2::RecvStream;
use http::{HeaderMap, HeaderName, HeaderValue};
use oxgrpc_core::Encoding;
use oxgrpc_testkit::grpc::{Messages, flagged, percent_decode, percent_encode};
use std::io::Read;

/// The application's part of a header section.
fn received(map: &HeaderMap) -> Pairs {
    let own = |name: &str| {
        matches!(name, "te" | "content-type" | "user-agent") || name.starts_with("grpc-")
    };
    let pair = |(name, value): (&HeaderName, &HeaderValue)| {
        let value = value.as_bytes();
        let value = match name.as_str().ends_with("-bin") {
            true => STANDARD_NO_PAD.decode(value).expect("base64 without padding"),
            false => value.to_vec(),
        };
        (name.to_string(), value)
    };
    map.iter().filter(|(name, _)| !own(name.as_str())).map(pair).collect()
}

/// Adds the application's pairs, binary values with padding.
fn add(map: &mut HeaderMap, pairs: &Pairs) {
    for (key, value) in pairs {
        let value = match key.ends_with("-bin") {
            true => STANDARD.encode(value).into_bytes(),
            false => value.clone(),
        };
        let name = HeaderName::from_bytes(key.as_bytes()).expect("a valid name");
        map.append(name, HeaderValue::from_bytes(&value).expect("a valid value"));
    }
}

fn text<'a>(map: &'a HeaderMap, name: &str) -> Option<&'a str> {
    map.get(name).map(|value| value.to_str().expect("ASCII"))
}

fn number(map: &HeaderMap) -> u32 {
    text(map, "grpc-status").expect("a status").parse().expect("a number")
}

fn message(map: &HeaderMap) -> String {
    map.get("grpc-message").map(|value| percent_decode(value.as_bytes())).unwrap_or_default()
}

fn add_status(map: &mut HeaderMap, code: u32, message: &str) {
    map.insert("grpc-status", HeaderValue::from(code));
    if !message.is_empty() {
        let wire = percent_encode(message);
        map.insert("grpc-message", HeaderValue::from_str(&wire).expect("a valid value"));
    }
}

/// A message on the wire, compressed if it is to be, whether that makes it shorter or not.
fn frame(content: Vec<u8>, compress: bool, encoding: Encoding) -> Vec<u8> {
    let mut out = Vec::new();
    let level = Compression::fast();
    let result = match (compress, encoding) {
        (false, _) | (_, Encoding::Identity) => return flagged(0, content),
        (_, Encoding::Gzip) => GzEncoder::new(&content[..], level).read_to_end(&mut out),
        (_, Encoding::Deflate) => ZlibEncoder::new(&content[..], level).read_to_end(&mut out),
    };
    result.expect("memory does not fail");
    flagged(1, out)
}

/// A stream's content as messages.
struct Reader {
    body: RecvStream,
    encoding: String,
    messages: Messages,
}

impl Reader {
    fn new(headers: &HeaderMap, body: RecvStream) -> Self {
        let encoding = text(headers, "grpc-encoding").unwrap_or("identity").into();
        Self { body, encoding, messages: Messages::default() }
    }

    /// The next message, or `None` at the end.
    async fn next(&mut self) -> Result<Option<Octets>, h2::Error> {
        loop {
            if let Some((flag, wire)) = self.messages.pop() {
                return Ok(Some(Octets(self.inflate(flag, wire))));
            }
            let Some(data) = self.body.data().await else {
                assert!(self.messages.is_empty(), "the content ends within a message");
                return Ok(None);
            };
            let data = data?;
            self.messages.push(&data);
            self.body.flow_control().release_capacity(data.len()).expect("it was received");
        }
    }

    fn inflate(&self, flag: u8, wire: Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        let result = match (flag, &*self.encoding) {
            (0, _) => return wire,
            (1, "gzip") => GzDecoder::new(&wire[..]).read_to_end(&mut out),
            (1, "deflate") => ZlibDecoder::new(&wire[..]).read_to_end(&mut out),
            other => panic!("flag and encoding {other:?}"),
        };
        result.expect("a compressed text");
        out
    }
}
