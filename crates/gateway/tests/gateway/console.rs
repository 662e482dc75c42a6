//! What the console's pages need: files, schemas with nested types, and calls whose requests come one by one.

use oxgrpc_gateway::Gateway;
use oxgrpc_gateway::registry::ServiceEntry;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;

use crate::client::{gateway, get, http, post};

/// A gateway whose backend, under the name `own`, is another gateway: its API has calls of all kinds.
async fn own() -> (Gateway, Gateway) {
    let (outer, backend) = (gateway().await, gateway().await);
    let port = backend.grpc_address().port();
    outer.registry().add(ServiceEntry::new("own", "127.0.0.1", port));
    (outer, backend)
}

/// The answer of a call, line by line.
struct Answer(Lines<BufReader<TcpStream>>);

impl Answer {
    async fn begin(gateway: &Gateway, call: Value) -> Self {
        let address = gateway.http_address();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let body = call.to_string();
        let head = format!(
            "POST /v1/console/calls HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        Self(BufReader::new(stream).lines())
    }

    /// The next line of the body; what surrounds the chunks is passed over.
    async fn next(&mut self) -> Value {
        loop {
            let line = self.0.next_line().await.unwrap().expect("another line");
            if line.starts_with('{') {
                return serde_json::from_str(&line).unwrap();
            }
        }
    }

    async fn id(&mut self) -> String {
        self.next().await["id"].as_str().unwrap().to_owned()
    }
}

async fn send(gateway: &Gateway, id: &str, message: &Value) -> u16 {
    post(gateway, &format!("/v1/console/calls/{id}/messages"), &message.to_string()).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_served_with_a_policy_that_keeps_others_out() {
    let gateway = gateway().await;
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/console/app.js", "text/javascript; charset=utf-8"),
        ("/console/style.css", "text/css; charset=utf-8"),
    ] {
        let answer = get(&gateway, path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), Some(kind));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    }
    assert_eq!(get(&gateway, "/console/secrets").await.status, 404);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_come_with_their_hosts_and_methods() {
    let (gateway, backend) = own().await;
    let answer = get(&gateway, "/v1/console/services").await.json();
    let own = &answer["services"][0];
    assert_eq!(own["name"], "own");
    assert_eq!(own["hosts"][0]["health"], "serving");
    let methods = own["methods"].as_array().unwrap();
    let subscribe = methods.iter().find(|method| method["path"] == "/virtufin.Pubsub/Subscribe");
    assert_eq!(subscribe.unwrap()["serverStreaming"], true);
    gateway.stop().await;
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_has_every_type_that_is_reachable() {
    let (gateway, backend) = own().await;
    let path = "/v1/console/schema/own/dapr.proto.runtime.v1.Dapr.SaveState";
    let schema = get(&gateway, path).await.json();
    assert_eq!(schema["input"], "dapr.proto.runtime.v1.SaveStateRequest");
    let item = &schema["types"]["dapr.proto.common.v1.StateItem"]["fields"];
    let metadata = item.as_array().unwrap().iter().find(|field| field["name"] == "metadata");
    assert_eq!(metadata.unwrap()["key"], json!({ "kind": "string" }));
    let concurrency = &schema["types"]["dapr.proto.common.v1.StateOptions.StateConcurrency"];
    assert_eq!(concurrency["values"][1], "CONCURRENCY_FIRST_WRITE");
    let unknown = get(&gateway, "/v1/console/schema/own/Nothing").await;
    assert_eq!(unknown.status, 404);
    gateway.stop().await;
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unary_call_answers_with_its_message_and_status() {
    let (gateway, backend) = own().await;
    let call = json!({ "service": "own", "method": "virtufin.Gateway.ListServices" });
    let mut answer = Answer::begin(&gateway, call).await;
    let id = answer.id().await;
    assert_eq!(send(&gateway, &id, &json!({})).await, 204);
    assert_eq!(post(&gateway, &format!("/v1/console/calls/{id}/end"), "").await.status, 204);
    assert!(answer.next().await["headers"].is_object());
    let message: Value =
        serde_json::from_str(answer.next().await["message"].as_str().unwrap()).unwrap();
    assert_eq!(message, json!({ "services": [] }));
    assert_eq!(answer.next().await["status"], "OK");
    gateway.stop().await;
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_go_both_ways_one_by_one_until_the_call_is_cancelled() {
    let (gateway, backend) = own().await;
    let call = json!({ "service": "own", "method": "SubscribeTopicEventsAlpha1" });
    let mut answer = Answer::begin(&gateway, call).await;
    let id = answer.id().await;
    // What does not fit is refused and changes nothing.
    assert_eq!(send(&gateway, &id, &json!({ "nothing": 1 })).await, 400);
    let first = json!({ "initial_request": { "pubsub_name": "pubsub", "topic": "t" } });
    assert_eq!(send(&gateway, &id, &first).await, 204);
    assert!(answer.next().await["headers"].is_object());
    assert!(answer.next().await["message"].as_str().unwrap().contains("initialResponse"));
    let event = json!({ "topic": "t", "data": "aGVsbG8=" });
    assert_eq!(post(&backend, "/v1/pubsub/publish", &event.to_string()).await.status, 200);
    assert!(answer.next().await["message"].as_str().unwrap().contains("aGVsbG8="));
    let cancelled = http(&gateway, &format!("DELETE /v1/console/calls/{id} HTTP/1.1"), b"").await;
    assert_eq!(cancelled.status, 204);
    assert_eq!(answer.next().await["status"], "CANCELLED");
    assert_eq!(send(&gateway, &id, &first).await, 404);
    gateway.stop().await;
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_goes_away_cancels_its_call() {
    let (gateway, backend) = own().await;
    let call = json!({ "service": "own", "method": "virtufin.Pubsub.Subscribe" });
    let mut answer = Answer::begin(&gateway, call).await;
    let id = answer.id().await;
    assert_eq!(send(&gateway, &id, &json!({ "topic": "t" })).await, 204);
    assert_eq!(post(&gateway, &format!("/v1/console/calls/{id}/end"), "").await.status, 204);
    assert!(answer.next().await["headers"]["subscription-id"].is_string());
    drop(answer);
    // The backend's stream ends with the page's: its subscription is gone.
    let count = async || get(&backend, "/metrics").await.body;
    while !count().await.lines().any(|line| line.contains("subscriptions") && line.ends_with(" 0"))
    {
        tokio::task::yield_now().await;
    }
    gateway.stop().await;
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_cannot_begin_says_why() {
    let (gateway, backend) = own().await;
    for (call, status) in [
        (json!({ "service": "nobody", "method": "M" }), 404),
        (json!({ "service": "own", "method": "Nothing" }), 404),
        (json!({ "service": "own" }), 400),
        (
            json!({ "service": "own", "method": "virtufin.Gateway.Invoke", "metadata": { "a b": "c" } }),
            400,
        ),
    ] {
        let head = "POST /v1/console/calls HTTP/1.1\ncontent-type: application/json";
        let answer = http(&gateway, head, call.to_string().as_bytes()).await;
        assert_eq!(answer.status, status, "{call}");
        assert!(!answer.json()["message"].as_str().unwrap().is_empty());
    }
    assert_eq!(send(&gateway, "no-such-call", &json!({})).await, 404);
    gateway.stop().await;
    backend.stop().await;
}
