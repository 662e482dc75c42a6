//! State: Dapr's concurrency and metadata, as the conditions and lifetimes of a store.
//!
//! An etag is compared unless the caller asks for last-write; first-write without an etag means that the key must not exist.

use std::collections::HashMap;
use std::time::Duration;

use oxgrpc_proto::dapr::proto::common::v1::state_options::StateConcurrency;
use oxgrpc_proto::dapr::proto::common::v1::{Etag, StateItem, StateOptions};
use oxgrpc_proto::dapr::proto::runtime::v1::{
    BulkStateItem, ExecuteStateTransactionRequest, GetStateResponse,
};
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::Dapr;
use crate::pubsub::timestamp;
use crate::state::{Change, Condition, Write};

const TTL: &str = "ttlInSeconds";
/// The name that Dapr gives to the time at which a value expires.
const EXPIRES: &str = "ttlExpireTime";

/// Returns the lifetime that metadata asks for; `None` means for ever. Any other key is refused by name.
fn lifetime(metadata: &HashMap<String, String>) -> Result<Option<Duration>, Status> {
    let mut lifetime = None;
    for (key, value) in metadata {
        if !key.eq_ignore_ascii_case(TTL) {
            return Err(Status::invalid_argument(format!(
                "the metadata {key:?} is not supported for state: only {TTL} is"
            )));
        }
        lifetime = match value.parse::<i64>() {
            Ok(-1) => None,
            Ok(seconds @ 1..) => Some(Duration::from_secs(seconds.unsigned_abs())),
            _ => {
                return Err(Status::invalid_argument(format!(
                    "the metadata {key} is {value:?}, which is neither a number of seconds nor -1 for ever"
                )));
            }
        };
    }
    Ok(lifetime)
}

fn refuse_metadata(metadata: &HashMap<String, String>) -> Result<(), Status> {
    match metadata.keys().next() {
        Some(key) => {
            Err(Status::invalid_argument(format!("the metadata {key:?} is not supported here")))
        }
        None => Ok(()),
    }
}

fn condition(etag: Option<Etag>, options: Option<StateOptions>, deletes: bool) -> Condition {
    let concurrency = options.map(|options| options.concurrency()).unwrap_or_default();
    let etag = etag.map(|etag| etag.value).filter(|etag| !etag.is_empty());
    match (etag, concurrency) {
        (_, StateConcurrency::ConcurrencyLastWrite) => Condition::Always,
        (Some(etag), _) => Condition::Match(etag),
        (None, StateConcurrency::ConcurrencyFirstWrite) if !deletes => Condition::Absent,
        (None, _) => Condition::Always,
    }
}

/// Returns the write that an item asks for.
pub(super) fn write(item: StateItem, deletes: bool) -> Result<Write, Status> {
    let ttl = if deletes {
        refuse_metadata(&item.metadata)?;
        None
    } else {
        lifetime(&item.metadata)?
    };
    Ok(Write {
        key: item.key,
        value: (!deletes).then_some(item.value),
        condition: condition(item.etag, item.options, deletes),
        ttl,
    })
}

impl Dapr {
    pub(super) async fn read(
        &self,
        store: &str,
        key: &str,
        metadata: &HashMap<String, String>,
    ) -> Result<GetStateResponse, Status> {
        self.check_store(store)?;
        refuse_metadata(metadata)?;
        let Some(entry) = self.store.get(store, key).await? else {
            return Ok(GetStateResponse::default());
        };
        let expires = entry.expires.map(|expires| (EXPIRES.to_owned(), timestamp(expires)));
        Ok(GetStateResponse {
            data: entry.value,
            etag: entry.etag,
            metadata: expires.into_iter().collect(),
        })
    }

    pub(super) async fn read_all(
        &self,
        store: &str,
        keys: Vec<String>,
        metadata: &HashMap<String, String>,
    ) -> Result<Vec<BulkStateItem>, Status> {
        self.check_store(store)?;
        refuse_metadata(metadata)?;
        let mut items = Vec::with_capacity(keys.len());
        for key in keys {
            items.push(match self.read(store, &key, metadata).await {
                Ok(GetStateResponse { data, etag, metadata }) => {
                    BulkStateItem { key, data, etag, metadata, error: String::new() }
                }
                Err(status) => {
                    BulkStateItem { key, error: status.message().into(), ..Default::default() }
                }
            });
        }
        Ok(items)
    }

    /// Writes all or nothing.
    pub(super) async fn write(
        &self,
        store: &str,
        writes: Vec<Write>,
        call: &MetadataMap,
    ) -> Result<(), Status> {
        self.check_store(store)?;
        if writes.is_empty() {
            return Ok(());
        }
        let changes: Vec<_> = writes.iter().map(|write| Change::of(store, write, false)).collect();
        let etags = self.store.transact(store, writes).await?;
        for (change, etag) in changes.into_iter().zip(etags) {
            self.changes.publish(change, &etag.unwrap_or_default(), call).await;
        }
        Ok(())
    }

    pub(super) async fn write_items(
        &self,
        store: &str,
        items: Vec<StateItem>,
        deletes: bool,
        call: &MetadataMap,
    ) -> Result<(), Status> {
        let writes = items.into_iter().map(|item| write(item, deletes));
        self.write(store, writes.collect::<Result<_, _>>()?, call).await
    }

    pub(super) async fn transact(
        &self,
        request: ExecuteStateTransactionRequest,
        call: &MetadataMap,
    ) -> Result<(), Status> {
        let default = lifetime(&request.metadata)?;
        let writes = request.operations.into_iter().map(|operation| {
            let item = operation.request.ok_or_else(|| {
                Status::invalid_argument("an operation of the transaction has no request")
            })?;
            let deletes = match operation.operation_type.as_str() {
                "upsert" => false,
                "delete" => true,
                other => {
                    return Err(Status::invalid_argument(format!(
                        "the operation {other:?} is neither upsert nor delete"
                    )));
                }
            };
            let mut write = write(item, deletes)?;
            write.ttl = write.ttl.or(default);
            Ok(write)
        });
        self.write(&request.store_name, writes.collect::<Result<_, _>>()?, call).await
    }
}
