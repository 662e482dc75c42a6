//! Hands events to the subscriptions of this process: the last step of every bus.
//!
//! Events are handed over under one lock, so that all subscriptions see a topic's events in one order. Nothing waits under
//! it: a full queue drops its oldest event.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{Counts, Delivery, Event, Filter, Interest, Subscription};

/// The most events that wait for one subscriber.
const QUEUE_EVENTS: usize = 4096;
/// The most octets of data that wait for one subscriber. The last event is kept however large it is.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;

/// The events that wait for one subscriber.
#[derive(Default)]
struct Waiting {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    dropped: u64,
    closed: bool,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// One permit for the one task that waits.
    ready: Notify,
}

/// State is whole between statements, whatever another holder's panic interrupted.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    /// Appends an event, and returns how many it displaced.
    fn push(&self, event: &Arc<Event>) -> u64 {
        let mut dropped = 0;
        {
            let mut waiting = lock(&self.waiting);
            if waiting.closed {
                return 0;
            }
            waiting.bytes += event.data.len();
            waiting.events.push_back(event.clone());
            while waiting.events.len() > QUEUE_EVENTS
                || (waiting.bytes > QUEUE_BYTES && waiting.events.len() > 1)
            {
                let Some(oldest) = waiting.events.pop_front() else { break };
                waiting.bytes -= oldest.data.len();
                dropped += 1;
            }
            waiting.dropped += dropped;
        }
        self.ready.notify_one();
        dropped
    }

    fn close(&self) {
        lock(&self.waiting).closed = true;
        self.ready.notify_one();
    }

    async fn next(&self) -> Option<Delivery> {
        loop {
            {
                let mut waiting = lock(&self.waiting);
                if waiting.dropped > 0 {
                    return Some(Delivery::Dropped(std::mem::take(&mut waiting.dropped)));
                }
                if let Some(event) = waiting.events.pop_front() {
                    waiting.bytes -= event.data.len();
                    return Some(Delivery::Event(event));
                }
                if waiting.closed {
                    return None;
                }
            }
            self.ready.notified().await;
        }
    }
}

#[derive(Default)]
struct Subscribers {
    queues: HashMap<String, (Arc<Queue>, Interest)>,
    /// The ids of those that named this topic.
    by_topic: HashMap<String, Vec<(String, Arc<Queue>)>>,
    /// Those that want whatever their filter lets through.
    matching: Vec<(String, Arc<Queue>, Filter)>,
}

/// The subscriptions of this process.
#[derive(Default)]
pub(crate) struct Hub {
    subscribers: Mutex<Subscribers>,
    received: AtomicU64,
    delivered: AtomicU64,
    dropped: AtomicU64,
}

impl Hub {
    pub(crate) fn deliver(&self, event: &Arc<Event>) {
        let subscribers = lock(&self.subscribers);
        let mut delivered = 0;
        let mut dropped = 0;
        let named = subscribers.by_topic.get(&event.topic).map_or(&[][..], Vec::as_slice);
        let matching = subscribers.matching.iter().filter(|(_, _, wants)| wants(event));
        let queues =
            named.iter().map(|(_, queue)| queue).chain(matching.map(|(_, queue, _)| queue));
        for queue in queues {
            delivered += 1;
            dropped += queue.push(event);
        }
        // Under the lock, as `counts` reads them: whoever has received an event finds it counted.
        self.received.fetch_add(1, Ordering::Relaxed);
        self.delivered.fetch_add(delivered, Ordering::Relaxed);
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
        drop(subscribers);
        if dropped > 0 {
            tracing::warn!(topic = event.topic, dropped, "subscribers fell behind");
        }
    }

    pub(crate) fn subscribe(self: &Arc<Self>, interest: Interest) -> Box<dyn Subscription> {
        let id = uuid::Uuid::new_v4().to_string();
        let queue = Arc::new(Queue::default());
        let mut subscribers = lock(&self.subscribers);
        match &interest {
            Interest::Topics(topics) => {
                for topic in topics {
                    let named = subscribers.by_topic.entry(topic.clone()).or_default();
                    named.push((id.clone(), queue.clone()));
                }
            }
            Interest::Matching(filter) => {
                subscribers.matching.push((id.clone(), queue.clone(), filter.clone()));
            }
        }
        subscribers.queues.insert(id.clone(), (queue.clone(), interest));
        Box::new(HubSubscription { id, queue, hub: self.clone() })
    }

    /// Lets the subscription end after what is queued; returns whether it was there.
    pub(crate) fn unsubscribe(&self, id: &str) -> bool {
        let removed = {
            let mut subscribers = lock(&self.subscribers);
            let removed = subscribers.queues.remove(id);
            match &removed {
                Some((_, Interest::Topics(topics))) => {
                    for topic in topics {
                        if let Some(named) = subscribers.by_topic.get_mut(topic) {
                            named.retain(|(other, _)| other != id);
                            if named.is_empty() {
                                subscribers.by_topic.remove(topic);
                            }
                        }
                    }
                }
                Some((_, Interest::Matching(_))) => {
                    subscribers.matching.retain(|(other, _, _)| other != id);
                }
                None => {}
            }
            removed
        };
        if let Some((queue, _)) = &removed {
            queue.close();
        }
        removed.is_some()
    }

    pub(crate) fn counts(&self) -> Counts {
        let subscribers = lock(&self.subscribers);
        Counts {
            subscriptions: u64::try_from(subscribers.queues.len()).unwrap_or(u64::MAX),
            received: self.received.load(Ordering::Relaxed),
            delivered: self.delivered.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }
}

struct HubSubscription {
    id: String,
    queue: Arc<Queue>,
    hub: Arc<Hub>,
}

#[async_trait]
impl Subscription for HubSubscription {
    fn id(&self) -> &str {
        &self.id
    }

    async fn next(&mut self) -> Option<Delivery> {
        self.queue.next().await
    }
}

impl Drop for HubSubscription {
    fn drop(&mut self) {
        self.hub.unsubscribe(&self.id);
    }
}
