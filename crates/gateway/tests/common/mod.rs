//! What the tests of stores and buses share: the engines that they run on, and a clock that is set by hand.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod disk;
pub mod nats;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use nats::NatsServer;
use oxgrpc_gateway::pubsub::{Bus, LocalBus, NatsBus};
use oxgrpc_gateway::state::{Clock, EmbeddedStore, Error, NatsStore, Store};

/// A clock that stands still until it is moved.
#[derive(Clone)]
pub struct HandClock {
    start: SystemTime,
    elapsed_ms: Arc<AtomicU64>,
}

impl HandClock {
    pub fn new() -> Self {
        Self { start: SystemTime::now(), elapsed_ms: Arc::new(AtomicU64::new(0)) }
    }

    pub fn now(&self) -> SystemTime {
        self.start + Duration::from_millis(self.elapsed_ms.load(Ordering::Relaxed))
    }

    pub fn advance(&self, by: Duration) {
        self.elapsed_ms.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }

    pub fn clock(&self) -> Clock {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}

/// A place where state lies; what it holds is gone when it is dropped.
pub enum Place {
    Memory,
    Directory(tempfile::TempDir),
    Nats(NatsServer),
}

impl Place {
    pub async fn memory() -> Option<Self> {
        Some(Self::Memory)
    }

    pub async fn directory() -> Option<Self> {
        Some(Self::Directory(tempfile::tempdir().unwrap()))
    }

    pub async fn nats() -> Option<Self> {
        NatsServer::start().await.map(Self::Nats)
    }

    pub async fn open(&self, clock: Clock) -> Result<Arc<dyn Store>, Error> {
        Ok(match self {
            Self::Memory => Arc::new(EmbeddedStore::in_memory(clock)?),
            Self::Directory(directory) => {
                Arc::new(EmbeddedStore::in_directory(directory.path(), clock)?)
            }
            Self::Nats(server) => Arc::new(NatsStore::connect(server.url(), clock).await?),
        })
    }

    /// Whether a store that is opened here again finds what the one before has left.
    pub fn survives(&self) -> bool {
        !matches!(self, Self::Memory)
    }
}

/// Where events travel.
pub enum Wire {
    Local,
    Nats(NatsServer),
}

impl Wire {
    pub async fn local() -> Option<Self> {
        Some(Self::Local)
    }

    pub async fn nats() -> Option<Self> {
        NatsServer::start().await.map(Self::Nats)
    }

    pub async fn open(&self) -> Arc<dyn Bus> {
        match self {
            Self::Local => Arc::new(LocalBus::default()),
            Self::Nats(server) => Arc::new(NatsBus::connect(server.url()).await.unwrap()),
        }
    }
}

/// Runs every test of a contract on every engine; an engine that is not installed here says so and is left out.
#[macro_export]
macro_rules! contract {
    ($place:ident: $($engine:ident),+ => $tests:tt) => {
        $( $crate::contract!(@engine $place $engine $tests); )+
    };
    (@engine $place:ident $engine:ident { $($test:ident),+ $(,)? }) => {
        mod $engine {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    if let Some(place) = $crate::common::$place::$engine().await {
                        super::$test(place).await;
                    }
                }
            )+
        }
    };
}
