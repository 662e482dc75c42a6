//! Pub/sub: events, the contract that every bus keeps, and the buses.
//!
//! Every subscription of a topic receives every event that is published while it is live, in the topic's order. Queues are
//! bounded: a subscriber that falls behind loses its oldest events and is told how many.

mod attributes;
mod event;
mod hub;
mod local;
mod nats;
mod service;
mod stream;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;

use crate::config::Storage;

pub use attributes::DROPPED_KEY;
pub(crate) use attributes::{SPEC_VERSION, add_trace_context, time as parse_time, timestamp};
pub(crate) use event::SOURCE_PREFIX;
pub use event::{Event, MAX_EVENT_BYTES, event_service};
pub use local::LocalBus;
pub use nats::NatsBus;
pub use service::{PubsubService, SYSTEM_TOPIC};
pub(crate) use stream::PUBSUB_NAME;
pub use stream::{EventStream, IsRegistered, MessageStream, SUBSCRIPTION_ID, subscribe_events};

/// Decides which events a subscription receives; runs where events are published, so it has to be quick.
pub type Filter = Arc<dyn Fn(&Event) -> bool + Send + Sync>;

/// What a subscription wants.
#[derive(Clone)]
pub enum Interest {
    /// The events of these topics.
    Topics(BTreeSet<String>),
    /// The events of all topics that the filter lets through.
    Matching(Filter),
}

impl Interest {
    /// The events of one topic.
    pub fn topic(topic: impl Into<String>) -> Self {
        Self::Topics(BTreeSet::from([topic.into()]))
    }

    /// The events of all topics.
    pub fn everything() -> Self {
        Self::Matching(Arc::new(|_| true))
    }
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
    /// The bus cannot be reached now. An event that fails so may have been published.
    #[error("{0}")]
    Unavailable(String),
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(_) => Self::invalid_argument(message),
            Error::Exhausted(_) => Self::resource_exhausted(message),
            Error::Unavailable(_) => Self::unavailable(message),
        }
    }
}

/// Counts of a bus, for `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Subscriptions of this gateway that are live now.
    pub subscriptions: u64,
    /// Events that this gateway has received for its subscribers, whoever published them.
    pub received: u64,
    /// Events put into subscriptions' queues.
    pub delivered: u64,
    /// Events dropped because a subscription's queue was full.
    pub dropped: u64,
}

/// Carries events from publishers to subscribers.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Publishes an event: when this returns `Ok`, every subscription that was live before the call will receive it.
    async fn publish(&self, event: Event) -> Result<(), Error>;

    /// Subscribes: when this returns, the subscription is live.
    async fn subscribe(&self, interest: Interest) -> Result<Box<dyn Subscription>, Error>;

    /// Ends the subscription with that id after what is queued, and returns whether this gateway had it.
    fn unsubscribe(&self, id: &str) -> bool;

    /// Returns what this gateway has counted.
    fn counts(&self) -> Counts;

    /// Returns `Ok` if an event could be published now.
    async fn health(&self) -> Result<(), Error>;
}

/// Opens the bus that the configuration names. An error names the server at fault.
pub async fn open(storage: &Storage) -> Result<Arc<dyn Bus>, Error> {
    Ok(match storage {
        Storage::Ephemeral | Storage::Directory(_) => Arc::new(LocalBus::default()),
        Storage::Nats { url } => Arc::new(NatsBus::connect(url).await?),
    })
}
