//! Backends that are replaced while they are called, and several hosts of one service.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::backend::{Backend, Builder};
use crate::client::{entry, gateway, gateway_of, invoke};

const OLD: &str = "syntax = \"proto3\"; package roll; service Roll { rpc Get(Ask) returns (Answer); } \
    message Ask { string name = 1; } message Answer { string old = 1; }";
const NEW: &str = "syntax = \"proto3\"; package roll; \
    service Roll { rpc Get(Ask) returns (Answer); rpc Put(Ask) returns (Answer); } \
    message Ask { string name = 1; int32 size = 2; } message Answer { string old = 1; int32 added = 2; }";

fn old() -> Builder {
    Builder::new(OLD).unary("Get", |_, _| async { Ok(json!({"old": "old"})) })
}

fn new() -> Builder {
    Builder::new(NEW)
        .unary("Get", |_, ask| async move { Ok(json!({"old": "new", "added": ask["size"]})) })
        .unary("Put", |_, _| async { Ok(json!({"added": 7})) })
}

/// Ends a backend and starts another on its port.
async fn replace(backend: Backend, by: Builder) -> Backend {
    let address = backend.address;
    drop(backend);
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return by.start_on(listener),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn a_replaced_backend_is_called_with_its_new_schema() {
    let backend = old().start().await;
    let gateway = gateway_of(&backend).await;
    assert_eq!(invoke(&gateway, "shop", "Get", "{}").await.response_data, r#"{"old":"old"}"#);
    let unknown = invoke(&gateway, "shop", "Get", r#"{"size": 3}"#).await;
    assert_eq!(unknown.status, "INVALID_REQUEST");

    let backend = replace(backend, new()).await;
    let response = loop {
        // Until the old one has gone, which a call may be lost with.
        let response = invoke(&gateway, "shop", "Get", r#"{"size": 3}"#).await;
        if response.status == "OK" {
            break response;
        }
        assert!(["UNAVAILABLE", "INVALID_REQUEST"].contains(&response.status.as_str()));
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(response.response_data, r#"{"old":"new","added":3}"#);
    let response = invoke(&gateway, "shop", "Put", "{}").await;
    assert_eq!(response.response_data, r#"{"old":"","added":7}"#);
    drop(backend);
    gateway.stop().await;
}

#[tokio::test]
async fn each_host_is_called_with_its_own_schema_and_both_take_turns() {
    let (first, second) = (old().start().await, new().start().await);
    let gateway = gateway().await;
    gateway.registry().add(entry("roll", &[&first, &second]));
    let mut answers: HashMap<String, usize> = HashMap::new();
    for _ in 0..10 {
        let response = invoke(&gateway, "roll", "Get", "{}").await;
        assert_eq!(response.status, "OK", "{}", response.message);
        *answers.entry(response.response_data).or_default() += 1;
    }
    assert_eq!(answers[r#"{"old":"old"}"#], 5);
    assert_eq!(answers[r#"{"old":"new","added":0}"#], 5);
    gateway.stop().await;
}

#[tokio::test]
async fn a_host_that_is_down_costs_no_call() {
    let (first, second) = (new().start().await, new().start().await);
    let gateway = gateway().await;
    gateway.registry().add(entry("roll", &[&first, &second]));
    for _ in 0..4 {
        assert_eq!(invoke(&gateway, "roll", "Get", "{}").await.status, "OK");
    }
    let address = first.address;
    drop(first);
    let down = || {
        let backend = gateway.registry().find("roll").unwrap();
        matches!(backend.hosts()[0].health(), oxgrpc_gateway::backend::Health::Down { .. })
    };
    while !down() {
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        let response = invoke(&gateway, "roll", "Get", r#"{"size": 1}"#).await;
        assert_eq!(response.status, "OK", "{}", response.message);
    }
    // It comes back, and takes its turns again.
    let first = new().start_on(TcpListener::bind(address).await.unwrap());
    while first.calls.lock().unwrap().is_empty() {
        assert_eq!(invoke(&gateway, "roll", "Get", "{}").await.status, "OK");
    }
    let response: Value =
        serde_json::from_str(&invoke(&gateway, "roll", "Put", "{}").await.response_data).unwrap();
    assert_eq!(response["added"], 7);
    gateway.stop().await;
}
