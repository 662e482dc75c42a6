//! How events and `virtufin.Pubsub` messages map: the metadata keys `ce-*` stand for CloudEvents attributes, all others are
//! extension attributes, verbatim.

use std::collections::HashMap;
use std::time::SystemTime;

use bytes::Bytes;
use oxgrpc_proto::virtufin::PubsubSubscribeResponse;
use prost_types::Timestamp;
use tonic::metadata::MetadataMap;

use super::{Error, Event};

/// The metadata that carries trace context; taken from the call where the event says none.
pub(crate) const TRACE_CONTEXT: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// The version of CloudEvents that events follow.
pub(crate) const SPEC_VERSION: &str = "1.0";

/// In an event's metadata: how many events were dropped before it because the subscriber fell behind.
pub const DROPPED_KEY: &str = "droppedevents";

/// Returns a time as RFC 3339, UTC.
pub(crate) fn timestamp(time: SystemTime) -> String {
    Timestamp::from(time).to_string()
}

/// Parses RFC 3339.
pub(crate) fn time(name: &str, text: &str) -> Result<SystemTime, Error> {
    text.parse::<Timestamp>().ok().and_then(|parsed| SystemTime::try_from(parsed).ok()).ok_or_else(
        || {
            Error::Invalid(format!(
                "{name} is {text:?}, which is no RFC 3339 time such as 2026-01-31T12:00:00Z"
            ))
        },
    )
}

/// Adds the trace context of a call to an event that has none of its own.
pub(crate) fn add_trace_context(event: &mut Event, call: &MetadataMap) {
    if event.metadata.contains_key(TRACE_CONTEXT[0]) {
        return;
    }
    for key in TRACE_CONTEXT {
        if let Some(value) = call.get(key).and_then(|value| value.to_str().ok()) {
            event.metadata.entry(key.into()).or_insert_with(|| value.into());
        }
    }
}

/// Returns the event that a publisher's message describes.
pub(crate) fn event(
    topic: String,
    data: Bytes,
    metadata: HashMap<String, String>,
    call: &MetadataMap,
) -> Result<Event, Error> {
    let mut event = Event::new(topic, data);
    for (key, value) in metadata {
        match key.as_str() {
            "ce-id" if !value.is_empty() => event.id = value,
            "ce-source" if !value.is_empty() => event.source = value,
            "ce-type" if !value.is_empty() => event.kind = value,
            "ce-id" | "ce-source" | "ce-type" => {
                return Err(Error::Invalid(format!("the metadata {key} is empty")));
            }
            "ce-time" => event.time = time("the metadata ce-time", &value)?,
            "ce-datacontenttype" => event.data_content_type = value,
            "ce-specversion" if value == SPEC_VERSION => {}
            "ce-specversion" => {
                return Err(Error::Invalid(format!(
                    "the metadata ce-specversion is {value:?}: only {SPEC_VERSION} is known"
                )));
            }
            _ => {
                event.metadata.insert(key, value);
            }
        }
    }
    add_trace_context(&mut event, call);
    Ok(event)
}

/// Returns an event as a subscriber of its topic receives it; `dropped` events were lost before it.
pub(crate) fn message(event: &Event, dropped: u64) -> PubsubSubscribeResponse {
    let time = timestamp(event.time);
    let mut metadata: HashMap<_, _> = event.metadata.clone().into_iter().collect();
    let mut attribute = |key: &str, value: &str| {
        if !value.is_empty() {
            metadata.insert(key.into(), value.into());
        }
    };
    attribute("ce-id", &event.id);
    attribute("ce-source", &event.source);
    attribute("ce-type", &event.kind);
    attribute("ce-time", &time);
    attribute("ce-specversion", SPEC_VERSION);
    attribute("ce-datacontenttype", &event.data_content_type);
    if dropped > 0 {
        attribute(DROPPED_KEY, &dropped.to_string());
    }
    PubsubSubscribeResponse {
        topic: event.topic.clone(),
        data: event.data.clone(),
        metadata,
        message_id: event.id.clone(),
        timestamp: time,
    }
}
