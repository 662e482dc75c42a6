//! The bus that gateways share: a log of events. Every gateway reads all of it and hands each event to its own subscribers.
//!
//! Publishing waits until NATS has the event. A gateway that has lost its connection reads on where it was, so that its
//! subscribers miss nothing as long as it comes back while the log still has what they need: ten minutes, 256 MiB.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message as _;
use prost_types::Timestamp;
use uuid::Uuid;

use super::hub::Hub;
use super::local::check_interest;
use super::{Bus, Counts, Error, Event, Interest, Subscription};
use crate::nats::{Connection, Log, Reader, Retention, Start};

const LOG: &str = "OXGRPC_EVENTS";
const RETENTION: Retention =
    Retention::Recent { age: Duration::from_secs(600), bytes: 256 * 1024 * 1024 };

/// An event, as it stands in the log.
#[derive(Clone, PartialEq, prost::Message)]
struct Logged {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    source: String,
    #[prost(string, tag = "3")]
    kind: String,
    #[prost(message, optional, tag = "4")]
    time: Option<Timestamp>,
    #[prost(string, tag = "5")]
    topic: String,
    #[prost(string, tag = "6")]
    data_content_type: String,
    #[prost(bytes = "bytes", tag = "7")]
    data: Bytes,
    #[prost(btree_map = "string, string", tag = "8")]
    metadata: BTreeMap<String, String>,
}

impl From<Event> for Logged {
    fn from(event: Event) -> Self {
        let Event { id, source, kind, time, topic, data_content_type, data, metadata } = event;
        let time = Some(time.into());
        Self { id, source, kind, time, topic, data_content_type, data, metadata }
    }
}

impl From<Logged> for Event {
    fn from(logged: Logged) -> Self {
        let Logged { id, source, kind, time, topic, data_content_type, data, metadata } = logged;
        let time = time.and_then(|time| SystemTime::try_from(time).ok());
        let time = time.unwrap_or(SystemTime::UNIX_EPOCH);
        Self { id, source, kind, time, topic, data_content_type, data, metadata }
    }
}

/// A bus over NATS.
pub struct NatsBus {
    log: Log,
    hub: Arc<Hub>,
    _reader: Reader,
}

impl NatsBus {
    /// Connects to `nats://host:port`, several separated by commas.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let connection = Connection::open(url).await.map_err(Error::Unavailable)?;
        let log = Log::open(connection, LOG, RETENTION).await.map_err(Error::Unavailable)?;
        let (_, reader, mut records) = log.read(Start::Now).await.map_err(Error::Unavailable)?;
        let hub = Arc::new(Hub::default());
        tokio::spawn({
            let hub = hub.clone();
            async move {
                while let Some(record) = records.recv().await {
                    let Some((_, content)) = record.content else { continue };
                    match Logged::decode(content) {
                        Ok(event) => hub.deliver(&Arc::new(event.into())),
                        Err(error) => tracing::warn!(%error, "an event that cannot be read"),
                    }
                }
            }
        });
        Ok(Self { log, hub, _reader: reader })
    }
}

#[async_trait]
impl Bus for NatsBus {
    async fn publish(&self, event: Event) -> Result<(), Error> {
        event.check()?;
        let logged = Logged::from(event).encode_to_vec().into();
        self.log.append(Uuid::new_v4(), &logged).await.map(drop).map_err(Error::Unavailable)
    }

    async fn subscribe(&self, interest: Interest) -> Result<Box<dyn Subscription>, Error> {
        check_interest(&interest)?;
        Ok(self.hub.subscribe(interest))
    }

    fn unsubscribe(&self, id: &str) -> bool {
        self.hub.unsubscribe(id)
    }

    fn counts(&self) -> Counts {
        self.hub.counts()
    }

    async fn health(&self) -> Result<(), Error> {
        self.log.end().await.map(drop).map_err(Error::Unavailable)
    }
}
