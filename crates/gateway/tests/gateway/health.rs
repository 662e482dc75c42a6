//! `/health`, `grpc.health.v1` and `/metrics`.

use serde_json::json;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::backend::{Builder, SHOP};
use crate::client::{channel, entry, gateway, get, invoke};

#[tokio::test]
async fn health_tells_of_the_parts() {
    let gateway = gateway().await;
    let answer = get(&gateway, "/health").await;
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("Healthy")));

    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    gateway.registry().add(oxgrpc_gateway::registry::ServiceEntry::new(
        "down",
        "127.0.0.1",
        free.port(),
    ));
    invoke(&gateway, "down", "Get", "{}").await;
    let answer = get(&gateway, "/health").await;
    // The gateway serves all the same.
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("Degraded")));
    let pool = &answer.json()["entries"]["grpc-channel-pool"]["data"];
    assert_eq!(pool["down"][0]["status"], "Unhealthy");
    gateway.stop().await;
}

#[tokio::test]
async fn the_standard_health_service_knows_the_gateways_services() {
    let gateway = gateway().await;
    let mut client = HealthClient::new(channel(&gateway).await);
    for service in ["", "virtufin.Gateway", "virtufin.State", "virtufin.Pubsub", "virtufin.Config"]
    {
        let request = HealthCheckRequest { service: service.into() };
        let answer = client.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status, 1, "{service}");
    }
    let unknown = HealthCheckRequest { service: "ghost".into() };
    assert_eq!(client.check(unknown).await.unwrap_err().code(), tonic::Code::NotFound);
    gateway.stop().await;
}

#[tokio::test]
async fn metrics_count_by_route_and_never_by_what_callers_invent() {
    let backend = Builder::new(SHOP).unary("Get", |_, item| async { Ok(item) }).start().await;
    let gateway = gateway().await;
    gateway.registry().add(entry("shop", &[&backend]));
    invoke(&gateway, "shop", "Get", "{}").await;
    get(&gateway, "/v1/state/a/secret-key").await;
    get(&gateway, "/invented").await;
    let text = get(&gateway, "/metrics").await.body;
    for line in [
        r#"oxgrpc_gateway_requests_total{port="grpc",route="/virtufin.Gateway/InvokeJson",code="OK"} 1"#,
        r#"oxgrpc_gateway_requests_total{port="http",route="/v1/state/{service}/{*key}",code="200"} 1"#,
        r#"oxgrpc_gateway_requests_total{port="http",route="other",code="404"} 1"#,
        r#"oxgrpc_gateway_backend_up{service="shop","#,
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert!(!text.contains("invented") && !text.contains("secret-key"));
    gateway.stop().await;
}
