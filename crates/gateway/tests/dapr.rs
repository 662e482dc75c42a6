//! Dapr's API over the wire: publish, streaming subscriptions with their answers, state, the HTTP twins, and refusals.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::FutureExt as _;
use oxgrpc_gateway::dapr::{Components, Dapr};
use oxgrpc_gateway::pubsub::{Bus, Delivery, Interest, LocalBus, Subscription};
use oxgrpc_gateway::state::{EmbeddedStore, system_clock};
use oxgrpc_proto::dapr::proto::common::v1::*;
use oxgrpc_proto::dapr::proto::runtime::v1::dapr_client::DaprClient;
use oxgrpc_proto::dapr::proto::runtime::v1::subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType as Outgoing;
use oxgrpc_proto::dapr::proto::runtime::v1::subscribe_topic_events_response_alpha1::SubscribeTopicEventsResponseType as Incoming;
use oxgrpc_proto::dapr::proto::runtime::v1::topic_event_response::TopicEventResponseStatus as Answer;
use oxgrpc_proto::dapr::proto::runtime::v1::*;
use prost_types::value::Kind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Status, Streaming};

struct Serving {
    bus: Arc<dyn Bus>,
    grpc: SocketAddr,
    http: SocketAddr,
    servers: [tokio::task::JoinHandle<()>; 2],
}

impl Serving {
    async fn start() -> Self {
        let bus: Arc<dyn Bus> = Arc::new(LocalBus::default());
        let store = Arc::new(EmbeddedStore::in_memory(system_clock()).unwrap());
        let dapr = Dapr::new(store, bus.clone(), Components::default());
        let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = (grpc.local_addr().unwrap(), http.local_addr().unwrap());
        let rpcs = Server::builder().add_service(dapr.grpc());
        let routes = dapr.http();
        let servers = [
            tokio::spawn(async move {
                rpcs.serve_with_incoming(TcpListenerStream::new(grpc)).await.unwrap();
            }),
            tokio::spawn(async move { axum::serve(http, routes).await.unwrap() }),
        ];
        Self { bus, grpc: addresses.0, http: addresses.1, servers }
    }

    async fn client(&self) -> DaprClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap();
        DaprClient::new(endpoint.connect().await.unwrap())
    }

    async fn listen(&self, topic: &str) -> Box<dyn Subscription> {
        self.bus.subscribe(Interest::topic(topic)).await.unwrap()
    }

    /// Sends a request, and returns the status code, the headers and the body.
    async fn http(&self, request: &str, headers: &str, body: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.http).await.unwrap();
        let request = format!(
            "{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), head.to_ascii_lowercase(), body.to_owned())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.servers.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

fn metadata(entries: &[(&str, &str)]) -> HashMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

fn publish(topic: &str, data: &str, content_type: &str) -> PublishEventRequest {
    PublishEventRequest {
        pubsub_name: "pubsub".into(),
        topic: topic.into(),
        data: data.to_owned().into(),
        data_content_type: content_type.into(),
        ..Default::default()
    }
}

async fn heard(subscription: &mut Box<dyn Subscription>) -> oxgrpc_gateway::pubsub::Event {
    match subscription.next().await {
        Some(Delivery::Event(event)) => (*event).clone(),
        other => panic!("{other:?}"),
    }
}

/// A streaming subscription, as an application holds it.
struct Subscribed {
    requests: mpsc::UnboundedSender<SubscribeTopicEventsRequestAlpha1>,
    responses: Streaming<SubscribeTopicEventsResponseAlpha1>,
}

fn request(content: Outgoing) -> SubscribeTopicEventsRequestAlpha1 {
    SubscribeTopicEventsRequestAlpha1 { subscribe_topic_events_request_type: Some(content) }
}

impl Subscribed {
    async fn with(
        client: &mut DaprClient<Channel>,
        initial: SubscribeTopicEventsRequestInitialAlpha1,
    ) -> Result<Self, Status> {
        let (requests, stream) = mpsc::unbounded_channel();
        requests.send(request(Outgoing::InitialRequest(initial))).unwrap();
        let responses =
            client.subscribe_topic_events_alpha1(UnboundedReceiverStream::new(stream)).await?;
        let mut subscribed = Self { requests, responses: responses.into_inner() };
        match subscribed.response().await? {
            Incoming::InitialResponse(_) => Ok(subscribed),
            Incoming::EventMessage(event) => panic!("{event:?}"),
        }
    }

    async fn to(client: &mut DaprClient<Channel>, entries: &[(&str, &str)]) -> Self {
        let initial = SubscribeTopicEventsRequestInitialAlpha1 {
            pubsub_name: "pubsub".into(),
            topic: "t".into(),
            metadata: metadata(entries),
            dead_letter_topic: Some("dead".into()),
        };
        Self::with(client, initial).await.unwrap()
    }

    async fn response(&mut self) -> Result<Incoming, Status> {
        let response = self.responses.message().await?.expect("the stream has ended");
        Ok(response.subscribe_topic_events_response_type.unwrap())
    }

    async fn event(&mut self) -> TopicEventRequest {
        match self.response().await.unwrap() {
            Incoming::EventMessage(event) => event,
            Incoming::InitialResponse(_) => panic!("a second initial response"),
        }
    }

    fn answer(&self, event: &TopicEventRequest, answer: Answer) {
        let processed = SubscribeTopicEventsRequestProcessedAlpha1 {
            id: event.id.clone(),
            status: Some(TopicEventResponse { status: answer.into() }),
        };
        self.requests.send(request(Outgoing::EventProcessed(processed))).unwrap();
    }
}

fn data(event: &TopicEventRequest) -> &str {
    std::str::from_utf8(&event.data).unwrap()
}

fn extension<'e>(event: &'e TopicEventRequest, key: &str) -> &'e str {
    match event.extensions.as_ref().unwrap().fields.get(key).map(|value| &value.kind) {
        Some(Some(Kind::StringValue(text))) => text,
        other => panic!("{key}: {other:?}"),
    }
}

#[tokio::test]
async fn an_event_keeps_its_octets_and_gets_its_attributes() {
    let serving = Serving::start().await;
    let mut client = serving.client().await;
    let mut heard_here = serving.listen("t").await;

    let mut call = Request::new(publish("t", r#"{ "b":1, "a" : 2.0 }"#, "application/json"));
    let trace = [("traceparent", "00-1-2-03"), ("tracestate", "a=1,b=2"), ("baggage", "k=v")];
    for (key, value) in trace {
        call.metadata_mut().insert(key, value.parse().unwrap());
    }
    client.publish_event(call).await.unwrap();
    let event = heard(&mut heard_here).await;
    assert_eq!(&event.data[..], br#"{ "b":1, "a" : 2.0 }"#);
    assert_eq!(
        (event.kind.as_str(), event.data_content_type.as_str()),
        ("com.dapr.event.sent", "application/json")
    );
    trace.iter().for_each(|(key, value)| assert_eq!(event.metadata[*key], *value));

    client.publish_event(publish("t", "x", "")).await.unwrap();
    assert_eq!(heard(&mut heard_here).await.data_content_type, "text/plain");

    let entries = [
        ("cloudevent.id", "my id"),
        ("cloudevent-type", "my.type"),
        ("cloudevent.source", "urn:me"),
        ("cloudevent.traceparent", "00-4-5-06"),
        ("correlationid", "c 1"),
    ];
    let with = PublishEventRequest { metadata: metadata(&entries), ..publish("t", "", "") };
    client.publish_event(with).await.unwrap();
    let event = heard(&mut heard_here).await;
    assert_eq!([&event.id, &event.kind, &event.source], ["my id", "my.type", "urn:me"]);
    assert_eq!(event.metadata["traceparent"], "00-4-5-06");
    assert_eq!(event.metadata["correlationid"], "c 1");

    let envelope = r#"{"specversion":"1.0","id":"e1","source":"urn:s","type":"k","topic":"other",
        "datacontenttype":"application/json","data":{ "z":1, "a":"ä" },"number":7,"text":"7",
        "time":"2026-01-31T12:00:00Z"}"#;
    client
        .publish_event(publish("t", envelope, "application/cloudevents+json; charset=utf-8"))
        .await
        .unwrap();
    let event = heard(&mut heard_here).await;
    assert_eq!(&event.data[..], r#"{ "z":1, "a":"ä" }"#.as_bytes());
    assert_eq!([&event.id, &event.topic, &event.metadata["number"]], ["e1", "t", "7"]);
    for (envelope, expected) in [
        (r#"{"datacontenttype":"text/plain","data":"a\"b"}"#, &b"a\"b"[..]),
        (r#"{"data_base64":"AP8="}"#, b"\0\xff"),
        (r#"{"data":"s"}"#, b"\"s\""),
        (r"{}", b""),
    ] {
        client.publish_event(publish("t", envelope, "application/cloudevents+json")).await.unwrap();
        assert_eq!(&heard(&mut heard_here).await.data[..], expected, "{envelope}");
    }
    let raw = PublishEventRequest {
        metadata: metadata(&[("rawPayload", "true")]),
        ..publish("t", envelope, "application/cloudevents+json")
    };
    client.publish_event(raw).await.unwrap();
    assert_eq!(&heard(&mut heard_here).await.data[..], envelope.as_bytes());

    for (bad, code, part) in [
        (publish("", "", ""), Code::InvalidArgument, "topic"),
        (
            PublishEventRequest { pubsub_name: "redis".into(), ..publish("t", "", "") },
            Code::NotFound,
            "redis",
        ),
        (
            PublishEventRequest { pubsub_name: String::new(), ..publish("t", "", "") },
            Code::InvalidArgument,
            "pub/sub",
        ),
        (publish("t", "[]", "application/cloudevents+json"), Code::InvalidArgument, "cloudevents"),
        (
            PublishEventRequest {
                metadata: metadata(&[("ttlInSeconds", "-3")]),
                ..publish("t", "", "")
            },
            Code::InvalidArgument,
            "ttlInSeconds",
        ),
    ] {
        let status = client.publish_event(bad).await.unwrap_err();
        assert!(status.code() == code && status.message().contains(part), "{status}");
    }
}

#[tokio::test]
async fn of_many_events_each_may_fail_by_itself() {
    let serving = Serving::start().await;
    let mut client = serving.client().await;
    let mut heard_here = serving.listen("t").await;
    let entry = |id: &str, data: &str, content_type: &str| BulkPublishRequestEntry {
        entry_id: id.into(),
        event: data.to_owned().into(),
        content_type: content_type.into(),
        metadata: metadata(&[("k", id)]),
    };
    let bulk = BulkPublishRequest {
        pubsub_name: "pubsub".into(),
        topic: "t".into(),
        entries: vec![
            entry("1", "a", ""),
            entry("2", "no json", "application/cloudevents+json"),
            entry("3", "c", ""),
        ],
        metadata: HashMap::new(),
    };
    for _ in 0..2 {
        let failed =
            client.bulk_publish_event(bulk.clone()).await.unwrap().into_inner().failed_entries;
        assert_eq!(failed.iter().map(|entry| entry.entry_id.as_str()).collect::<Vec<_>>(), ["2"]);
        assert!(failed[0].error.contains("cloudevents+json"));
        for (id, data) in [("1", "a"), ("3", "c")] {
            let event = heard(&mut heard_here).await;
            assert_eq!((event.metadata["k"].as_str(), &event.data[..]), (id, data.as_bytes()));
        }
    }
    let twice =
        BulkPublishRequest { entries: vec![entry("1", "", ""), entry("1", "", "")], ..bulk };
    let status = client.bulk_publish_event_alpha1(twice).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(heard_here.next().now_or_never().is_none());
}

#[tokio::test]
async fn one_event_is_in_flight_and_carries_everything() {
    let serving = Serving::start().await;
    let mut client = serving.client().await;
    let mut subscribed = Subscribed::to(&mut client, &[]).await;
    for data in ["1", "2", "3"] {
        let with = PublishEventRequest {
            metadata: metadata(&[("correlationid", "c"), ("traceparent", "00-1-2-03")]),
            ..publish("t", data, "application/json")
        };
        client.publish_event(with).await.unwrap();
    }
    for expected in ["1", "2", "3"] {
        let event = subscribed.event().await;
        assert_eq!(data(&event), expected);
        assert_eq!([&event.spec_version, &event.topic, &event.pubsub_name], ["1.0", "t", "pubsub"]);
        assert_eq!(event.data_content_type, "application/json");
        assert_eq!(extension(&event, "correlationid"), "c");
        assert_eq!(extension(&event, "traceparent"), "00-1-2-03");
        assert_eq!(extension(&event, "pubsubname"), "pubsub");
        // A call that is answered shows that the gateway has had time to send more, and has not.
        client.publish_event(publish("elsewhere", "", "")).await.unwrap();
        assert!(subscribed.responses.message().now_or_never().is_none());
        subscribed.answer(&event, Answer::Success);
    }
    drop(subscribed);
    while serving.bus.counts().subscriptions > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn several_are_in_flight_if_asked_for() {
    let serving = Serving::start().await;
    let mut client = serving.client().await;
    let mut subscribed = Subscribed::to(&mut client, &[("maxInFlight", "3")]).await;
    for number in 0..5 {
        client.publish_event(publish("t", &number.to_string(), "")).await.unwrap();
    }
    let mut events = Vec::new();
    for _ in 0..3 {
        events.push(subscribed.event().await);
    }
    client.publish_event(publish("elsewhere", "", "")).await.unwrap();
    assert!(subscribed.responses.message().now_or_never().is_none());
    // They may be answered in any order.
    subscribed.answer(&events[2], Answer::Success);
    assert_eq!(data(&subscribed.event().await), "3");
    subscribed.answer(&events[0], Answer::Success);
    assert_eq!(data(&subscribed.event().await), "4");
}

#[tokio::test]
async fn a_poison_message_is_retried_then_buried_and_holds_up_nobody() {
    let serving = Serving::start().await;
    let mut client = serving.client().await;
    let mut dead = serving.listen("dead").await;
    let quick = [("maxRetries", "2"), ("retryBackoffMs", "1")];
    let mut subscribed = Subscribed::to(&mut client, &quick).await;
    client.publish_event(publish("t", "poison", "")).await.unwrap();
    for number in 0..20 {
        client.publish_event(publish("t", &number.to_string(), "")).await.unwrap();
    }
    let (mut poisoned, mut others) = (0, Vec::new());
    while others.len() < 20 || poisoned < 3 {
        let event = subscribed.event().await;
        if data(&event) == "poison" {
            poisoned += 1;
            subscribed.answer(&event, Answer::Retry);
        } else {
            others.push(data(&event).parse::<u32>().unwrap());
            subscribed.answer(&event, Answer::Success);
        }
    }
    assert!(others.is_sorted());
    let letter = heard(&mut dead).await;
    assert_eq!(
        (&letter.data[..], letter.metadata["deadlettertopic"].as_str()),
        (&b"poison"[..], "t")
    );
    assert!(letter.metadata["deadletterreason"].contains("3 deliveries"));

    client.publish_event(publish("t", "dropped", "")).await.unwrap();
    let event = subscribed.event().await;
    subscribed.answer(&event, Answer::Drop);
    let letter = heard(&mut dead).await;
    assert_eq!(&letter.data[..], b"dropped");
    assert!(letter.metadata["deadletterreason"].contains("dropped"));
    // It was three deliveries and not one more.
    client.publish_event(publish("t", "last", "")).await.unwrap();
    assert_eq!(data(&subscribed.event().await), "last");
}

#[tokio::test]
async fn a_subscription_that_makes_no_sense_is_refused() {
    let serving = Serving::start().await;
    let mut client = serving.client().await;
    let initial = |pubsub: &str, topic: &str, entries: &[(&str, &str)]| {
        SubscribeTopicEventsRequestInitialAlpha1 {
            pubsub_name: pubsub.into(),
            topic: topic.into(),
            metadata: metadata(entries),
            dead_letter_topic: None,
        }
    };
    for (initial, code, part) in [
        (initial("redis", "t", &[]), Code::NotFound, "redis"),
        (initial("pubsub", "", &[]), Code::InvalidArgument, "topic"),
        (initial("pubsub", "t", &[("maxinflite", "1")]), Code::InvalidArgument, "maxinflite"),
        (initial("pubsub", "t", &[("maxRetries", "many")]), Code::InvalidArgument, "many"),
    ] {
        let status = Subscribed::with(&mut client, initial).await.err().unwrap();
        assert!(status.code() == code && status.message().contains(part), "{status}");
    }
    let processed = SubscribeTopicEventsRequestProcessedAlpha1::default();
    let first = request(Outgoing::EventProcessed(processed));
    let status = client.subscribe_topic_events_alpha1(tokio_stream::once(first)).await.unwrap_err();
    assert!(status.message().contains("initial_request"), "{status}");
    assert_eq!(serving.bus.counts().subscriptions, 0);
}

fn item(key: &str, value: &str) -> StateItem {
    StateItem { key: key.into(), value: value.to_owned().into(), ..Default::default() }
}

fn first_write() -> Option<StateOptions> {
    Some(StateOptions {
        concurrency: state_options::StateConcurrency::ConcurrencyFirstWrite.into(),
        consistency: 0,
    })
}

#[tokio::test]
async fn state_has_daprs_concurrency() {
    let serving = Serving::start().await;
    let mut client = serving.client().await;
    let save =
        |item: StateItem| SaveStateRequest { store_name: "statestore".into(), states: vec![item] };
    let get = |key: &str| GetStateRequest {
        store_name: "statestore".into(),
        key: key.into(),
        ..Default::default()
    };
    let etag = |value: &str| Some(Etag { value: value.into() });

    let missing = client.get_state(get("a")).await.unwrap().into_inner();
    assert_eq!(missing, GetStateResponse::default());
    for no_etag in [None, etag("")] {
        let create = StateItem { etag: no_etag, options: first_write(), ..item("a", "1") };
        client.save_state(save(create.clone())).await.unwrap();
        assert_eq!(client.save_state(save(create)).await.unwrap_err().code(), Code::Aborted);
        let delete = DeleteStateRequest {
            store_name: "statestore".into(),
            key: "a".into(),
            ..Default::default()
        };
        client.delete_state(delete).await.unwrap();
    }
    client.save_state(save(item("a", "1"))).await.unwrap();
    let found = client.get_state(get("a")).await.unwrap().into_inner();
    let stale = StateItem { etag: etag("stale"), ..item("a", "2") };
    let status = client.save_state(save(stale.clone())).await.unwrap_err();
    assert!(status.code() == Code::Aborted && status.message().contains("\"a\""), "{status}");
    let last_write = Some(StateOptions { concurrency: 2, consistency: 0 });
    client.save_state(save(StateItem { options: last_write, ..stale })).await.unwrap();
    let status =
        client.save_state(save(StateItem { etag: etag(&found.etag), ..item("a", "3") })).await;
    assert_eq!(status.unwrap_err().code(), Code::Aborted);

    let lived = StateItem { metadata: metadata(&[("ttlInSeconds", "60")]), ..item("b", "1") };
    client.save_state(save(lived)).await.unwrap();
    let found = client.get_state(get("b")).await.unwrap().into_inner();
    assert!(found.metadata["ttlExpireTime"].ends_with('Z'));
    for (key, value) in [("ttlInSeconds", "soon"), ("ttlInSeconds", "0"), ("partitionKey", "x")] {
        let bad = StateItem { metadata: metadata(&[(key, value)]), ..item("c", "1") };
        let status = client.save_state(save(bad)).await.unwrap_err();
        assert!(
            status.code() == Code::InvalidArgument && status.message().contains(key),
            "{status}"
        );
    }

    let bulk = GetBulkStateRequest {
        store_name: "statestore".into(),
        keys: vec!["a".into(), "none".into(), String::new()],
        ..Default::default()
    };
    let items = client.get_bulk_state(bulk).await.unwrap().into_inner().items;
    assert_eq!((&items[0].data[..], items[1].etag.as_str()), (&b"2"[..], ""));
    assert!(items[2].error.contains("empty"));
    let unknown = GetStateRequest { store_name: "redis".into(), ..get("a") };
    let status = client.get_state(unknown).await.unwrap_err();
    assert!(status.code() == Code::InvalidArgument && status.message().contains("redis"));
}

#[tokio::test]
async fn a_transaction_happens_as_a_whole() {
    let serving = Serving::start().await;
    let mut client = serving.client().await;
    let mut changes = serving.listen("state-changes").await;
    let operation = |kind: &str, item: StateItem| TransactionalStateOperation {
        operation_type: kind.into(),
        request: Some(item),
    };
    let transaction = |operations| ExecuteStateTransactionRequest {
        store_name: "statestore".into(),
        operations,
        ..Default::default()
    };
    let stale = StateItem { etag: Some(Etag { value: "x".into() }), ..item("b", "") };
    let failing =
        transaction(vec![operation("upsert", item("a", "1")), operation("delete", stale)]);
    let status = client.execute_state_transaction(failing).await.unwrap_err();
    assert!(status.code() == Code::Aborted && status.message().contains("\"b\""), "{status}");
    let unknown = transaction(vec![operation("append", item("a", "1"))]);
    assert!(
        client.execute_state_transaction(unknown).await.unwrap_err().message().contains("append")
    );
    let good =
        transaction(vec![operation("upsert", item("a", "1")), operation("delete", item("b", ""))]);
    client.execute_state_transaction(good).await.unwrap();
    // Only what happened was told.
    for expected in [("a", "save"), ("b", "delete")] {
        let change: serde_json::Value =
            serde_json::from_slice(&heard(&mut changes).await.data).unwrap();
        assert_eq!((change["key"].as_str().unwrap(), change["action"].as_str().unwrap()), expected);
    }
    let delete =
        DeleteBulkStateRequest { store_name: "statestore".into(), states: vec![item("a", "")] };
    client.delete_bulk_state(delete).await.unwrap();
}

#[tokio::test]
async fn what_is_missing_says_what_to_use_instead() {
    let serving = Serving::start().await;
    let endpoint = Endpoint::from_shared(format!("http://{}", serving.grpc)).unwrap();
    let mut grpc = tonic::client::Grpc::new(endpoint.connect().await.unwrap());
    for (method, instead) in [
        ("InvokeService", "virtufin.Gateway/InvokeJson"),
        ("QueryStateAlpha1", "ListKeys"),
        ("TryLockAlpha1", "first-write"),
        ("GetSecret", "environment"),
        ("NeverHeardOf", "NeverHeardOf"),
    ] {
        grpc.ready().await.unwrap();
        let path = format!("/dapr.proto.runtime.v1.Dapr/{method}").parse().unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let status = grpc.unary(Request::new(()), path, codec).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains(instead), "{status}");
    }
}

#[tokio::test]
async fn http_does_the_same() {
    let serving = Serving::start().await;
    for path in ["/v1.0/healthz", "/v1.0/healthz/outbound"] {
        assert_eq!(serving.http(&format!("GET {path}"), "", "").await.0, 204);
    }
    let mut heard_here = serving.listen("a/b").await;
    let json = "content-type: application/json\r\ntraceparent: 00-1-2-03\r\n";
    let path = "POST /v1.0/publish/pubsub/a/b?metadata.correlationid=c";
    assert_eq!(serving.http(path, json, r#"{"x": 1}"#).await.0, 204);
    let event = heard(&mut heard_here).await;
    assert_eq!(
        (&event.data[..], event.data_content_type.as_str()),
        (&br#"{"x": 1}"#[..], "application/json")
    );
    assert_eq!(
        [&event.metadata["correlationid"], &event.metadata["traceparent"]],
        ["c", "00-1-2-03"]
    );
    let (code, _, body) = serving.http("POST /v1.0/publish/redis/t", json, "{}").await;
    assert!(code == 404 && body.contains("ERR_PUBSUB_NOT_FOUND") && body.contains("redis"));

    let store = "/v1.0/state/statestore";
    for key in ["k", "a/b", "bulk", "transaction"] {
        let get = format!("GET {store}/{key}");
        assert_eq!(serving.http(&get, "", "").await.0, 204);
        let create = format!(
            r#"[{{"key":"{key}","value":{{ "v":1 }},"options":{{"concurrency":"first-write"}}}}]"#
        );
        assert_eq!(serving.http(&format!("POST {store}"), json, &create).await.0, 204);
        let (code, _, body) = serving.http(&format!("POST {store}"), json, &create).await;
        assert!(code == 409 && body.contains("ERR_STATE_ETAG_MISMATCH"), "{code} {body}");
        let (code, head, body) = serving.http(&get, "", "").await;
        assert_eq!((code, body.as_str()), (200, r#"{ "v":1 }"#));
        let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
        let delete = format!("DELETE {store}/{key}");
        assert_eq!(serving.http(&delete, "if-match: stale\r\n", "").await.0, 409);
        assert_eq!(serving.http(&delete, &format!("if-match: {etag}\r\n"), "").await.0, 204);
        assert_eq!(serving.http(&get, "", "").await.0, 204);
    }
    let transaction = r#"{"operations":[{"operation":"upsert","request":{"key":"x","value":"1"}},
        {"operation":"delete","request":{"key":"y"}}],"metadata":{"ttlInSeconds":"60"}}"#;
    assert_eq!(serving.http(&format!("POST {store}/transaction"), json, transaction).await.0, 204);
    let (_, _, body) =
        serving.http(&format!("POST {store}/bulk"), json, r#"{"keys":["x","y"]}"#).await;
    let items: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&items[0]["data"], &items[1]), (&"1".into(), &serde_json::json!({"key": "y"})));
    let (code, _, body) = serving
        .http(&format!("POST {store}"), json, r#"[{"key":"k","options":{"concurrency":"x"}}]"#)
        .await;
    assert!(code == 400 && body.contains("concurrency"), "{body}");
    assert_eq!(serving.http(&format!("POST {store}"), json, "{").await.0, 400);
    assert_eq!(serving.http("GET /v1.0/state/redis/k", "", "").await.0, 400);
    for (path, instead) in [
        ("/v1.0/invoke/app/method/m", "virtufin.Gateway/InvokeJson"),
        ("/v1.0/secrets/store/key", "environment"),
        ("/v1.0-alpha1/lock/store", "first-write"),
        ("/v1.0/nothing", "nothing"),
    ] {
        let (code, _, body) = serving.http(&format!("POST {path}"), "", "").await;
        assert!(code == 501 && body.contains(instead), "{code} {body}");
    }
}
