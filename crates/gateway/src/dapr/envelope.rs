//! Which event a Dapr publisher's message becomes. Content of type `application/cloudevents+json` is the event's envelope
//! (CloudEvents JSON format 1.0); anything else is its data. Data stays as it came, octet by octet.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::value::RawValue;
use tonic::Status;

use crate::pubsub::{Event, parse_time, timestamp};

const ENVELOPE: &str = "application/cloudevents+json";
const DEFAULT_CONTENT_TYPE: &str = "text/plain";

/// In an event's metadata: when it is no longer delivered to Dapr's subscribers.
pub(super) const EXPIRATION: &str = "expiration";

/// Returns the event. `metadata` has Dapr's publish metadata: `cloudevent.*` set attributes, `ttlInSeconds` and `rawPayload`
/// mean what they do there, and every other key becomes an extension attribute.
pub(super) fn event(
    topic: &str,
    data: Bytes,
    content_type: &str,
    metadata: HashMap<String, String>,
) -> Result<Event, Status> {
    let mut raw = false;
    let mut ttl = None;
    let mut attributes = Vec::new();
    let mut extensions = BTreeMap::new();
    for (key, value) in metadata {
        if key.eq_ignore_ascii_case("rawPayload") {
            raw = value.parse().map_err(|_| invalid(&key, &value, "true or false"))?;
        } else if key.eq_ignore_ascii_case("ttlInSeconds") {
            let seconds = value.parse::<u32>().ok().filter(|seconds| *seconds > 0);
            ttl = Some(seconds.ok_or_else(|| invalid(&key, &value, "a number of seconds"))?);
        } else if let Some(name) =
            key.strip_prefix("cloudevent.").or_else(|| key.strip_prefix("cloudevent-"))
        {
            attributes.push((name.to_owned(), value));
        } else {
            extensions.insert(key, value);
        }
    }
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let mut event = if !raw && media_type.eq_ignore_ascii_case(ENVELOPE) {
        unwrap(topic, &data)?
    } else {
        let mut event = Event::new(topic, data);
        let given = if content_type.is_empty() { DEFAULT_CONTENT_TYPE } else { content_type };
        event.data_content_type = given.into();
        event
    };
    event.metadata.extend(extensions);
    for (name, value) in attributes {
        set(&mut event, name, value)?;
    }
    if let Some(seconds) = ttl {
        let expiration = event.time + Duration::from_secs(seconds.into());
        event.metadata.insert(EXPIRATION.into(), timestamp(expiration));
    }
    Ok(event)
}

fn invalid(key: &str, value: &str, expected: &str) -> Status {
    Status::invalid_argument(format!("the metadata {key} is {value:?}, which is not {expected}"))
}

/// Returns whether the event was to be delivered only until a time that has passed.
pub(super) fn has_expired(event: &Event) -> bool {
    event
        .metadata
        .get(EXPIRATION)
        .and_then(|text| parse_time(EXPIRATION, text).ok())
        .is_some_and(|expiration| expiration <= SystemTime::now())
}

fn set(event: &mut Event, name: String, value: String) -> Result<(), Status> {
    match name.as_str() {
        "id" if !value.is_empty() => event.id = value,
        "source" if !value.is_empty() => event.source = value,
        "type" if !value.is_empty() => event.kind = value,
        "time" => event.time = parse_time("the attribute time", &value)?,
        "datacontenttype" => event.data_content_type = value,
        // Said by the envelope; what is empty is filled in.
        "specversion" | "id" | "source" | "type" | "topic" | "pubsubname" => {}
        _ => {
            event.metadata.insert(name, value);
        }
    }
    Ok(())
}

/// Reads an envelope.
fn unwrap(topic: &str, envelope: &[u8]) -> Result<Event, Status> {
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_slice(envelope).map_err(|error| {
            Status::invalid_argument(format!(
                "the data on topic {topic:?} is said to be {ENVELOPE}, and is not: {error}"
            ))
        })?;
    let mut event = Event::new(topic, "");
    let mut data = None;
    for (name, value) in members {
        match name.as_str() {
            "data" => data = Some(value),
            "data_base64" => {
                let text: String = serde_json::from_str(value.get()).unwrap_or_default();
                event.data = STANDARD
                    .decode(text)
                    .map_err(|error| {
                        Status::invalid_argument(format!("data_base64 is not base64: {error}"))
                    })?
                    .into();
            }
            _ => {
                // Attributes that are numbers or truth values are kept as their text.
                let text = serde_json::from_str::<String>(value.get());
                set(&mut event, name, text.unwrap_or_else(|_| value.get().to_owned()))?;
            }
        }
    }
    if let Some(data) = data {
        event.data = match serde_json::from_str::<String>(data.get()) {
            Ok(text) if !is_json(&event.data_content_type) => text.into(),
            _ => data.get().to_owned().into(),
        };
        if event.data_content_type.is_empty() {
            // CloudEvents JSON format 1.0, 3.1: without a type the data is JSON.
            event.data_content_type = "application/json".into();
        }
    }
    Ok(event)
}

fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.is_empty()
        || media_type.eq_ignore_ascii_case("application/json")
        || media_type.to_ascii_lowercase().ends_with("+json")
}
