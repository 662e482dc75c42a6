//! Publishing: one event, or many of which each may fail by itself.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use oxgrpc_proto::dapr::proto::runtime::v1::{
    BulkPublishRequest, BulkPublishResponse, BulkPublishResponseFailedEntry,
};
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::{Dapr, envelope};
use crate::pubsub::add_trace_context;

impl Dapr {
    pub(super) async fn publish(
        &self,
        topic: &str,
        data: Bytes,
        content_type: &str,
        metadata: HashMap<String, String>,
        call: &MetadataMap,
    ) -> Result<(), Status> {
        let mut event = envelope::event(topic, data, content_type, metadata)?;
        add_trace_context(&mut event, call);
        Ok(self.bus.publish(event).await?)
    }

    pub(super) async fn publish_all(
        &self,
        request: BulkPublishRequest,
        call: &MetadataMap,
    ) -> Result<BulkPublishResponse, Status> {
        self.check_pubsub(&request.pubsub_name)?;
        if request.topic.is_empty() {
            return Err(Status::invalid_argument("the topic is empty: name one"));
        }
        let mut ids = BTreeSet::new();
        for entry in &request.entries {
            if entry.entry_id.is_empty() || !ids.insert(&entry.entry_id) {
                return Err(Status::invalid_argument(format!(
                    "the entry id {:?} is empty or given twice: each entry needs its own",
                    entry.entry_id
                )));
            }
        }
        let mut failed = Vec::new();
        for entry in request.entries {
            let mut metadata = request.metadata.clone();
            metadata.extend(entry.metadata);
            let published =
                self.publish(&request.topic, entry.event, &entry.content_type, metadata, call);
            if let Err(status) = published.await {
                let error = status.message().to_owned();
                failed.push(BulkPublishResponseFailedEntry { entry_id: entry.entry_id, error });
            }
        }
        Ok(BulkPublishResponse { failed_entries: failed })
    }
}
