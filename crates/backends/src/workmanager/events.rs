//! Events as workers see them, and what their answers publish: CloudEvents in JSON (CloudEvents JSON format 1.0, section 3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oxgrpc_proto::virtufin::PubsubSubscribeResponse;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// What an answer must repeat for its question to be recognised.
const CORRELATION: &str = "correlationid";

/// Attributes that metadata names with the prefix `ce-`.
const PREFIXED: [&str; 6] = ["id", "source", "type", "time", "specversion", "datacontenttype"];

/// Returns an event as the dict that `Process` is called with.
pub(super) fn to_worker(event: PubsubSubscribeResponse) -> Value {
    let mut attributes = Map::new();
    for (key, value) in event.metadata {
        let name = key.strip_prefix("ce-").filter(|name| PREFIXED.contains(name));
        attributes.insert(name.unwrap_or(&key).to_owned(), value.into());
    }
    attributes.insert("specversion".into(), "1.0".into());
    attributes.insert("id".into(), event.message_id.into());
    attributes.insert("time".into(), event.timestamp.into());
    attributes.entry("type").or_insert_with(|| event.topic.clone().into());
    attributes.entry("source").or_insert_with(|| "".into());
    attributes.insert("topic".into(), event.topic.into());
    let is_text = std::str::from_utf8(&event.data).ok();
    let (name, data) = match (serde_json::from_slice::<Value>(&event.data), is_text) {
        (Ok(data), _) => ("data", data),
        (Err(_), Some(text)) => ("data", text.into()),
        (Err(_), None) => ("data_base64", STANDARD.encode(&event.data).into()),
    };
    attributes.insert(name.into(), data);
    attributes.into()
}

/// What a worker's answer publishes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Publication {
    pub(super) topic: String,
    pub(super) data: Vec<u8>,
    pub(super) metadata: HashMap<String, String>,
}

/// Reads what `Process` returned. Its `type` names the topic; an answer to a correlated event is correlated unless it says
/// otherwise. The error tells the worker's author what is wrong.
pub(super) fn from_worker(answer: Value, question: &Value) -> Result<Publication, String> {
    let Value::Object(mut answer) = answer else {
        return Err("Process returned no dict".into());
    };
    let topic = match answer.get("type") {
        Some(Value::String(topic)) if !topic.is_empty() => topic.clone(),
        _ => {
            return Err(
                "the event that Process returned has no `type`, which names its topic".into()
            );
        }
    };
    let (data, content_type) = match (answer.remove("data"), answer.remove("data_base64")) {
        (Some(Value::String(text)), None) => (text.into_bytes(), "text/plain"),
        (Some(data), None) => (data.to_string().into_bytes(), "application/json"),
        (None, Some(Value::String(text))) => {
            let data = STANDARD.decode(text).map_err(|error| format!("data_base64: {error}"))?;
            (data, "application/octet-stream")
        }
        (None, None) => (Vec::new(), ""),
        _ => return Err("an event has `data` or `data_base64`, which is a string".into()),
    };
    let mut metadata = HashMap::new();
    for (name, value) in answer {
        let value = match value {
            Value::Null => continue,
            Value::String(text) => text,
            value @ (Value::Bool(_) | Value::Number(_)) => value.to_string(),
            Value::Array(_) | Value::Object(_) => {
                return Err(format!("attribute {name:?} is neither text nor a number"));
            }
        };
        match name.as_str() {
            "topic" | "specversion" => {}
            name if PREFIXED.contains(&name) => {
                metadata.insert(format!("ce-{name}"), value);
            }
            _ => {
                metadata.insert(name, value);
            }
        }
    }
    if !content_type.is_empty() {
        metadata.entry("ce-datacontenttype".into()).or_insert_with(|| content_type.into());
    }
    if let Some(Value::String(id)) = question.get(CORRELATION) {
        metadata.entry(CORRELATION.into()).or_insert_with(|| id.clone());
    }
    Ok(Publication { topic, data, metadata })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(data: &'static [u8], metadata: &[(&str, &str)]) -> PubsubSubscribeResponse {
        let metadata = metadata.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        PubsubSubscribeResponse {
            topic: "requests".into(),
            data: data.into(),
            metadata: metadata.collect(),
            message_id: "7".into(),
            timestamp: "2026-01-31T12:00:00Z".into(),
        }
    }

    #[test]
    fn an_event_becomes_a_cloud_event_in_json() {
        let metadata = [("ce-source", "urn:me"), ("ce-type", "asked"), ("correlationid", "c")];
        let dict = to_worker(event(br#"{"n": 1}"#, &metadata));
        let expected = json!({
            "specversion": "1.0", "id": "7", "time": "2026-01-31T12:00:00Z", "source": "urn:me",
            "type": "asked", "topic": "requests", "correlationid": "c", "data": {"n": 1},
        });
        assert_eq!(dict, expected);
    }

    #[test]
    fn data_is_json_or_text_or_octets() {
        assert_eq!(to_worker(event(b"no json", &[]))["data"], "no json");
        assert_eq!(to_worker(event(b"\xff", &[]))["data_base64"], "/w==");
        assert_eq!(to_worker(event(b"[1]", &[]))["data"], json!([1]));
    }

    #[test]
    fn an_answer_goes_to_the_topic_that_its_type_names_and_keeps_the_correlation() {
        let question = json!({"correlationid": "c", "type": "requests"});
        let answer =
            json!({"type": "responses", "data": {"ok": true}, "source": "urn:w", "tries": 2});
        let publication = from_worker(answer, &question).expect("an answer");
        assert_eq!(publication.topic, "responses");
        assert_eq!(publication.data, br#"{"ok":true}"#);
        let metadata = [
            ("ce-type", "responses"),
            ("ce-source", "urn:w"),
            ("ce-datacontenttype", "application/json"),
            ("tries", "2"),
            ("correlationid", "c"),
        ];
        assert_eq!(publication.metadata, metadata.map(|(k, v)| (k.into(), v.into())).into());
    }

    #[test]
    fn an_answer_that_cannot_be_published_says_why() {
        for (answer, part) in [
            (json!([]), "no dict"),
            (json!({"data": 1}), "`type`"),
            (json!({"type": "t", "data_base64": "?"}), "data_base64"),
            (json!({"type": "t", "extra": []}), "extra"),
        ] {
            let error = from_worker(answer, &json!({})).expect_err("no answer");
            assert!(error.contains(part), "{error}");
        }
    }
}
