//! The contract that every bus keeps, as tests that run on every engine.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::Wire;
use futures_util::FutureExt as _;
use oxgrpc_gateway::pubsub::{Delivery, Error, Event, Interest, MAX_EVENT_BYTES, Subscription};

contract!(Wire: local, nats => {
    every_subscriber_receives_every_event,
    an_event_arrives_as_it_was_published,
    a_subscription_is_live_when_it_is_returned,
    topics_are_kept_apart,
    each_topic_has_one_order,
    a_subscription_that_is_dropped_is_gone,
    an_unsubscribed_stream_ends_after_what_is_queued,
    a_waiting_subscriber_learns_of_the_end,
    a_reader_that_falls_behind_loses_the_oldest_and_knows,
    a_future_that_is_dropped_loses_nothing,
    events_have_one_limit,
    topics_out_of_bounds_are_refused,
    it_is_healthy,
});

async fn next(subscription: &mut Box<dyn Subscription>) -> Arc<Event> {
    match subscription.next().await {
        Some(Delivery::Event(event)) => event,
        other => panic!("{other:?}"),
    }
}

fn numbered(topic: &str, number: usize) -> Event {
    Event::new(topic, number.to_string())
}

fn number(event: &Event) -> usize {
    std::str::from_utf8(&event.data).unwrap().parse().unwrap()
}

async fn every_subscriber_receives_every_event(wire: Wire) {
    let bus = wire.open().await;
    let mut subscriptions = Vec::new();
    for _ in 0..5 {
        subscriptions.push(bus.subscribe(Interest::topic("t")).await.unwrap());
        subscriptions.push(bus.subscribe(Interest::everything()).await.unwrap());
    }
    let ids: BTreeSet<_> = subscriptions.iter().map(|one| one.id().to_owned()).collect();
    assert_eq!(ids.len(), 10);
    assert_eq!(bus.counts().subscriptions, 10);
    for event in 0..100 {
        bus.publish(numbered("t", event)).await.unwrap();
    }
    for subscription in &mut subscriptions {
        for expected in 0..100 {
            assert_eq!(number(&*next(subscription).await), expected);
        }
    }
    assert_eq!((bus.counts().delivered, bus.counts().dropped), (1000, 0));
}

async fn an_event_arrives_as_it_was_published(wire: Wire) {
    let bus = wire.open().await;
    let topic = "any text: *, >, a.b..c, 🦀 and \u{7f}";
    let mut subscription = bus.subscribe(Interest::topic(topic)).await.unwrap();
    let mut event = Event::new(topic, &b"\0\xff\xfe"[..]);
    event.source = "urn:com.virtufin.orders".into();
    event.kind = "com.example.kind".into();
    event.data_content_type = "application/x-custom; charset=none".into();
    for (key, value) in [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "a=1,b=2"),
        ("baggage", "user=%C3%A4, tenant=7;p=1"),
        ("correlationid", "c-1"),
        ("X-Any", "voilà"),
        ("empty", ""),
    ] {
        event.metadata.insert(key.into(), value.into());
    }
    bus.publish(event.clone()).await.unwrap();
    assert_eq!(*next(&mut subscription).await, event);
    let empty = Event::new(topic, "");
    bus.publish(empty.clone()).await.unwrap();
    assert_eq!(*next(&mut subscription).await, empty);
}

async fn a_subscription_is_live_when_it_is_returned(wire: Wire) {
    let bus = wire.open().await;
    for event in 0..50 {
        let topic = format!("reply {event}");
        let mut subscription = bus.subscribe(Interest::topic(&topic)).await.unwrap();
        bus.publish(numbered(&topic, event)).await.unwrap();
        assert_eq!(number(&*next(&mut subscription).await), event);
    }
}

async fn topics_are_kept_apart(wire: Wire) {
    let bus = wire.open().await;
    let mut two =
        bus.subscribe(Interest::Topics(BTreeSet::from(["a".into(), "a.b".into()]))).await.unwrap();
    let mut odd =
        bus.subscribe(Interest::Matching(Arc::new(|event| number(event) % 2 == 1))).await.unwrap();
    for (event, topic) in ["a", "a.b", "a.c", "A", "a ", "ab", "a.*", "a.>", "a"].iter().enumerate()
    {
        bus.publish(numbered(topic, event)).await.unwrap();
    }
    for expected in [0, 1, 8] {
        assert_eq!(number(&*next(&mut two).await), expected);
    }
    for expected in [1, 3, 5, 7] {
        assert_eq!(number(&*next(&mut odd).await), expected);
    }
}

async fn each_topic_has_one_order(wire: Wire) {
    let bus = wire.open().await;
    let mut subscriptions = Vec::new();
    for _ in 0..4 {
        subscriptions.push(bus.subscribe(Interest::topic("t")).await.unwrap());
    }
    let publishers: Vec<_> = (0..8)
        .map(|publisher| {
            let bus = bus.clone();
            tokio::spawn(async move {
                for event in 0..50 {
                    bus.publish(numbered("t", publisher * 1000 + event)).await.unwrap();
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let mut orders = Vec::new();
    for subscription in &mut subscriptions {
        let mut order = Vec::new();
        for _ in 0..400 {
            order.push(number(&*next(subscription).await));
        }
        orders.push(order);
    }
    assert!(orders.iter().all(|order| *order == orders[0]));
    for publisher in 0..8 {
        let its: Vec<_> = orders[0].iter().filter(|event| **event / 1000 == publisher).collect();
        assert!(its.is_sorted() && its.len() == 50);
    }
}

async fn a_subscription_that_is_dropped_is_gone(wire: Wire) {
    let bus = wire.open().await;
    for _ in 0..100 {
        let subscription = bus.subscribe(Interest::topic("t")).await.unwrap();
        drop(subscription);
        drop(bus.subscribe(Interest::everything()).await.unwrap());
    }
    assert_eq!(bus.counts().subscriptions, 0);
    let mut subscription = bus.subscribe(Interest::topic("t")).await.unwrap();
    for event in 0..10 {
        bus.publish(numbered("t", event)).await.unwrap();
    }
    for expected in 0..10 {
        assert_eq!(number(&*next(&mut subscription).await), expected);
    }
    assert_eq!(bus.counts().subscriptions, 1);
}

async fn an_unsubscribed_stream_ends_after_what_is_queued(wire: Wire) {
    let bus = wire.open().await;
    let mut marker = bus.subscribe(Interest::topic("t")).await.unwrap();
    let mut subscription = bus.subscribe(Interest::topic("t")).await.unwrap();
    bus.publish(numbered("t", 1)).await.unwrap();
    next(&mut marker).await;
    let id = subscription.id().to_owned();
    assert!(bus.unsubscribe(&id));
    assert!(!bus.unsubscribe(&id));
    assert!(!bus.unsubscribe("nobody"));
    bus.publish(numbered("t", 2)).await.unwrap();
    next(&mut marker).await;
    assert_eq!(number(&*next(&mut subscription).await), 1);
    assert_eq!(subscription.next().await, None);
    assert_eq!(subscription.next().await, None);
    assert_eq!(bus.counts().subscriptions, 1);
}

async fn a_waiting_subscriber_learns_of_the_end(wire: Wire) {
    let bus = wire.open().await;
    let mut subscription = bus.subscribe(Interest::topic("t")).await.unwrap();
    let id = subscription.id().to_owned();
    let waiting = tokio::spawn(async move { subscription.next().await });
    tokio::task::yield_now().await;
    assert!(bus.unsubscribe(&id));
    assert_eq!(waiting.await.unwrap(), None);
}

async fn a_reader_that_falls_behind_loses_the_oldest_and_knows(wire: Wire) {
    let bus = wire.open().await;
    let mut slow = bus.subscribe(Interest::topic("t")).await.unwrap();
    let mut quick = bus.subscribe(Interest::topic("t")).await.unwrap();
    let published = 10_000;
    for event in 0..published {
        bus.publish(numbered("t", event)).await.unwrap();
        assert_eq!(number(&*next(&mut quick).await), event);
    }
    let Some(Delivery::Dropped(dropped)) = slow.next().await else { panic!("nothing dropped") };
    let dropped = usize::try_from(dropped).unwrap();
    assert!(dropped > 0 && dropped < published);
    for expected in dropped..published {
        assert_eq!(number(&*next(&mut slow).await), expected);
    }
    assert_eq!(bus.counts().dropped, u64::try_from(dropped).unwrap());
}

async fn a_future_that_is_dropped_loses_nothing(wire: Wire) {
    let bus = wire.open().await;
    let mut subscription = bus.subscribe(Interest::topic("t")).await.unwrap();
    for event in 0..200 {
        let mut first = subscription.next();
        assert!(first.as_mut().now_or_never().is_none());
        let publishing = bus.publish(numbered("t", event));
        drop(first);
        publishing.await.unwrap();
        assert_eq!(number(&*next(&mut subscription).await), event);
    }
}

async fn events_have_one_limit(wire: Wire) {
    let bus = wire.open().await;
    let mut subscription = bus.subscribe(Interest::topic("large")).await.unwrap();
    let spare = 300;
    let mut event = Event::new("large", vec![7; MAX_EVENT_BYTES - spare]);
    for _ in 0..3 {
        bus.publish(event.clone()).await.unwrap();
    }
    for _ in 0..3 {
        assert_eq!(*next(&mut subscription).await, event);
    }
    event.metadata.insert("much".into(), "x".repeat(spare));
    let Err(Error::Exhausted(message)) = bus.publish(event).await else { panic!("published") };
    for part in ["large", &MAX_EVENT_BYTES.to_string()] {
        assert!(message.contains(part), "{message}");
    }
}

async fn topics_out_of_bounds_are_refused(wire: Wire) {
    let bus = wire.open().await;
    for topic in [String::new(), "t".repeat(1025)] {
        let published = bus.publish(Event::new(topic.clone(), "")).await;
        let subscribed = bus.subscribe(Interest::topic(topic)).await.map(|_| ());
        for result in [published, subscribed] {
            let Err(Error::Invalid(message)) = result else { panic!("{result:?}") };
            assert!(message.contains("topic") && message.len() < 200, "{message}");
        }
    }
    assert_eq!(bus.counts().subscriptions, 0);
}

async fn it_is_healthy(wire: Wire) {
    wire.open().await.health().await.unwrap();
}
