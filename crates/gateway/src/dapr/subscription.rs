//! A streaming subscription: events go out, and what the application made of each comes back.
//!
//! ```text
//!             ┌──────────────┐  SUCCESS
//!   event ──► │  in flight   │ ─────────► done
//!             └──────────────┘
//!              ▲   │ RETRY, tries left     RETRY without, or DROP
//!   after the  │   ▼                              │
//!   back-off ┌──────────────┐                      ▼
//!            │ waits        │           dead-letter topic, with the reason
//!            └──────────────┘
//! ```
//!
//! An event is never delivered again while a delivery of it runs. One that waits holds up no other. What is in flight when
//! the stream ends is not delivered to anybody else: delivery is at most once to a connected subscriber.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use oxgrpc_proto::dapr::proto::runtime::v1::subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType as Incoming;
use oxgrpc_proto::dapr::proto::runtime::v1::subscribe_topic_events_response_alpha1::SubscribeTopicEventsResponseType as Outgoing;
use oxgrpc_proto::dapr::proto::runtime::v1::topic_event_response::TopicEventResponseStatus;
use oxgrpc_proto::dapr::proto::runtime::v1::{
    SubscribeTopicEventsRequestAlpha1, SubscribeTopicEventsRequestInitialAlpha1,
    SubscribeTopicEventsRequestProcessedAlpha1, SubscribeTopicEventsResponseAlpha1,
    SubscribeTopicEventsResponseInitialAlpha1, TopicEventRequest,
};
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Dapr, envelope};
use crate::pubsub::{
    DROPPED_KEY, Delivery, Event, Interest, SPEC_VERSION, Subscription, timestamp,
};

/// In the metadata of a dead letter: why it is one.
const DEAD_LETTER_REASON: &str = "deadletterreason";
/// In the metadata of a dead letter: the topic on which it was published first.
const DEAD_LETTER_TOPIC: &str = "deadlettertopic";

/// The most events that wait for their next delivery; no new ones are taken meanwhile.
const MAX_WAITING: usize = 1024;
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// How a subscription treats its events: the metadata of its first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Policy {
    /// `maxInFlight`: how many events are delivered before the first is answered. One keeps the topic's order.
    max_in_flight: usize,
    /// `maxRetries`: how often an event is delivered again.
    max_retries: u32,
    /// `retryBackoffMs`: the pause before the first further delivery; it doubles each time.
    backoff: Duration,
}

impl Policy {
    fn read(metadata: &HashMap<String, String>) -> Result<Self, Status> {
        let mut policy =
            Self { max_in_flight: 1, max_retries: 3, backoff: Duration::from_millis(500) };
        for (key, value) in metadata {
            let number = |most: u32| {
                value.parse::<u32>().ok().filter(|number| *number <= most).ok_or_else(|| {
                    Status::invalid_argument(format!(
                        "the metadata {key} is {value:?}, which is not a number up to {most}"
                    ))
                })
            };
            match key.as_str() {
                "maxInFlight" => policy.max_in_flight = number(1000)?.max(1) as usize,
                "maxRetries" => policy.max_retries = number(1000)?,
                "retryBackoffMs" => {
                    policy.backoff = Duration::from_millis(number(60_000)?.into());
                }
                // Data is delivered as it was published, in any case.
                "rawPayload" => {}
                _ => {
                    return Err(Status::invalid_argument(format!(
                        "the metadata {key:?} is not supported: maxInFlight, maxRetries, retryBackoffMs and rawPayload are"
                    )));
                }
            }
        }
        Ok(policy)
    }

    fn backoff(&self, retries: u32) -> Duration {
        self.backoff.saturating_mul(1 << retries.min(16)).min(MAX_BACKOFF)
    }
}

/// An event on its way through the subscription.
#[derive(Clone, Debug)]
struct Attempt {
    event: Arc<Event>,
    retries: u32,
    /// How many events were lost before it.
    dropped: u64,
}

/// An attempt and when it is due; the number keeps those that are due at once in order.
struct Waiting {
    due: Instant,
    number: u64,
    attempt: Attempt,
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

type Responses = mpsc::Sender<Result<SubscribeTopicEventsResponseAlpha1, Status>>;

/// Reads the first message, subscribes, and returns the stream of events, which begins with the initial response.
pub(super) async fn start(
    dapr: Dapr,
    mut requests: Streaming<SubscribeTopicEventsRequestAlpha1>,
) -> Result<impl Stream<Item = Result<SubscribeTopicEventsResponseAlpha1, Status>>, Status> {
    let first =
        requests.message().await?.and_then(|first| first.subscribe_topic_events_request_type);
    let Some(Incoming::InitialRequest(initial)) = first else {
        return Err(Status::invalid_argument(
            "the first message of a subscription has to be its initial_request",
        ));
    };
    let SubscribeTopicEventsRequestInitialAlpha1 {
        pubsub_name,
        topic,
        metadata,
        dead_letter_topic,
    } = initial;
    dapr.check_pubsub(&pubsub_name)?;
    let policy = Policy::read(&metadata)?;
    let events = dapr.bus.subscribe(Interest::topic(topic)).await?;
    let (responses, stream) = mpsc::channel(1);
    let subscribed = SubscribeTopicEventsResponseInitialAlpha1 {};
    let first = response(Outgoing::InitialResponse(subscribed));
    responses.try_send(Ok(first)).map_err(|_| Status::cancelled("the caller is gone"))?;
    let run = Run {
        dapr,
        policy,
        dead_letter_topic: dead_letter_topic.filter(|topic| !topic.is_empty()),
        responses,
        in_flight: HashMap::new(),
        in_flight_count: 0,
        waiting: BinaryHeap::new(),
        waited: 0,
    };
    tokio::spawn(run.run(events, requests));
    Ok(ReceiverStream::new(stream))
}

fn response(content: Outgoing) -> SubscribeTopicEventsResponseAlpha1 {
    SubscribeTopicEventsResponseAlpha1 { subscribe_topic_events_response_type: Some(content) }
}

struct Run {
    dapr: Dapr,
    policy: Policy,
    dead_letter_topic: Option<String>,
    responses: Responses,
    /// By event id, which publishers may give twice.
    in_flight: HashMap<String, VecDeque<Attempt>>,
    in_flight_count: usize,
    waiting: BinaryHeap<Reverse<Waiting>>,
    waited: u64,
}

impl Run {
    async fn run(
        mut self,
        mut events: Box<dyn Subscription>,
        mut requests: Streaming<SubscribeTopicEventsRequestAlpha1>,
    ) {
        let responses = self.responses.clone();
        let mut dropped = 0;
        loop {
            let may_deliver = self.in_flight_count < self.policy.max_in_flight;
            let due = self.waiting.peek().map(|Reverse(waiting)| waiting.due);
            tokio::select! {
                biased;
                () = responses.closed() => return,
                request = requests.message() => match request {
                    Ok(Some(request)) => self.answered(request).await,
                    // The caller has said all that it will, or is gone.
                    Ok(None) | Err(_) => return,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if may_deliver && due.is_some() => {
                    if let Some(Reverse(waiting)) = self.waiting.pop() {
                        self.deliver(waiting.attempt).await;
                    }
                }
                delivery = events.next(), if may_deliver && self.waiting.len() < MAX_WAITING => {
                    match delivery {
                        None => return,
                        Some(Delivery::Dropped(count)) => dropped += count,
                        Some(Delivery::Event(event)) if envelope::has_expired(&event) => {
                            tracing::debug!(topic = event.topic, id = event.id, "an event has expired");
                        }
                        Some(Delivery::Event(event)) => {
                            let dropped = std::mem::take(&mut dropped);
                            self.deliver(Attempt { event, retries: 0, dropped }).await;
                        }
                    }
                }
            }
        }
    }

    async fn deliver(&mut self, attempt: Attempt) {
        let message = message(&attempt, &self.dapr.components.pubsub);
        let id = attempt.event.id.clone();
        self.in_flight.entry(id).or_default().push_back(attempt);
        self.in_flight_count += 1;
        // If the caller is gone, `run` ends at its next step.
        let _ = self.responses.send(Ok(response(Outgoing::EventMessage(message)))).await;
    }

    async fn answered(&mut self, request: SubscribeTopicEventsRequestAlpha1) {
        let Some(Incoming::EventProcessed(processed)) = request.subscribe_topic_events_request_type
        else {
            return;
        };
        let SubscribeTopicEventsRequestProcessedAlpha1 { id, status } = processed;
        let Some(attempts) = self.in_flight.get_mut(&id) else {
            tracing::debug!(id, "an answer to an event that is not in flight");
            return;
        };
        let attempt = attempts.pop_front();
        if attempts.is_empty() {
            self.in_flight.remove(&id);
        }
        let Some(attempt) = attempt else { return };
        self.in_flight_count -= 1;
        match status.unwrap_or_default().status() {
            TopicEventResponseStatus::Success => {}
            TopicEventResponseStatus::Drop => {
                self.bury(&attempt, "the subscriber dropped it".into()).await;
            }
            TopicEventResponseStatus::Retry if attempt.retries < self.policy.max_retries => {
                let due = Instant::now() + self.policy.backoff(attempt.retries);
                let attempt = Attempt { retries: attempt.retries + 1, ..attempt };
                self.waited += 1;
                self.waiting.push(Reverse(Waiting { due, number: self.waited, attempt }));
            }
            TopicEventResponseStatus::Retry => {
                let reason = format!(
                    "the subscriber asked for another try after {} deliveries",
                    attempt.retries + 1
                );
                self.bury(&attempt, reason).await;
            }
        }
    }

    /// Publishes an event on the dead-letter topic, if there is one.
    async fn bury(&self, attempt: &Attempt, reason: String) {
        let event = &attempt.event;
        tracing::warn!(topic = event.topic, id = event.id, reason, "an event was not processed");
        let Some(topic) = &self.dead_letter_topic else { return };
        let mut letter = Event::clone(event);
        letter.topic.clone_from(topic);
        letter.metadata.insert(DEAD_LETTER_REASON.into(), reason);
        letter.metadata.insert(DEAD_LETTER_TOPIC.into(), event.topic.clone());
        if let Err(error) = self.dapr.bus.publish(letter).await {
            tracing::error!(topic, id = event.id, %error, "a dead letter was not published");
        }
    }
}

/// Returns an event as Dapr's subscribers receive it.
fn message(attempt: &Attempt, pubsub_name: &str) -> TopicEventRequest {
    let event = &*attempt.event;
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.into())) };
    let mut extensions: std::collections::BTreeMap<_, _> =
        event.metadata.iter().map(|(key, value)| (key.clone(), text(value))).collect();
    extensions.insert("time".into(), text(&timestamp(event.time)));
    extensions.insert("topic".into(), text(&event.topic));
    extensions.insert("pubsubname".into(), text(pubsub_name));
    if attempt.dropped > 0 {
        extensions.insert(DROPPED_KEY.into(), text(&attempt.dropped.to_string()));
    }
    let data_content_type = match event.data_content_type.as_str() {
        "" if std::str::from_utf8(&event.data).is_ok() => "text/plain",
        "" => "application/octet-stream",
        given => given,
    };
    TopicEventRequest {
        id: event.id.clone(),
        source: event.source.clone(),
        r#type: event.kind.clone(),
        spec_version: SPEC_VERSION.into(),
        data_content_type: data_content_type.into(),
        topic: event.topic.clone(),
        data: event.data.clone(),
        pubsub_name: pubsub_name.into(),
        path: String::new(),
        extensions: Some(Struct { fields: extensions }),
    }
}
