//! Pub/sub: events, the contract that every bus keeps, and the buses.
//!
//! Every subscription of a topic receives every event that is published while it is live, in the topic's order. Queues are
//! bounded: a subscriber that falls behind loses its oldest events and is told how many.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

/// An event, with the attributes of CloudEvents 1.0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Unique for each event.
    pub id: String,
    /// A URI reference: who published it.
    pub source: String,
    /// The CloudEvents type, such as `com.dapr.event.sent`.
    pub kind: String,
    /// When it was published.
    pub time: SystemTime,
    /// Where it was published.
    pub topic: String,
    /// The media type of `data`; empty if the publisher gave none.
    pub data_content_type: String,
    /// The payload, octet by octet as published.
    pub data: Bytes,
    /// Extension attributes, `correlationid`, `traceparent`, `tracestate` and `baggage` among them, verbatim.
    pub metadata: BTreeMap<String, String>,
}

/// What a subscription wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// The events of one topic.
    Topic(String),
    /// The events of all topics.
    Everything,
}

/// What a subscription yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// An event.
    Event(Arc<Event>),
    /// That many events were dropped here, because the queue was full.
    Dropped(u64),
}

/// A live subscription. Dropping it ends it at once.
#[async_trait]
pub trait Subscription: Send {
    /// The id that [`Bus::unsubscribe`] takes.
    fn id(&self) -> &str;

    /// Waits for what comes next; `None` once the subscription has ended. Cancel safe: a dropped future loses no event.
    async fn next(&mut self) -> Option<Delivery>;
}

/// Why a bus refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The caller's mistake, such as an empty topic.
    #[error("{0}")]
    Invalid(String),
    /// An event that is too large.
    #[error("{0}")]
    Exhausted(String),
    /// The bus cannot be reached now.
    #[error("{0}")]
    Unavailable(String),
}

/// Carries events from publishers to subscribers.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Publishes an event: when this returns `Ok`, every subscription that was live before the call will receive it.
    async fn publish(&self, event: Event) -> Result<(), Error>;

    /// Subscribes: when this returns, the subscription is live.
    async fn subscribe(&self, interest: Interest) -> Result<Box<dyn Subscription>, Error>;

    /// Ends the subscription with that id, and returns whether this gateway had it.
    fn unsubscribe(&self, id: &str) -> bool;

    /// Returns how many subscriptions this gateway has.
    fn subscriptions(&self) -> usize;

    /// Returns `Ok` if an event could be published now.
    async fn health(&self) -> Result<(), Error>;
}
