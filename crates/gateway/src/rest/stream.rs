//! Subscriptions as server-sent events.

use std::convert::Infallible;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures_util::StreamExt as _;
use http::HeaderMap;
use oxgrpc_schema::json;
use serde_json::Value;
use tonic::Status;

use super::Rest;
use super::routes::{copy_headers, parse_query, wants_proto_names};
use super::transcode::{Answers, decode};

pub(super) const TOPIC_PATH: &str = "/v1/pubsub/subscribe";
pub(super) const EVENTS_PATH: &str = "/v1/gateway/subscribe";

pub(super) fn add(router: Router<Rest>) -> Router<Rest> {
    router
        .route(
            TOPIC_PATH,
            get(|state, query, headers| serve("virtufin.Pubsub.Subscribe", state, query, headers)),
        )
        .route(
            EVENTS_PATH,
            get(|state, query, headers| serve("virtufin.Gateway.Subscribe", state, query, headers)),
        )
}

async fn serve(
    method: &'static str,
    State(rest): State<Rest>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = parse_query(query.as_deref().unwrap_or_default());
    match open(&rest, method, &query, &headers).await {
        Err(status) => rest.error(&headers, &status),
        Ok(answers) => events(rest, answers, wants_proto_names(&query)),
    }
}

async fn open(
    rest: &Rest,
    method: &str,
    query: &[(String, String)],
    headers: &HeaderMap,
) -> Result<Answers, Status> {
    let input = rest.transcoder.method(method)?.input();
    let request = super::routes::assemble(&input, std::iter::empty(), query)?;
    rest.transcoder.stream(method, headers, &request).await
}

fn events(rest: Rest, answers: Answers, proto_names: bool) -> Response {
    let Answers { headers, messages, method } = answers;
    let options = json::PrintOptions { proto_names, ..Default::default() };
    let id = headers.get("subscription-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    // A browser's EventSource shows no headers, so the id is an event too.
    let live = Event::default()
        .event("subscribed")
        .data(serde_json::json!({ "subscriptionId": id }).to_string());
    let first = futures_util::stream::iter([Ok::<_, Infallible>(live)]);
    let rest_of_them = futures_util::stream::unfold(Some(messages), move |messages| {
        let (method, rest) = (method.clone(), rest.clone());
        async move {
            let mut messages = messages?;
            let next = match messages.message().await {
                Ok(None) => return None,
                Ok(Some(octets)) => decode(&method, octets),
                Err(status) => Err(status),
            };
            let event = next.and_then(|message| {
                let value = json::to_value(&message, &options)
                    .map_err(|error| Status::internal(error.to_string()))?;
                let id = ["messageId", "message_id", "id"]
                    .iter()
                    .find_map(|name| value.get(name)?.as_str());
                let event = match id {
                    Some(id) if !id.contains(['\n', '\r', '\0']) => Event::default().id(id),
                    _ => Event::default(),
                };
                Ok(event.data(value.to_string()))
            });
            match event {
                Ok(event) => Some((Ok(event), Some(messages))),
                Err(status) => {
                    let data: Value = rest.status_line(&status);
                    Some((Ok(Event::default().event("status").data(data.to_string())), None))
                }
            }
        }
    });
    let mut response =
        Sse::new(first.chain(rest_of_them)).keep_alive(KeepAlive::default()).into_response();
    copy_headers(&headers, response.headers_mut());
    response
}
