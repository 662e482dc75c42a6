//! gRPC-Web as a browser speaks it: binary and text, unary and server streams.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oxgrpc_proto::virtufin::{InvokeJsonRequest, InvokeJsonResponse, ListMethodsRequest};
use prost::Message as _;
use serde_json::json;

use crate::backend::{Builder, SHOP};
use crate::client::{gateway_of, raw};

/// The frames of a body: a flag and what follows.
fn frames(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while body.len() >= 5 {
        let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
        frames.push((body[0], body[5..5 + length].to_vec()));
        body = &body[5 + length..];
    }
    frames
}

fn framed(message: &impl prost::Message) -> Vec<u8> {
    let octets = message.encode_to_vec();
    let mut frame = vec![0];
    frame.extend(u32::try_from(octets.len()).unwrap().to_be_bytes());
    frame.extend(octets);
    frame
}

fn dechunk(octets: &[u8]) -> Vec<u8> {
    let start = octets.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8_lossy(&octets[..start]).to_lowercase();
    let mut rest = &octets[start..];
    if !head.contains("transfer-encoding: chunked") {
        return rest.to_vec();
    }
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 4 + size..];
    }
}

#[tokio::test]
async fn a_browser_calls_and_streams() {
    let backend = Builder::new(SHOP)
        .unary("Get", |_, item| async { Ok(item) })
        .stream("Watch", |_, _| async {
            let answers = [Ok(json!({"count": "1"})), Ok(json!({"count": "2"}))];
            Ok(Box::pin(futures_util::stream::iter(answers)) as crate::backend::Answers)
        })
        .start()
        .await;
    let gateway = gateway_of(&backend).await;
    let call =
        InvokeJsonRequest { service: "shop".into(), method: "Get".into(), ..Default::default() };
    let head = |method: &str, kind: &str| {
        format!(
            "POST /virtufin.Gateway/{method} HTTP/1.1\nContent-Type: {kind}\nAccept: {kind}\nX-Grpc-Web: 1\n\
             Origin: http://localhost:5001"
        )
    };

    let octets =
        raw(&gateway, &head("InvokeJson", "application/grpc-web+proto"), &framed(&call)).await;
    let answered = frames(&dechunk(&octets));
    let response = InvokeJsonResponse::decode(answered[0].1.as_slice()).unwrap();
    assert_eq!(response.status, "OK", "{}", response.message);
    assert_eq!(answered[1].0, 0x80);
    assert!(String::from_utf8_lossy(&answered[1].1).contains("grpc-status:0"));

    let text = STANDARD.encode(framed(&call));
    let octets =
        raw(&gateway, &head("InvokeJson", "application/grpc-web-text+proto"), text.as_bytes())
            .await;
    // Each chunk is padded for itself, so four characters are the unit.
    let decoded: Vec<u8> =
        dechunk(&octets).chunks(4).flat_map(|four| STANDARD.decode(four).unwrap()).collect();
    assert_eq!(frames(&decoded)[0].1, answered[0].1);

    let call = InvokeJsonRequest { method: "Watch".into(), ..call };
    let octets =
        raw(&gateway, &head("InvokeJsonStream", "application/grpc-web+proto"), &framed(&call))
            .await;
    let answered = frames(&dechunk(&octets));
    assert_eq!(answered.iter().map(|frame| frame.0).collect::<Vec<_>>(), [0, 0, 0, 0x80]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_callers_deadline_is_answered_as_such() {
    // It takes connections, and never says anything.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    let gateway = crate::client::gateway().await;
    gateway.registry().add(oxgrpc_gateway::registry::ServiceEntry::new("mute", "127.0.0.1", port));
    let call = ListMethodsRequest { service: "mute".into() };
    let head = "POST /virtufin.Gateway/ListMethods HTTP/1.1\nContent-Type: application/grpc-web+proto\n\
        Grpc-Timeout: 100m";
    let answer = raw(&gateway, head, &framed(&call)).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("grpc-status: 4"), "{answer}");
    gateway.stop().await;
}
