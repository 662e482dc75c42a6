//! A gateway that stops: calls that run end first, streams that never end are ended.

use std::sync::Arc;
use std::time::Duration;

use oxgrpc_proto::virtufin::PubsubSubscribeRequest;
use oxgrpc_proto::virtufin::pubsub_client::PubsubClient;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tonic::Code;

use crate::backend::{Builder, SHOP};
use crate::client::{channel, client, gateway, gateway_of, request};

#[tokio::test]
async fn a_running_call_is_answered_and_a_subscription_is_ended() {
    let (begun, proceed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, proceeds) = (begun.clone(), proceed.clone());
    let backend = Builder::new(SHOP)
        .unary("Wait", move |_, _| {
            let (begins, proceeds) = (begins.clone(), proceeds.clone());
            async move {
                begins.notify_one();
                proceeds.notified().await;
                Ok(json!({"name": "done"}))
            }
        })
        .start()
        .await;
    let gateway = gateway_of(&backend).await;
    let (http, grpc) = (gateway.http_address(), gateway.grpc_address());
    let mut caller = client(&gateway).await;
    let call = tokio::spawn(async move { caller.invoke_json(request("shop", "Wait", "{}")).await });
    begun.notified().await;
    let mut subscriber = PubsubClient::new(channel(&gateway).await);
    let subscribe = PubsubSubscribeRequest { topic: "news".into() };
    let mut events = subscriber.subscribe(subscribe).await.unwrap().into_inner();

    let stopping = tokio::spawn(gateway.stop());
    let status = events.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("stops"), "{status}");
    assert!(!stopping.is_finished());
    proceed.notify_one();
    let response = call.await.unwrap().unwrap().into_inner();
    assert_eq!(response.status, "OK");
    drop((events, subscriber));
    stopping.await.unwrap();
    for address in [http, grpc] {
        assert!(TcpStream::connect(address).await.is_err());
    }
}

#[tokio::test]
async fn a_call_that_outlasts_the_grace_is_cut() {
    let begun = Arc::new(Notify::new());
    let begins = begun.clone();
    let backend = Builder::new(SHOP)
        .unary("Wait", move |_, _| {
            begins.notify_one();
            async {
                std::future::pending::<()>().await;
                Ok(json!({}))
            }
        })
        .start()
        .await;
    let mut config = crate::client::config();
    config.grace = Duration::from_millis(50);
    let gateway = oxgrpc_gateway::Gateway::start(config).await.unwrap();
    gateway.registry().add(crate::client::entry("shop", &[&backend]));
    let mut caller = client(&gateway).await;
    let call = tokio::spawn(async move { caller.invoke_json(request("shop", "Wait", "{}")).await });
    begun.notified().await;
    gateway.stop().await;
    assert_eq!(call.await.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn an_idle_gateway_stops_at_once() {
    let gateway = gateway().await;
    let _idle = channel(&gateway).await;
    gateway.stop().await;
}
