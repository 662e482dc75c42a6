//! What several gateways share through NATS: logs, each a JetStream stream that every gateway reads in one order.
//!
//! State is such a log of transactions (`state/nats.rs`), pub/sub one of events (`pubsub/nats.rs`). Only what NATS 2.9 has is
//! used, which is what Debian 12 brings. A newer server does the same.

mod frames;
mod log;
mod reader;

use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event};
use tokio::sync::watch;

pub(crate) use log::{Log, Retention};
pub(crate) use reader::{Reader, Record, Start};

/// How long the server has for an answer before the call fails with UNAVAILABLE.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that comes back by itself.
#[derive(Clone)]
pub(crate) struct Connection {
    url: String,
    client: Client,
    /// Counts how often the connection has been made.
    connected: watch::Receiver<u64>,
}

impl Connection {
    /// Connects; an error names the server.
    pub(crate) async fn open(url: &str) -> Result<Self, String> {
        let (made, connected) = watch::channel(0);
        let client = ConnectOptions::new()
            .name("oxgrpc gateway")
            .request_timeout(Some(REQUEST_TIMEOUT))
            .reconnect_delay_callback(delay)
            .event_callback(move |event| {
                tracing::info!(%event, "nats");
                if matches!(event, Event::Connected) {
                    made.send_modify(|count| *count += 1);
                }
                async {}
            })
            .connect(url.split(',').map(str::trim).collect::<Vec<_>>())
            .await
            .map_err(|error| format!("NATS at {url} cannot be reached: {error}"))?;
        Ok(Self { url: url.into(), client, connected })
    }

    /// Returns an error that names the server unless it is connected.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self.client.connection_state() {
            State::Connected => Ok(()),
            State::Pending | State::Disconnected => {
                Err(format!("NATS at {} cannot be reached now: the gateway keeps trying", self.url))
            }
        }
    }

    /// Says what went wrong, and where.
    fn failed(&self, what: &str, error: impl std::fmt::Display) -> String {
        format!("NATS at {} {what}: {error}", self.url)
    }
}

/// Returns the pause before the next attempt to connect: up to 2 s, jittered, so that gateways do not come back as one.
fn delay(attempts: usize) -> Duration {
    let most = (50_u64 << attempts.min(6)).min(2000);
    let jitter = uuid::Uuid::new_v4().as_u128() % u128::from(most / 2);
    Duration::from_millis(most / 2 + u64::try_from(jitter).unwrap_or_default())
}
