//! `virtufin.State`, `virtufin.Pubsub` and `Gateway.Subscribe` over the wire.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use oxgrpc_gateway::pubsub::{
    Bus, DROPPED_KEY, LocalBus, PubsubService, SUBSCRIPTION_ID, subscribe_events,
};
use oxgrpc_gateway::state::{EmbeddedStore, StateService, system_clock};
use oxgrpc_proto::virtufin::pubsub_client::PubsubClient;
use oxgrpc_proto::virtufin::pubsub_server::PubsubServer;
use oxgrpc_proto::virtufin::state_client::StateClient;
use oxgrpc_proto::virtufin::state_server::StateServer;
use oxgrpc_proto::virtufin::*;
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request};

/// State and pub/sub on a port of their own, until it is dropped.
struct Serving {
    bus: Arc<dyn Bus>,
    address: SocketAddr,
    server: tokio::task::JoinHandle<()>,
}

impl Serving {
    async fn start() -> Self {
        let bus: Arc<dyn Bus> = Arc::new(LocalBus::default());
        let store = Arc::new(EmbeddedStore::in_memory(system_clock()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Server::builder()
            .add_service(StateServer::new(StateService::new(store, bus.clone())))
            .add_service(PubsubServer::new(PubsubService::new(bus.clone())));
        let server = tokio::spawn(async move {
            router.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { bus, address, server }
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    async fn state(&self) -> StateClient<Channel> {
        StateClient::new(self.channel().await)
    }

    async fn pubsub(&self) -> PubsubClient<Channel> {
        PubsubClient::new(self.channel().await)
    }

    /// Waits until the gateway has that many subscriptions.
    async fn subscriptions(&self, count: u64) {
        while self.bus.counts().subscriptions != count {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn save(key: &str, value: &str) -> SaveStateRequest {
    SaveStateRequest {
        service: "orders".into(),
        key: key.into(),
        value: value.into(),
        ..Default::default()
    }
}

fn publish(topic: &str, data: &str, metadata: &[(&str, &str)]) -> PublishRequest {
    PublishRequest {
        topic: topic.into(),
        data: data.to_owned().into(),
        metadata: metadata.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
    }
}

fn to(topic: &str) -> PubsubSubscribeRequest {
    PubsubSubscribeRequest { topic: topic.into() }
}

#[tokio::test]
async fn state_is_saved_and_read_and_deleted() {
    let serving = Serving::start().await;
    let mut state = serving.state().await;
    let get = |key: &str| GetStateRequest { service: "orders".into(), key: key.into() };

    let missing = state.get_state(get("a/b")).await.unwrap().into_inner();
    assert_eq!(missing, GetStateResponse { key: "a/b".into(), ..Default::default() });

    let saved = state.save_state(save("a/b", "1")).await.unwrap().into_inner();
    let status = saved.status.unwrap();
    assert!(status.success && status.status == "OK" && status.message.contains("orders/a/b"));
    let found = state.get_state(get("a/b")).await.unwrap().into_inner();
    assert_eq!((found.value.as_str(), &found.etag), ("1", &saved.etag));

    let stale = SaveStateRequest { etag: "stale".into(), ..save("a/b", "2") };
    let status = state.save_state(stale).await.unwrap_err();
    assert!(status.code() == Code::Aborted && status.message().contains("a/b"), "{status}");
    let again = SaveStateRequest { create_only: true, ..save("a/b", "2") };
    assert_eq!(state.save_state(again.clone()).await.unwrap_err().code(), Code::Aborted);
    let both = SaveStateRequest { etag: saved.etag.clone(), ..again.clone() };
    assert_eq!(state.save_state(both).await.unwrap_err().code(), Code::InvalidArgument);
    let matching = SaveStateRequest { etag: saved.etag.clone(), ..save("a/b", "2") };
    let saved = state.save_state(matching).await.unwrap().into_inner();

    let delete = |etag: &str| DeleteStateRequest {
        service: "orders".into(),
        key: "a/b".into(),
        etag: etag.into(),
        include_value: false,
    };
    assert_eq!(state.delete_state(delete("stale")).await.unwrap_err().code(), Code::Aborted);
    let deleted = state.delete_state(delete(&saved.etag)).await.unwrap().into_inner();
    assert!(deleted.status.unwrap().success);
    state.save_state(again).await.unwrap();

    let register =
        RegisterKeysRequest { service: "orders".into(), keys: vec!["x".into(), "a/b".into()] };
    assert!(state.register_keys(register).await.unwrap().into_inner().status.unwrap().success);
    let all = GetAllStateRequest { service: "orders".into() };
    let values = state.get_all_state(all).await.unwrap().into_inner().values;
    assert_eq!(values, HashMap::from([("a/b".into(), "2".into())]));

    let list = ListKeysRequest { service: "orders".into(), ..Default::default() };
    let page = state.list_keys(list).await.unwrap().into_inner();
    assert_eq!(page, ListKeysResponse { keys: vec!["a/b".into()], ..Default::default() });

    let bad = SaveStateRequest { key: String::new(), ..save("", "") };
    assert_eq!(state.save_state(bad).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn every_change_is_an_event() {
    let serving = Serving::start().await;
    let mut state = serving.state().await;
    let mut pubsub = serving.pubsub().await;
    let mut changes = pubsub.subscribe(to("state-changes")).await.unwrap().into_inner();
    let mut request = Request::new(save("a", "1"));
    request.metadata_mut().insert("traceparent", "00-1-2-03".parse().unwrap());
    let etag = state.save_state(request).await.unwrap().into_inner().etag;
    state.save_state(SaveStateRequest { include_value: true, ..save("a", "2") }).await.unwrap();
    state.save_state(SaveStateRequest { create_only: true, ..save("a", "3") }).await.unwrap_err();
    let delete =
        DeleteStateRequest { service: "orders".into(), key: "a".into(), ..Default::default() };
    state.delete_state(delete).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..3 {
        let event = changes.next().await.unwrap().unwrap();
        let payload: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
        assert_eq!((&payload["service"], &payload["key"]), (&"orders".into(), &"a".into()));
        told.push((payload, event.metadata));
    }
    assert_eq!((&told[0].0["action"], &told[0].0["etag"]), (&"save".into(), &etag.into()));
    assert_eq!(told[0].0.get("value"), None);
    assert_eq!(told[0].1["traceparent"], "00-1-2-03");
    assert_eq!(told[1].0["value"], "2");
    assert_eq!(told[2].0["action"], "delete");
}

#[tokio::test]
async fn an_event_has_attributes_and_extensions() {
    let serving = Serving::start().await;
    let mut pubsub = serving.pubsub().await;
    let mut events = pubsub.subscribe(to("t")).await.unwrap().into_inner();
    let mut request = Request::new(publish("t", "voilà", &[("correlationid", "1"), ("X-A", "ä")]));
    for (key, value) in
        [("traceparent", "00-1-2-03"), ("tracestate", "a=1,b=2"), ("baggage", "k=v;p=1")]
    {
        request.metadata_mut().insert(key, value.parse().unwrap());
    }
    let published = pubsub.publish_event(request).await.unwrap().into_inner().status.unwrap();
    assert!(published.success && published.status == "OK");
    let event = events.next().await.unwrap().unwrap();
    assert_eq!((event.topic.as_str(), &event.data[..]), ("t", "voilà".as_bytes()));
    for (key, value) in [
        ("correlationid", "1"),
        ("X-A", "ä"),
        ("traceparent", "00-1-2-03"),
        ("tracestate", "a=1,b=2"),
        ("baggage", "k=v;p=1"),
        ("ce-id", &event.message_id),
        ("ce-time", &event.timestamp),
        ("ce-specversion", "1.0"),
    ] {
        assert_eq!(event.metadata[key], value, "{key}");
    }
    assert!(event.timestamp.ends_with('Z') && !event.metadata.contains_key(DROPPED_KEY));

    let attributes = [
        ("ce-id", "my id"),
        ("ce-source", "urn:x"),
        ("ce-type", "my.type"),
        ("ce-time", "2026-01-31T12:00:00.5Z"),
        ("ce-specversion", "1.0"),
        ("ce-datacontenttype", "text/plain"),
    ];
    pubsub.publish_event(publish("t", "", &attributes)).await.unwrap();
    let event = events.next().await.unwrap().unwrap();
    assert_eq!(event.message_id, "my id");
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_769_860_800_500);
    assert_eq!(event.timestamp.parse::<prost_types::Timestamp>().unwrap(), time.into());
    for (key, value) in attributes.iter().filter(|(key, _)| *key != "ce-time") {
        assert_eq!(event.metadata[*key], *value, "{key}");
    }

    for (key, value) in [("ce-time", "yesterday"), ("ce-specversion", "2.0"), ("ce-id", "")] {
        let status = pubsub.publish_event(publish("t", "", &[(key, value)])).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(key), "{status}");
    }
    let status = pubsub.publish_event(publish("", "", &[])).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(pubsub.subscribe(to("")).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_subscription_id_comes_first_and_ends_the_stream() {
    let serving = Serving::start().await;
    let mut pubsub = serving.pubsub().await;
    for round in 0..20 {
        // The response's headers are here: whatever is published from now on arrives.
        let response = pubsub.subscribe(to("reply")).await.unwrap();
        let id = response.metadata().get(SUBSCRIPTION_ID).unwrap().to_str().unwrap().to_owned();
        let mut events = response.into_inner();
        pubsub.publish_event(publish("reply", &round.to_string(), &[])).await.unwrap();
        let event = events.next().await.unwrap().unwrap();
        assert_eq!(&event.data[..], round.to_string().as_bytes());
        let unsubscribe = UnsubscribeRequest { subscription_id: id };
        let status = pubsub.unsubscribe(unsubscribe.clone()).await.unwrap().into_inner();
        assert!(status.status.unwrap().success);
        assert!(events.next().await.is_none());
        let status = pubsub.unsubscribe(unsubscribe).await.unwrap().into_inner().status.unwrap();
        assert!(!status.success && status.status == "NOT_FOUND");
    }
    assert_eq!(serving.bus.counts().subscriptions, 0);
}

#[tokio::test]
async fn a_subscriber_that_goes_is_removed() {
    let serving = Serving::start().await;
    let mut other = serving.pubsub().await;
    {
        let mut pubsub = serving.pubsub().await;
        let cancelled = pubsub.subscribe(to("t")).await.unwrap();
        let _alive = pubsub.subscribe(to("t")).await.unwrap();
        serving.subscriptions(2).await;
        drop(cancelled);
        serving.subscriptions(1).await;
    }
    // The connection is gone, as after a kill.
    serving.subscriptions(0).await;
    let mut events = other.subscribe(to("t")).await.unwrap().into_inner();
    for event in 0..100 {
        other.publish_event(publish("t", &event.to_string(), &[])).await.unwrap();
    }
    for event in 0..100 {
        assert_eq!(&events.next().await.unwrap().unwrap().data[..], event.to_string().as_bytes());
    }
}

#[tokio::test]
async fn a_subscriber_that_never_reads_holds_nobody_up() {
    let serving = Serving::start().await;
    let mut pubsub = serving.pubsub().await;
    let mut stuck = pubsub.subscribe(to("t")).await.unwrap().into_inner();
    let payload = "x".repeat(100_000);
    for _ in 0..600 {
        pubsub.publish_event(publish("t", &payload, &[])).await.unwrap();
    }
    let dropped = serving.bus.counts().dropped;
    assert!(dropped > 0);
    pubsub.publish_event(publish("t", "last", &[])).await.unwrap();
    let (mut received, mut lost) = (0, 0);
    loop {
        let event = stuck.next().await.unwrap().unwrap();
        received += 1;
        lost += event.metadata.get(DROPPED_KEY).map_or(0, |count| count.parse().unwrap());
        if &event.data[..] == b"last" {
            break;
        }
    }
    assert_eq!(received + lost, 601);
}

#[tokio::test]
async fn system_events_have_a_topic_of_their_own() {
    let serving = Serving::start().await;
    let mut pubsub = serving.pubsub().await;
    let mut events =
        pubsub.subscribe_system_events(PubsubSubscribeSystemRequest {}).await.unwrap().into_inner();
    let event = PublishSystemEventRequest {
        data: "up".into(),
        metadata: HashMap::from([("k".into(), "v".into())]),
    };
    pubsub.publish_system_event(event).await.unwrap();
    let event = events.next().await.unwrap().unwrap();
    assert_eq!((&event.data[..], event.metadata["k"].as_str()), (&b"up"[..], "v"));
}

#[tokio::test]
async fn the_event_stream_is_filtered_and_names_the_service() {
    let serving = Serving::start().await;
    let mut pubsub = serving.pubsub().await;
    let mut state = serving.state().await;
    let subscribe = async |services: &[&str], topics: &[&str], event_types: &[&str]| {
        let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let request = SubscribeRequest {
            services: strings(services),
            topics: strings(topics),
            event_types: strings(event_types),
        };
        subscribe_events(&*serving.bus, request, Arc::new(|name| name == "workmanager")).await
    };
    let everything = subscribe(&[], &[], &[]).await.unwrap();
    assert!(everything.metadata().contains_key(SUBSCRIPTION_ID));
    let mut everything = everything.into_inner();
    type Names<'n> = &'n [&'n str];
    let filters: [(Names<'_>, Names<'_>, Names<'_>, Names<'_>); 8] = [
        (&["workmanager"], &[], &[], &["1", "5"]),
        (&["orders"], &[], &[], &["2", "3", "state"]),
        (&["orders"], &["t"], &["pubsub"], &["2", "3"]),
        (&[], &["t", "workmanager.workerstatus"], &[], &["1", "2", "3", "4"]),
        (&[], &[], &["state"], &["state"]),
        (&[], &[], &["system", "state"], &["5", "state"]),
        (&["nobody"], &[], &[], &[]),
        (&[], &["t"], &["state"], &[]),
    ];
    let mut streams = Vec::new();
    for (services, topics, kinds, expected) in filters {
        streams.push((subscribe(services, topics, kinds).await.unwrap().into_inner(), expected));
    }
    for (topic, data, metadata) in [
        ("workmanager.workerstatus", "1", &[][..]),
        ("t", r#"{"n": "2", "service": "orders"}"#, &[("traceparent", "00-1-2-03")]),
        ("t", "3", &[("ce-source", "urn:com.virtufin.orders")]),
        ("t", "4", &[("ce-source", "urn:other")]),
        ("system", "5", &[("ce-source", "urn:com.virtufin.workmanager")]),
    ] {
        pubsub.publish_event(publish(topic, data, metadata)).await.unwrap();
    }
    state.save_state(save("a", "1")).await.unwrap();

    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(everything.next().await.unwrap().unwrap());
    }
    let sources: Vec<_> = seen.iter().map(|event| event.source.as_str()).collect();
    let orders = "urn:com.virtufin.orders";
    let workmanager = "urn:com.virtufin.workmanager";
    assert_eq!(sources, [workmanager, orders, orders, "urn:other", workmanager, orders]);
    assert_eq!(seen[1].metadata["traceparent"], "00-1-2-03");
    assert!(seen.iter().all(|event| event.spec_version == "1.0" && event.pubsub_name == "pubsub"));

    let name = |event: &TopicEventRequest| {
        let data = String::from_utf8(event.data.to_vec()).unwrap();
        match event.topic.as_str() {
            "state-changes" => "state".to_owned(),
            _ if data.starts_with('{') => "2".into(),
            _ => data,
        }
    };
    // Publishing has put whatever there is into the queues: a stream that has to wait has nothing more.
    for (mut stream, expected) in streams {
        for expected in expected {
            assert_eq!(name(&stream.next().await.unwrap().unwrap()), *expected);
        }
        assert!(stream.next().now_or_never().is_none());
    }
    let error = subscribe(&[], &[], &["pubsub", "typo"]).await.err().unwrap();
    assert!(error.code() == Code::InvalidArgument && error.message().contains("typo"));
}
