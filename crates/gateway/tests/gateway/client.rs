//! A gateway on free ports, and how tests talk to it.

use oxgrpc_gateway::registry::ServiceEntry;
use oxgrpc_gateway::{Config, Gateway};
use oxgrpc_proto::virtufin::gateway_client::GatewayClient;
use oxgrpc_proto::virtufin::{InvokeJsonRequest, InvokeJsonResponse};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use crate::backend::Backend;

pub(crate) fn config() -> Config {
    Config {
        http: ([127, 0, 0, 1], 0).into(),
        grpc: ([127, 0, 0, 1], 0).into(),
        ..Config::default()
    }
}

pub(crate) async fn gateway() -> Gateway {
    Gateway::start(config()).await.unwrap()
}

/// Starts a gateway with one backend, `shop`.
pub(crate) async fn gateway_of(backend: &Backend) -> Gateway {
    let gateway = gateway().await;
    gateway.registry().add(entry("shop", &[backend]));
    gateway
}

pub(crate) fn entry(name: &str, backends: &[&Backend]) -> ServiceEntry {
    let mut entry = ServiceEntry::new(name, "127.0.0.1", 0);
    let target = entry.targets.remove(0);
    for backend in backends {
        let mut target = target.clone();
        target.port = backend.address.port();
        entry.targets.push(target);
    }
    entry
}

pub(crate) async fn channel(gateway: &Gateway) -> Channel {
    let endpoint = format!("http://{}", gateway.grpc_address());
    Endpoint::from_shared(endpoint).unwrap().connect().await.unwrap()
}

pub(crate) async fn client(gateway: &Gateway) -> GatewayClient<Channel> {
    GatewayClient::new(channel(gateway).await)
}

pub(crate) fn request(service: &str, method: &str, json: &str) -> InvokeJsonRequest {
    InvokeJsonRequest { service: service.into(), method: method.into(), request_data: json.into() }
}

/// Calls `InvokeJson` on a gateway.
pub(crate) async fn invoke(
    gateway: &Gateway,
    service: &str,
    method: &str,
    json: &str,
) -> InvokeJsonResponse {
    let mut client = client(gateway).await;
    client.invoke_json(request(service, method, json)).await.unwrap().into_inner()
}

/// An HTTP response.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Sends one HTTP/1.1 request, head and body as they are, and reads the answer to its end.
pub(crate) async fn http(gateway: &Gateway, head: &str, body: &[u8]) -> Answer {
    let octets = raw(gateway, head, body).await;
    let text = String::from_utf8_lossy(&octets).into_owned();
    let (head, rest) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(rest) } else { rest.to_owned() };
    Answer { status, head: head.to_owned(), body }
}

/// The same, as the octets that came.
pub(crate) async fn raw(gateway: &Gateway, head: &str, body: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(gateway.http_address()).await.unwrap();
    let host = if head.to_lowercase().contains("\nhost:") { "" } else { "Host: localhost\r\n" };
    let head = head.trim().replace('\n', "\r\n");
    let head =
        format!("{head}\r\n{host}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    socket.write_all(head.as_bytes()).await.unwrap();
    // A body that is too large is answered before it is read to its end.
    let _ = socket.write_all(body).await;
    let mut octets = Vec::new();
    let _ = socket.read_to_end(&mut octets).await;
    octets
}

fn unchunk(mut text: &str) -> String {
    let mut body = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 || rest.len() < size {
            break;
        }
        body.push_str(&rest[..size]);
        text = rest[size..].trim_start_matches("\r\n");
    }
    body
}

pub(crate) async fn get(gateway: &Gateway, path: &str) -> Answer {
    http(gateway, &format!("GET {path} HTTP/1.1"), b"").await
}

pub(crate) async fn post(gateway: &Gateway, path: &str, body: &str) -> Answer {
    let head = format!("POST {path} HTTP/1.1\nContent-Type: application/json");
    http(gateway, &head, body.as_bytes()).await
}
