//! A log: a stream that is made if need be, to which any gateway appends.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use uuid::Uuid;

use super::{Connection, REQUEST_TIMEOUT, frames};

/// The largest message, whatever the server admits: a copy of it is held while it is sent.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// What the server's limit has to leave for the protocol around a message.
const MARGIN_BYTES: usize = 1024;

/// How long a log keeps its records.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Retention {
    /// Until they are purged.
    Forever,
    /// For so long, and up to so many octets: then the oldest go.
    Recent {
        /// The longest time.
        age: Duration,
        /// The most octets.
        bytes: i64,
    },
}

/// A log that several gateways share.
#[derive(Clone)]
pub(crate) struct Log {
    pub(super) connection: Connection,
    pub(super) context: Context,
    pub(super) name: &'static str,
}

impl Log {
    /// Opens the log with that name, which is the stream's and, in small letters, the subject's.
    pub(crate) async fn open(
        connection: Connection,
        name: &'static str,
        retention: Retention,
    ) -> Result<Self, String> {
        let context = jetstream::ContextBuilder::new()
            .timeout(REQUEST_TIMEOUT)
            .ack_timeout(REQUEST_TIMEOUT)
            .build(connection.client.clone());
        let mut config = Config {
            name: name.into(),
            subjects: vec![name.to_lowercase()],
            storage: StorageType::File,
            discard: DiscardPolicy::Old,
            ..Config::default()
        };
        if let Retention::Recent { age, bytes } = retention {
            config.max_age = age;
            config.max_bytes = bytes;
        }
        context.get_or_create_stream(config).await.map_err(|error| {
            connection.failed("has no JetStream stream for the gateway (it needs -js)", error)
        })?;
        Ok(Self { connection, context, name })
    }

    /// Appends a record; returns its place in the log, which is that of its last message.
    pub(crate) async fn append(&self, id: Uuid, record: &Bytes) -> Result<u64, String> {
        self.connection.check()?;
        let failed = |error: &dyn std::fmt::Display| {
            self.connection.failed("has not confirmed a write, which may have happened", error)
        };
        let admitted = self.connection.client.max_payload().saturating_sub(MARGIN_BYTES);
        let mut confirmations = Vec::new();
        for message in frames::split(id, record, admitted.min(MAX_MESSAGE_BYTES - MARGIN_BYTES)) {
            let sent = self.context.publish(self.name.to_lowercase(), message).await;
            confirmations.push(sent.map_err(|error| failed(&error))?);
        }
        let mut place = 0;
        for confirmation in confirmations {
            place = confirmation.await.map_err(|error| failed(&error))?.sequence;
        }
        Ok(place)
    }

    /// Returns the place of the last message that the server has.
    pub(crate) async fn end(&self) -> Result<u64, String> {
        self.connection.check()?;
        let stream = self.context.get_stream(self.name).await;
        let stream = stream.map_err(|error| self.connection.failed("does not answer", error))?;
        Ok(stream.cached_info().state.last_sequence)
    }
}
