//! `virtufin.State`, on whichever store; every change becomes an event on the topic `state-changes`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use oxgrpc_proto::virtufin::state_server::State;
use oxgrpc_proto::virtufin::{
    DeleteStateRequest, DeleteStateResponse, GetAllStateRequest, GetAllStateResponse,
    GetStateRequest, GetStateResponse, ListKeysRequest, ListKeysResponse, RegisterKeysRequest,
    RegisterKeysResponse, SaveStateRequest, SaveStateResponse, StatusResponse,
};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::{Condition, Entry, MAX_VALUE_BYTES, Store, Write};
use crate::pubsub::{Bus, Event, add_trace_context};

/// The topic of the events that tell of changes.
pub const STATE_CHANGES: &str = "state-changes";

const DEFAULT_PAGE: usize = 100;
const MAX_PAGE: usize = 1000;

/// Serves `virtufin.State`.
#[derive(Clone)]
pub struct StateService {
    store: Arc<dyn Store>,
    changes: Changes,
}

impl StateService {
    /// Serves a store, and publishes its changes on a bus.
    pub fn new(store: Arc<dyn Store>, bus: Arc<dyn Bus>) -> Self {
        Self { store, changes: Changes { bus } }
    }

    /// Writes one key and publishes the change; returns the new etag.
    async fn write(
        &self,
        service: &str,
        write: Write,
        include_value: bool,
        call: &MetadataMap,
    ) -> Result<String, Status> {
        let change = Change::of(service, &write, include_value);
        let etags = self.store.transact(service, vec![write]).await?;
        let etag = etags.into_iter().next().flatten().unwrap_or_default();
        self.changes.publish(change, &etag, call).await;
        Ok(etag)
    }
}

/// A change that is about to happen.
pub(crate) struct Change {
    service: String,
    key: String,
    action: &'static str,
    value: Option<Bytes>,
}

impl Change {
    pub(crate) fn of(service: &str, write: &Write, include_value: bool) -> Self {
        Self {
            service: service.into(),
            key: write.key.clone(),
            action: if write.value.is_some() { "save" } else { "delete" },
            value: write.value.clone().filter(|_| include_value),
        }
    }
}

/// Publishes changes.
#[derive(Clone)]
pub(crate) struct Changes {
    pub(crate) bus: Arc<dyn Bus>,
}

impl Changes {
    /// Publishes a change that has happened. The etag lets watchers order changes of one key; a deletion has none. That the
    /// event cannot be published does not undo the change, so it is only logged.
    pub(crate) async fn publish(&self, change: Change, etag: &str, call: &MetadataMap) {
        let Change { service, key, action, value } = change;
        let mut payload = serde_json::json!({ "service": service, "key": key, "action": action });
        if !etag.is_empty() {
            payload["etag"] = etag.into();
        }
        if let Some(value) = value {
            payload["value"] = String::from_utf8_lossy(&value).into();
        }
        let mut event = Event::new(STATE_CHANGES, payload.to_string());
        event.source = format!("{}{service}", crate::pubsub::SOURCE_PREFIX);
        event.kind = format!("com.virtufin.state.{action}");
        event.data_content_type = "application/json".into();
        add_trace_context(&mut event, call);
        if let Err(error) = self.bus.publish(event).await {
            tracing::warn!(service, key, action, %error, "a change of state was not published");
        }
    }
}

fn saved(service: &str, key: &str) -> StatusResponse {
    StatusResponse { success: true, status: "OK".into(), message: format!("{service}/{key}") }
}

/// Returns a value as text, which is what this service's messages hold.
fn text(service: &str, key: &str, entry: Entry) -> Result<String, Status> {
    String::from_utf8(entry.value.into()).map_err(|_| {
        Status::failed_precondition(format!(
            "the value of key {key:?} of service {service:?} is not UTF-8 text: read it with Dapr's GetState"
        ))
    })
}

#[async_trait]
impl State for StateService {
    async fn save_state(
        &self,
        request: Request<SaveStateRequest>,
    ) -> Result<Response<SaveStateResponse>, Status> {
        let (call, _, request) = request.into_parts();
        let SaveStateRequest { service, key, value, etag, include_value, create_only, ttl_seconds } =
            request;
        let condition = match (create_only, etag.is_empty()) {
            (true, true) => Condition::Absent,
            (false, true) => Condition::Always,
            (false, false) => Condition::Match(etag),
            (true, false) => {
                return Err(Status::invalid_argument(
                    "create_only and etag exclude each other: a key that must not exist has no etag",
                ));
            }
        };
        let status = saved(&service, &key);
        let ttl = (ttl_seconds > 0).then(|| Duration::from_secs(ttl_seconds.into()));
        let write = Write { key, value: Some(value.into()), condition, ttl };
        let etag = self.write(&service, write, include_value, &call).await?;
        Ok(Response::new(SaveStateResponse { status: Some(status), etag }))
    }

    async fn get_state(
        &self,
        request: Request<GetStateRequest>,
    ) -> Result<Response<GetStateResponse>, Status> {
        let GetStateRequest { service, key } = request.into_inner();
        let Some(entry) = self.store.get(&service, &key).await? else {
            return Ok(Response::new(GetStateResponse { key, ..Default::default() }));
        };
        let etag = entry.etag.clone();
        let value = text(&service, &key, entry)?;
        Ok(Response::new(GetStateResponse { key, value, etag }))
    }

    async fn get_all_state(
        &self,
        request: Request<GetAllStateRequest>,
    ) -> Result<Response<GetAllStateResponse>, Status> {
        let service = request.into_inner().service;
        let values = self
            .store
            .entries(&service, MAX_VALUE_BYTES)
            .await?
            .into_iter()
            .map(|(key, entry)| {
                let value = text(&service, &key, entry)?;
                Ok((key, value))
            })
            .collect::<Result<_, Status>>()?;
        Ok(Response::new(GetAllStateResponse { values }))
    }

    async fn register_keys(
        &self,
        request: Request<RegisterKeysRequest>,
    ) -> Result<Response<RegisterKeysResponse>, Status> {
        let RegisterKeysRequest { service, keys } = request.into_inner();
        let message = format!("{service}: {} keys registered", keys.len());
        self.store.register_keys(&service, keys).await?;
        let status = StatusResponse { success: true, status: "OK".into(), message };
        Ok(Response::new(RegisterKeysResponse { status: Some(status) }))
    }

    async fn delete_state(
        &self,
        request: Request<DeleteStateRequest>,
    ) -> Result<Response<DeleteStateResponse>, Status> {
        let (call, _, request) = request.into_parts();
        let DeleteStateRequest { service, key, include_value, etag } = request;
        let condition = if etag.is_empty() { Condition::Always } else { Condition::Match(etag) };
        let status = saved(&service, &key);
        let write = Write { key, value: None, condition, ttl: None };
        self.write(&service, write, include_value, &call).await?;
        Ok(Response::new(DeleteStateResponse { status: Some(status) }))
    }

    async fn list_keys(
        &self,
        request: Request<ListKeysRequest>,
    ) -> Result<Response<ListKeysResponse>, Status> {
        let ListKeysRequest { service, prefix, page_size, page_token } = request.into_inner();
        let limit = match usize::try_from(page_size) {
            Ok(0) => DEFAULT_PAGE,
            Ok(size) => size.min(MAX_PAGE),
            Err(_) => MAX_PAGE,
        };
        let after = (!page_token.is_empty()).then_some(page_token.as_str());
        let page = self.store.list_keys(&service, &prefix, after, limit).await?;
        Ok(Response::new(ListKeysResponse {
            keys: page.keys,
            next_page_token: page.next.unwrap_or_default(),
        }))
    }
}
