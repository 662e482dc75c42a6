//! REST: the routes, their errors, and streams over HTTP.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Code, Status};

use crate::backend::{Backend, Builder, SHOP};
use crate::client::{gateway, gateway_of, get, http, post};

async fn shop() -> Backend {
    Builder::new(SHOP)
        .unary("Get", |_, item| async { Ok(item) })
        .unary("Fail", |_, item| async move {
            let code = item["number"].as_i64().unwrap_or_default();
            Err(Status::new(Code::from(i32::try_from(code).unwrap()), "no nuts"))
        })
        .stream("Watch", |_, item| async move {
            if item["name"] == "closed" {
                return Err(Status::failed_precondition("closed"));
            }
            let mut answers = vec![Ok(json!({"count": "1"})), Ok(json!({"count": "2"}))];
            if item["name"] == "broken" {
                answers.push(Err(Status::data_loss("lost it")));
            }
            Ok(futures_util::stream::iter(answers).boxed())
        })
        .start()
        .await
}

#[tokio::test]
async fn invocations_over_rest() {
    let backend = shop().await;
    let gateway = gateway_of(&backend).await;
    assert_eq!(
        get(&gateway, "/v1/gateway/list-services").await.json(),
        json!({"services": ["shop"]})
    );

    let methods = get(&gateway, "/v1/gateway/list-methods?service=shop").await.json();
    assert_eq!(methods["methods"][0]["fullName"], "shop.Shop.Get");
    let methods = get(&gateway, "/v1/gateway/list-methods?service=shop&names=proto").await.json();
    assert_eq!(methods["methods"][0]["full_name"], "shop.Shop.Get");

    let bodies = [
        r#"{"service": "shop", "method": "Get", "request_data": "{\"name\": \"nut\"}"}"#,
        r#"{"service": "shop", "method": "Get", "requestData": "{\"name\": \"nut\"}"}"#,
        r#"{"service": "shop", "method": "Get", "requestData": {"name": "nut"}}"#,
    ];
    for body in bodies {
        let answer = post(&gateway, "/v1/gateway/invoke-json", body).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-backend"), Some("shop"));
        let answer = answer.json();
        assert_eq!(
            (&answer["success"], &answer["status"]),
            (&json!(true), &json!("OK")),
            "{answer}"
        );
        let data: Value = serde_json::from_str(answer["responseData"].as_str().unwrap()).unwrap();
        assert_eq!(data["name"], "nut");
    }

    let raw = r#"{"service": "shop", "method": "Get", "requestData": "CgNudXQ="}"#;
    let answer = post(&gateway, "/v1/gateway/invoke", raw).await.json();
    assert_eq!(answer["responseData"], "CgNudXQ=", "{answer}");

    let unknown = r#"{"service": "ghost", "method": "Get"}"#;
    let answer = post(&gateway, "/v1/gateway/invoke-json", unknown).await;
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("NOT_FOUND")));
    gateway.stop().await;
}

#[tokio::test]
async fn the_workbenchs_routes() {
    let backend = shop().await;
    let gateway = gateway_of(&backend).await;
    let methods = get(&gateway, "/v1/grpc/shop/methods").await.json();
    assert_eq!(
        methods[3],
        json!({
            "name": "Watch", "fullName": "shop.Shop.Watch", "inputType": "shop.Item", "outputType": "shop.Item",
            "streamingType": "server",
        })
    );
    let schema = get(&gateway, "/v1/grpc/shop/schema/Get?type=output").await.json();
    assert_eq!(
        (&schema["schemaType"], &schema["fields"][0]["name"]),
        (&json!("output"), &json!("name"))
    );
    let answer = get(&gateway, "/v1/grpc/shop/schema/Get?type=sideways").await;
    assert_eq!(answer.status, 400);

    let call = r#"{"service": "shop", "method": "Get", "request": "{\"name\": \"nut\"}"}"#;
    let answer = post(&gateway, "/v1/grpc/call", call).await.json();
    assert_eq!((&answer["error"], &answer["statusCode"]), (&json!(null), &json!(0)));
    assert_eq!(answer["data"]["name"], "nut");
    let call = r#"{"service": "shop", "method": "Fail", "request": {"number": 5}}"#;
    let answer = post(&gateway, "/v1/grpc/call", call).await.json();
    assert_eq!((&answer["error"], &answer["statusCode"]), (&json!("no nuts"), &json!(5)));

    let head = "GET /v1/grpc/shop/protos HTTP/1.1";
    let octets = crate::client::raw(&gateway, head, b"").await;
    let start = octets.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let set = oxgrpc_schema::Schema::from_descriptor_set(&octets[start..]).unwrap();
    assert!(set.find_method("shop.Shop.Get").is_ok());
    gateway.stop().await;
}

#[tokio::test]
async fn state_and_registry_over_rest() {
    let backend = shop().await;
    let gateway = gateway_of(&backend).await;
    let save =
        r#"{"service": "shop", "key": "workers/index a", "value": "1", "include_value": true}"#;
    let answer = post(&gateway, "/v1/state/save-state", save).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["status"]["success"], true);

    let found = get(&gateway, "/v1/state/shop/workers/index%20a").await.json();
    assert_eq!((&found["key"], &found["value"]), (&json!("workers/index a"), &json!("1")));
    let all = get(&gateway, "/v1/state/shop").await.json();
    assert_eq!(all["values"], json!({"workers/index a": "1"}));
    let keys = get(&gateway, "/v1/state-keys/shop?prefix=workers&page_size=5").await.json();
    assert_eq!(keys["keys"], json!(["workers/index a"]));

    let stale = r#"{"service": "shop", "key": "workers/index a", "value": "2", "etag": "stale"}"#;
    let answer = post(&gateway, "/v1/state/save-state", stale).await;
    assert_eq!((answer.status, &answer.json()["code"]), (409, &json!(10)));

    let delete = "DELETE /v1/state/shop/workers/index%20a?include_value=false HTTP/1.1";
    assert_eq!(http(&gateway, delete, b"").await.status, 200);
    assert_eq!(get(&gateway, "/v1/state/shop/workers/index%20a").await.json()["value"], "");

    let listed = get(&gateway, "/v1/config/list-services").await.json();
    assert_eq!(listed["services"][0]["grpc"]["port"], backend.address.port());
    let one = get(&gateway, "/v1/config/get-service?name=shop").await.json();
    assert_eq!(one["service"]["state"]["storeName"], "statestore");
    let none = get(&gateway, "/v1/config/get-service?name=ghost").await;
    assert_eq!(none.status, 200);
    assert!(none.json()["service"].is_null());
    gateway.stop().await;
}

#[tokio::test]
async fn errors_carry_code_message_and_the_requests_id() {
    let gateway = gateway().await;
    let head = "POST /v1/state/save-state HTTP/1.1\nX-Request-Id: my-id-1";
    let answer = http(&gateway, head, br#"{"service": "a", "kye": "k"}"#).await;
    assert_eq!(answer.status, 400);
    let error = answer.json();
    assert_eq!((&error["code"], &error["status"]), (&json!(3), &json!("INVALID_ARGUMENT")));
    assert!(error["message"].as_str().unwrap().contains("\"kye\""), "{error}");
    assert_eq!(error["requestId"], "my-id-1");
    assert_eq!(answer.header("x-request-id"), Some("my-id-1"));

    for (path, body, status) in [
        ("/v1/state/save-state", "{", 400),
        ("/v1/nowhere", "{}", 404),
        ("/v1/state/save-state", "\u{fffd}", 400),
    ] {
        let answer = post(&gateway, path, body).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(!answer.json()["requestId"].as_str().unwrap().is_empty());
    }
    let answer = get(&gateway, "/v1/gateway/list-methods?service=ghost").await;
    assert_eq!((answer.status, &answer.json()["code"]), (404, &json!(5)));
    let answer = get(&gateway, "/v1/gateway/list-methods?srevice=ghost").await;
    assert!(answer.body.contains("srevice"), "{}", answer.body);

    let large = format!(r#"{{"service": "a", "key": "k", "value": "{}"}}"#, "x".repeat(10 << 20));
    let answer = post(&gateway, "/v1/state/save-state", &large).await;
    assert_eq!((answer.status, &answer.json()["code"]), (429, &json!(8)), "{}", answer.body);
    gateway.stop().await;
}

#[tokio::test]
async fn streams_are_lines_or_events_and_end_with_the_status() {
    let backend = shop().await;
    let gateway = gateway_of(&backend).await;
    let path = "/v1/gateway/invoke-json-stream";
    let answer = post(&gateway, path, r#"{"service": "shop", "method": "Watch"}"#).await;
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> =
        answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1]["data"]["count"], "2");
    assert_eq!(lines[2]["status"]["status"], "OK");

    let broken = r#"{"service": "shop", "method": "Watch", "requestData": {"name": "broken"}}"#;
    let answer = post(&gateway, path, broken).await;
    let last: Value = serde_json::from_str(answer.body.lines().last().unwrap()).unwrap();
    assert_eq!(last["status"]["status"], "DATA_LOSS");
    assert_eq!(last["status"]["message"], "lost it");

    let head = format!("POST {path} HTTP/1.1\nAccept: text/event-stream");
    let answer = http(&gateway, &head, broken.as_bytes()).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let events: Vec<&str> = answer.body.split("\n\n").filter(|event| !event.is_empty()).collect();
    assert_eq!(events.len(), 3);
    assert!(events[2].starts_with("event: status"), "{}", events[2]);

    let closed = r#"{"service": "shop", "method": "Watch", "requestData": {"name": "closed"}}"#;
    let answer = post(&gateway, path, closed).await;
    assert_eq!((answer.status, &answer.json()["status"]), (400, &json!("FAILED_PRECONDITION")));
    gateway.stop().await;
}

/// Reads events from a socket until there are `count`.
async fn events(socket: &mut TcpStream, text: &mut String, count: usize) {
    while text.matches("\n\n").count() < count {
        let mut buffer = [0; 4096];
        let read = socket.read(&mut buffer).await.unwrap();
        assert!(read > 0, "the stream ended: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

#[tokio::test]
async fn a_topics_events_come_as_server_sent_events() {
    let gateway = gateway().await;
    let mut socket = TcpStream::connect(gateway.http_address()).await.unwrap();
    let head = "GET /v1/pubsub/subscribe?topic=news HTTP/1.1\r\nHost: localhost\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    events(&mut socket, &mut text, 1).await;
    assert!(text.contains("event: subscribed"), "{text}");

    let publish = r#"{"topic": "news", "data": "aGVsbG8=", "metadata": {"correlationid": "c1"}}"#;
    assert_eq!(post(&gateway, "/v1/pubsub/publish", publish).await.status, 200);
    events(&mut socket, &mut text, 2).await;
    let data = text.lines().rfind(|line| line.starts_with("data: ")).unwrap();
    let event: Value = serde_json::from_str(&data[6..]).unwrap();
    assert_eq!(
        (&event["data"], &event["metadata"]["correlationid"]),
        (&json!("aGVsbG8="), &json!("c1"))
    );

    let empty = get(&gateway, "/v1/pubsub/subscribe?topic=").await;
    assert_eq!(empty.status, 400, "{}", empty.body);

    // The browser closes the page: the subscription ends.
    drop(socket);
    while !get(&gateway, "/metrics").await.body.contains("oxgrpc_gateway_subscriptions 0") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn the_openapi_document_describes_each_route() {
    let gateway = gateway().await;
    let document = get(&gateway, "/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.contains_key("/v1/state/{service}/{key}"));
    let save = &paths["/v1/state/save-state"]["post"];
    let reference =
        save["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str().unwrap();
    let name = reference.rsplit('/').next().unwrap();
    let properties = &document["components"]["schemas"][name]["properties"];
    assert_eq!(properties["includeValue"]["type"], "boolean");

    let page = get(&gateway, "/swagger").await;
    assert_eq!(page.status, 200);
    assert!(!page.body.contains("http://") && !page.body.contains("https://"));
    gateway.stop().await;
}
