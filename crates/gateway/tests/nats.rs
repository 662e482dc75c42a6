//! Several gateways on one NATS server, and a server that goes away and comes back.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::nats::NatsServer;
use oxgrpc_gateway::config::Storage;
use oxgrpc_gateway::pubsub::{self, Bus, Delivery, Event, Interest, NatsBus};
use oxgrpc_gateway::state::{self, Condition, Error, NatsStore, Store, Write, system_clock};

fn put(key: &str, value: impl ToString, condition: Condition) -> Write {
    let value = Some(value.to_string().into());
    Write { key: key.into(), value, condition, ttl: None }
}

async fn store(server: &NatsServer) -> Arc<dyn Store> {
    Arc::new(NatsStore::connect(server.url(), system_clock()).await.unwrap())
}

async fn bus(server: &NatsServer) -> Arc<dyn Bus> {
    Arc::new(NatsBus::connect(server.url()).await.unwrap())
}

fn number(octets: &[u8]) -> usize {
    std::str::from_utf8(octets).unwrap().parse().unwrap()
}

/// Tries until NATS is back.
async fn until_there<T, E, F: Future<Output = Result<T, E>>>(attempt: impl Fn() -> F) -> T {
    loop {
        if let Ok(value) = attempt().await {
            return value;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_agree_under_8_writers() {
    let Some(server) = NatsServer::start().await else { return };
    let stores = [store(&server).await, store(&server).await];
    stores[0].transact("s", vec![put("count", 0, Condition::Always)]).await.unwrap();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let store = stores[writer % 2].clone();
            tokio::spawn(async move {
                let mut won = 0;
                while won < 10 {
                    let entry = store.get("s", "count").await.unwrap().unwrap();
                    let next = number(&entry.value) + 1;
                    let write = put("count", next, Condition::Match(entry.etag));
                    match store.transact("s", vec![write]).await {
                        Ok(_) => won += 1,
                        Err(error) => assert_eq!(error, Error::Conflict { key: "count".into() }),
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let found = [
        stores[0].get("s", "count").await.unwrap().unwrap(),
        stores[1].get("s", "count").await.unwrap().unwrap(),
        store(&server).await.get("s", "count").await.unwrap().unwrap(),
    ];
    assert_eq!(number(&found[0].value), 80);
    assert!(found.iter().all(|entry| *entry == found[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_gateway_writes_another_reads_at_once() {
    let Some(server) = NatsServer::start().await else { return };
    let stores = [store(&server).await, store(&server).await];
    for round in 0..50 {
        stores[round % 2].transact("s", vec![put("k", round, Condition::Always)]).await.unwrap();
        let read = stores[(round + 1) % 2].get("s", "k").await.unwrap().unwrap();
        assert_eq!(number(&read.value), round);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_reaches_the_subscribers_of_every_gateway() {
    let Some(server) = NatsServer::start().await else { return };
    let (a, b) = (bus(&server).await, bus(&server).await);
    let mut subscription = b.subscribe(Interest::topic("t")).await.unwrap();
    for event in 0..100 {
        a.publish(Event::new("t", event.to_string())).await.unwrap();
    }
    for expected in 0..100 {
        let Some(Delivery::Event(event)) = subscription.next().await else { panic!("ended") };
        assert_eq!(number(&event.data), expected);
    }
}

/// Returns how many consumers the server has for a log.
async fn consumers(server: &NatsServer, log: &str) -> usize {
    let client = until_there(|| async_nats::connect(server.url())).await;
    let context = async_nats::jetstream::new(client);
    until_there(|| context.get_stream(log)).await.cached_info().state.consumer_count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_of_nats_lose_nothing_and_leave_nothing() {
    let Some(mut server) = NatsServer::start().await else { return };
    let (a, b) = (bus(&server).await, bus(&server).await);
    let state = [store(&server).await, store(&server).await];
    let mut busy = b.subscribe(Interest::topic("busy")).await.unwrap();
    let mut idle = b.subscribe(Interest::topic("idle")).await.unwrap();
    let before =
        (consumers(&server, "OXGRPC_EVENTS").await, consumers(&server, "OXGRPC_STATE").await);
    assert_eq!(before, (2, 2));
    let mut published = BTreeSet::new();
    for restart in 0..50 {
        server.kill();
        let gone = a.publish(Event::new("busy", "0")).await;
        if let Err(pubsub::Error::Unavailable(message)) = &gone {
            assert!(message.contains(server.url()), "{message}");
        }
        server.start_again();
        // From the other gateway, the moment that one is back: the subscriber's may not be yet.
        let id = restart.to_string();
        until_there(|| a.publish(Event::new("busy", id.clone()))).await;
        published.insert(restart);
        if restart % 10 == 0 {
            until_there(|| {
                state[0]
                    .transact("s", vec![put(&format!("k{restart}"), restart, Condition::Always)])
            })
            .await;
        }
    }
    a.publish(Event::new("idle", "last")).await.unwrap();
    // An event may come twice, where its confirmation was lost, and never not at all.
    let mut seen = BTreeSet::new();
    while !published.is_subset(&seen) {
        let Some(Delivery::Event(event)) = busy.next().await else { panic!("ended") };
        seen.insert(number(&event.data));
    }
    let Some(Delivery::Event(event)) = idle.next().await else { panic!("ended") };
    assert_eq!(&event.data[..], b"last");
    for restart in (0..50).step_by(10) {
        let key = format!("k{restart}");
        let entry = until_there(|| state[1].get("s", &key)).await.unwrap();
        assert_eq!(number(&entry.value), restart);
    }
    // Every reader has its consumer again, and no more than that.
    loop {
        let after =
            (consumers(&server, "OXGRPC_EVENTS").await, consumers(&server, "OXGRPC_STATE").await);
        assert!(after.0 <= 2 && after.1 <= 2, "{after:?}");
        if after == before {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_all_or_nothing_when_nats_is_killed() {
    let Some(mut server) = NatsServer::start().await else { return };
    let state = store(&server).await;
    // Several messages long, so that the kill may come between them.
    let value = "x".repeat(1_500_000);
    let mut acknowledged = 0;
    for round in 1..=8 {
        let writing = tokio::spawn({
            let (state, value) = (state.clone(), format!("{round};{value}"));
            async move {
                let writes = ["a", "b"].map(|key| put(key, &value, Condition::Always));
                state.transact("s", writes.into()).await
            }
        });
        tokio::time::sleep(std::time::Duration::from_millis(round * 2)).await;
        server.kill();
        server.start_again();
        match writing.await.unwrap() {
            Ok(_) => acknowledged = round,
            Err(Error::Unavailable(message)) => assert!(message.contains("NATS"), "{message}"),
            Err(error) => panic!("{error:?}"),
        }
        let entries = until_there(|| state.entries("s", usize::MAX)).await;
        let rounds: BTreeSet<_> = entries
            .iter()
            .map(|(_, entry)| number(entry.value.split(|octet| *octet == b';').next().unwrap()))
            .collect();
        assert!(rounds.len() <= 1 && entries.len() != 1, "in parts: {rounds:?}");
        let found = rounds.first().copied().unwrap_or_default();
        assert!(found as u64 >= acknowledged, "{found} after {acknowledged}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_nats_every_call_names_it() {
    let Some(mut server) = NatsServer::start().await else { return };
    let (state, bus) = (store(&server).await, bus(&server).await);
    server.kill();
    // The connection learns of it on its own time.
    while state.health().await.is_ok() || bus.health().await.is_ok() {}
    let write = || vec![put("k", 1, Condition::Always)];
    for error in [
        state.get("s", "k").await.unwrap_err(),
        state.transact("s", write()).await.unwrap_err(),
        state.list_keys("s", "", None, 1).await.unwrap_err(),
    ] {
        let Error::Unavailable(message) = error else { panic!("{error:?}") };
        assert!(message.contains(server.url()), "{message}");
    }
    let error = bus.publish(Event::new("t", "")).await.unwrap_err();
    assert!(
        matches!(&error, pubsub::Error::Unavailable(message) if message.contains(server.url()))
    );

    let nobody = Storage::Nats { url: server.url().into() };
    let error = state::open(&nobody).await.map(drop).unwrap_err();
    assert!(error.to_string().contains(server.url()), "{error}");
    let error = pubsub::open(&nobody).await.map(drop).unwrap_err();
    assert!(error.to_string().contains(server.url()), "{error}");

    server.start_again();
    until_there(|| state.transact("s", write())).await;
    assert!(until_there(|| state.get("s", "k")).await.is_some());
    until_there(|| bus.publish(Event::new("t", ""))).await;
}
