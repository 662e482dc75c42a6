//! `dapr.proto.runtime.v1.Dapr`: the RPCs, one by one.

use std::pin::Pin;

use async_trait::async_trait;
use futures_core::Stream;
use oxgrpc_proto::dapr::proto::common::v1::StateItem;
use oxgrpc_proto::dapr::proto::runtime::v1::dapr_server;
use oxgrpc_proto::dapr::proto::runtime::v1::{
    BulkPublishRequest, BulkPublishResponse, DeleteBulkStateRequest, DeleteStateRequest,
    ExecuteStateTransactionRequest, GetBulkStateRequest, GetBulkStateResponse, GetStateRequest,
    GetStateResponse, PublishEventRequest, SaveStateRequest, SubscribeTopicEventsRequestAlpha1,
    SubscribeTopicEventsResponseAlpha1,
};
use tonic::{Request, Response, Status, Streaming};

use super::{Dapr, subscription};

type Answer<T> = Result<Response<T>, Status>;

#[async_trait]
impl dapr_server::Dapr for Dapr {
    async fn publish_event(&self, request: Request<PublishEventRequest>) -> Answer<()> {
        let (call, _, request) = request.into_parts();
        self.check_pubsub(&request.pubsub_name)?;
        let PublishEventRequest { topic, data, data_content_type, metadata, .. } = request;
        self.publish(&topic, data, &data_content_type, metadata, &call).await?;
        Ok(Response::new(()))
    }

    async fn bulk_publish_event(
        &self,
        request: Request<BulkPublishRequest>,
    ) -> Answer<BulkPublishResponse> {
        let (call, _, request) = request.into_parts();
        Ok(Response::new(self.publish_all(request, &call).await?))
    }

    async fn bulk_publish_event_alpha1(
        &self,
        request: Request<BulkPublishRequest>,
    ) -> Answer<BulkPublishResponse> {
        self.bulk_publish_event(request).await
    }

    type SubscribeTopicEventsAlpha1Stream =
        Pin<Box<dyn Stream<Item = Result<SubscribeTopicEventsResponseAlpha1, Status>> + Send>>;

    async fn subscribe_topic_events_alpha1(
        &self,
        request: Request<Streaming<SubscribeTopicEventsRequestAlpha1>>,
    ) -> Answer<Self::SubscribeTopicEventsAlpha1Stream> {
        let events = subscription::start(self.clone(), request.into_inner()).await?;
        Ok(Response::new(Box::pin(events)))
    }

    async fn get_state(&self, request: Request<GetStateRequest>) -> Answer<GetStateResponse> {
        let request = request.into_inner();
        let found = self.read(&request.store_name, &request.key, &request.metadata).await?;
        Ok(Response::new(found))
    }

    async fn get_bulk_state(
        &self,
        request: Request<GetBulkStateRequest>,
    ) -> Answer<GetBulkStateResponse> {
        let GetBulkStateRequest { store_name, keys, metadata, .. } = request.into_inner();
        let items = self.read_all(&store_name, keys, &metadata).await?;
        Ok(Response::new(GetBulkStateResponse { items }))
    }

    async fn save_state(&self, request: Request<SaveStateRequest>) -> Answer<()> {
        let (call, _, request) = request.into_parts();
        self.write_items(&request.store_name, request.states, false, &call).await?;
        Ok(Response::new(()))
    }

    async fn delete_state(&self, request: Request<DeleteStateRequest>) -> Answer<()> {
        let (call, _, request) = request.into_parts();
        let DeleteStateRequest { store_name, key, etag, options, metadata } = request;
        let item = StateItem { key, etag, options, metadata, ..Default::default() };
        self.write_items(&store_name, vec![item], true, &call).await?;
        Ok(Response::new(()))
    }

    async fn delete_bulk_state(&self, request: Request<DeleteBulkStateRequest>) -> Answer<()> {
        let (call, _, request) = request.into_parts();
        self.write_items(&request.store_name, request.states, true, &call).await?;
        Ok(Response::new(()))
    }

    async fn execute_state_transaction(
        &self,
        request: Request<ExecuteStateTransactionRequest>,
    ) -> Answer<()> {
        let (call, _, request) = request.into_parts();
        self.transact(request, &call).await?;
        Ok(Response::new(()))
    }
}
