//! `Invoke`, `InvokeJson` and `InvokeJsonStream`: words, headers, deadlines, cancellation.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use oxgrpc_proto::virtufin::{
    GetMethodSchemaRequest, InvokeRequest, ListMethodsRequest, ListServicesRequest,
};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tonic::{Code, Request, Status};

use crate::backend::{Builder, SHOP};
use crate::client::{client, entry, gateway, gateway_of, invoke, request};

/// A backend that answers with what it is asked.
fn echo() -> Builder {
    Builder::new(SHOP).unary("Get", |_, item| async { Ok(item) })
}

#[tokio::test]
async fn a_call_as_json_prints_defaults_and_takes_both_spellings() {
    let backend = echo().start().await;
    let gateway = gateway_of(&backend).await;
    let item = r#"{"name": "nut", "count": "9007199254740993", "parts": [{"part_name": "a"}, {"partName": "b"}],
                   "color": "COLOR_RED", "since": "2026-01-02T03:04:05Z", "data": "AAE="}"#;
    for method in ["Get", "Shop.Get", "shop.Shop.Get", "shop.Shop/Get", "/shop.Shop/Get"] {
        let response = invoke(&gateway, "SHOP", method, item).await;
        assert_eq!((response.status.as_str(), response.message.as_str()), ("OK", ""), "{method}");
        let value: Value = serde_json::from_str(&response.response_data).unwrap();
        assert_eq!(value["count"], "9007199254740993");
        assert_eq!(value["parts"], json!([{"partName": "a"}, {"partName": "b"}]));
        assert_eq!(value["color"], "COLOR_RED");
        assert_eq!(value["since"], "2026-01-02T03:04:05Z");
        assert_eq!(value["prices"], json!({}));
    }
    let response = invoke(&gateway, "shop", "Get", "").await;
    let value: Value = serde_json::from_str(&response.response_data).unwrap();
    assert_eq!(value["parts"], json!([]));
    assert_eq!(value["count"], "0");
    gateway.stop().await;
}

#[tokio::test]
async fn each_mistake_has_its_word_and_names_what_is_wrong() {
    let backend = echo()
        .stream("Watch", |_, _| async { Ok(futures_util::stream::empty().boxed()) })
        .unary("Fail", |_, item| async move {
            let code = item["name"].as_str().unwrap().parse::<i32>().unwrap();
            Err(Status::new(Code::from(code), "out of nuts"))
        })
        .start()
        .await;
    let gateway = gateway_of(&backend).await;
    let cases = [
        ("ghost", "Get", "{}", "NOT_FOUND", "ghost"),
        ("shop", "Gett", "{}", "NOT_FOUND", "shop.Shop.Get"),
        ("", "Get", "{}", "INVALID_REQUEST", "service is empty"),
        ("shop", "", "{}", "INVALID_REQUEST", "method is empty"),
        ("shop", "Get", "{", "INVALID_REQUEST", "not valid JSON"),
        ("shop", "Get", r#"{"parts": [{}, {"nme": 1}]}"#, "INVALID_REQUEST", "parts[1].nme"),
        ("shop", "Get", r#"{"count": "many"}"#, "INVALID_REQUEST", "count"),
        ("shop", "Get", "[]", "INVALID_REQUEST", "shop.Item"),
        ("shop", "Watch", "{}", "UNSUPPORTED", "InvokeJsonStream"),
        ("shop", "Upload", "{}", "UNSUPPORTED", "shop.Shop.Upload"),
        ("shop", "Fail", r#"{"name": "5"}"#, "NOT_FOUND", "out of nuts"),
        ("shop", "Fail", r#"{"name": "6"}"#, "ALREADY_EXISTS", "out of nuts"),
        ("shop", "Fail", r#"{"name": "2"}"#, "UNKNOWN", "out of nuts"),
    ];
    for (service, method, json, word, part) in cases {
        let response = invoke(&gateway, service, method, json).await;
        assert!(!response.success);
        assert_eq!(response.status, word, "{method} {json}: {}", response.message);
        assert!(response.message.contains(part), "{} lacks {part}", response.message);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn details_of_an_error_are_decoded_with_the_backends_descriptors() {
    let backend = Builder::new(SHOP)
        .unary("Fail", |_, _| async {
            // google.rpc.Status { code: 9, details: [Any { shop.Reason { why: "rain" } }] }
            let any = b"\x0a\x1etype.googleapis.com/shop.Reason\x12\x06\x0a\x04rain";
            let any = [&any[..2], b"type.googleapis.com/shop.Reason", &any[33..]].concat();
            let mut any = any;
            any[1] = u8::try_from("type.googleapis.com/shop.Reason".len()).unwrap();
            let mut details = vec![0x08, 9, 0x1a, u8::try_from(any.len()).unwrap()];
            details.extend(any);
            Err(Status::with_details(Code::FailedPrecondition, "closed", details.into()))
        })
        .start()
        .await;
    let gateway = gateway_of(&backend).await;
    let response = invoke(&gateway, "shop", "Fail", "{}").await;
    assert_eq!(response.status, "FAILED_PRECONDITION");
    let data: Value = serde_json::from_str(&response.response_data).unwrap();
    assert_eq!(
        data["details"],
        json!([{"@type": "type.googleapis.com/shop.Reason", "why": "rain"}])
    );
    gateway.stop().await;
}

#[tokio::test]
async fn octets_pass_as_they_are() {
    let backend = echo().start().await;
    let gateway = gateway_of(&backend).await;
    let mut client = client(&gateway).await;
    let call = InvokeRequest {
        service: "shop".into(),
        method: "Get".into(),
        request_data: b"\x0a\x03nut".as_slice().into(),
    };
    let response = client.invoke(call).await.unwrap().into_inner();
    assert!(response.success, "{}", response.message);
    assert_eq!(&response.response_data[..], b"\x0a\x03nut");
    gateway.stop().await;
}

#[tokio::test]
async fn headers_go_on_octet_by_octet_except_those_of_the_connection() {
    let backend = echo().start().await;
    let gateway = gateway_of(&backend).await;
    let mut client = client(&gateway).await;
    let mut call = Request::new(request("shop", "Get", "{}"));
    let sent = [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "rojo=00f067aa0ba902b7, congo=t61rcWkgMzE"),
        ("baggage", "user=%C3%A4;p=1 , b= 2"),
        ("x-custom", "  kept as it is"),
        ("authorization", "Bearer abc"),
    ];
    for (name, value) in sent {
        call.metadata_mut().insert(name, value.trim().parse().unwrap());
    }
    call.metadata_mut()
        .insert_bin("x-octets-bin", tonic::metadata::MetadataValue::from_bytes(b"\0\xff"));
    call.metadata_mut().insert("x-api-key", "secret".parse().unwrap());
    let response = client.invoke_json(call).await.unwrap();
    assert_eq!(response.metadata().get("x-backend").unwrap(), "shop");
    let headers = backend.last_call();
    for (name, value) in sent {
        assert_eq!(headers.get(name).unwrap(), value.trim(), "{name}");
    }
    assert_eq!(headers.get("x-octets-bin").unwrap(), "AP8");
    assert!(headers.get("x-api-key").is_none());
    assert!(headers.get("x-request-id").is_some());
    gateway.stop().await;
}

#[tokio::test]
async fn a_deadline_goes_on_and_an_overdue_backend_is_named() {
    let backend = echo()
        .unary("Wait", |_, _| async { std::future::pending::<Result<Value, Status>>().await })
        .start()
        .await;
    let mut config = crate::client::config();
    config.default_timeout = Duration::from_millis(200);
    let gateway = oxgrpc_gateway::Gateway::start(config).await.unwrap();
    gateway.registry().add(entry("shop", &[&backend]));

    let response = invoke(&gateway, "shop", "Wait", "{}").await;
    assert_eq!(response.status, "DEADLINE_EXCEEDED");
    assert!(response.message.contains("shop.Shop.Wait"), "{}", response.message);

    // A shorter deadline of the caller's replaces the default one.
    let mut client = client(&gateway).await;
    let mut call = Request::new(request("shop", "Get", "{}"));
    call.set_timeout(Duration::from_millis(150));
    client.invoke_json(call).await.unwrap();
    let headers = backend.last_call();
    let timeout = headers.get("grpc-timeout").unwrap().to_str().unwrap();
    let micros: u64 = timeout.trim_end_matches(char::is_alphabetic).parse().unwrap();
    let unit = if timeout.ends_with('n') { 1000 } else { 1 };
    assert!(micros / unit <= 150_000, "{timeout}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_caller_that_leaves_cancels_the_backends_call() {
    let (started, mut begun) = mpsc::unbounded_channel();
    let gone = Arc::new(Notify::new());
    let ended = gone.clone();
    struct OnDrop(Arc<Notify>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let backend = Builder::new(SHOP)
        .unary("Wait", move |_, _| {
            let (started, gone) = (started.clone(), OnDrop(gone.clone()));
            async move {
                started.send(()).unwrap();
                std::future::pending::<()>().await;
                drop(gone);
                Ok(json!({}))
            }
        })
        .start()
        .await;
    let gateway = gateway_of(&backend).await;

    // A native call.
    let mut native = client(&gateway).await;
    let call = tokio::spawn(async move { native.invoke_json(request("shop", "Wait", "{}")).await });
    begun.recv().await.unwrap();
    call.abort();
    ended.notified().await;

    // A stream.
    let mut streaming = client(&gateway).await;
    let call =
        tokio::spawn(
            async move { streaming.invoke_json_stream(request("shop", "Wait", "{}")).await },
        );
    begun.recv().await.unwrap();
    call.abort();
    ended.notified().await;

    // REST, whose connection is closed.
    let address = gateway.http_address();
    for path in ["/v1/gateway/invoke-json", "/v1/grpc/call", "/v1/gateway/invoke-json-stream"] {
        use tokio::io::AsyncWriteExt as _;
        let body = r#"{"service": "shop", "method": "Wait"}"#;
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        begun.recv().await.unwrap();
        drop(socket);
        ended.notified().await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_ends_with_its_status() {
    let backend = echo()
        .stream("Watch", |_, item| async move {
            let mut answers = vec![Ok(json!({"count": "1"})), Ok(json!({"count": "2"}))];
            if item["name"] == "broken" {
                answers.push(Err(Status::data_loss("lost it")));
            }
            Ok(futures_util::stream::iter(answers).boxed())
        })
        .unary("Fail", |_, _| async { Err(Status::not_found("nothing")) })
        .start()
        .await;
    let gateway = gateway_of(&backend).await;
    let mut client = client(&gateway).await;
    let mut collect = async |method: &str, json: &str| {
        let stream = client.invoke_json_stream(request("shop", method, json)).await?.into_inner();
        Ok::<_, Status>(stream.map(Result::unwrap).collect::<Vec<_>>().await)
    };

    let messages = collect("Watch", "{}").await.unwrap();
    assert_eq!(messages.len(), 3);
    assert!(messages[0].response_data.contains(r#""count":"1""#));
    assert_eq!(messages[0].status, "");
    assert_eq!((messages[2].success, messages[2].status.as_str()), (true, "OK"));

    let messages = collect("Watch", r#"{"name": "broken"}"#).await.unwrap();
    let last = messages.last().unwrap();
    assert_eq!(
        (last.success, last.status.as_str(), last.message.as_str()),
        (false, "DATA_LOSS", "lost it")
    );

    let messages = collect("Get", r#"{"name": "one"}"#).await.unwrap();
    assert_eq!(messages.len(), 2);

    assert_eq!(collect("Fail", "{}").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(collect("Upload", "{}").await.unwrap_err().code(), Code::Unimplemented);
    gateway.stop().await;
}

#[tokio::test]
async fn methods_and_their_messages_are_described() {
    let backend = echo().start().await;
    let gateway = gateway_of(&backend).await;
    let mut client = client(&gateway).await;
    let services = client.list_services(ListServicesRequest {}).await.unwrap().into_inner();
    assert_eq!(services.services, ["shop"]);

    let list = ListMethodsRequest { service: "shop".into() };
    let methods = client.list_methods(list).await.unwrap().into_inner().methods;
    assert_eq!(methods.len(), 5);
    let watch = methods.iter().find(|method| method.name == "Watch").unwrap();
    assert_eq!(watch.full_name, "shop.Shop.Watch");
    assert!(watch.is_server_streaming && !watch.is_client_streaming);

    let schema = GetMethodSchemaRequest {
        service: "shop".into(),
        method: "Get".into(),
        r#type: String::new(),
    };
    let schema = client.get_method_schema(schema).await.unwrap().into_inner().schema.unwrap();
    assert_eq!(schema.schema_type, "input");
    let field = |name: &str| schema.fields.iter().find(|field| field.name == name).unwrap();
    assert_eq!((field("count").r#type.as_str(), field("count").is_repeated), ("int64", false));
    assert_eq!(
        (field("parts").type_name.as_str(), field("parts").is_repeated),
        ("shop.Part", true)
    );
    assert_eq!(field("prices").type_name, "map<string, double>");
    assert_eq!(field("color").r#type, "enum");
    assert!(field("note").is_optional && field("note").oneof_group.is_empty());
    assert_eq!(field("text").oneof_group, "kind");
    assert_eq!(field("text").oneof_cases.len(), 2);
    assert_eq!(field("text").oneof_cases[1].field_number, 7);

    for name in ["Gateway", "virtufin.Gateway"] {
        let list = ListMethodsRequest { service: name.into() };
        let methods = client.list_methods(list).await.unwrap().into_inner().methods;
        assert!(methods.iter().any(|method| method.full_name == "virtufin.Gateway.InvokeJson"));
    }
    let unknown = ListMethodsRequest { service: "ghost".into() };
    assert_eq!(client.list_methods(unknown).await.unwrap_err().code(), Code::NotFound);
    gateway.stop().await;
}

#[tokio::test]
async fn a_backend_that_cannot_be_used_says_why() {
    let gateway = gateway().await;
    // A port that nobody listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    gateway.registry().add(oxgrpc_gateway::registry::ServiceEntry::new(
        "down",
        "127.0.0.1",
        free.port(),
    ));
    let response = invoke(&gateway, "down", "Get", "{}").await;
    assert_eq!(response.status, "UNAVAILABLE");
    assert!(response.message.contains(&free.to_string()), "{}", response.message);
    assert!(response.message.contains("refused"), "{}", response.message);

    let silent = echo().silent().start().await;
    gateway.registry().add(entry("silent", &[&silent]));
    let response = invoke(&gateway, "silent", "Get", "{}").await;
    assert_eq!(response.status, "UNAVAILABLE");
    assert!(response.message.contains("no reflection"), "{}", response.message);

    let old = echo().v1alpha_only().start().await;
    gateway.registry().add(entry("old", &[&old]));
    let response = invoke(&gateway, "old", "Get", "{}").await;
    assert_eq!(response.status, "OK", "{}", response.message);
    gateway.stop().await;
}
