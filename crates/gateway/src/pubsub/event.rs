//! An event: the attributes of CloudEvents 1.0, what a bus refuses, and which service an event is about.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use serde::Deserialize;

use super::Error;

/// The largest event, topic, data and metadata together: a 4 MiB message less what its envelope may take.
pub const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024 - 16 * 1024;

const MAX_TOPIC_BYTES: usize = 1024;

/// What each metadata entry costs beyond its text, in whichever envelope.
const ENTRY_BYTES: usize = 16;

/// The source of events that say no other: nobody's service.
pub(crate) const DEFAULT_SOURCE: &str = "virtufin-api";

/// The CloudEvents type of events that say no other, as Dapr has it.
pub(crate) const DEFAULT_KIND: &str = "com.dapr.event.sent";

/// Begins the sources of services' events.
pub(crate) const SOURCE_PREFIX: &str = "urn:com.virtufin.";

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

impl Event {
    /// Returns an event with a fresh id and the attributes that an event has whose publisher says none.
    pub fn new(topic: impl Into<String>, data: impl Into<Bytes>) -> Self {
        Self {
            id: uuid::Uuid::new_v4().to_string(),
            source: DEFAULT_SOURCE.into(),
            kind: DEFAULT_KIND.into(),
            time: SystemTime::now(),
            topic: topic.into(),
            data_content_type: String::new(),
            data: data.into(),
            metadata: BTreeMap::new(),
        }
    }

    /// Returns an error unless every bus takes the event.
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_topic(&self.topic)?;
        let metadata: usize =
            self.metadata.iter().map(|(key, value)| key.len() + value.len() + ENTRY_BYTES).sum();
        let attributes =
            self.id.len() + self.source.len() + self.kind.len() + self.data_content_type.len();
        let size = self.topic.len() + self.data.len() + metadata + attributes;
        if size > MAX_EVENT_BYTES {
            return Err(Error::Exhausted(format!(
                "the event on topic {:?} has {size} octets, more than {MAX_EVENT_BYTES}",
                self.topic
            )));
        }
        Ok(())
    }
}

/// Returns an error unless every bus takes the topic.
pub(crate) fn check_topic(topic: &str) -> Result<(), Error> {
    if topic.is_empty() {
        return Err(Error::Invalid("the topic is empty: name one".into()));
    }
    if topic.len() > MAX_TOPIC_BYTES {
        return Err(Error::Invalid(format!(
            "the topic has {} octets, more than {MAX_TOPIC_BYTES}",
            topic.len()
        )));
    }
    Ok(())
}

/// Returns the service that an event is about: the topic's first part if it is a registered service, else the payload's
/// `service`, else the source's, else the empty string.
pub fn event_service(event: &Event, is_registered: &dyn Fn(&str) -> bool) -> String {
    #[derive(Deserialize)]
    struct Payload {
        service: Option<String>,
    }
    if let Some((first, _)) = event.topic.split_once('.')
        && is_registered(first)
    {
        return first.to_owned();
    }
    let is_object = event.data.first() == Some(&b'{');
    if is_object && let Ok(Payload { service: Some(service) }) = serde_json::from_slice(&event.data)
    {
        return service;
    }
    event.source.strip_prefix(SOURCE_PREFIX).unwrap_or_default().to_owned()
}
