//! `services.json`: what is accepted, what is refused, and what happens when it changes.

use std::path::Path;
use std::time::Duration;

use oxgrpc_gateway::{Gateway, StartError, registry::parse};
use oxgrpc_proto::virtufin::config_client::ConfigClient;
use oxgrpc_proto::virtufin::{GetConfigServiceRequest, ListConfigServicesRequest};

use crate::backend::{Builder, SHOP, compile};
use crate::client::{channel, config, get, invoke};

#[test]
fn mistakes_are_named_with_their_lines() {
    let cases = [
        ("{", 1, "EOF"),
        ("{\n \"services\": [\n  {\"name\": 5}\n ]\n}", 3, "services[0].name"),
        (
            "{\"services\": [\n\n{\"name\": \"a\",\n \"grpc\": {\"host\": \"h\", \"port\": 0}}]}",
            4,
            "services[0].grpc.port",
        ),
        (
            "{\"services\": [{\"name\": \"a\", \"grpc\": {\"host\": \"h\", \"port\": 70000}}]}",
            1,
            "port",
        ),
        (
            "{\"services\": [\n{\"name\": \"\", \"grpc\": {\"host\": \"h\", \"port\": 1}}]}",
            2,
            "name is empty",
        ),
        (
            "{\"services\": [\n{\"name\": \"a\", \"grpc\": {\"port\": 1}}]}",
            2,
            "grpc.host is missing",
        ),
        (
            "{\"services\": [\n{\"name\": \"a\", \"protocol\": \"http\", \"grpc\": {\"host\": \"h\", \"port\": 1}}]}",
            2,
            "protocol",
        ),
        (
            "{\"services\": [\n{\"name\": \"a\", \"grpc\": {\"host\": \"h\", \"port\": 1, \"reflectionEnabled\": false}}]}",
            2,
            "descriptorSet",
        ),
        (
            "{\"services\": [\n{\"name\": \"a\", \"grpc\": {\"host\": \"h\", \"port\": 1}},\n\
             {\"name\": \"A\", \"grpc\": {\"host\": \"h\", \"port\": 2}}]}",
            3,
            "taken on line 2",
        ),
        (
            "{\"services\": [\n{\"name\": \"a\", \"grpc\": {\"host\": \"h\", \"port\": 1, \"tls\": true}}]}",
            2,
            "grpc.authority",
        ),
        ("{}", 1, "services"),
    ];
    for (text, line, part) in cases {
        let error = parse(Path::new("services.json"), text).unwrap_err();
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(error.to_string().contains(part), "{error} lacks {part}");
    }
}

#[test]
fn an_entry_has_defaults_and_may_have_several_hosts() {
    let text = r#"{"services": [{"name": "a", "unknown": 1, "grpc": {"host": "one", "port": 1,
        "hosts": [{"host": "two", "port": 2}]}, "jobs": {"crons": [{"name": "n", "schedule": "* * * * *"}]}}]}"#;
    let entries = parse(Path::new("dir/services.json"), text).unwrap();
    let targets: Vec<String> = entries[0].targets.iter().map(ToString::to_string).collect();
    assert_eq!(targets, ["one:1", "two:2"]);
    assert_eq!(
        (entries[0].pubsub_name.as_str(), entries[0].store_name.as_str()),
        ("pubsub", "statestore")
    );
    assert_eq!(entries[0].crons[0].schedule, "* * * * *");
}

fn file_of(entries: &[(&str, u16)]) -> String {
    let entries: Vec<_> = entries
        .iter()
        .map(|(name, port)| {
            format!(r#"{{"name": "{name}", "grpc": {{"host": "127.0.0.1", "port": {port}}}}}"#)
        })
        .collect();
    format!("{{\"services\": [{}]}}", entries.join(",\n"))
}

#[tokio::test]
async fn a_changed_file_is_in_force_and_a_wrong_one_is_not() {
    let backend = Builder::new(SHOP).unary("Get", |_, item| async { Ok(item) }).start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("services.json");
    std::fs::write(&path, file_of(&[("first", backend.address.port())])).unwrap();
    let mut config = config();
    config.services_file = Some(path.clone());
    let gateway = Gateway::start(config).await.unwrap();
    assert_eq!(invoke(&gateway, "first", "Get", "{}").await.status, "OK");

    std::fs::write(
        &path,
        file_of(&[("first", backend.address.port()), ("second", backend.address.port())]),
    )
    .unwrap();
    until(|| gateway.registry().find("second").is_some()).await;
    assert_eq!(invoke(&gateway, "second", "Get", "{}").await.status, "OK");

    std::fs::write(&path, "{\"services\": [\n{\"name\": \"third\"}]}").unwrap();
    until(|| gateway.registry().rejected().is_some()).await;
    assert_eq!(gateway.registry().rejected().unwrap().line, 2);
    assert_eq!(invoke(&gateway, "second", "Get", "{}").await.status, "OK");
    assert!(get(&gateway, "/health").await.body.contains("services.json:2"));

    std::fs::write(&path, file_of(&[("third", backend.address.port())])).unwrap();
    until(|| gateway.registry().find("third").is_some()).await;
    assert!(gateway.registry().find("first").is_none());
    assert!(gateway.registry().rejected().is_none());

    let mut client = ConfigClient::new(channel(&gateway).await);
    let listed = client.list_services(ListConfigServicesRequest {}).await.unwrap().into_inner();
    assert_eq!(listed.services[0].name, "third");
    assert_eq!(listed.services[0].grpc.as_ref().unwrap().port, i32::from(backend.address.port()));
    let unknown = GetConfigServiceRequest { name: "first".into() };
    assert!(client.get_service(unknown).await.unwrap().into_inner().service.is_none());
    gateway.stop().await;
}

/// Awaits what the watcher does within its next looks.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_gateway_does_not_start_with_a_wrong_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("services.json");
    let mut config = config();
    config.services_file = Some(path.clone());
    let error = Gateway::start(config.clone()).await.unwrap_err();
    assert!(matches!(&error, StartError::Services(error) if error.line == 0), "{error}");
    std::fs::write(&path, "\n\nnonsense").unwrap();
    let error = Gateway::start(config).await.unwrap_err();
    assert!(error.to_string().contains("services.json:3"), "{error}");
}

#[tokio::test]
async fn a_descriptor_set_stands_in_for_reflection() {
    let backend =
        Builder::new(SHOP).silent().unary("Get", |_, item| async { Ok(item) }).start().await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("shop.bin"), compile("service.proto", SHOP)).unwrap();
    let path = directory.path().join("services.json");
    let port = backend.address.port();
    std::fs::write(
        &path,
        format!(
            r#"{{"services": [{{"name": "shop", "grpc": {{"host": "127.0.0.1", "port": {port},
                "reflectionEnabled": false, "descriptorSet": "shop.bin"}}}}]}}"#
        ),
    )
    .unwrap();
    let mut config = config();
    config.services_file = Some(path);
    let gateway = Gateway::start(config).await.unwrap();
    let response = invoke(&gateway, "shop", "Get", r#"{"name": "nut"}"#).await;
    assert_eq!(response.status, "OK", "{}", response.message);
    gateway.stop().await;
}
