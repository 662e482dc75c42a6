//! Subscriptions as server streams: `Pubsub.Subscribe`, and `Gateway.Subscribe` with its filters.
//!
//! The initial metadata carries `subscription-id`; tonic sends it when the handler returns, by when the subscription is live.
//! When the call ends, however it ends, tonic drops the stream and with it the subscription.

use std::pin::Pin;
use std::sync::Arc;

use futures_core::Stream;
use futures_util::stream::unfold;
use oxgrpc_proto::virtufin::{SubscribeRequest, TopicEventRequest};
use tonic::metadata::AsciiMetadataValue;
use tonic::{Response, Status};

use super::attributes::{DROPPED_KEY, SPEC_VERSION};
use super::event::SOURCE_PREFIX;
use super::service::SYSTEM_TOPIC;
use super::{Bus, Delivery, Event, Interest, Subscription, event_service};
use crate::state::STATE_CHANGES;

/// In the initial metadata of streams: the id that `Pubsub.Unsubscribe` takes.
pub const SUBSCRIPTION_ID: &str = "subscription-id";

/// The name of the gateway's pub/sub component.
pub(crate) const PUBSUB_NAME: &str = "pubsub";

/// The messages of a server stream.
pub type MessageStream<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// The messages of `Gateway.Subscribe`.
pub type EventStream = MessageStream<TopicEventRequest>;

/// Says whether a name is that of a registered service.
pub type IsRegistered = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Returns the subscription as a server stream. `message` is given an event and how many were dropped before it.
pub(crate) fn live<M: Send + 'static>(
    subscription: Box<dyn Subscription>,
    message: impl Fn(&Event, u64) -> M + Send + 'static,
) -> Result<Response<MessageStream<M>>, Status> {
    let id = AsciiMetadataValue::try_from(subscription.id())
        .map_err(|_| Status::internal("the subscription's id is not ASCII"))?;
    let messages = unfold((subscription, message), |(mut subscription, message)| async move {
        let mut dropped = 0;
        loop {
            match subscription.next().await? {
                Delivery::Dropped(count) => dropped += count,
                Delivery::Event(event) => {
                    return Some((Ok(message(&event, dropped)), (subscription, message)));
                }
            }
        }
    });
    let mut response: Response<MessageStream<M>> = Response::new(Box::pin(messages));
    response.metadata_mut().insert(SUBSCRIPTION_ID, id);
    Ok(response)
}

/// Answers `Gateway.Subscribe`: every event that matches all three filters, an empty filter matching everything.
pub async fn subscribe_events(
    bus: &dyn Bus,
    request: SubscribeRequest,
    is_registered: IsRegistered,
) -> Result<Response<EventStream>, Status> {
    let SubscribeRequest { services, topics, event_types } = request;
    if let Some(unknown) =
        event_types.iter().find(|kind| !["state", "pubsub", "system"].contains(&kind.as_str()))
    {
        return Err(Status::invalid_argument(format!(
            "the event type {unknown:?} is none of state, pubsub and system"
        )));
    }
    let interest = if services.is_empty() && event_types.is_empty() && !topics.is_empty() {
        Interest::Topics(topics.into_iter().collect())
    } else {
        let is_registered = is_registered.clone();
        Interest::Matching(Arc::new(move |event| {
            matches(&topics, || event.topic.clone())
                && matches(&event_types, || event_type(event).into())
                && matches(&services, || event_service(event, &*is_registered))
        }))
    };
    let subscription = bus.subscribe(interest).await?;
    live(subscription, move |event, dropped| message(event, dropped, &*is_registered))
}

fn matches(filter: &[String], value: impl FnOnce() -> String) -> bool {
    filter.is_empty() || filter.contains(&value())
}

fn event_type(event: &Event) -> &'static str {
    match event.topic.as_str() {
        STATE_CHANGES => "state",
        SYSTEM_TOPIC => "system",
        _ => "pubsub",
    }
}

fn message(event: &Event, dropped: u64, is_registered: &dyn Fn(&str) -> bool) -> TopicEventRequest {
    let service = event_service(event, is_registered);
    let mut metadata: std::collections::HashMap<_, _> =
        event.metadata.clone().into_iter().collect();
    if dropped > 0 {
        metadata.insert(DROPPED_KEY.into(), dropped.to_string());
    }
    TopicEventRequest {
        id: event.id.clone(),
        source: if service.is_empty() {
            event.source.clone()
        } else {
            format!("{SOURCE_PREFIX}{service}")
        },
        r#type: event.kind.clone(),
        spec_version: SPEC_VERSION.into(),
        data_content_type: event.data_content_type.clone(),
        topic: event.topic.clone(),
        data: event.data.clone(),
        pubsub_name: PUBSUB_NAME.into(),
        path: String::new(),
        metadata,
    }
}
